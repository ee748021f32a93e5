//! The Lua states of each thread, and the questions put to them.
//!
//! A thread makes its own state at its first question, so that no lock is shared on a message's way. A state whose time or
//! memory ran out may be half way through anything: it is thrown away, and the next question makes a new one.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use mlua::{AnyUserData, Function, Lua, Value};
use smtp::reply::Reply;

use crate::client::Client;
use crate::config::{ListenerDomain, PathConfig, PoolConfig, QueueConfig, SourceConfig};

use super::bindings::message::{Connection, Message, Slot, address_metatable};
use super::bindings::{Recorded, egress, listener_domain, path, queue, scram};
use super::error::{PolicyError, is_memory};
use super::event::Event;
use super::lua::{Clock, Program};
use super::verdict::{Rejection, Verdict};
use super::{PolicyMessage, Secret};

/// States that one thread keeps: as many policies as are in use at once, which is one except in tests and around a reload.
const STATES_PER_THREAD_MAX: usize = 4;

thread_local! {
    static STATES: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// A state and the program that it runs.
struct Kept {
    program: Weak<Program>,
    state: Rc<State>,
}

/// The handlers of one state, by event.
#[derive(Debug, Default)]
pub(super) struct Handlers([Vec<Function>; Event::ALL.len()]);

impl Handlers {
    /// Adds a handler.
    ///
    /// # Errors
    /// Where the event has one already and takes one only.
    pub(super) fn add(&mut self, event: Event, handler: Function) -> Result<(), String> {
        let handlers = &mut self.0[event as usize];
        if !handlers.is_empty() && !event.takes_many() {
            return Err(format!("event '{}' has a handler already and takes only one", event.name()));
        }
        handlers.push(handler);
        Ok(())
    }

    fn of(&self, event: Event) -> &[Function] {
        &self.0[event as usize]
    }
}

/// One Lua state with the policy in it.
pub(super) struct State {
    lua: Lua,
    clock: Clock,
    handlers: Handlers,
    slot: Slot,
    message: AnyUserData,
    connection: AnyUserData,
}

impl State {
    /// Makes a state and runs the file in it.
    pub(super) fn load(program: &Program) -> Result<Self, PolicyError> {
        let fail = |error: mlua::Error| PolicyError::from_lua(&program.path, &program.chunk, &error);
        let (lua, clock) = program.new_lua().map_err(fail)?;
        lua.set_app_data(Handlers::default());
        clock.start(program.limits.start_time_max);
        program.run(&lua).map_err(fail)?;
        let handlers = lua.remove_app_data::<Handlers>().unwrap_or_default();
        Self::furnish(lua, clock, handlers).map_err(fail)
    }

    /// Adds the objects that every handler of a message is given.
    fn furnish(lua: Lua, clock: Clock, handlers: Handlers) -> mlua::Result<Self> {
        let slot = Slot::default();
        let addresses = address_metatable(&lua)?;
        let message = lua.create_userdata(Message { slot: slot.clone(), addresses })?;
        let connection = lua.create_userdata(Connection { slot: slot.clone() })?;
        Ok(Self { lua, clock, handlers, slot, message, connection })
    }

    /// Whether anything is registered for the event.
    pub(super) fn handles(&self, event: Event) -> bool {
        !self.handlers.of(event).is_empty()
    }

    /// Fires `pre_init` and `init`, and returns what `init` asked for.
    pub(super) fn init(&self, program: &Program) -> Result<Recorded, PolicyError> {
        self.clock.start(program.limits.start_time_max);
        self.fire(program, Event::PreInit)?;
        self.lua.set_app_data(Recorded::default());
        self.fire(program, Event::Init)?;
        Ok(self.lua.remove_app_data::<Recorded>().unwrap_or_default())
    }

    fn fire(&self, program: &Program, event: Event) -> Result<(), PolicyError> {
        for handler in self.handlers.of(event) {
            handler.call::<()>(()).map_err(|error| failure(program, event, &error))?;
        }
        Ok(())
    }

    fn message_received(&self, message: &mut PolicyMessage) -> mlua::Result<Verdict> {
        let Some(handler) = self.handlers.of(Event::MessageReceived).first() else {
            return Ok(Verdict::Accept);
        };
        let result = self.slot.lend(message, || handler.call::<()>((&self.message, &self.connection)));
        match result {
            Ok(()) => Ok(Verdict::Accept),
            Err(error) => rejection(error).map(Verdict::Reject),
        }
    }

    fn auth_plain(&self, client: &Arc<Client>, user: &str, password: &str) -> mlua::Result<Verdict> {
        let Some(handler) = self.handlers.of(Event::AuthPlain).first() else {
            return Ok(Verdict::Reject(super::WRONG_PASSWORD));
        };
        // PLAIN lets a user act for itself only, so that both names are one.
        let arguments = (user, user, password, &self.connection);
        let asked = self.slot.lend(&mut PolicyMessage::none_yet(client), || handler.call::<Value>(arguments));
        match asked {
            Ok(Value::Boolean(true)) => Ok(Verdict::Accept),
            Ok(Value::Boolean(false) | Value::Nil) => Ok(Verdict::Reject(super::WRONG_PASSWORD)),
            Ok(other) => Err(mlua::Error::runtime(format!(
                "the handler must return true or false; it returned a {}",
                other.type_name()
            ))),
            Err(error) => rejection(error).map(Verdict::Reject),
        }
    }

    fn auth_scram(&self, client: &Arc<Client>, user: &str) -> mlua::Result<Result<Option<Secret>, Reply>> {
        let Some(handler) = self.handlers.of(Event::AuthScram).first() else {
            return Ok(Ok(None));
        };
        let arguments = (user, &self.connection);
        let asked = self.slot.lend(&mut PolicyMessage::none_yet(client), || handler.call::<Value>(arguments));
        match asked {
            Ok(value) => scram::answer(&value).map(Ok),
            Err(error) => rejection(error).map(Err),
        }
    }

    fn listener_domain(
        &self,
        client: &Arc<Client>,
        domain: &str,
    ) -> mlua::Result<Result<ListenerDomain, Reply>> {
        let Some(handler) = self.handlers.of(Event::ListenerDomain).first() else {
            return Ok(Ok(ListenerDomain::default()));
        };
        let arguments = (domain, client.listener.listen.to_string(), &self.connection);
        let asked = self.slot.lend(&mut PolicyMessage::none_yet(client), || handler.call::<Value>(arguments));
        match asked {
            Ok(value) => listener_domain::answer(&self.lua, &value).map(Ok),
            Err(error) => rejection(error).map(Err),
        }
    }

    fn queue_config(&self, name: &QueueParts<'_>) -> mlua::Result<Option<QueueConfig>> {
        for handler in self.handlers.of(Event::QueueConfig) {
            let answer =
                handler.call::<Value>((name.domain, name.tenant, name.campaign, name.routing_domain))?;
            if let Some(config) = queue::answer(&self.lua, &answer)? {
                return Ok(Some(config));
            }
        }
        Ok(None)
    }

    fn egress_path_config(
        &self,
        routing_domain: &str,
        source: &str,
        site: &str,
    ) -> mlua::Result<Option<PathConfig>> {
        let Some(handler) = self.handlers.of(Event::EgressPathConfig).first() else {
            return Ok(None);
        };
        path::answer(&self.lua, &handler.call::<Value>((routing_domain, source, site))?)
    }

    fn egress_pool(&self, name: &str) -> mlua::Result<Option<PoolConfig>> {
        let Some(handler) = self.handlers.of(Event::EgressPool).first() else {
            return Ok(None);
        };
        let answer = egress::pool_answer(&self.lua, &handler.call::<Value>(name)?)?;
        same_name(name, answer, |pool| &pool.name)
    }

    fn egress_source(&self, name: &str) -> mlua::Result<Option<SourceConfig>> {
        let Some(handler) = self.handlers.of(Event::EgressSource).first() else {
            return Ok(None);
        };
        let answer = egress::source_answer(&self.lua, &handler.call::<Value>(name)?)?;
        same_name(name, answer, |source| &source.name)
    }
}

/// An answer about something else would be used under a name that it does not know of.
fn same_name<T>(asked: &str, answer: Option<T>, name: impl Fn(&T) -> &String) -> mlua::Result<Option<T>> {
    match answer {
        Some(answer) if name(&answer) != asked => {
            let reason =
                format!("the handler was asked about '{asked}' and answered with '{}'", name(&answer));
            Err(mlua::Error::runtime(format!("{reason}; return one of the name that was asked, or nothing")))
        }
        answer => Ok(answer),
    }
}

/// The reply of `kumo.reject`, where it was that.
fn rejection(error: mlua::Error) -> mlua::Result<Reply> {
    match error.downcast_ref::<Rejection>() {
        Some(Rejection(reply)) => Ok(reply.clone()),
        None => Err(error),
    }
}

/// The parts of a scheduled queue's name.
pub(super) struct QueueParts<'a> {
    pub(super) domain: &'a str,
    pub(super) tenant: Option<&'a str>,
    pub(super) campaign: Option<&'a str>,
    pub(super) routing_domain: Option<&'a str>,
}

