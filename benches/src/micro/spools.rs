//! The spool: durable appends by many tasks, and the opening of a spool that holds mail.
//!
//! It owns a spool each, in a folder that goes with it, on the disk that the operator chose. The first refusal of the spool ends the
//! operation; so does an opening that finds other messages than were put in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use spool::{AppendError, Backend, Durability, Options, Spool, WriteMode};
use tokio::runtime::Runtime;

use super::measure::by_all_threads;
use super::{Operation, Spent};
use crate::error::{During, Error, Result};
use crate::scratch::Scratch;
use crate::writers::appender::{Ids, Mail};

/// Tasks that append at the same time.
const TASKS: u64 = 64;
/// Fewer would measure how the tasks begin and end.
const APPENDS_MIN: u64 = 64 * TASKS;
/// Spare segments of 64 MiB; what is deleted makes room before they are used up.
const SEGMENTS_SPARE: u32 = 4;
/// Bytes of disk that a spool needs beside its mail.
const SPARE_BYTES: u64 = 1 << 30;
/// Bytes of disk for each message beside its body.
const RECORD_BYTES: u64 = 400;

/// Appends, each with its delete.
pub struct Appends {
    runtime: Runtime,
    mail: Mail,
    spool: Spool,
    _folder: Scratch,
}

impl Appends {
    /// With bodies of so many bytes, in a folder below `place`. Who writes and how may be chosen.
    ///
    /// # Errors
    /// The place is in memory or full, or the host refuses that way of writing.
    pub fn open(place: &Path, body_bytes: u64, backend: Backend, mode: WriteMode) -> Result<Self> {
        let folder = scratch(place, "spool-append", 0)?;
        let options = Options { backend, mode, ..options(folder.path()) };
        let (spool, _) = Spool::open(options).map_err(refused)?;
        Ok(Self { runtime: runtime()?, mail: Mail::of(body_bytes), spool, _folder: folder })
    }
}

impl Operation for Appends {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        let Self { runtime, mail, spool, .. } = self;
        let work = || append(runtime, spool, *mail, operations, Afterwards::Delete);
        by_all_threads(operations, work).map(|(spent, ())| spent)
    }

    fn operations_min(&self) -> u64 {
        APPENDS_MIN
    }
}

impl Drop for Appends {
    fn drop(&mut self) {
        // The folder goes next; nothing in it is wanted.
        let _ = self.spool.clone().close();
    }
}

/// Openings of a spool that was closed with mail in it. Each message is one operation.
pub struct Recoveries {
    messages: u64,
    folder: Scratch,
}

impl Recoveries {
    /// Makes the spool in a folder below `place` and fills it with so many messages of 1,000 bytes.
    ///
    /// # Errors
    /// The place is in memory or full, or the spool refuses.
    pub fn of(place: &Path, messages: u64) -> Result<Self> {
        const BODY_BYTES: u64 = 1000;
        let folder = scratch(place, "spool-recover", messages * (BODY_BYTES + RECORD_BYTES))?;
        // Nothing here is lost by a power cut, so nobody waits for the disk.
        let durability = Durability::Written;
        let (spool, _) = Spool::open(Options { durability, ..options(folder.path()) }).map_err(refused)?;
        append(&runtime()?, &spool, Mail::of(BODY_BYTES), messages, Afterwards::Keep)?;
        spool.close().map_err(|error| Error::Peer(error.to_string()))?;
        Ok(Self { messages, folder })
    }

    fn open(&self) -> Result<Spent> {
        let options = options(self.folder.path());
        let (spent, (spool, recovery)) =
            by_all_threads(self.messages, || Spool::open(options).map_err(refused))?;
        let (found, damaged) = (recovery.messages.len(), recovery.damaged);
        spool.close().map_err(|error| Error::Peer(error.to_string()))?;
        if found as u64 == self.messages && damaged == 0 {
            return Ok(spent);
        }
        let text = format!("{found} of {} messages came back, {damaged} places damaged", self.messages);
        Err(Error::Peer(text))
    }
}

impl Operation for Recoveries {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        let openings = operations.div_ceil(self.messages.max(1)).max(1);
        let mut sum = self.open()?;
        for _ in 1..openings {
            sum = sum.and(self.open()?);
        }
        Ok(sum)
    }

    fn operations_min(&self) -> u64 {
        self.messages
    }
}

/// What becomes of a message that was appended.
#[derive(Clone, Copy)]
enum Afterwards {
    Keep,
    /// With a later batch; nobody waits for it, as in kumod.
    Delete,
}

/// Appends so many messages from all tasks together, and waits for them.
fn append(runtime: &Runtime, spool: &Spool, mail: Mail, messages: u64, afterwards: Afterwards) -> Result<()> {
    let share = |task| messages / TASKS + u64::from(task < messages % TASKS);
    let append = |task| runtime.spawn(append_some(spool.clone(), mail, share(task), afterwards));
    let tasks: Vec<_> = (0..TASKS).map(append).collect();
    for task in tasks {
        let ended = runtime.block_on(task).map_err(|error| Error::Peer(error.to_string()))?;
        ended.map_err(|error| Error::Peer(error.to_string()))?;
    }
    Ok(())
}

async fn append_some(
    spool: Spool,
    mail: Mail,
    count: u64,
    afterwards: Afterwards,
) -> std::result::Result<(), AppendError> {
    let mut ids = Ids::of_new_appender();
    for _ in 0..count {
        let id = ids.fresh();
        let _committed = spool.append(mail.transaction(id)).await?;
        if let Afterwards::Delete = afterwards {
            drop(spool.enqueue(vec![mail.delete(id)]).await?);
        }
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    runtime.during(|| "start a runtime".into())
}

fn options(dir: &Path) -> Options {
    Options { segments_spare: SEGMENTS_SPARE, ..Options::new(PathBuf::from(dir)) }
}

fn scratch(place: &Path, name: &str, mail_bytes: u64) -> Result<Scratch> {
    /// Several may be open in one process.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Scratch::make(place, &name, SPARE_BYTES + mail_bytes, "--dir")
}

fn refused(error: spool::OpenError) -> Error {
    Error::Peer(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Beside the test's own executable: a real disk, unlike a temporary directory may be.
    fn place() -> PathBuf {
        std::env::current_exe().unwrap().parent().unwrap().to_owned()
    }

    #[test]
    fn every_message_is_found_at_each_opening() {
        let mut recoveries = Recoveries::of(&place(), 300).unwrap();
        assert_eq!(recoveries.run(1).unwrap().operations, 300);
        assert_eq!(recoveries.run(301).unwrap().operations, 600);
    }

    #[test]
    fn appends_are_durable_when_they_count() {
        let mut appends = Appends::open(&place(), 1000, Backend::Auto, WriteMode::Auto).unwrap();
        let spent = appends.run(200).unwrap();
        assert_eq!(spent.operations, 200);
        assert_eq!(appends.spool.stats().appends, 200);
    }
}
