//! What is there: readings of the running host, or of a tree that looks like one.
//!
//! Changes no setting and starts no process. Files are read up to named limits; io_uring is tried for real on the running
//! host, with one small file that is removed again. A reading that fails is a value with a reason, not an error: it becomes
//! the verdict "unknown" of its one rule.

mod counters;
mod devices;
mod ports;
mod units;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use reports::machine::Machine;
use rustix::fs::Access;

use crate::facts::{Facts, Observed, Reading, normal};
use crate::rule::{LimitColumn, Read, built_in};

/// The most that is read of one file with one value or a few rows, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Where the spool is looked for when no directory is named.
pub const SPOOL_DIRECTORY: &str = "var/spool/kumod";
/// The service whose unit is looked at when none is named.
pub const UNIT: &str = "kumod.service";

/// The host whose settings are read.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    spool: Option<PathBuf>,
    process: Option<u32>,
    unit: String,
}

/// Why a host cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The operator named a directory without `proc` in it.
    #[error("{} is not a directory: --root takes a directory that holds a copy of /proc", .0.display())]
    NoProc(PathBuf),
    /// The operator named a process that is not there, or whose limits are not for us to see.
    #[error("--pid: {} cannot be read: {}; is the process running, and yours or you root?", .0.display(), .1)]
    NoProcess(PathBuf, io::Error),
    /// The operator named a spool that is not a directory.
    #[error("--spool: {} is not a directory", .0.display())]
    NoSpool(PathBuf),
}

impl Host {
    /// The host this process runs on, as this process sees it. io_uring is tried in memory unless a spool is named.
    pub fn running() -> Self {
        Self { root: PathBuf::from("/"), spool: None, process: None, unit: UNIT.into() }
    }

