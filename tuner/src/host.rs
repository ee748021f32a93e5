//! What is there: readings of the running host, or of a copy of its `/proc` under another root.
//!
//! Changes no setting. Files are read up to [`FILE_BYTES_MAX`]; io_uring is tried for real on the running host, with one
//! small file that is removed again. A reading that fails is a value with a reason, not an error: it becomes the verdict
//! "unknown" of its one rule.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::rule::LimitColumn;

/// The most that is read of one file of `/proc`, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The host whose settings are read.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    /// Where io_uring is tried; nowhere for a host that is not this one.
    spool_directory: Option<PathBuf>,
}

/// A value that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The value that the rule compares.
    pub value: String,
    /// The value as a person wants to see it.
    pub shown: String,
}

/// Why a value could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether io_uring can be used, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoUring {
    /// It can; the text says how that is known.
    Available(String),
    /// It cannot; the text says what stands in the way.
    Blocked(String),
    /// Neither could be shown.
    Unknown(String),
}

/// Why a root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The operator named a directory without `proc` in it.
    #[error("{} is not a directory: --root takes a directory that holds a copy of /proc", .0.display())]
    NoProc(PathBuf),
}

impl Host {
    /// The host this process runs on, as this process sees it. io_uring is tried in the directory for temporary files;
    /// see [`Host::with_spool`].
    pub fn running() -> Self {
        Self { root: PathBuf::from("/"), spool_directory: Some(std::env::temp_dir()) }
    }

    /// The same host, with io_uring tried in the directory that the spool is to lie in, which must be writable.
    pub fn with_spool(self, directory: impl Into<PathBuf>) -> Self {
        Self { spool_directory: Some(directory.into()), ..self }
    }

    /// A host whose `/proc` was copied to `root/proc`: an image, a support bundle, a test.
    ///
    /// # Errors
    /// [`RootError::NoProc`] when `root/proc` is not a directory.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, RootError> {
        let root = root.into();
        let proc = root.join("proc");
        if proc.is_dir() { Ok(Self { root, spool_directory: None }) } else { Err(RootError::NoProc(proc)) }
    }

    /// The kernel's release, such as `6.1.0-30-amd64`, where it can be read.
    pub fn kernel_release(&self) -> Option<String> {
        self.read("proc/sys/kernel/osrelease").ok()
    }

    /// A sysctl by its dotted key. Runs of white space become one space.
    ///
    /// # Errors
    /// The file is missing or unreadable.
    pub fn sysctl(&self, key: &str) -> Result<Reading, Unreadable> {
        let text = self.read(&format!("proc/sys/{}", key.replace('.', "/")))?;
        let value = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Reading { shown: value.clone(), value })
    }

    /// One row of `/proc/self/limits`.
    ///
    /// # Errors
    /// The file is missing, or has no such row.
    pub fn limit(&self, row: &str, column: LimitColumn) -> Result<Reading, Unreadable> {
        let text = self.read("proc/self/limits")?;
        let values = text.lines().find_map(|line| line.strip_prefix(row));
        let mut values = values.map(str::split_whitespace).into_iter().flatten();
        let (Some(soft), Some(hard)) = (values.next(), values.next()) else {
            return Err(Unreadable(format!("/proc/self/limits has no row `{row}` with two values")));
        };
        let value = if column == LimitColumn::Soft { soft } else { hard };
        Ok(Reading { value: value.to_owned(), shown: format!("soft {soft}, hard {hard}") })
    }

    /// Whether io_uring can be used: tried on the running host, judged from copied files elsewhere.
    pub fn io_uring(&self) -> IoUring {
        self.spool_directory.as_deref().map_or_else(|| self.io_uring_by_files(), io_uring_tried)
    }

    /// As far as the kernel's switch and the seccomp filter tell. What a filter would answer cannot be read, so a filter
    /// makes the answer unknown.
    fn io_uring_by_files(&self) -> IoUring {
        let switch = match self.sysctl("kernel.io_uring_disabled") {
            Ok(reading) => reading.value,
            Err(reason) => return IoUring::Unknown(format!("{reason} (the switch came with Linux 6.6)")),
        };
        match switch.as_str() {
            "0" if self.has_seccomp_filter() => IoUring::Unknown(
                "kernel.io_uring_disabled is 0, but a seccomp filter is in force; those of containers refuse io_uring".into(),
            ),
            "0" => IoUring::Available("kernel.io_uring_disabled is 0".into()),
            "1" => {
                let group = self.sysctl("kernel.io_uring_group").map(|group| group.value);
                let group = group.unwrap_or_else(|_| "unknown".into());
                IoUring::Blocked(format!(
                    "kernel.io_uring_disabled is 1: only processes with CAP_SYS_ADMIN or of group id {group}"
                ))
            }
            value => IoUring::Blocked(format!("kernel.io_uring_disabled is {value}")),
        }
    }

    /// Mode 2 of `Seccomp` in `/proc/self/status` is a filter.
    fn has_seccomp_filter(&self) -> bool {
        let status = self.read("proc/self/status").unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
    }

    fn read(&self, path: &str) -> Result<String, Unreadable> {
        let path = self.root.join(path);
        read_bounded(&path).map_err(|error| Unreadable(format!("{}: {error}", path.display())))
    }
}

/// A ring, its operations, and one durable write, as the spool will do them.
fn io_uring_tried(directory: &Path) -> IoUring {
    let probe = spool::probe(directory);
    if let Some(reason) = probe.uring_refused {
        return IoUring::Blocked(format!("{reason} (tried in {})", directory.display()));
    }
    let buffers = probe.buffers_refused.map(|reason| format!("; {reason}"));
    IoUring::Available(format!(
        "tried in {} ({}){}",
        directory.display(),
        probe.file_system,
        buffers.unwrap_or_default()
    ))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
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
        let (IoUring::Available(told) | IoUring::Blocked(told) | IoUring::Unknown(told)) =
            Host::running().with_spool(directory.path()).io_uring();
        assert!(told.contains(&format!("tried in {path}")), "{told}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_running_host_has_a_limit_on_files() {
        let reading = Host::running().limit("Max open files", LimitColumn::Hard).unwrap();
        assert!(reading.shown.starts_with("soft "), "{reading:?}");
    }
}
