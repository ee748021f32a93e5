//! `kumo.make_egress_pool` and `kumo.make_egress_source`: where mail leaves this host, checked when it is made rather than when it is used.

use std::collections::BTreeSet;
use std::time::Duration;

use mlua::{Lua, Table, UserData, Value};

use super::listeners::{check_name, not_zero};
use super::{fail, options};
use crate::config::{PoolConfig, SourceConfig, SuspendRule, Trigger};

const POOL_FUNCTION: &str = "kumo.make_egress_pool";
const SOURCE_FUNCTION: &str = "kumo.make_egress_source";
/// Bytes of the name of a pool or source: it is part of names of queues and of every log record.
const NAME_BYTES_MAX: usize = 255;
/// Sources in one pool.
const ENTRIES_MAX: usize = 1024;
/// A weight above this says nothing that smaller ones could not.
const WEIGHT_MAX: u32 = 1_000_000;

/// Failures that a rule may wait for: their times are remembered.
const FAILURES_MAX: u64 = 1000;
/// Days of a warm-up plan.
const DAYS_MAX: usize = 366;

/// What the first function returns: opaque to the policy.
struct Pool(PoolConfig);

/// What the second returns.
struct Source(SourceConfig);

impl UserData for Pool {}
impl UserData for Source {}

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    module.set(
        "make_egress_pool",
        lua.create_function(|lua, given: Value| read_pool(lua, &given).map(Pool))?,
    )?;
    let make_source = |lua: &Lua, given: Value| read_source(lua, &given).map(Source);
    module.set("make_egress_source", lua.create_function(make_source)?)
}

/// Reads what the handler of `get_egress_pool` returned: such an object, a table of the same options, or nothing.
pub(in crate::policy) fn pool_answer(lua: &Lua, value: &Value) -> mlua::Result<Option<PoolConfig>> {
    match value {
        Value::Nil => Ok(None),
        Value::Table(_) => read_pool(lua, value).map(Some),
        Value::UserData(made) if made.is::<Pool>() => Ok(Some(made.borrow::<Pool>()?.0.clone())),
        other => Err(not_an_answer(POOL_FUNCTION, other)),
    }
}

/// The same for `get_egress_source`.
pub(in crate::policy) fn source_answer(lua: &Lua, value: &Value) -> mlua::Result<Option<SourceConfig>> {
    match value {
        Value::Nil => Ok(None),
        Value::Table(_) => read_source(lua, value).map(Some),
        Value::UserData(made) if made.is::<Source>() => Ok(Some(made.borrow::<Source>()?.0.clone())),
        other => Err(not_an_answer(SOURCE_FUNCTION, other)),
    }
}

fn not_an_answer(function: &str, value: &Value) -> mlua::Error {
    let given = value.type_name();
    mlua::Error::runtime(format!(
        "the handler must return {function} {{ ... }} or nothing; it returned a {given}"
    ))
}

fn read_pool(lua: &Lua, given: &Value) -> mlua::Result<PoolConfig> {
    let config: PoolConfig = options::read(lua, POOL_FUNCTION, given, &[])?;
    check_pool(&config).map_err(|reason| fail(lua, POOL_FUNCTION, reason))?;
    Ok(config)
}

fn read_source(lua: &Lua, given: &Value) -> mlua::Result<SourceConfig> {
    let config: SourceConfig = options::read(lua, SOURCE_FUNCTION, given, &[])?;
    check_source(&config).map_err(|reason| fail(lua, SOURCE_FUNCTION, reason))?;
    Ok(config)
}

fn check_pool(config: &PoolConfig) -> Result<(), String> {
    check_part("name", &config.name)?;
    not_zero(&[("ttl", config.ttl == Duration::ZERO)])?;
    if config.entries.len() > ENTRIES_MAX {
        return Err(format!(
            "option 'entries' has {} sources; {ENTRIES_MAX} are the most",
            config.entries.len()
        ));
    }
    let mut names = BTreeSet::new();
    for entry in &config.entries {
        check_part("entries", &entry.name)?;
        if !names.insert(&entry.name) {
            return Err(format!(
                "option 'entries' names the source '{}' twice; give it one weight",
                entry.name
            ));
        }
        if entry.weight > WEIGHT_MAX {
            return Err(format!("option 'entries': a weight of {} is more than {WEIGHT_MAX}", entry.weight));
        }
    }
    Ok(())
}

fn check_source(config: &SourceConfig) -> Result<(), String> {
    check_part("name", &config.name)?;
    check_name("ehlo_domain", config.ehlo_domain.as_deref())?;
    not_zero(&[("remote_port", config.remote_port == Some(0)), ("ttl", config.ttl == Duration::ZERO)])?;
    config.check_proxy()?;
    check_rule("suspend_when_unplumbed", &config.suspend_when_unplumbed)?;
    if let Some(rule) = &config.suspend_when_proxy_unhealthy {
        check_rule("suspend_when_proxy_unhealthy", rule)?;
    }
    let days = config.warm_up.as_ref().map(|plan| plan.messages_per_day.len());
    if days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
        return Err(format!("option 'warm_up': 'messages_per_day' needs 1 to {DAYS_MAX} days"));
    }
    Ok(())
}

fn check_rule(option: &str, rule: &SuspendRule) -> Result<(), String> {
    if rule.duration == Duration::ZERO {
        return Err(format!("option '{option}': a duration of 0 suspends nothing"));
    }
    match rule.trigger {
        Trigger::Threshold(spec) if spec.count > FAILURES_MAX => {
            let count = spec.count;
            Err(format!("option '{option}': a threshold of {count} failures is more than {FAILURES_MAX}"))
        }
        _ => Ok(()),
    }
}

/// Names of sources are parts of the names of ready queues, `source->site@protocol`.
fn check_part(option: &str, name: &str) -> Result<(), String> {
    let is_unfit = |c: char| c.is_control() || matches!(c, ' ' | '@');
    if name.is_empty() {
        return Err(format!("option '{option}': a name is missing"));
    }
    if name.len() > NAME_BYTES_MAX || name.contains(is_unfit) || name.contains("->") {
        let rule = format!("without blanks, '@' and '->', {NAME_BYTES_MAX} bytes at most");
        return Err(format!("option '{option}': {name:?} is not a name {rule}"));
    }
    Ok(())
}
