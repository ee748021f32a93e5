//! Who may come in: the count of open connections of all workers, and the wait for a free file.
//!
//! When no file is left, an acceptor waits here until a connection closes, and looks again once a second in
//! case the file was taken by someone else. It never spins, and it never closes a connection to make room.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::Notify;

/// How long a starved acceptor waits before it looks again without having been told.
const RETRY: Duration = Duration::from_secs(1);

/// Shared by all workers, touched only when a connection opens or closes.
#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: usize,
    open: AtomicUsize,
    opened: AtomicU64,
    starved: AtomicUsize,
    freed: Notify,
    told: AtomicBool,
}

impl Gate {
    pub(crate) fn new(connections_max: usize) -> Self {
        Self {
            connections_max,
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            starved: AtomicUsize::new(0),
            freed: Notify::new(),
            told: AtomicBool::new(false),
        }
    }

    /// Connections being served.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections served since the start.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open() >= self.connections_max
    }

    /// Counts one more connection and returns its number, from 1, which no other connection gets.
    pub(crate) fn enter(&self) -> u64 {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.opened.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        if self.starved.load(Ordering::SeqCst) > 0 {
            // Only the worker whose listener has a connection waiting can use the place, and nobody knows
            // which one that is.
            self.freed.notify_waiters();
        }
    }

    /// Waits until there may be room again.
    pub(crate) async fn wait(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            eprintln!(
                "no file left for more than {} connections; the rest waits in the backlog",
                self.open()
            );
        }
        let freed = self.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable();
        self.starved.fetch_add(1, Ordering::SeqCst);
        // Both ends of the wait mean the same: look again.
        let _ = tokio::time::timeout(RETRY, freed).await;
        self.starved.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether an accept failed for want of something that comes back when a connection closes.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}
