//! One process per spool: a lock file that says who.
//! The lock is the kernel's (flock), so it goes with the process however that ends; the number inside is only for the
//! message that a second process gets. A ring keeps the lock of a killed process until what that had submitted has landed, so
//! that no write of the dead meets those of the living. Who writes has it alone; who only reads and wants nothing to change shares it with others that read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::OpenError;
use crate::recover::LOCK_NAME;

/// How long a process that opens a spool waits for those that only look who holds it.
const READERS_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two tries while it waits.
const READERS_PAUSE: Duration = Duration::from_millis(5);
/// How long a process that opens a spool waits until the last writes of one that is gone have landed.
const DYING_PATIENCE: Duration = Duration::from_secs(60);
/// Stands for the process when only readers have the lock, which do not write their number down.
const READER: &str = "unknown (it is only read, as by `kumod spool verify`)";

/// Held as long as the spool is open, or as long as nobody may open it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whatever else still refers to the file, a ring above all. If it fails, the lock goes with the last of them.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Lock {
    /// For the process that writes.
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
        if let Some(holder) = wait_for_others(&mut file).map_err(host)? {
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(host)?;
        writeln!(file, "{}", std::process::id()).map_err(host)?;
        Ok(Self { file })
    }

    /// The file that carries the lock, for a ring to hold on to.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// For a process that only reads: as long as it has this, nobody opens the spool. `None` where there is no lock file,
    /// and so no process that could hold it.
    pub(crate) fn share(dir: &Path) -> Result<Option<Self>, OpenError> {
        let host =
            |source| OpenError::Host { dir: dir.to_owned(), action: "look at its lock".to_owned(), source };
        match look(dir).map_err(host)? {
            Looked::Nothing => Ok(None),
            Looked::Free(file) => Ok(Some(Self { file })),
            Looked::Held(holder) => Err(OpenError::Locked { dir: dir.to_owned(), holder }),
        }
    }
}

/// The process that has the spool in `dir` open, as far as its lock file says; `None` where no process has. Changes
/// nothing.
///
/// # Errors
/// The lock file is there and cannot be read.
pub(crate) fn holder(dir: &Path) -> io::Result<Option<String>> {
    match look(dir)? {
        Looked::Held(holder) => Ok(Some(holder)),
        Looked::Nothing | Looked::Free(_) => Ok(None),
    }
}

enum Looked {
    /// There is no lock file.
    Nothing,
    /// Nobody writes; the file carries a lock of ours, shared with other readers.
    Free(File),
    /// This process has it.
    Held(String),
}

fn look(dir: &Path) -> io::Result<Looked> {
    let mut file = match File::open(dir.join(LOCK_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Looked::Nothing),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Looked::Free(file)),
        Err(Errno::WOULDBLOCK) => Ok(Looked::Held(written_in(&mut file))),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lock, or says who has it. Waits for those that only read, and for a process that is gone.
fn wait_for_others(file: &mut File) -> io::Result<Option<String>> {
    let begun = Instant::now();
    loop {
        match flock(&*file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(None),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        match flock(&*file, FlockOperation::NonBlockingLockShared) {
            Ok(()) if begun.elapsed() > READERS_PATIENCE => return Ok(Some(READER.to_owned())),
            Ok(()) => {
                // Whoever looks at the lock has it for a moment only, and so do we, lest two that wait hold each other up.
                flock(&*file, FlockOperation::Unlock)?;
                thread::park_timeout(READERS_PAUSE);
            }
            Err(Errno::WOULDBLOCK) => {
                let holder = written_in(file);
                if !is_gone(&holder) || begun.elapsed() > DYING_PATIENCE {
                    return Ok(Some(holder));
                }
                thread::park_timeout(READERS_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether this is the number of a process that there is no more.
fn is_gone(holder: &str) -> bool {
    let process = holder.parse().ok().and_then(Pid::from_raw);
    process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH))
}

fn written_in(file: &mut File) -> String {
    let mut holder = String::new();
    // The number is a courtesy: without it the refusal stands all the same.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
    let holder = holder.trim();
    if holder.is_empty() { "unknown" } else { holder }.to_owned()
}
