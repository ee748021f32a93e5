//! What the spool tells about itself: counters, health, the back end in force and why it is not another.
//! Reading any of it is cheap and never waits for a disk. Health only worsens to `Failed` once, with its reason.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::disk::Space;
use crate::types::Durability;

/// A snapshot. Counters count from the opening of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions acknowledged.
    pub appends: u64,
    /// Records written, those of changes and of compaction included.
    pub records: u64,
    /// Changes skipped because their id was not alive.
    pub changes_skipped: u64,
    /// Bytes handed to the disk, padding included.
    pub bytes_written: u64,
    /// Batches written.
    pub batches: u64,
    /// Batches written with a barrier.
    pub barriers: u64,
    /// Messages alive.
    pub messages: u64,
    /// Bytes of records that are alive.
    pub live_bytes: u64,
    /// Bytes written to segments in use that nothing alive needs: dead records and padding.
    pub dead_bytes: u64,
    /// Messages that durability `deferred` keeps in memory.
    pub deferred_messages: u64,
    /// Their bytes.
    pub deferred_bytes: u64,
    /// Segments in use.
    pub segments: u64,
    /// Segments ready to be written to.
    pub segments_spare: u64,
    /// Segments made anew.
    pub segments_made: u64,
    /// Segments used again.
    pub segments_recycled: u64,
    /// Segments that compaction went through.
    pub compactions: u64,
    /// Bytes of records that compaction wrote again.
    pub compacted_bytes: u64,
    /// Segments given up after a failed write.
    pub segments_poisoned: u64,
    /// Damaged regions found: at start, by reads, by compaction.
    pub damaged: u64,
    /// Torn tails found at start.
    pub torn: u64,
    /// Bytes free on the file system when it was last looked at.
    pub free_bytes: u64,
    /// Inodes free on the file system when it was last looked at.
    pub free_inodes: u64,
    /// "uring" or "threads"; "tokio-uring" where it was built in and asked for.
    pub backend: &'static str,
    /// "direct" or "buffered".
    pub mode: &'static str,
    /// Why the back end or the mode is not the first choice.
    pub fallback_reason: Option<String>,
    /// "ext4", "xfs", "tmpfs", "overlayfs", "btrfs", or the magic number.
    pub file_system: String,
    /// What an acknowledgement promises.
    pub durability: Durability,
}

/// How long writing takes and how much is written together, from the opening of the spool on. Values are exact to one
/// part in a hundred.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From the call of an append to its being as safe as the durability in force says, in microseconds.
    pub append_us: Histogram<u64>,
    /// From handing a batch to the kernel to its answer, barrier included, in microseconds.
    pub barrier_us: Histogram<u64>,
    /// Records in a batch.
    pub batch_records: Histogram<u64>,
    /// Bytes of a batch, padding included.
    pub batch_bytes: Histogram<u64>,
}

/// Longest latency that is told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Most records or bytes that are told apart from more.
const BATCH_MAX: u64 = 1 << 31;
const SIGNIFICANT_DIGITS: u8 = 2;

impl Default for Latencies {
    fn default() -> Self {
        let new = |max| {
            Histogram::new_with_bounds(1, max, SIGNIFICANT_DIGITS)
                .expect("1 to max with two digits is a range")
        };
        let latency = micros(LATENCY_MAX);
        Self {
            append_us: new(latency),
            barrier_us: new(latency),
            batch_records: new(BATCH_MAX),
            batch_bytes: new(BATCH_MAX),
        }
    }
}

/// Microseconds; what began in this one counts as one.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// Whether mail can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Ok,
    /// The disk is at its floor: new bodies are refused, deletes and marks are taken.
    DiskFloor {
        /// Bytes free when it was last looked at.
        free_bytes: u64,
        /// Inodes free when it was last looked at.
        free_inodes: u64,
    },
    /// Writing failed twice in different places; everything is refused until a restart.
    Failed {
        /// What the kernel said.
        reason: String,
    },
}

/// The live counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) changes_skipped: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) barriers: AtomicU64,
    pub(crate) segments_made: AtomicU64,
    pub(crate) segments_recycled: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
    pub(crate) segments_poisoned: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) torn: AtomicU64,
}

/// Adds to a counter that only one thread reads exactly.
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The state behind [`Health`].
#[derive(Debug, Default)]
pub(crate) struct Condition {
    failure: OnceLock<String>,
    /// Below the floor of bytes or inodes.
    at_floor: AtomicBool,
    /// No segment could be made, and only the reserve is left.
    starved: AtomicBool,
    free_bytes: AtomicU64,
    free_inodes: AtomicU64,
}

impl Condition {
    pub(crate) fn health(&self) -> Health {
        if let Some(reason) = self.failure.get() {
            return Health::Failed { reason: reason.clone() };
        }
        if self.refuses_intake() {
            let Space { free_bytes, free_inodes } = self.space();
            return Health::DiskFloor { free_bytes, free_inodes };
        }
        Health::Ok
    }

    pub(crate) fn refuses_intake(&self) -> bool {
        self.is_at_floor() || self.starved.load(Ordering::Relaxed)
    }

    pub(crate) fn is_at_floor(&self) -> bool {
        self.at_floor.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    pub(crate) fn fail(&self, reason: String) {
        if self.failure.set(reason).is_ok() {
            tracing::error!(
                reason = self.failure(),
                "the spool cannot write and refuses everything from now on"
            );
        }
    }

    pub(crate) fn space(&self) -> Space {
        Space {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            free_inodes: self.free_inodes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_space(&self, space: Space, at_floor: bool) {
        self.free_bytes.store(space.free_bytes, Ordering::Relaxed);
        self.free_inodes.store(space.free_inodes, Ordering::Relaxed);
        if self.at_floor.swap(at_floor, Ordering::Relaxed) != at_floor {
            let Space { free_bytes, free_inodes } = space;
            if at_floor {
                tracing::error!(free_bytes, free_inodes, "the disk is at its floor: new mail is refused");
            } else {
                tracing::info!(free_bytes, free_inodes, "the disk is above its floor again");
            }
        }
    }

    pub(crate) fn set_starved(&self, starved: bool) {
        self.starved.store(starved, Ordering::Relaxed);
    }
}
