//! `kumo.start_esmtp_listener` and `kumo.start_http_listener`: they record what is to be started, and open nothing.
//!
//! Refuses limits of zero, names that cannot stand in a reply, and two listeners on one address.

use std::net::SocketAddr;
use std::time::Duration;

use mlua::{Lua, Table, Value};

use super::{fail, options, record};
use crate::config::{HttpListener, SmtpListener};

const SMTP: &str = "kumo.start_esmtp_listener";
const HTTP: &str = "kumo.start_http_listener";

/// KumoMTA's other options of an SMTP listener.
const SMTP_UNSERVED: [&str; 12] = [
    "allow_xclient",
    "batch_handling",
    "data_buffer_size",
    "deferred_queue",
    "meta",
    "peer",
    "require_proxy_protocol",
    "tls_certificate",
    "tls_private_key",
    "tls_required_client_ca",
    "trace_headers",
    "via",
];
/// KumoMTA's other options of an HTTP listener.
const HTTP_UNSERVED: [&str; 4] = ["request_body_limit", "tls_certificate", "tls_private_key", "use_tls"];

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    module.set("start_esmtp_listener", lua.create_function(start_esmtp_listener)?)?;
    module.set("start_http_listener", lua.create_function(start_http_listener)?)
}

fn start_esmtp_listener(lua: &Lua, given: Value) -> mlua::Result<()> {
    let listener: SmtpListener = options::read(lua, SMTP, &given, &SMTP_UNSERVED)?;
    check_smtp(&listener).map_err(|reason| fail(lua, SMTP, reason))?;
    record(lua, SMTP, |recorded| {
        only_one(recorded.smtp_listeners.iter().map(|other| other.listen), listener.listen)?;
        only_one(recorded.http_listeners.iter().map(|other| other.listen), listener.listen)?;
        one_promise(&recorded.smtp_listeners, &listener)?;
        recorded.smtp_listeners.push(listener);
        Ok(())
    })
}

fn start_http_listener(lua: &Lua, given: Value) -> mlua::Result<()> {
    let listener: HttpListener = options::read(lua, HTTP, &given, &HTTP_UNSERVED)?;
    check_name("hostname", listener.hostname.as_deref()).map_err(|reason| fail(lua, HTTP, reason))?;
    record(lua, HTTP, |recorded| {
        only_one(recorded.smtp_listeners.iter().map(|other| other.listen), listener.listen)?;
        only_one(recorded.http_listeners.iter().map(|other| other.listen), listener.listen)?;
        recorded.http_listeners.push(listener);
        Ok(())
    })
}

/// Port 0 takes a free port each time.
fn only_one(mut others: impl Iterator<Item = SocketAddr>, listen: SocketAddr) -> Result<(), String> {
    if listen.port() != 0 && others.any(|other| other == listen) {
        return Err(format!("there is a listener on {listen} already"));
    }
    Ok(())
}

/// There is one spool, and a 250 means the same at every door to it.
fn one_promise(others: &[SmtpListener], listener: &SmtpListener) -> Result<(), String> {
    match others.first().filter(|first| first.deferred_spool != listener.deferred_spool) {
        None => Ok(()),
        Some(first) => Err(format!(
            "option 'deferred_spool' = {} and the listener on {} has {}: all listeners share one spool and its promise, so \
             give all of them the same",
            listener.deferred_spool, first.listen, first.deferred_spool
        )),
    }
}

fn check_smtp(listener: &SmtpListener) -> Result<(), String> {
    check_name("hostname", listener.hostname.as_deref())?;
    if listener.banner.chars().any(char::is_control) {
        return Err("option 'banner' has a control character".to_owned());
    }
    let limits = [
        ("max_connections", listener.max_connections == 0),
        ("max_message_size", listener.max_message_size == 0),
        ("max_recipients_per_message", listener.max_recipients_per_message == 0),
        ("max_messages_per_connection", listener.max_messages_per_connection == 0),
        ("line_length_hard_limit", listener.line_length_hard_limit == 0),
        ("client_timeout", listener.client_timeout == Duration::ZERO),
        ("data_processing_timeout", listener.data_processing_timeout == Duration::ZERO),
    ];
    not_zero(&limits)
}

/// Refuses the first option that is zero where that would stop all mail.
pub(super) fn not_zero(options: &[(&str, bool)]) -> Result<(), String> {
    match options.iter().find(|(_, zero)| *zero) {
        Some((name, _)) => Err(format!("option '{name}' = 0 would stop all mail")),
        None => Ok(()),
    }
}

/// A name that goes into replies and EHLO must be one word of visible ASCII (RFC 5321 2.3.5).
pub(super) fn check_name(option: &str, name: Option<&str>) -> Result<(), String> {
    match name {
        Some(name) if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(format!("option '{option}' must be a host name such as 'mail.example.com'"))
        }
        _ => Ok(()),
    }
}
