//! The module `kumo`: `require 'kumo'` and the global of that name.
//!
//! A name that KumoMTA has and that has no working counterpart here is an error as soon as it is used, so that nothing is
//! silently left undone; so are its helper modules.

use mlua::{Function, Lua, Table, Value};

use super::{dns, egress, fail, listener_domain, listeners, log, path, queue, spool, text};
use crate::policy::event::Event;
use crate::policy::state::Handlers;
use crate::policy::verdict::Rejection;

/// Puts the module into a fresh state.
pub(in crate::policy) fn install(lua: &Lua) -> mlua::Result<()> {
    let module = lua.create_table()?;
    module.set("version", env!("CARGO_PKG_VERSION"))?;
    module.set("on", lua.create_function(on)?)?;
    module.set("reject", lua.create_function(reject)?)?;
    listeners::install(lua, &module)?;
    listener_domain::install(lua, &module)?;
    spool::install(lua, &module)?;
    queue::install(lua, &module)?;
    path::install(lua, &module)?;
    egress::install(lua, &module)?;
    log::install(lua, &module)?;
    dns::install(lua, &module)?;
    let meta = lua.create_table()?;
    meta.set("__index", lua.create_function(missing)?)?;
    module.set_metatable(Some(meta))?;
    lua.globals().set("kumo", &module)?;
    lua.register_module("kumo", module)?;
    explain_helpers(lua)?;
    forbid_exit(lua)?;
    lua.load(XPCALL).set_name("=xpcall").exec()
}

/// Lua runs the handler of `xpcall` where the error is raised. When that is inside the look at the clock, the clock stands
/// still, and a handler that loops would never be stopped: here it runs after the call has ended.
const XPCALL: &str = "
local pcall, select = pcall, select
local function finish(handler, ok, ...)
  if ok then return true, ... end
  return false, select(2, pcall(handler, ...))
end
function xpcall(f, handler, ...)
  return finish(handler, pcall(f, ...))
end";

fn on(lua: &Lua, (name, handler): (Value, Value)) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.on";
    let name = text(lua, FUNCTION, "the event's name", &name)?;
    let event = Event::find(&name).map_err(|reason| fail(lua, FUNCTION, reason))?;
    let handler: Function = handler.as_function().cloned().ok_or_else(|| {
        let reason =
            format!("the handler of '{name}' must be a function; a {} was given", handler.type_name());
        fail(lua, FUNCTION, reason)
    })?;
    let added = match lua.app_data_mut::<Handlers>() {
        Some(mut handlers) => handlers.add(event, handler),
        // A handler registered by a handler would exist on the one thread where that ran.
        None => Err("may be called while the file is loaded only, not in a handler".to_owned()),
    };
    added.map_err(|reason| fail(lua, FUNCTION, reason))
}

fn reject(lua: &Lua, (code, reason): (Value, Value)) -> mlua::Result<()> {
    const FUNCTION: &str = "kumo.reject";
    let wanted = || format!("the code must be a whole number; a {} was given", code.type_name());
    let number = code.as_integer().ok_or_else(|| fail(lua, FUNCTION, wanted()))?;
    let reason = text(lua, FUNCTION, "the text", &reason)?;
    let rejection = Rejection::new(number, &reason).map_err(|why| fail(lua, FUNCTION, why))?;
    Err(mlua::Error::external(rejection))
}

/// The field of `kumo` that is not there.
fn missing(lua: &Lua, (_, name): (Table, Value)) -> mlua::Result<Value> {
    let name = name.to_string()?;
    if KUMOMTA_ONLY.contains(&name.as_str()) {
        return Err(fail(lua, &format!("kumo.{name}"), "is not available in this version"));
    }
    Ok(Value::Nil)
}

/// Lets `require` say why KumoMTA's helpers are not found.
fn explain_helpers(lua: &Lua) -> mlua::Result<()> {
    let package: Table = lua.globals().get("package")?;
    let searchers: Table = package.get("searchers")?;
    searchers.raw_push(lua.create_function(|_, name: String| {
        let helper = name.starts_with("policy-extras.") || name.starts_with("kumo.");
        Ok(helper.then(|| format!("\n\t'{name}' of KumoMTA is not available in this version")))
    })?)
}

/// `os.exit` would end kumod in the middle of other people's mail.
fn forbid_exit(lua: &Lua) -> mlua::Result<()> {
    let os: Table = lua.globals().get("os")?;
    let refuse =
        |lua: &Lua, ()| -> mlua::Result<()> { Err(fail(lua, "os.exit", "a policy cannot end kumod")) };
    os.set("exit", lua.create_function(refuse)?)
}

/// KumoMTA's other functions and modules.
const KUMOMTA_ONLY: [&str; 80] = [
    "aaa",
    "amqp",
    "api",
    "apply_supplemental_trace_header",
    "available_parallelism",
    "bump_config_epoch",
    "cidr",
    "configure_accounting_db_path",
    "configure_bounce_classifier",
    "configure_log_hook",
    "configure_redis_throttles",
    "counter_series",
    "crypto",
    "digest",
    "disconnect",
    "dkim",
    "dmarc",
    "domain_map",
    "encode",
    "eval_config_monitor_globs",
    "file_type",
    "fs",
    "generate_rfc3464_message",
    "glob",
    "http",
    "inject_message",
    "invoke_get_egress_path_config",
    "invoke_get_egress_pool",
    "invoke_get_egress_source",
    "invoke_get_queue_config",
    "json_encode",
    "json_encode_pretty",
    "json_load",
    "json_parse",
    "jsonl",
    "kafka",
    "make_message",
    "make_throttle",
    "memoize",
    "mimepart",
    "mpsc",
    "nats",
    "read_dir",
    "redis",
    "regex",
    "regex_set_map",
    "secrets",
    "serde",
    "set_config_monitor_globs",
    "set_diagnostic_log_filter",
    "set_httpinject_recipient_rate_limit",
    "set_httpinject_threads",
    "set_logging_threads",
    "set_lruttl_cache_capacity",
    "set_max_lua_context_age",
    "set_max_lua_context_use_count",
    "set_max_spare_lua_contexts",
    "set_memory_hard_limit",
    "set_memory_low_thresh",
    "set_memory_soft_limit",
    "set_qmaint_threads",
    "set_ready_qmaint_threads",
    "set_readyq_threads",
    "set_smtpsrv_threads",
    "set_spoolin_threads",
    "shaping",
    "sleep",
    "spawn_task",
    "spf",
    "sqlite",
    "string",
    "suspend_delivery_when_spool_unhealthy",
    "time",
    "toml_encode",
    "toml_encode_pretty",
    "toml_load",
    "toml_parse",
    "uncached_glob",
    "uuid",
    "xfer",
];
