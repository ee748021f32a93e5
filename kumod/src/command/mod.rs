//! The subcommands of the program: `kumod spool inspect`, `verify`, `compact` and `export`.
//!
//! An operator's view of the spool, whether or not kumod runs. Only `compact` changes anything, and it refuses a spool that a
//! process has, as `verify` does, which cannot tell what moves from what is damaged. Says on standard output what it found, on
//! standard error how far it has come, and ends with 1 when something is not as it should be.

mod compact;
mod export;
mod inspect;
mod table;
mod verify;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;
use spool::{Access, ScanProgress};
use thiserror::Error;

use crate::config::{Config, SPOOL_DIR};
use crate::policy::{Policy, PolicyError};
use crate::store::{OpenStoreError, View};

const EXAMPLES: &str = "\
Examples:
  What is in the spool, and how old it is:
    kumod spool inspect --spool /var/spool/kumod
  Every checksum of a stopped kumod's spool:
    kumod spool verify --policy /etc/kumod/relay.lua
  All mail to one domain, as files:
    kumod spool export --spool /var/spool/kumod --domain there.example --to ./mail

inspect and export work while kumod runs; verify and compact refuse then.
Exit codes: 0 ok, 1 something is damaged or failed, 2 usage, 130 interrupted.";

/// Looks at a spool, checks it, compacts it, or takes messages out of it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SpoolCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Shows segments, messages by queue and age, and what was set aside; also while kumod runs
    Inspect(inspect::Inspect),
    /// Reads everything and compares every checksum; names each damage and ends with 1 if there is any
    Verify(verify::Verify),
    /// Writes living records together, so that what is dead no longer takes room
    Compact(compact::Compact),
    /// Writes messages as .eml files, each with a .json that tells of its envelope; also while kumod runs
    Export(export::Export),
}

/// Which spool is meant, and where the report goes.
#[derive(Args, Debug)]
struct Common {
    /// The folder of the spool, as kumod was given it; the folder `segments` in it will do, too
    #[arg(long, value_name = "DIR", default_value = SPOOL_DIR)]
    spool: PathBuf,
    /// A policy that names the folder
    #[arg(long, value_name = "FILE.lua", conflicts_with = "spool")]
    policy: Option<PathBuf>,
    /// Writes the report to this file as well, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Why a command could not do its work. The text names the input and the remedy.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The spool is not there, is in use, or cannot be read.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// The policy that should name the spool cannot be loaded.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A file cannot be written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// Whether everything is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Well,
    /// Something is damaged, missing, or was left out.
    Amiss,
}

impl SpoolCommand {
    /// Does what was asked and writes the report to `out`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn run(&self, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        match &self.action {
            Action::Inspect(inspect) => inspect.run(out),
            Action::Verify(verify) => verify.run(out),
            Action::Compact(compact) => compact.run(out),
            Action::Export(export) => export.run(out),
        }
    }
}

impl Common {
    fn folder(&self) -> Result<PathBuf, CommandError> {
        let Some(policy) = &self.policy else { return Ok(self.spool.clone()) };
        let mut config = Config::default();
        Policy::load(policy, &mut config)?;
        Ok(config.spool.dir)
    }

    fn view(&self, access: Access) -> Result<View, CommandError> {
        Ok(View::open(&self.folder()?, access, &tell_scan)?)
    }

    fn write_json(&self, report: &Value) -> Result<(), CommandError> {
        let Some(path) = &self.json else { return Ok(()) };
        fs::write(path, format!("{report:#}\n")).map_err(failed(path))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::File { path, source }
}

fn tell_scan(progress: ScanProgress) {
    eprintln!("reading the spool: {progress}");
}

/// Writes a report. A reader that has gone away, as `head` does, is no failure of ours.
fn say(out: &mut dyn Write, text: &str) -> Result<(), CommandError> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::File { path: PathBuf::from("standard output"), source: error })
        }
        _ => Ok(()),
    }
}

/// The first line of a report on a spool that may be moving.
fn remark(view: &View) -> String {
    let dir = view.dir().display();
    match &view.found().holder {
        Some(holder) => format!(
            "spool {dir}: process {holder} has it, so this is a moving picture: counts are near, and what is missing may only \
             have moved\n"
        ),
        None => format!("spool {dir}\n"),
    }
}
