//! The operator's policy: a Lua file with KumoMTA's names that says where to listen and what to do with each message.
//!
//! Owns the Lua states and everything a policy can call. An event without a handler costs a look at a flag. A policy that
//! cannot be loaded stops the start with file, line and reason; one that fails later costs the client a 421 and the log a
//! line with the way there, and never takes the process down. Refuses every name and option that has no effect here.

mod bindings;
mod error;
mod event;
mod lookups;
mod lua;
mod state;
mod value;
pub mod verdict;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use smtp::reply::Reply;
use smtp::scram::Keys;

use crate::client::Client;
use crate::config::{Config, ListenerDomain, PathConfig, PoolConfig, QueueConfig, SourceConfig};
use crate::envelope::{MessageId, Meta, Scheduling};

use event::Event;
use lua::{Limits, Program};
use state::{QueueParts, State};

pub use error::PolicyError;
pub use lookups::Lookups;
pub use verdict::Verdict;

/// What a client hears when the policy failed: nothing of the reason, which is in the log.
const FAILED: Reply = Reply::new(421, (4, 3, 0), "The server's policy failed; try again later");

/// Nobody is told which of the two was wrong.
pub(crate) const WRONG_PASSWORD: Reply = Reply::new(535, (5, 7, 8), "User or password is wrong");

/// A loaded policy, or none. Cheap to clone; each thread that asks has a Lua state of its own.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    program: Option<Arc<Program>>,
    handled: [bool; Event::ALL.len()],
}

/// What is known of a user's password.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The password itself.
    Password(String),
    /// Keys made of it.
    Keys(Keys),
}

/// Without either.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A message before it is accepted, as a handler sees and changes it.
#[derive(Clone, Debug)]
pub struct PolicyMessage {
    /// Its id.
    pub id: MessageId,
    /// The reverse path; empty is the null sender.
    pub sender: String,
    /// The forward paths, at least one.
    pub recipients: Vec<String>,
    /// What handlers set; `queue`, `tenant`, `campaign` and `routing_domain`, always strings, steer the message.
    pub meta: Meta,
    /// The message as received.
    pub body: Bytes,
    /// The client it came from.
    pub client: Option<Arc<Client>>,
    /// When it may be sent, where a handler said so.
    pub scheduling: Option<Box<Scheduling>>,
}

impl PolicyMessage {
    /// No message yet: what a handler is given that is asked about a connection.
    fn none_yet(client: &Arc<Client>) -> Self {
        Self {
            id: MessageId([0; 16]),
            sender: String::new(),
            recipients: Vec::new(),
            meta: Meta::new(),
            body: Bytes::new(),
            client: Some(Arc::clone(client)),
            scheduling: None,
        }
    }

    /// Moves the message out, and leaves its id.
    fn take(&mut self) -> Self {
        let rest = Self {
            id: self.id,
            sender: String::new(),
            recipients: Vec::new(),
            meta: Meta::new(),
            body: Bytes::new(),
            client: self.client.clone(),
            scheduling: None,
        };
        std::mem::replace(self, rest)
    }
}

impl Policy {
    /// A policy with no handler for anything.
    pub fn none() -> Self {
        Self::default()
    }

    /// Runs the file and fires `pre_init` and `init`. The listeners that it starts replace those of `config`; spool and log
    /// folder replace theirs where the policy names them.
    ///
    /// # Errors
    /// [`PolicyError`] where the file cannot be read, does not parse, fails, or starts no SMTP listener. `config` is as it was then.
    pub fn load(path: &Path, config: &mut Config) -> Result<Self, PolicyError> {
        Self::load_within(path, config, Limits::default())
    }

    fn load_within(path: &Path, config: &mut Config, limits: Limits) -> Result<Self, PolicyError> {
        let program = Program::read(path, limits)?;
        let state = State::load(&program)?;
        let recorded = state.init(&program)?;
        if recorded.smtp_listeners.is_empty() {
            let reason = "the policy starts no SMTP listener";
            let remedy = "call kumo.start_esmtp_listener { listen = '127.0.0.1:2025' } in its 'init' handler";
            return Err(PolicyError::new(path, reason, remedy));
        }
        recorded.apply(config);
        let handled = Event::ALL.map(|event| state.handles(event));
        // The state in which `init` ran is not kept: what `init` leaves in globals would be there on one thread only.
        Ok(Self { program: Some(Arc::new(program)), handled })
    }

    /// From now on handlers can ask DNS. Once is enough.
    pub fn serve_lookups(&self, lookups: Lookups) {
        if let Some(program) = &self.program {
            // Who came first stays: it is the same process.
            let _ = program.lookups.set(lookups);
        }
    }

    /// Whether [`message_received`](Self::message_received) can say anything but yes.
    pub fn handles_message_received(&self) -> bool {
        self.handled[Event::MessageReceived as usize]
    }

