//! `kumo.make_egress_path`: how mail travels to one site, checked when it is made rather than when it is used.

use std::time::Duration;

use mlua::{Lua, Table, UserData, Value};

use super::listeners::{check_name, not_zero};
use super::{fail, options};
use crate::config::PathConfig;

const FUNCTION: &str = "kumo.make_egress_path";

/// KumoMTA's other options.
const UNSERVED: [&str; 36] = [
    "additional_source_selection_rates",
    "aggressive_connection_opening",
    "allow_smtp_auth_plain_without_tls",
    "allow_smtp_auth_plain_without_valid_certificate",
    "auth_timeout",
    "banner_timeout",
    "data_dot_timeout",
    "data_timeout",
    "dispatcher_progress_watchdog_timeout",
    "dispatcher_wakeup_strategy",
    "ehlo_timeout",
    "enable_pipelining",
    "enable_rset",
    "ignore_8bit_checks",
    "low_memory_reduction_policy",
    "mail_from_timeout",
    "maintainer_wakeup_strategy",
    "max_recipients_per_batch",
    "no_memory_reduction_policy",
    "openssl_cipher_list",
    "openssl_cipher_suites",
    "openssl_options",
    "provider_name",
    "rcpt_to_timeout",
    "readyq_pool_name",
    "reconnect_strategy",
    "refresh_interval",
    "refresh_strategy",
    "rset_timeout",
    "smtp_auth_plain_password",
    "smtp_auth_plain_username",
    "source_selection_rate",
    "system_shutdown_timeout",
    "tls_prefer_openssl",
    "try_next_host_on_transport_error",
    "use_lmtp",
];

/// What the function returns: opaque to the policy.
struct Made(PathConfig);

impl UserData for Made {}

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    module.set("make_egress_path", lua.create_function(|lua, given: Value| read(lua, &given).map(Made))?)
}

/// Reads what a handler of `get_egress_path_config` returned: such an object, a table of the same options, or nothing.
pub(in crate::policy) fn answer(lua: &Lua, value: &Value) -> mlua::Result<Option<PathConfig>> {
    match value {
        Value::Nil => Ok(None),
        Value::Table(_) => read(lua, value).map(Some),
        Value::UserData(made) if made.is::<Made>() => Ok(Some(made.borrow::<Made>()?.0.clone())),
        other => {
            let reason = "the handler must return kumo.make_egress_path { ... } or nothing";
            Err(mlua::Error::runtime(format!("{reason}; it returned a {}", other.type_name())))
        }
    }
}

fn read(lua: &Lua, given: &Value) -> mlua::Result<PathConfig> {
    let config: PathConfig = options::read(lua, FUNCTION, given, &UNSERVED)?;
    check(&config).map_err(|reason| fail(lua, FUNCTION, reason))?;
    Ok(config)
}

fn check(config: &PathConfig) -> Result<(), String> {
    check_name("ehlo_domain", config.ehlo_domain.as_deref())?;
    if config.tls_certificate.is_some() != config.tls_private_key.is_some() {
        return Err("options 'tls_certificate' and 'tls_private_key' belong together; give both or neither"
            .to_owned());
    }
    not_zero(&[
        ("max_ready", config.max_ready == 0),
        (
            "consecutive_connection_failures_before_delay",
            config.consecutive_connection_failures_before_delay == 0,
        ),
        ("max_deliveries_per_connection", config.max_deliveries_per_connection == 0),
        ("smtp_port", config.smtp_port == Some(0)),
        ("connect_timeout", config.connect_timeout == Duration::ZERO),
        ("starttls_timeout", config.starttls_timeout == Duration::ZERO),
    ])
}
