//! `kumo.make_egress_path`: how mail travels to one site, checked when it is made rather than when it is used.

use std::sync::Once;
use std::time::Duration;

use mlua::{Lua, Table, UserData, Value};

use super::listeners::{check_name, not_zero};
use super::{fail, options};
use crate::config::{PathConfig, RefreshStrategy};

const FUNCTION: &str = "kumo.make_egress_path";

/// The longest time that an option may hold: nobody waits for longer, and sums of it are times still.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Those of a library that is not there.
const OPENSSL: [&str; 3] = ["openssl_cipher_list", "openssl_cipher_suites", "openssl_options"];

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
    for option in OPENSSL {
        if given.as_table().is_some_and(|table| table.contains_key(option).unwrap_or(false)) {
            let reason = "is not available: TLS is rustls here, and has no settings of OpenSSL; leave it out";
            return Err(fail(lua, FUNCTION, format!("option '{option}' {reason}")));
        }
    }
    let config: PathConfig = options::read(lua, FUNCTION, given, &[])?;
    check(&config).map_err(|reason| fail(lua, FUNCTION, reason))?;
    mention(&config);
    Ok(config)
}

fn check(config: &PathConfig) -> Result<(), String> {
    check_name("ehlo_domain", config.ehlo_domain.as_deref())?;
    if config.tls_certificate.is_some() != config.tls_private_key.is_some() {
        return Err("options 'tls_certificate' and 'tls_private_key' belong together; give both or neither"
            .to_owned());
    }
    check_login(config)?;
    if config.provider_name.as_deref() == Some("") {
        return Err("option 'provider_name' is empty; leave it out, or name the provider".to_owned());
    }
    not_zero(&[
        ("max_ready", config.max_ready == 0),
        (
            "consecutive_connection_failures_before_delay",
            config.consecutive_connection_failures_before_delay == 0,
        ),
        ("max_deliveries_per_connection", config.max_deliveries_per_connection == 0),
        ("max_recipients_per_batch", config.max_recipients_per_batch == 0),
        ("smtp_port", config.smtp_port == Some(0)),
    ])?;
    for (option, duration) in durations(config) {
        not_zero(&[(option, duration == Duration::ZERO)])?;
        check_length(option, duration)?;
    }
    // A connection need not be kept, and a message need not be let go on.
    check_length("idle_timeout", config.idle_timeout)?;
    check_length("system_shutdown_timeout", config.system_shutdown_timeout.unwrap_or_default())
}

/// Times of which none would stop all mail.
fn durations(config: &PathConfig) -> [(&'static str, Duration); 12] {
    [
        ("refresh_interval", config.refresh_interval),
        ("connect_timeout", config.connect_timeout),
        ("banner_timeout", config.banner_timeout),
        ("ehlo_timeout", config.ehlo_timeout),
        ("starttls_timeout", config.starttls_timeout),
        ("auth_timeout", config.auth_timeout),
        ("rset_timeout", config.rset_timeout),
        ("mail_from_timeout", config.mail_from_timeout),
        ("rcpt_to_timeout", config.rcpt_to_timeout),
        ("data_timeout", config.data_timeout),
        ("data_dot_timeout", config.data_dot_timeout),
        (
            "dispatcher_progress_watchdog_timeout",
            config.dispatcher_progress_watchdog_timeout.unwrap_or(config.connect_timeout),
        ),
    ]
}

fn check_length(option: &str, duration: Duration) -> Result<(), String> {
    if duration > DURATION_MAX {
        return Err(format!("option '{option}' is longer than {} days", DURATION_MAX.as_secs() / 86_400));
    }
    Ok(())
}

/// A user and a password go together.
fn check_login(config: &PathConfig) -> Result<(), String> {
    let (user, password) = (&config.smtp_auth_plain_username, &config.smtp_auth_plain_password);
    match (user, password) {
        (Some(user), Some(_)) if user.is_empty() || user.contains('\0') => {
            Err("option 'smtp_auth_plain_username' must be a name, without NUL".to_owned())
        }
        (Some(_), None) => Err("option 'smtp_auth_plain_username' needs smtp_auth_plain_password".to_owned()),
        (None, Some(_)) => Err("option 'smtp_auth_plain_password' needs smtp_auth_plain_username".to_owned()),
        (None, None) if config.smtp_auth_mechanism.is_some() => {
            Err("option 'smtp_auth_mechanism' needs smtp_auth_plain_username and smtp_auth_plain_password"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// What was said already of options that have no effect; a path is asked about again and again.
static MENTIONED: [Once; 6] = [const { Once::new() }; 6];

/// Says once what a policy made for KumoMTA's engine has no effect on.
fn mention(config: &PathConfig) {
    let memory = "has no meaning here: bodies in memory have one budget, whatever the path";
    let threads = "has no meaning here: all connections share the threads";
    let wakeup = "has no meaning here: whoever can take a message is told of it at once, and nobody else";
    let epoch = "= 'Epoch' has no meaning here: the policy is asked again after refresh_interval";
    let given = [
        ("dispatcher_wakeup_strategy", config.dispatcher_wakeup_strategy.is_some(), wakeup),
        ("maintainer_wakeup_strategy", config.maintainer_wakeup_strategy.is_some(), wakeup),
        ("low_memory_reduction_policy", config.low_memory_reduction_policy.is_some(), memory),
        ("no_memory_reduction_policy", config.no_memory_reduction_policy.is_some(), memory),
        ("readyq_pool_name", config.readyq_pool_name.is_some(), threads),
        ("refresh_strategy", config.refresh_strategy == RefreshStrategy::Epoch, epoch),
    ];
    for ((option, is_given, why), mentioned) in given.into_iter().zip(&MENTIONED) {
        if is_given {
            mentioned.call_once(|| tracing::info!("{option} of an egress path {why}"));
        }
    }
}