    /// Fires `smtp_server_message_received`: the handler may set metadata and refuse the message. Blocks for the time that the handler takes.
    ///
    /// A handler that fails is logged with its traceback, and the verdict is 421 4.3.0.
    pub fn message_received(&self, message: &mut PolicyMessage) -> Verdict {
        let Some(program) = self.program_for(Event::MessageReceived) else {
            return Verdict::Accept;
        };
        let id = message.id;
        state::message_received(program, message).unwrap_or_else(|error| {
            let traceback = error.traceback().unwrap_or_default();
            tracing::error!(%id, traceback, "{error}");
            Verdict::Reject(FAILED)
        })
    }

    /// Whether users can be told from strangers.
    pub fn handles_auth_plain(&self) -> bool {
        self.handled[Event::AuthPlain as usize]
    }

    /// Fires `smtp_server_auth_plain`: is this the user's password? A handler that fails is logged, and the verdict is 421 4.3.0.
    pub fn auth_plain(&self, client: &Arc<Client>, user: &str, password: &str) -> Verdict {
        let Some(program) = self.program_for(Event::AuthPlain) else {
            return Verdict::Reject(WRONG_PASSWORD);
        };
        state::auth_plain(program, client, user, password).unwrap_or_else(|error| {
            tracing::error!(traceback = error.traceback().unwrap_or_default(), "{error}");
            Verdict::Reject(FAILED)
        })
    }

    /// Whether users can prove that they know their password.
    pub fn handles_auth_scram(&self) -> bool {
        self.handled[Event::AuthScram as usize]
    }

    /// Fires `smtp_server_auth_scram`: what is known of the password of this user? `None`: there is no such user.
    ///
    /// # Errors
    /// The handler failed, which is logged; the reply is 421 4.3.0, or what the handler refused with.
    pub fn auth_scram(&self, client: &Arc<Client>, user: &str) -> Result<Option<Secret>, Reply> {
        let Some(program) = self.program_for(Event::AuthScram) else {
            return Ok(None);
        };
        state::auth_scram(program, client, user).unwrap_or_else(|error| {
            tracing::error!(traceback = error.traceback().unwrap_or_default(), "{error}");
            Err(FAILED)
        })
    }

    /// Whether the policy knows domains of its own.
    pub fn handles_listener_domain(&self) -> bool {
        self.handled[Event::ListenerDomain as usize]
    }

    /// Fires `get_listener_domain`.
    ///
    /// # Errors
    /// The handler failed, which is logged; the reply is 421 4.3.0, or what the handler refused with.
    pub fn listener_domain(&self, client: &Arc<Client>, domain: &str) -> Result<ListenerDomain, Reply> {
        let Some(program) = self.program_for(Event::ListenerDomain) else {
            return Ok(ListenerDomain::default());
        };
        state::listener_domain(program, client, domain).unwrap_or_else(|error| {
            tracing::error!(traceback = error.traceback().unwrap_or_default(), "{error}");
            Err(FAILED)
        })
    }

    /// Whether the policy shapes scheduled queues.
    pub fn handles_queue_config(&self) -> bool {
        self.handled[Event::QueueConfig as usize]
    }

    /// Fires `get_queue_config`. `None` where no handler answers.
    ///
    /// # Errors
    /// [`PolicyError`] where a handler fails or answers with something else.
    pub fn queue_config(
        &self,
        domain: &str,
        tenant: Option<&str>,
        campaign: Option<&str>,
        routing_domain: Option<&str>,
    ) -> Result<Option<QueueConfig>, PolicyError> {
        let name = QueueParts { domain, tenant, campaign, routing_domain };
        self.program_for(Event::QueueConfig).map_or(Ok(None), |program| state::queue_config(program, &name))
    }

    /// Whether the policy shapes egress paths.
    pub fn handles_egress_path_config(&self) -> bool {
        self.handled[Event::EgressPathConfig as usize]
    }

    /// Fires `get_egress_path_config`. `None` where the handler does not answer.
    ///
    /// # Errors
    /// [`PolicyError`] where the handler fails or answers with something else.
    pub fn egress_path_config(
        &self,
        routing_domain: &str,
        source: &str,
        site_name: &str,
    ) -> Result<Option<PathConfig>, PolicyError> {
        self.program_for(Event::EgressPathConfig)
            .map_or(Ok(None), |program| state::egress_path_config(program, routing_domain, source, site_name))
    }

    /// Fires `get_egress_pool`. `None` where no handler knows the pool.
    ///
    /// # Errors
    /// [`PolicyError`] where the handler fails or answers with something else.
    pub fn egress_pool(&self, name: &str) -> Result<Option<PoolConfig>, PolicyError> {
        self.program_for(Event::EgressPool).map_or(Ok(None), |program| state::egress_pool(program, name))
    }

    /// Fires `get_egress_source`. `None` where no handler knows the source.
    ///
    /// # Errors
    /// [`PolicyError`] where the handler fails or answers with something else.
    pub fn egress_source(&self, name: &str) -> Result<Option<SourceConfig>, PolicyError> {
        self.program_for(Event::EgressSource).map_or(Ok(None), |program| state::egress_source(program, name))
    }

    fn program_for(&self, event: Event) -> Option<&Arc<Program>> {
        self.program.as_ref().filter(|_| self.handled[event as usize])
    }
}

#[cfg(test)]
mod tests;
