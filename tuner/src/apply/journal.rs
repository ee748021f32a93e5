//! The journal: what was there before each change, so that it can be put back to the byte.
//!
//! One file per change, written and synced before anything is touched, and marked when all is done. A file that cannot be
//! read stops everything that would change something: nothing is guessed about what was there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ApplyError;
use super::files::{FILE_BYTES_MAX, Files, is_beside, replace};

/// Where the journal lies, below the root.
pub const DIRECTORY: &str = "var/lib/kumod/tuner";
/// Version of the format of an entry.
const VERSION: u32 = 1;
/// Most entries that are read; every change that is made and taken back leaves one.
const ENTRIES_MAX: usize = 10_000;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Version of the format.
    pub version: u32,
    /// How far it came.
    pub state: State,
    /// When it began.
    pub at_utc: String,
    /// The program that made it, with its version.
    pub program: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Who made it: user id, and the user that became root through sudo.
    pub actor: String,
    /// Directories that were made for it, outer ones first; below the root.
    pub directories: Vec<PathBuf>,
    /// Files that were replaced.
    pub files: Vec<FileChange>,
    /// Settings of the running kernel.
    pub values: Vec<ValueChange>,
}

/// How far a change came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not finished: to be taken back.
    Begun,
    /// In force.
    Applied,
    /// Being taken back.
    Reverting,
    /// Taken back because a part of it failed.
    RolledBack,
    /// Taken back because that was asked for.
    Reverted,
}

/// A file that was replaced, below the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// Its path.
    pub path: PathBuf,
    /// Its content before; `None` where there was no file.
    pub before: Option<String>,
    /// Its content since.
    pub after: String,
}

/// A setting of the running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueChange {
    /// Its key.
    pub key: String,
    /// Its path, below the root.
    pub path: PathBuf,
    /// What it held before, to the byte.
    pub before: String,
    /// What it was given.
    pub after: String,
}

impl ValueChange {
    /// Whether a line of sysctl.d can give it.
    pub(crate) fn is_sysctl(&self) -> bool {
        self.path.starts_with("proc/sys")
    }
}

impl Entry {
    /// A change that begins.
    pub(crate) fn begin(at_utc: String, kernel: Option<&str>) -> Self {
        let user = rustix::process::getuid().as_raw();
        let through = std::env::var("SUDO_USER").map(|name| format!(" (sudo by {name})")).unwrap_or_default();
        Self {
            version: VERSION,
            state: State::Begun,
            at_utc,
            program: format!("tuner {}", env!("CARGO_PKG_VERSION")),
            kernel: kernel.unwrap_or("unknown").into(),
            actor: format!("uid {user}{through}"),
            directories: Vec::new(),
            files: Vec::new(),
            values: Vec::new(),
        }
    }
}

/// The journal of one root.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    /// By name, which begins with a number that only grows.
    pub(crate) entries: Vec<(PathBuf, Entry)>,
}

impl Journal {
    /// Reads all entries; no directory is an empty journal.
    pub(crate) fn read(files: &mut dyn Files, root: &Path) -> Result<Self, ApplyError> {
        let directory = root.join(DIRECTORY);
        let mut paths: Vec<PathBuf> = match std::fs::read_dir(&directory) {
            Ok(found) => found.flatten().map(|entry| entry.path()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(ApplyError::file(&directory, error)),
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let skipped = paths.len().saturating_sub(ENTRIES_MAX);
        let mut entries = Vec::new();
        for path in paths.into_iter().skip(skipped) {
            let text = files.read(&path).map_err(|error| ApplyError::file(&path, error))?;
            let entry = parse(&path, &text.unwrap_or_default())?;
            entries.push((path, entry));
        }
        Ok(Self { directory, entries })
    }

    /// A path for the next entry.
    pub(crate) fn next_path(&self, at_utc: &str) -> PathBuf {
        let number = |path: &PathBuf| path.file_name()?.to_str()?.split('-').next()?.parse::<u64>().ok();
        let last = self.entries.iter().filter_map(|(path, _)| number(path)).max().unwrap_or(0);
        let time: String = at_utc.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        self.directory.join(format!("{:06}-{time}.json", last + 1))
    }

    /// Entries that are in force, the newest first.
    pub(crate) fn in_force(&self) -> Vec<(PathBuf, Entry)> {
        let applied = self.entries.iter().filter(|(_, entry)| entry.state == State::Applied);
        applied.rev().cloned().collect()
    }
}

/// Writes an entry so that it is there after a power cut.
pub(crate) fn write(files: &mut dyn Files, path: &Path, entry: &Entry) -> Result<(), ApplyError> {
    let text = serde_json::to_string_pretty(entry).map_err(|error| ApplyError::file(path, error.into()))?;
    replace(files, path, &(text + "\n")).map_err(|error| ApplyError::file(path, error))
}

/// Removes what a power cut left of entries that were being written.
pub(crate) fn tidy_up(files: &mut dyn Files, root: &Path) {
    let found = std::fs::read_dir(root.join(DIRECTORY)).into_iter().flatten().flatten();
    for entry in found.filter(|entry| is_beside(&entry.file_name().to_string_lossy())) {
        // It is only space: nothing reads it.
        let _ = files.remove(&entry.path());
    }
}

fn parse(path: &Path, text: &str) -> Result<Entry, ApplyError> {
    let corrupt = |problem: String| ApplyError::Journal { path: path.to_owned(), problem };
    if text.len() as u64 >= FILE_BYTES_MAX {
        return Err(corrupt(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let entry: Entry = serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))?;
    if entry.version != VERSION {
        return Err(corrupt(format!("its version is {}, this program knows {VERSION}", entry.version)));
    }
    let escapes = |path: &Path| path.is_absolute() || path.components().any(|part| part.as_os_str() == "..");
    let mut paths =
        entry.files.iter().map(|file| &file.path).chain(entry.values.iter().map(|value| &value.path));
    if paths.any(|path| escapes(path)) || entry.directories.iter().any(|path| escapes(path)) {
        return Err(corrupt("it names a path outside of the root".into()));
    }
    Ok(entry)
}
