//! What callers, the writer and housekeeping have in common: queue, index, counters, health, bell.
//! Owns no thread. Locks are held for the time of a look-up by callers and of a batch's copy by the writer, never
//! across a system call.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::deferred::Deferred;
use crate::disk::{Disk, Waker};
use crate::error::AppendError;
use crate::housekeeping::Outcome;
use crate::index::Index;
use crate::options::Settings;
use crate::queue::Queue;
use crate::stats::{Condition, Counters, Latencies};

/// Answered when compaction has nothing more to gain.
pub(crate) type Wish = SyncSender<Result<(), AppendError>>;

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) queue: Queue,
    pub(crate) deferred: Deferred,
    pub(crate) counters: Counters,
    pub(crate) condition: Condition,
    index: Mutex<Index>,
    latencies: Mutex<Latencies>,
    /// Somebody who waits for a thorough compaction.
    wishes: Mutex<Option<Wish>>,
    /// At most one for each job under way, so twice `JOBS_MAX`.
    outcomes: Mutex<Vec<Outcome>>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, disk: Arc<dyn Disk>, waker: Arc<Waker>, index: Index) -> Self {
        let queue = Queue::new(settings.queue_transactions_max);
        Self {
            settings,
            disk,
            waker,
            queue,
            deferred: Deferred::default(),
            counters: Counters::default(),
            condition: Condition::default(),
            index: Mutex::new(index),
            latencies: Mutex::default(),
            wishes: Mutex::default(),
            outcomes: Mutex::default(),
        }
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn latencies(&self) -> MutexGuard<'_, Latencies> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wishes(&self) -> MutexGuard<'_, Option<Wish>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self, outcome: Outcome) {
        self.outcomes().push(outcome);
        self.waker.notify();
    }

    pub(crate) fn outcomes(&self) -> MutexGuard<'_, Vec<Outcome>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the file system what is free. Where it does not answer, the last answer stands.
    pub(crate) fn look_at_space(&self) {
        if let Ok(space) = self.disk.space() {
            let at_floor = space.free_bytes < self.settings.free_bytes_min
                || space.free_inodes < self.settings.free_inodes_min;
            self.condition.set_space(space, at_floor);
        }
    }

    pub(crate) fn full(&self) -> AppendError {
        let space = self.condition.space();
        AppendError::Full { free_bytes: space.free_bytes, free_inodes: space.free_inodes }
    }

    pub(crate) fn failed(&self) -> Option<AppendError> {
        self.condition.failure().map(|reason| AppendError::Failed { reason: reason.to_owned() })
    }
}
