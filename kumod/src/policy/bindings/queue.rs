//! `kumo.make_queue_config`: the shape of a scheduled queue, checked when it is made rather than when it is used.

use std::time::Duration;

use mlua::{Lua, Table, UserData, Value};

use super::listeners::not_zero;
use super::{fail, options};
use crate::config::QueueConfig;

const FUNCTION: &str = "kumo.make_queue_config";

/// Beyond this the others would wait longer for their turn than anybody means.
const PRIORITY_MAX: u32 = 100;

/// KumoMTA's other options.
const UNSERVED: [&str; 8] = [
    "protocol",
    "provider_name",
    "reap_interval",
    "refresh_interval",
    "refresh_strategy",
    "shrink_policy",
    "strategy",
    "timerwheel_tick_interval",
];

/// What the function returns: opaque to the policy.
struct Made(QueueConfig);

impl UserData for Made {}

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    module.set("make_queue_config", lua.create_function(|lua, given: Value| read(lua, &given).map(Made))?)
}

/// Reads what a handler of `get_queue_config` returned: such an object, a table of the same options, or nothing.
pub(in crate::policy) fn answer(lua: &Lua, value: &Value) -> mlua::Result<Option<QueueConfig>> {
    match value {
        Value::Nil => Ok(None),
        Value::Table(_) => read(lua, value).map(Some),
        Value::UserData(made) if made.is::<Made>() => Ok(Some(made.borrow::<Made>()?.0.clone())),
        other => {
            let reason = "the handler must return kumo.make_queue_config { ... } or nothing";
            Err(mlua::Error::runtime(format!("{reason}; it returned a {}", other.type_name())))
        }
    }
}

fn read(lua: &Lua, given: &Value) -> mlua::Result<QueueConfig> {
    let config: QueueConfig = options::read(lua, FUNCTION, given, &UNSERVED)?;
    check(&config).map_err(|reason| fail(lua, FUNCTION, reason))?;
    Ok(config)
}

fn check(config: &QueueConfig) -> Result<(), String> {
    if config.egress_pool.is_empty() {
        return Err("option 'egress_pool' is empty; name a pool that get_egress_pool knows".to_owned());
    }
    not_zero(&[
        ("retry_interval", config.retry_interval == Duration::ZERO),
        ("max_retry_interval", config.max_retry_interval == Some(Duration::ZERO)),
        ("max_age", config.max_age == Duration::ZERO),
        ("priority", config.priority == 0),
        ("dsn_delay", config.dsn_delay == Duration::ZERO),
    ])?;
    if config.priority > PRIORITY_MAX {
        return Err(format!("option 'priority' = {} is more than {PRIORITY_MAX}", config.priority));
    }
    Ok(())
}
