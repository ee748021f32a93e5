//! One process per spool: a lock file that says who.
//! The lock is the kernel's (flock), so it goes with the process however that ends; the number inside is only for the
//! message that a second process gets.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;
use crate::recover::LOCK_NAME;

/// Held as long as the spool is open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let host = |source| OpenError::Host { dir: dir.to_owned(), action: "lock it".to_owned(), source };
        let path = dir.join(LOCK_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(host)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The number is a courtesy: without it the refusal stands all the same.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "unknown" } else { holder }.to_owned();
                return Err(OpenError::Locked { dir: dir.to_owned(), holder });
            }
            Err(error) => return Err(host(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(host)?;
        writeln!(file, "{}", std::process::id()).map_err(host)?;
        Ok(Self { _file: file })
    }
}