/// Asks for a verdict on a message.
pub(super) fn message_received(
    program: &Arc<Program>,
    message: &mut PolicyMessage,
) -> Result<Verdict, PolicyError> {
    ask(program, Event::MessageReceived, |state| state.message_received(message))
}

/// Asks whether this is the user's password.
pub(super) fn auth_plain(
    program: &Arc<Program>,
    client: &Arc<Client>,
    user: &str,
    password: &str,
) -> Result<Verdict, PolicyError> {
    ask(program, Event::AuthPlain, |state| state.auth_plain(client, user, password))
}

/// Asks what is known of a user's password.
pub(super) fn auth_scram(
    program: &Arc<Program>,
    client: &Arc<Client>,
    user: &str,
) -> Result<Result<Option<Secret>, Reply>, PolicyError> {
    ask(program, Event::AuthScram, |state| state.auth_scram(client, user))
}

/// Asks what strangers may do with a domain.
pub(super) fn listener_domain(
    program: &Arc<Program>,
    client: &Arc<Client>,
    domain: &str,
) -> Result<Result<ListenerDomain, Reply>, PolicyError> {
    ask(program, Event::ListenerDomain, |state| state.listener_domain(client, domain))
}

/// Asks for the shape of a scheduled queue.
pub(super) fn queue_config(
    program: &Arc<Program>,
    name: &QueueParts<'_>,
) -> Result<Option<QueueConfig>, PolicyError> {
    ask(program, Event::QueueConfig, |state| state.queue_config(name))
}

