//! An append-only log with group commit, recycled segments and verified recovery.
//!
//! Owns a directory of segments and knows nothing of what the bytes in it mean. A [`Transaction`] is in the log wholly or
//! not at all; [`Spool::append`] resolves when what the [`Durability`] in force promises has happened. Refuses a second
//! process, transactions beyond the named limits, and new bodies when the disk is at its floor. When a write fails it is
//! repeated once elsewhere; when that fails, everybody is told and nothing more is taken. `docs/spool-format.md` draws
//! the bytes.

mod batch;
mod deferred;
mod disk;
mod error;
mod examine;
mod file_system;
mod format;
mod housekeeping;
mod index;
mod inspect;
mod lock;
mod open;
mod options;
mod probe;
mod queue;
mod recover;
mod scan;
mod shared;
mod spool;
mod stats;
mod table;
mod types;
mod writer;

#[cfg(test)]
mod tests;

pub use disk::DAMAGED_DIR;
pub use error::{AppendError, OpenError, ReadError};
pub use examine::{
    Access, DamageReport, Examination, OrphanReport, SegmentReport, SetAside, examine, examine_bytes,
};
pub use inspect::{ScanSummary, scan_segment_bytes};
pub use options::{
    Backend, COMPACT_BYTES_PER_SECOND, COMPACT_SLACK_SEGMENTS, COMPACT_STEP_BYTES, DEFERRED_BYTES_MAX,
    Options, QUEUE_CHANGES_MAX, SCAN_THREADS_MAX, SEGMENTS_RESERVED, TRANSACTION_BYTES_MAX,
    TRANSACTION_RECORDS_MAX, WriteMode,
};
pub use probe::{Probe, probe};
pub use recover::ScanProgress;
pub use spool::Spool;
pub use stats::{Health, Latencies, Stats};
pub use types::{
    Change, Committed, Compacted, Durability, Envelope, Id, Parts, Pending, Recovered, Recovery, Transaction,
};
