//! What an operator may choose, and every limit of the spool with its unit.
//! Refuses values outside their range when the spool is opened. `Options` is what was said, `Settings` what is meant:
//! aligned, checked, and the only form that the rest of the crate sees.

use std::path::PathBuf;

use crate::error::OpenError;
use crate::format::{BLOCK_BYTES, RECORD_HEADER_BYTES, aligned_block};
use crate::types::Durability;

/// Most records in one transaction; SMTP servers stop at a thousand recipients.
pub const TRANSACTION_RECORDS_MAX: usize = 16_384;
/// Most bytes in one transaction, headers included.
pub const TRANSACTION_BYTES_MAX: u64 = 1 << 30;
/// Most change lists that wait for the writer; apart from transactions, so that a flood of mail cannot hold up the
/// deletes that free its space.
pub const QUEUE_CHANGES_MAX: usize = 65_536;
/// Spare segments that only deletes, marks and rewrites may open when the disk is at its floor.
pub const SEGMENTS_RESERVED: usize = 2;
/// Threads that scan segments at start.
pub const SCAN_THREADS_MAX: usize = 4;
/// Segments in use beyond twice what the living bytes need before compaction begins.
pub const COMPACT_SLACK_SEGMENTS: usize = 8;
/// Bytes of living records moved by one step of compaction.
pub const COMPACT_STEP_BYTES: u64 = 1 << 20;
/// Bytes of segment that compaction reads in one second, unless configured otherwise.
pub const COMPACT_BYTES_PER_SECOND: u64 = 64 << 20;
/// Bytes of messages that durability `deferred` keeps in memory, unless configured otherwise.
pub const DEFERRED_BYTES_MAX: usize = 256 << 20;

const SEGMENT_BYTES_MIN: u64 = 4 * BLOCK_BYTES as u64;
const SEGMENT_BYTES_MAX: u64 = 2 << 30;
const BATCHES_IN_FLIGHT_MAX: usize = 16;

/// Who writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// io_uring where the host lets us, threads where not.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// A small fixed number of threads calling pwritev2.
    Threads,
    /// The tokio-uring runtime or an error: a contender of the write benchmark.
    #[cfg(feature = "tokio-uring")]
    TokioUring,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WriteMode {
    /// What suits the file system: direct on ext4 and XFS, which overwrite in place; buffered elsewhere.
    #[default]
    Auto,
    /// O_DIRECT over extents already written; buffered where the file system refuses O_DIRECT.
    Direct,
    /// Through the page cache.
    Buffered,
}

impl WriteMode {
    /// The name used in metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
    }
}

/// Everything an operator may choose. Fields are public: take [`Options::new`] and set what differs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the log; made with its parents.
    pub dir: PathBuf,
    /// Size of a segment in bytes, rounded up to whole blocks; a larger transaction gets a segment of its own.
    pub segment_bytes: u64,
    /// Segments written through before `open` returns, and kept ready from then on.
    pub segments_spare: u32,
    /// Who writes.
    pub backend: Backend,
    /// How it is written.
    pub mode: WriteMode,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Bytes in one batch; a larger transaction is a batch of its own.
    pub batch_bytes_max: usize,
    /// Records in one batch; a larger transaction is a batch of its own.
    pub batch_records_max: usize,
    /// Batches written at the same time. Acknowledgements stay in order.
    pub batches_in_flight_max: usize,
    /// Transactions that wait for the writer; callers beyond it wait for room.
    pub queue_transactions_max: usize,
    /// Intake stops when fewer bytes than this are free on the file system.
    pub free_bytes_min: u64,
    /// Intake stops when fewer inodes than this are free; 0 where the file system has no fixed number.
    pub free_inodes_min: u64,
    /// Bytes of segment that compaction reads in one second.
    pub compact_bytes_per_second: u64,
    /// Bytes of messages that durability `deferred` keeps in memory; what comes beyond it is written at once, as in
    /// durability `written`.
    pub deferred_bytes_max: usize,
}

impl Options {
    /// The defaults: 64 MiB segments, 8 spare, whatever back end the host allows, durability `commit`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            segments_spare: 8,
            backend: Backend::Auto,
            mode: WriteMode::Auto,
            durability: Durability::Commit,
            batch_bytes_max: 4 << 20,
            batch_records_max: 4096,
            batches_in_flight_max: 3,
            queue_transactions_max: 16_384,
            free_bytes_min: 256 << 20,
            free_inodes_min: 64,
            compact_bytes_per_second: COMPACT_BYTES_PER_SECOND,
            deferred_bytes_max: DEFERRED_BYTES_MAX,
        }
    }
}

