//! The message that a handler is given, the addresses on it, and the connection that it came over.
//!
//! Each state has one message object for its whole life, into which the message at hand is put for the time of the handler:
//! an object for each message would leave garbage with finalizers, which Lua collects more and more slowly. A handler that keeps
//! the object for later finds nothing in it, or the message of that time. Metadata is what goes on with the message; refuses
//! values that cannot be stored, and anything but text for the names that steer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mlua::{Function, Lua, LuaString, Table, UserData, UserDataMethods, Value};

use super::{fail, options, text};
use crate::envelope::{Scheduling, WrittenScheduling};
use crate::policy::PolicyMessage;
use crate::policy::value::{to_json, to_lua};

/// Metadata values on one message.
const META_ENTRIES_MAX: usize = 256;
/// Bytes of the name of a metadata value.
const META_NAME_BYTES_MAX: usize = 256;
/// Names that steer the message and must be text.
const STEERING: [&str; 4] = ["queue", "tenant", "campaign", "routing_domain"];

/// Where a state's message object finds the message at hand.
#[derive(Clone, Debug, Default)]
pub(in crate::policy) struct Slot(Arc<Mutex<Option<PolicyMessage>>>);

impl Slot {
    /// Lends the message to the object for the time of `call`.
    pub(in crate::policy) fn lend<R>(&self, message: &mut PolicyMessage, call: impl FnOnce() -> R) -> R {
        *self.content() = Some(message.take());
        let result = call();
        if let Some(changed) = self.content().take() {
            *message = changed;
        }
        result
    }

    fn content(&self) -> MutexGuard<'_, Option<PolicyMessage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the message at hand.
    fn with<R>(
        &self,
        lua: &Lua,
        method: &str,
        act: impl FnOnce(&mut PolicyMessage) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        // Held already only where a finalizer of the policy runs in the middle of another method.
        match self.0.try_lock().as_deref_mut() {
            Ok(Some(message)) => act(message),
            _ => Err(fail(lua, method, "the message is there only while its handler runs")),
        }
    }
}

/// The handler's first argument.
pub(in crate::policy) struct Message {
    pub(in crate::policy) slot: Slot,
    /// The metatable of address tables.
    pub(in crate::policy) addresses: Table,
}

impl UserData for Message {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("id", |lua, this, ()| {
            this.slot.with(lua, "msg:id", |message| Ok(message.id.to_string()))
        });
        methods.add_method("sender", |lua, this, ()| {
            this.slot.with(lua, "msg:sender", |message| address(lua, this, &message.sender))
        });
        methods.add_method("recipient", |lua, this, ()| {
            this.slot.with(lua, "msg:recipient", |message| {
                message.recipients.first().map(|recipient| address(lua, this, recipient)).transpose()
            })
        });
        methods.add_method("recipient_list", |lua, this, ()| {
            this.slot.with(lua, "msg:recipient_list", |message| {
                let list = message.recipients.iter().map(|recipient| address(lua, this, recipient));
                list.collect::<mlua::Result<Vec<_>>>()
            })
        });
        methods.add_method("get_data", |lua, this, ()| {
            this.slot.with(lua, "msg:get_data", |message| lua.create_string(&message.body))
        });
        methods.add_method("get_meta", |lua, this, name: LuaString| {
            this.slot.with(lua, "msg:get_meta", |message| get_meta(lua, message, &name))
        });
        methods.add_method("set_meta", |lua, this, (name, value): (Value, Value)| {
            const METHOD: &str = "msg:set_meta";
            let name = text(lua, METHOD, "the name", &name)?;
            let set = |message: &mut PolicyMessage| {
                set_meta(message, name, &value).map_err(|reason| fail(lua, METHOD, reason))
            };
            this.slot.with(lua, METHOD, set)
        });
        methods.add_method("set_scheduling", |lua, this, given: Value| {
            const METHOD: &str = "msg:set_scheduling";
            let scheduling = read_scheduling(&given).map_err(|reason| fail(lua, METHOD, reason))?;
            let shown = scheduling.as_ref().map(Scheduling::to_json).unwrap_or_default();
            let set = |message: &mut PolicyMessage| {
                message.scheduling = scheduling.filter(|scheduling| !scheduling.is_empty()).map(Box::new);
                to_lua(lua, &shown)
            };
            this.slot.with(lua, METHOD, set)
        });
    }
}

fn read_scheduling(given: &Value) -> Result<Option<Scheduling>, String> {
    match given {
        Value::Nil => Ok(None),
        Value::Table(table) => options::read_table::<WrittenScheduling>(table, &[])?.try_into().map(Some),
        other => Err(format!("a table or nil is wanted; a {} was given", other.type_name())),
    }
}

fn get_meta(lua: &Lua, message: &PolicyMessage, name: &LuaString) -> mlua::Result<Value> {
    let value = name.to_str().ok().and_then(|name| message.meta.get(&*name));
    value.map_or(Ok(Value::Nil), |value| to_lua(lua, value))
}

fn set_meta(message: &mut PolicyMessage, name: String, value: &Value) -> Result<(), String> {
    if value.is_nil() {
        message.meta.remove(&name);
        return Ok(());
    }
    if name.len() > META_NAME_BYTES_MAX {
        return Err(format!("a name may have {META_NAME_BYTES_MAX} bytes at most"));
    }
    if STEERING.contains(&name.as_str()) && !value.is_string() {
        return Err(format!("the value of '{name}' must be text; a {} was given", value.type_name()));
    }
    if message.meta.len() >= META_ENTRIES_MAX && !message.meta.contains_key(&name) {
        return Err(format!("a message may have {META_ENTRIES_MAX} values at most"));
    }
    let value = to_json(value).map_err(|reason| format!("the value of '{name}' {reason}"))?;
    message.meta.insert(name, value);
    Ok(())
}

/// The connection that the message at hand came over: the handler's second argument.
pub(in crate::policy) struct Connection {
    pub(in crate::policy) slot: Slot,
}

impl UserData for Connection {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("get_meta", |lua, this, name: LuaString| {
            this.slot.with(lua, "connection:get_meta", |message| {
                let name = name.to_str().ok();
                let client = message.client.as_ref();
                let value = name.and_then(|name| client.and_then(|client| client.meta(&name)));
                value.map_or(Ok(Value::Nil), |value| to_lua(lua, &value))
            })
        });
    }
}

/// An address of the envelope as a table with `user`, `domain` and `email`; the null sender is empty in each.
fn address(lua: &Lua, message: &Message, email: &str) -> mlua::Result<Table> {
    let (user, domain) = email.rsplit_once('@').unwrap_or((email, ""));
    let table = lua.create_table_with_capacity(0, 3)?;
    table.raw_set("user", user)?;
    table.raw_set("domain", domain)?;
    table.raw_set("email", email)?;
    table.set_metatable(Some(message.addresses.clone()))?;
    Ok(table)
}

/// What all address tables share: `tostring` gives the address.
pub(in crate::policy) fn address_metatable(lua: &Lua) -> mlua::Result<Table> {
    let email: Function = lua.create_function(|_, address: Table| address.raw_get::<Value>("email"))?;
    lua.create_table_from([("__tostring", email)])
}
