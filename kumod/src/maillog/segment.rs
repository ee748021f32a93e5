//! One file of the log: named for the time of its first line, appended to, and turned read-only when it is finished.
//!
//! A reader may take a read-only file as complete. A file without a line is removed; a name that is taken is never opened again.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::writer::LogLimits;
use crate::clock::UnixMs;

/// Files that are begun within one millisecond are told apart by the digits after it.
const NAMES_PER_MILLISECOND_MAX: u32 = 1000;
/// Permissions while it grows, and once it is finished.
const MODE_OPEN: u32 = 0o640;
const MODE_FINISHED: u32 = 0o440;

/// The file that lines go to.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
    since: Instant,
}

impl Segment {
    /// Begins a file under a name that nothing has yet: `YYYYMMDD-HHMMSS.ffffff`, UTC.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let now = UnixMs::now();
        let mut taken = io::ErrorKind::AlreadyExists.into();
        for number in 0..NAMES_PER_MILLISECOND_MAX {
            let path = dir.join(name(now, number)?);
            match OpenOptions::new().append(true).create_new(true).mode(MODE_OPEN).open(&path) {
                Ok(file) => {
                    return Ok(Self { file, path, bytes: 0, since: Instant::now() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// A file that refuses every write the way its path does, such as `/dev/full`.
    #[cfg(test)]
    pub(super) fn broken(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).open(path).expect("the device is part of every Linux");
        Self { file, path: path.to_owned(), bytes: 0, since: Instant::now() }
    }

    /// Whether the file is to be finished before `more` bytes go to it. An empty one never is.
    pub(super) fn is_over(&self, more: u64, limits: &LogLimits) -> bool {
        let full = self.bytes + more > limits.segment_bytes_max;
        let old = limits.segment_age_max.is_some_and(|age_max| self.since.elapsed() >= age_max);
        self.bytes > 0 && (full || old)
    }

    /// Ends the file. A failure leaves it writable, which only misleads a reader that waits for its end.
    pub(super) fn finish(self) {
        if let Err(error) = finish(&self.path, self.bytes == 0) {
            tracing::warn!(%error, path = %self.path.display(), "a finished log file could not be made read-only");
        }
    }
}

impl Write for Segment {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Finishes the files that an earlier process left open because it ended without warning.
pub(super) fn settle_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        if facts.is_file() && is_segment_name(&entry.file_name()) && facts.permissions().mode() & 0o222 != 0 {
            finish(&entry.path(), facts.len() == 0)?;
        }
    }
    Ok(())
}

/// The files of a log, in no order.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if is_segment_name(&entry.file_name()) && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn finish(path: &Path, empty: bool) -> io::Result<()> {
    if empty {
        fs::remove_file(path)
    } else {
        fs::set_permissions(path, Permissions::from_mode(MODE_FINISHED))
    }
}

fn name(at: UnixMs, number: u32) -> io::Result<String> {
    let timestamp = jiff::Timestamp::from_second(at.seconds()).map_err(io::Error::other)?;
    Ok(format!("{}.{:03}{number:03}", timestamp.strftime("%Y%m%d-%H%M%S"), at.0 % 1000))
}

fn is_segment_name(name: &OsStr) -> bool {
    let shape = b"00000000-000000.000000";
    let name = name.as_encoded_bytes();
    let fits = |(byte, place): (&u8, &u8)| {
        if *place == b'0' { byte.is_ascii_digit() } else { byte == place }
    };
    name.len() == shape.len() && name.iter().zip(shape).all(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_tell_the_time_and_sort_by_it() {
        let at = UnixMs(1_700_000_000_042);
        assert_eq!(name(at, 0).unwrap(), "20231114-221320.042000");
        assert!(name(at, 0).unwrap() < name(at, 1).unwrap());
        assert!(name(at, 999).unwrap() < name(UnixMs(at.0 + 1), 0).unwrap());
        assert!(is_segment_name(OsStr::new("20231114-221320.042000")));
        for other in
            ["20231114-221320.04200", "20231114-221320.042000.zst", "notes.txt", "2023111a-221320.042000"]
        {
            assert!(!is_segment_name(OsStr::new(other)), "{other}");
        }
    }

    #[test]
    fn a_name_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let segments: Vec<_> = (0..50).map(|_| Segment::create(dir.path()).unwrap()).collect();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), segments.len());
    }

    #[test]
    fn leftovers_are_finished_and_empty_ones_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut half = Segment::create(dir.path()).unwrap();
        half.write_all(b"{}\n").unwrap();
        let empty = Segment::create(dir.path()).unwrap();
        fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        settle_leftovers(dir.path()).unwrap();
        assert!(!empty.path.exists());
        assert_eq!(fs::metadata(&half.path).unwrap().permissions().mode() & 0o777, MODE_FINISHED);
        assert_ne!(fs::metadata(dir.path().join("notes.txt")).unwrap().permissions().mode() & 0o200, 0);
    }
}