/// The safety rules, each of which a negative control of the tests can switch off to show that the tests see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The segment's generation is part of every checksum.
    pub(crate) generation: bool,
    /// Checksums are compared.
    pub(crate) checksums: bool,
    /// A segment with a delete lives until the segments with what it deletes are gone.
    pub(crate) deletes_pin: bool,
    /// A segment is used again only after what emptied it is durable.
    pub(crate) reuse_waits: bool,
    /// The directory is synced after a segment was made or removed.
    pub(crate) names_synced: bool,
    /// A wiped segment is used only after its new header is durable.
    pub(crate) wipes_synced: bool,
    /// What a dead process left behind is synced before anything is concluded from it.
    pub(crate) opening_syncs: bool,
}

impl Rules {
    pub(crate) const ALL: Self = Self {
        generation: true,
        checksums: true,
        deletes_pin: true,
        reuse_waits: true,
        names_synced: true,
        wipes_synced: true,
        opening_syncs: true,
    };
}

/// `Options` as meant: rounded and within limits.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) segments_spare: usize,
    pub(crate) backend: Backend,
    pub(crate) mode: WriteMode,
    pub(crate) durability: Durability,
    pub(crate) batch_bytes_max: usize,
    pub(crate) batch_records_max: usize,
    pub(crate) batches_in_flight_max: usize,
    pub(crate) queue_transactions_max: usize,
    pub(crate) free_bytes_min: u64,
    pub(crate) free_inodes_min: u64,
    pub(crate) compact_slack_segments: usize,
    pub(crate) compact_bytes_per_second: u64,
    pub(crate) deferred_bytes_max: usize,
    pub(crate) rules: Rules,
}

impl Settings {
    /// Checks every range; the first value outside its range is named.
    pub(crate) fn of(options: Options) -> Result<Self, OpenError> {
        let segment_bytes = options.segment_bytes.next_multiple_of(BLOCK_BYTES as u64);
        within("segment_bytes", segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX, "16 KiB to 2 GiB")?;
        let in_flight = options.batches_in_flight_max as u64;
        within("batches_in_flight_max", in_flight, 1, BATCHES_IN_FLIGHT_MAX as u64, "1 to 16")?;
        within("batch_records_max", options.batch_records_max as u64, 1, 1 << 20, "1 to 1,048,576")?;
        within("queue_transactions_max", options.queue_transactions_max as u64, 1, 1 << 24, "1 to 2^24")?;
        within("batch_bytes_max", options.batch_bytes_max as u64, 4096, 256 << 20, "4 KiB to 256 MiB")?;
        within("segments_spare", u64::from(options.segments_spare), 1, 4096, "1 to 4,096")?;
        let compaction = options.compact_bytes_per_second;
        within("compact_bytes_per_second", compaction, 1 << 20, 1 << 40, "1 MiB to 1 TiB")?;
        Ok(Self {
            dir: options.dir,
            segment_bytes,
            segments_spare: options.segments_spare as usize,
            backend: options.backend,
            mode: options.mode,
            durability: options.durability,
            batch_bytes_max: aligned_block(options.batch_bytes_max),
            batch_records_max: options.batch_records_max,
            batches_in_flight_max: options.batches_in_flight_max,
            queue_transactions_max: options.queue_transactions_max,
            free_bytes_min: options.free_bytes_min,
            free_inodes_min: options.free_inodes_min,
            compact_slack_segments: COMPACT_SLACK_SEGMENTS,
            compact_bytes_per_second: options.compact_bytes_per_second,
            deferred_bytes_max: options.deferred_bytes_max,
            rules: Rules::ALL,
        })
    }

    /// Bytes of records that fit into an ordinary segment, its closing seal left out.
    pub(crate) fn segment_room_bytes(&self) -> u64 {
        self.segment_bytes - BLOCK_BYTES as u64 - RECORD_HEADER_BYTES as u64
    }

    /// Spares kept before an emptied segment is removed instead of recycled.
    pub(crate) fn spares_max(&self) -> usize {
        self.segments_spare * 2
    }
}

fn within(option: &'static str, value: u64, min: u64, max: u64, rule: &'static str) -> Result<(), OpenError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(OpenError::Option { option, value, rule }) }
}