/// Asks for the shape of an egress path.
pub(super) fn egress_path_config(
    program: &Arc<Program>,
    routing_domain: &str,
    source: &str,
    site: &str,
) -> Result<Option<PathConfig>, PolicyError> {
    ask(program, Event::EgressPathConfig, |state| state.egress_path_config(routing_domain, source, site))
}

/// Asks for the sources of a pool.
pub(super) fn egress_pool(program: &Arc<Program>, name: &str) -> Result<Option<PoolConfig>, PolicyError> {
    ask(program, Event::EgressPool, |state| state.egress_pool(name))
}

/// Asks for what a source is.
pub(super) fn egress_source(program: &Arc<Program>, name: &str) -> Result<Option<SourceConfig>, PolicyError> {
    ask(program, Event::EgressSource, |state| state.egress_source(name))
}

fn ask<R>(
    program: &Arc<Program>,
    event: Event,
    question: impl FnOnce(&State) -> mlua::Result<R>,
) -> Result<R, PolicyError> {
    let state = own_state(program)?;
    state.clock.start(program.limits.question_time_max);
    let answer = question(&state);
    if state.clock.ran_out() || answer.as_ref().is_err_and(is_memory) {
        forget(program);
    }
    answer.map_err(|error| failure(program, event, &error))
}

fn failure(program: &Program, event: Event, error: &mlua::Error) -> PolicyError {
    PolicyError::from_lua(&program.path, &program.chunk, error).in_event(event)
}

/// This thread's state for the program, made where it is missing.
fn own_state(program: &Arc<Program>) -> Result<Rc<State>, PolicyError> {
    let found = STATES.with_borrow(|states| {
        let kept = states.iter().find(|kept| kept.program.as_ptr() == Arc::as_ptr(program));
        kept.map(|kept| Rc::clone(&kept.state))
    });
    if let Some(state) = found {
        return Ok(state);
    }
    let state = Rc::new(State::load(program)?);
    let kept = Kept { program: Arc::downgrade(program), state: Rc::clone(&state) };
    let dropped = STATES.with_borrow_mut(|states| {
        let (mut used, mut dropped): (Vec<_>, Vec<_>) =
            states.drain(..).partition(|kept| kept.program.strong_count() > 0);
        if used.len() >= STATES_PER_THREAD_MAX {
            dropped.push(used.remove(0));
        }
        used.push(kept);
        *states = used;
        dropped
    });
    // Out of the borrow: closing a state may run code of the policy.
    drop(dropped);
    Ok(state)
}

fn forget(program: &Arc<Program>) {
    let dropped = STATES.with_borrow_mut(|states| {
        let at = states.iter().position(|kept| kept.program.as_ptr() == Arc::as_ptr(program));
        at.map(|at| states.remove(at))
    });
    drop(dropped);
}
