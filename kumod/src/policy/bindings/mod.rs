//! What a policy can call: one file for each group of names.
//!
//! Every binding refuses what it does not understand with the place in the policy, its own name, and what it wanted instead.

pub(super) mod dns;
pub(super) mod egress;
mod kumo;
pub(super) mod listener_domain;
mod listeners;
mod log;
pub(super) mod message;
mod options;
pub(super) mod path;
pub(super) mod queue;
pub(super) mod scram;
mod spool;

use std::fmt::Display;
use std::path::PathBuf;

use mlua::debug::Debug;
use mlua::{Lua, Value};

use crate::config::{Config, DnsSpec, HttpListener, MtaStsSpec, SmtpListener};

pub(super) use kumo::install;

/// How far up the stack the caller's line is looked for.
const FRAMES_MAX: usize = 8;

/// What `init` asked for. It is in the state's data while `init` runs, and only then.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) smtp_listeners: Vec<SmtpListener>,
    pub(super) http_listeners: Vec<HttpListener>,
    pub(super) spool_dir: Option<PathBuf>,
    pub(super) spool_meta_dir: Option<PathBuf>,
    pub(super) log_dir: Option<PathBuf>,
    pub(super) dns: DnsSpec,
    pub(super) mta_sts: MtaStsSpec,
}

impl Recorded {
    /// Puts it where the rest of kumod reads it.
    pub(super) fn apply(self, config: &mut Config) {
        if self.smtp_listeners.iter().any(|listener| listener.deferred_spool) {
            config.spool.durability = ::spool::Durability::Deferred;
        }
        config.smtp_listeners = self.smtp_listeners;
        config.http_listeners = self.http_listeners;
        config.outbound.dns = self.dns;
        config.outbound.mta_sts = self.mta_sts;
        if let Some(dir) = self.spool_dir {
            config.spool.dir = dir;
        }
        if let Some(dir) = self.log_dir {
            config.log_dir = dir;
        }
    }
}

/// Records something that `init` asked for.
fn record(
    lua: &Lua,
    function: &str,
    add: impl FnOnce(&mut Recorded) -> Result<(), String>,
) -> mlua::Result<()> {
    let added = match lua.app_data_mut::<Recorded>() {
        Some(mut recorded) => add(&mut recorded),
        None => {
            Err("may be called in the 'init' handler only: kumo.on('init', function() ... end)".to_owned())
        }
    };
    added.map_err(|reason| fail(lua, function, reason))
}

/// An error of the function that the policy called, with the policy's own line.
fn fail(lua: &Lua, function: &str, reason: impl Display) -> mlua::Error {
    let caller =
        (1..FRAMES_MAX).find_map(|level| lua.inspect_stack(level, place).filter(|place| !place.is_empty()));
    mlua::Error::RuntimeError(format!("{}{function}: {reason}", caller.unwrap_or_default()))
}

/// `relay.lua:12: `, or nothing where it is not Lua that runs.
pub(super) fn place(debug: &Debug<'_>) -> String {
    match (debug.source().short_src, debug.current_line()) {
        (Some(source), Some(line)) => format!("{source}:{line}: "),
        _ => String::new(),
    }
}

/// A text argument.
fn text(lua: &Lua, function: &str, what: &str, value: &Value) -> mlua::Result<String> {
    let text = value.as_string().and_then(|text| text.to_str().ok().map(|text| text.to_owned()));
    text.ok_or_else(|| {
        fail(lua, function, format!("{what} must be text (UTF-8); a {} was given", value.type_name()))
    })
}
