//! A file per message, as many mail servers keep their queue: made, written, perhaps synced with its directory, removed.
//!
//! It owns some folders and the names in them. Each writer is a thread, for these calls block; threads of their own remove what was
//! written a moment ago, as deliveries would, and nobody waits for them. The names are spread over several folders and removed by
//! several threads, because with one of each the removals held everything up. The first call that fails ends its writer.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::Instant;

use hdrhistogram::Histogram;
use reports::latency::new_histogram;
use rustix::fs::{Mode, OFlags};

use super::appender::Mail;
use super::measure::{Edge, Load, Outcome, Stage, Way, Window, merged};
use crate::error::{During, Error, Result};

/// Folders over which the messages are spread.
const FOLDERS: usize = 16;
/// Threads that remove messages.
const REMOVERS: usize = 8;
/// Messages that wait to be removed; beyond it writers wait.
const REMOVALS_MAX: usize = 64;
/// Stack of a writer; there may be a thousand.
const STACK_BYTES: usize = 256 * 1024;

pub(super) struct Files {
    folder: PathBuf,
    /// Whether file and directory are synced before the message counts as stored.
    synced: bool,
}

impl Files {
    pub(super) fn new(folder: &Path, synced: bool) -> Result<Self> {
        for number in 0..FOLDERS {
            let folder = folder.join(number.to_string());
            std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
        }
        Ok(Self { folder: folder.to_owned(), synced })
    }
}

impl Way for Files {
    fn run(&mut self, load: &Load, stage: &Stage<'_>) -> Result<Outcome> {
        let opening = OnceLock::new();
        let (gone, names) = sync_channel(REMOVALS_MAX);
        let names = Mutex::new(names);
        std::thread::scope(|scope| {
            let removers: Vec<_> = (0..REMOVERS).map(|_| scope.spawn(|| remove_all(&names))).collect();
            let start = |number: usize| {
                let folder = self.folder.join((number % FOLDERS).to_string());
                let writer = Writer { folder, number, synced: self.synced, gone: gone.clone() };
                let opening = &opening;
                let write = move || writer.store_until(load.mail, *opening.wait());
                Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, write)
            };
            let threads: Vec<_> = (0..load.writers).map(start).collect();
            drop(gone);
            // A thousand threads take a while to start; the clock starts behind the last of them. It starts also when one could
            // not, for the others wait for it.
            let window = *opening.get_or_init(|| stage.window());
            let edges = stage.watch(window, Edge::of_process);
            let ended = threads.into_iter().map(|thread| {
                let thread = thread.during(|| "start a writer".into())?;
                joined(thread.join())
            });
            let tallies: Result<Vec<_>> = ended.collect();
            removers.into_iter().try_for_each(|remover| joined(remover.join()))?;
            Ok(Outcome { latencies: merged(tallies?), length: stage.length, edges })
        })
    }
}

/// A thread that panicked is our own mistake, told like any other error.
pub(super) fn joined<T>(result: std::thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(Error::Peer("a writer of the bench ended with a panic".into())))
}

struct Writer {
    folder: PathBuf,
    number: usize,
    synced: bool,
    gone: SyncSender<PathBuf>,
}

impl Writer {
    fn store_until(self, mail: Mail, window: Window) -> Result<Histogram<u64>> {
        let mut tally = new_histogram();
        // A descriptor for each writer: they do not share more than they must.
        let folder = File::open(&self.folder).during(|| format!("open {}", self.folder.display()))?;
        let folder = OwnedFd::from(folder);
        for message in 0_u64.. {
            let begun = Instant::now();
            if begun >= window.until {
                break;
            }
            let name = format!("{:04}-{message}", self.number);
            self.store(&folder, &name, mail).during(|| format!("store {name}"))?;
            window.note(&mut tally, begun, Instant::now());
            if self.gone.send(self.folder.join(name)).is_err() {
                return Err(Error::Peer("what removes messages has ended".into()));
            }
        }
        Ok(tally)
    }

    fn store(&self, folder: &OwnedFd, name: &str, mail: Mail) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
        let parts = [IoSlice::new(mail.envelope()), IoSlice::new(mail.body())];
        let written = rustix::io::writev(&file, &parts)?;
        if written != mail.envelope().len() + mail.body().len() {
            return Err(rustix::io::Errno::NOSPC);
        }
        if self.synced {
            rustix::fs::fsync(&file)?;
            rustix::fs::fsync(folder)?;
        }
        Ok(())
    }
}

/// Goes on after a failure, so that nobody waits for it in vain; the first failure is told at the end.
fn remove_all(names: &Mutex<Receiver<PathBuf>>) -> Result<()> {
    let mut outcome = Ok(());
    loop {
        let next = names.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(path) = next else { return outcome };
        let removed = std::fs::remove_file(&path).during(|| format!("remove {}", path.display()));
        outcome = outcome.and(removed);
    }
}