    /// A host whose files lie under `root`: an image, a support bundle, a test.
    ///
    /// # Errors
    /// [`HostError::NoProc`] when `root/proc` is not a directory.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, HostError> {
        let root = root.into();
        let proc = root.join("proc");
        if proc.is_dir() { Ok(Self { root, ..Self::running() }) } else { Err(HostError::NoProc(proc)) }
    }

    /// The same host, with the directory that the spool is to lie in; under another root it is looked up there.
    ///
    /// # Errors
    /// [`HostError::NoSpool`] when there is no such directory.
    pub fn with_spool(self, directory: impl AsRef<Path>) -> Result<Self, HostError> {
        let directory = directory.as_ref();
        let path = if self.is_running_host() {
            directory.to_owned()
        } else {
            self.root.join(directory.strip_prefix("/").unwrap_or(directory))
        };
        if path.is_dir() { Ok(Self { spool: Some(path), ..self }) } else { Err(HostError::NoSpool(path)) }
    }

    /// The same host, with the limits of a running process in place of our own.
    ///
    /// # Errors
    /// [`HostError::NoProcess`] when its limits cannot be read.
    pub fn with_process(self, id: u32) -> Result<Self, HostError> {
        let path = self.root.join(format!("proc/{id}/limits"));
        read_bounded(&path, FILE_BYTES_MAX).map_err(|error| HostError::NoProcess(path, error))?;
        Ok(Self { process: Some(id), ..self })
    }

    /// The same host, with the service whose unit is looked at; `.service` may be left out.
    #[must_use]
    pub fn with_unit(self, name: &str) -> Self {
        let unit = if name.contains('.') { name.to_owned() } else { format!("{name}.service") };
        Self { unit, ..self }
    }

    /// Where its files lie.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The unit that is looked at.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Release of its kernel, where that can be read.
    pub fn kernel(&self) -> Option<String> {
        self.read("proc/sys/kernel/osrelease").ok()
    }

    /// The directory of the spool, where the operator named it.
    pub(crate) fn named_spool(&self) -> Option<&Path> {
        self.spool.as_deref()
    }

    /// Whether this process runs on it.
    pub fn is_running_host(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Reads what all rules ask for.
    pub fn facts(&self) -> Facts {
        let spool = self.spool.clone().or_else(|| {
            let default = self.root.join(SPOOL_DIRECTORY);
            default.is_dir().then_some(default)
        });
        let machine = Machine::probe_below(&self.root, spool.as_deref());
        let mut facts = Facts {
            kernel: self.kernel(),
            process: self.process,
            listening: ports::listening(&self.root),
            machine,
            ..Facts::default()
        };
        for rule in built_in() {
            let observed = match &rule.read {
                Read::Sysctl => self.sysctl(&rule.key),
                Read::Limits { row, column, .. } => {
                    let (observed, hard) = self.limit(row, *column);
                    facts.hard_limits.extend(hard.map(|hard| (rule.key.clone(), hard)));
                    observed
                }
                Read::Unit(line) => units::observe(self, line),
                Read::Fact(fact) => devices::observe(self, *fact, &facts.machine),
            };
            facts.readings.insert(rule.key.clone(), observed);
        }
        facts.counters = counters::gather(self);
        facts
    }

    /// Where a sysctl lies.
    pub(crate) fn sysctl_path(&self, key: &str) -> PathBuf {
        self.root.join("proc/sys").join(key.replace('.', "/"))
    }

    fn sysctl(&self, key: &str) -> Observed {
        let path = self.sysctl_path(key);
        match read_bounded(&path, FILE_BYTES_MAX) {
            Ok(text) => {
                let value = normal(&text);
                let writable = rustix::fs::access(&path, Access::WRITE_OK).is_ok();
                Observed::Value(Reading { shown: value.clone(), value, writable })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Observed::Absent,
            Err(error) => Observed::Unknown(format!("{}: {error}", path.display())),
        }
    }

    /// The value that the rule is about, and the hard limit.
    fn limit(&self, row: &str, column: LimitColumn) -> (Observed, Option<u64>) {
        let path = self.process.map_or_else(|| "self".to_owned(), |id| id.to_string());
        let path = format!("proc/{path}/limits");
        let text = match self.read(&path) {
            Ok(text) => text,
            Err(error) => return (Observed::Unknown(error), None),
        };
        let values = text.lines().find_map(|line| line.strip_prefix(row));
        let mut values = values.map(str::split_whitespace).into_iter().flatten();
        let (Some(soft), Some(hard)) = (values.next(), values.next()) else {
            return (Observed::Unknown(format!("/{path} has no row `{row}` with two values")), None);
        };
        let value = if column == LimitColumn::Soft { soft } else { hard };
        let whose = self.process.map(|id| format!(" (process {id})")).unwrap_or_default();
        let shown = format!("soft {soft}, hard {hard}{whose}");
        let number = if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() };
        (Observed::Value(Reading { value: value.to_owned(), shown, writable: false }), number)
    }

    /// A small file below the root, without white space at its end.
    pub(crate) fn read(&self, path: &str) -> Result<String, String> {
        let path = self.root.join(path);
        read_bounded(&path, FILE_BYTES_MAX).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_proc_is_the_operators_mistake() {
        let root = tempfile::tempdir().unwrap();
        let error = Host::at(root.path()).unwrap_err().to_string();
        assert!(error.contains("--root takes a directory that holds a copy of /proc"), "{error}");
    }

    #[test]
    fn io_uring_is_tried_where_the_spool_is_to_lie_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let facts = Host::running().with_spool(directory.path()).unwrap().facts();
        let told = match &facts.readings["io_uring"] {
            Observed::Value(reading) => &reading.shown,
            Observed::Blocked(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert!(told.contains(&format!("tried in {path}")), "{told}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_limits_of_a_process_are_read_in_place_of_our_own() {
        let own = Host::running().with_process(std::process::id()).unwrap().facts();
        let Observed::Value(reading) = &own.readings["RLIMIT_NOFILE"] else { panic!("no limit") };
        assert!(reading.shown.ends_with(&format!("(process {})", std::process::id())), "{reading:?}");
        let error = Host::running().with_process(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("is the process running"), "{error}");
    }
}
