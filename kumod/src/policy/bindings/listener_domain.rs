//! `kumo.make_listener_domain`: whose mail a listener takes, beyond that of its `relay_hosts`.

use mlua::{Lua, Table, UserData, Value};

use super::options;
use crate::config::ListenerDomain;

const FUNCTION: &str = "kumo.make_listener_domain";
/// KumoMTA's other options.
const UNSERVED: [&str; 2] = ["log_arf", "log_oob"];

/// What the function returns: opaque to the policy.
struct Made(ListenerDomain);

impl UserData for Made {}

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    let make = |lua: &Lua, given: Value| options::read(lua, FUNCTION, &given, &UNSERVED).map(Made);
    module.set("make_listener_domain", lua.create_function(make)?)
}

/// Reads what the handler of `get_listener_domain` returned: such an object, a table of the same options, or nothing.
pub(in crate::policy) fn answer(lua: &Lua, value: &Value) -> mlua::Result<ListenerDomain> {
    match value {
        Value::Nil => Ok(ListenerDomain::default()),
        Value::Table(_) => options::read(lua, FUNCTION, value, &UNSERVED),
        Value::UserData(made) if made.is::<Made>() => Ok(made.borrow::<Made>()?.0.clone()),
        other => {
            let reason = "the handler must return kumo.make_listener_domain { ... } or nothing";
            Err(mlua::Error::runtime(format!("{reason}; it returned a {}", other.type_name())))
        }
    }
}
