//! The policy file and the Lua states made from it: read and compiled once, run once in each state.
//!
//! Refuses files that cannot be read, are too large or do not parse, each with its remedy. A state has a memory limit, and a
//! clock that stops whatever runs longer than it may; both end in an error, never in a process that hangs or is killed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mlua::chunk::ChunkMode;
use mlua::debug::Debug;
use mlua::state::LuaOptions;
use mlua::{HookTriggers, Lua, StdLib, VmState};

use super::bindings;
use super::bindings::dns::Desk;
use super::error::PolicyError;

/// Bytes of a policy file.
pub(super) const POLICY_BYTES_MAX: u64 = 4 << 20;
/// Bytes that one Lua state may hold; there is one state for each thread that asks.
pub(super) const STATE_MEMORY_BYTES_MAX: usize = 128 << 20;
/// How long a handler may take over one question.
pub(super) const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the file itself, and the handlers of `pre_init` and `init` together, may take.
pub(super) const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Instructions between two looks at the clock.
const CLOCK_INSTRUCTIONS: u32 = 10_000;
/// Lua shortens the name of a file in its messages beyond this (LUA_IDSIZE, less its end).
const CHUNK_NAME_BYTES_MAX: usize = 59;

/// The limits in force; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) question_time_max: Duration,
    pub(super) start_time_max: Duration,
    pub(super) memory_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            question_time_max: QUESTION_TIME_MAX,
            start_time_max: START_TIME_MAX,
            memory_bytes_max: STATE_MEMORY_BYTES_MAX,
        }
    }
}

/// A compiled policy file.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// The name under which Lua's messages know the file.
    pub(super) chunk: String,
    pub(super) limits: Limits,
    /// Who answers what handlers ask of DNS, once the process serves.
    pub(super) lookups: Desk,
    bytecode: Vec<u8>,
}

impl Program {
    /// Reads and compiles a file.
    pub(super) fn read(path: &Path, limits: Limits) -> Result<Self, PolicyError> {
        let source = read_source(path)?;
        let name = path.file_name().map_or_else(|| "policy".into(), |name| name.to_string_lossy());
        let chunk: String = name.chars().filter(|c| c.is_ascii()).take(CHUNK_NAME_BYTES_MAX).collect();
        let lua = Lua::new_with(StdLib::NONE, LuaOptions::new());
        let compiled = lua.and_then(|lua| {
            let loaded = lua.load(source).set_name(format!("@{chunk}")).set_mode(ChunkMode::Text);
            loaded.into_function().map(|function| function.dump(false))
        });
        let bytecode = compiled.map_err(|error| PolicyError::from_lua(path, &chunk, &error))?;
        Ok(Self { path: path.to_owned(), chunk, limits, lookups: Desk::default(), bytecode })
    }

    /// A fresh state with our module and the limits, before the file has run in it.
    pub(super) fn new_lua(&self) -> mlua::Result<(Lua, Clock)> {
        let lua = Lua::new();
        bindings::install(&lua)?;
        lua.set_app_data(Desk::clone(&self.lookups));
        self.add_own_folder(&lua)?;
        let clock = Clock::new();
        clock.clone().watch(&lua, CLOCK_INSTRUCTIONS)?;
        lua.set_memory_limit(self.limits.memory_bytes_max)?;
        Ok((lua, clock))
    }

    /// Runs the file, which registers its handlers.
    pub(super) fn run(&self, lua: &Lua) -> mlua::Result<()> {
        lua.load(&self.bytecode).set_name(format!("@{}", self.chunk)).set_mode(ChunkMode::Binary).exec()
    }

    /// `require` looks beside the policy first.
    fn add_own_folder(&self, lua: &Lua) -> mlua::Result<()> {
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        let package: mlua::Table = lua.globals().get("package")?;
        let others: String = package.get("path")?;
        let folder = folder.display();
        package.set("path", format!("{folder}/?.lua;{folder}/?/init.lua;{others}"))
    }
}

/// Stops what runs too long. Cloned into the state that it watches.
#[derive(Clone, Debug)]
pub(super) struct Clock(Arc<Mutex<Span>>);

#[derive(Debug)]
struct Span {
    start: Instant,
    limit: Duration,
    ran_out: bool,
}

impl Clock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Span { start: Instant::now(), limit: Duration::MAX, ran_out: false })))
    }

    /// Gives what runs next this much time.
    pub(super) fn start(&self, limit: Duration) {
        *self.span() = Span { start: Instant::now(), limit, ran_out: false };
    }

    /// Whether the time ran out since the start.
    pub(super) fn ran_out(&self) -> bool {
        self.span().ran_out
    }

    fn span(&self) -> MutexGuard<'_, Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(self, lua: &Lua, instructions: u32) -> mlua::Result<()> {
        let triggers = HookTriggers::new().every_nth_instruction(instructions);
        lua.set_global_hook(triggers, move |lua, debug| self.look(lua, debug))
    }

    fn look(&self, lua: &Lua, debug: &Debug<'_>) -> mlua::Result<VmState> {
        let limit = {
            let mut span = self.span();
            if span.start.elapsed() < span.limit {
                return Ok(VmState::Continue);
            }
            span.ran_out = true;
            span.limit
        };
        // A `pcall` in a loop would swallow the error and go on until the next look. From here on there is one before
        // every instruction, so that each `pcall` on the way out ends as well. The state is thrown away afterwards.
        self.clone().watch(lua, 1)?;
        let place = bindings::place(debug);
        Err(mlua::Error::RuntimeError(format!("{place}stopped after running for {} s", limit.as_secs_f64())))
    }
}

fn read_source(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let fail = |error: io::Error| {
        let (reason, remedy) = match error.kind() {
            io::ErrorKind::NotFound => {
                ("there is no such file".to_owned(), "check the path given with --policy")
            }
            io::ErrorKind::IsADirectory => {
                ("this is a directory".to_owned(), "give the policy file itself with --policy")
            }
            io::ErrorKind::PermissionDenied => (
                "the file may not be read: permission denied".to_owned(),
                "make it, and the directories above it, readable for the user that kumod runs as",
            ),
            _ => (format!("the file cannot be read: {error}"), "check the file and its disk"),
        };
        PolicyError::new(path, reason, remedy)
    };
    let mut source = Vec::new();
    File::open(path)
        .and_then(|file| file.take(POLICY_BYTES_MAX + 1).read_to_end(&mut source))
        .map_err(fail)?;
    if source.len() as u64 > POLICY_BYTES_MAX {
        let reason = format!("the file is larger than {} MiB", POLICY_BYTES_MAX >> 20);
        return Err(PolicyError::new(path, reason, "check that it is the policy"));
    }
    Ok(source)
}
