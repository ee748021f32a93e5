//! `kumo.start_esmtp_listener` and `kumo.start_http_listener`: they record what is to be started, and open nothing.
//!
//! Refuses limits of zero, names that cannot stand in a reply, and two listeners on one address.

use std::net::SocketAddr;

use mlua::{Lua, Table, Value};

use super::{fail, options, record};
use crate::config::{HttpListener, SmtpListener, SmtpOverride, parse_network};
pub(super) use crate::config::{check_name, not_zero};

const SMTP: &str = "kumo.start_esmtp_listener";
const HTTP: &str = "kumo.start_http_listener";

/// Options of a listener that cannot differ by client.
const SMTP_WHOLE: [&str; 3] = ["listen", "max_connections", "deferred_spool"];
/// KumoMTA's other options of an HTTP listener.
const HTTP_UNSERVED: [&str; 4] = ["request_body_limit", "tls_certificate", "tls_private_key", "use_tls"];

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    module.set("start_esmtp_listener", lua.create_function(start_esmtp_listener)?)?;
    module.set("start_http_listener", lua.create_function(start_http_listener)?)
}

fn start_esmtp_listener(lua: &Lua, given: Value) -> mlua::Result<()> {
    if let Some(table) = given.as_table() {
        check_overrides(table).map_err(|reason| fail(lua, SMTP, reason))?;
    }
    let listener: SmtpListener = options::read(lua, SMTP, &given, &[])?;
    listener.check().map_err(|reason| fail(lua, SMTP, reason))?;
    record(lua, SMTP, |recorded| {
        only_one(recorded.smtp_listeners.iter().map(|other| other.listen), listener.listen)?;
        only_one(recorded.http_listeners.iter().map(|other| other.listen), listener.listen)?;
        one_promise(&recorded.smtp_listeners, &listener)?;
        recorded.smtp_listeners.push(listener);
        Ok(())
    })
}

/// Looks at the tables in `peer` and `via` one option at a time, so that a mistake is named as one in the listener is.
fn check_overrides(table: &Table) -> Result<(), String> {
    for option in ["peer", "via"] {
        let Ok(Value::Table(networks)) = table.raw_get::<Value>(option) else {
            continue;
        };
        for pair in networks.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let network = key.as_string().map(|key| key.to_string_lossy()).unwrap_or_default();
            parse_network(&network).map_err(|reason| format!("option '{option}': {reason}"))?;
            let checked = match &value {
                Value::Table(changes) => check_override(changes),
                other => Err(format!("a table of options is wanted; a {} was given", other.type_name())),
            };
            checked.map_err(|reason| format!("option '{option}', '{network}': {reason}"))?;
        }
    }
    Ok(())
}

fn check_override(changes: &Table) -> Result<(), String> {
    for option in SMTP_WHOLE {
        if changes.contains_key(option).map_err(|error| error.to_string())? {
            return Err(format!("option '{option}' is the same for all clients; set it on the listener"));
        }
    }
    check_overrides(changes)?;
    options::read_table::<SmtpOverride>(changes, &[]).map(drop)
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
