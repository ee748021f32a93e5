//! Work on segments that must not hold up an append: making, wiping and removing files, reading for compaction.
//! Owns the threads "spool-segments" and "spool-recycle" and the pace of compaction. Each job ends in one outcome, which the writer collects;
//! a job that fails says so and leaves the segment as it was.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::disk::{AlignedBuffer, File, write_through};
use crate::format::{BLOCK_BYTES, Kind, Seed, SegmentHeader};
use crate::index::Place;
use crate::options::COMPACT_STEP_BYTES;
use crate::queue::CopiedRecord;
use crate::recover::segment_name;
use crate::scan::Scanner;
use crate::shared::Shared;

/// Jobs that wait for each thread; the writer keeps further ones to itself.
pub(crate) const JOBS_MAX: usize = 64;
/// How often free space is looked at when nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) enum Job {
    /// Make a segment.
    Prepare { header: SegmentHeader },
    /// Give an emptied segment a new generation. In durability `written` the files in `sync_first` hold what emptied it.
    Wipe { header: SegmentHeader, file: Arc<dyn File>, sync_first: Vec<Arc<dyn File>> },
    /// Remove an emptied segment.
    Remove { number: u32, sync_first: Vec<Arc<dyn File>> },
    /// Read living records from `from` on.
    Copy { header: SegmentHeader, file: Arc<dyn File>, seed: Seed, from: u64 },
}

pub(crate) enum Outcome {
    Prepared {
        header: SegmentHeader,
        file: io::Result<Arc<dyn File>>,
    },
    /// With a file: empty and ready; without: removed.
    Gone {
        number: u32,
        fresh: Option<(SegmentHeader, Arc<dyn File>)>,
    },
    /// The segment stays as it is.
    Stayed {
        number: u32,
        error: io::Error,
    },
    Copied {
        number: u32,
        records: Vec<CopiedRecord>,
        next: Option<u64>,
        damaged: u64,
    },
    /// Time has passed: what failed for lack of space may be tried again.
    Tick,
}

/// Performs one job on the calling thread.
pub(crate) fn perform(shared: &Shared, job: Job) -> Outcome {
    match job {
        Job::Prepare { header } => Outcome::Prepared { header, file: prepare(shared, &header) },
        Job::Wipe { header, file, sync_first } => wipe(shared, header, file, &sync_first),
        Job::Remove { number, sync_first } => remove(shared, number, &sync_first),
        Job::Copy { header, file, seed, from } => copy(shared, header, &*file, seed, from),
    }
}

/// A new file with its header; durable, and so is its name.
pub(crate) fn prepare(shared: &Shared, header: &SegmentHeader) -> io::Result<Arc<dyn File>> {
    let name = segment_name(header.number);
    let file = shared.disk.create(&name, header.segment_bytes, &header.encode())?;
    if let Err(error) = sync_names(shared) {
        // It holds nothing; if it cannot be removed either, the next start finds an empty segment.
        let _ = shared.disk.remove(&name);
        return Err(error);
    }
    Ok(file)
}

fn sync_names(shared: &Shared) -> io::Result<()> {
    if shared.settings.rules.names_synced { shared.disk.sync_names() } else { Ok(()) }
}

fn wipe(
    shared: &Shared,
    header: SegmentHeader,
    file: Arc<dyn File>,
    sync_first: &[Arc<dyn File>],
) -> Outcome {
    let number = header.number;
    if let Err(error) = sync_all(sync_first) {
        return Outcome::Stayed { number, error };
    }
    match write_header(&*file, &header, shared.settings.rules.wipes_synced) {
        Ok(()) => Outcome::Gone { number, fresh: Some((header, file)) },
        Err(error) => {
            tracing::error!(segment = number, %error, "an emptied segment cannot be wiped and is removed");
            remove(shared, number, &[])
        }
    }
}

/// After this nothing that the segment held can be read as a record.
fn write_header(file: &dyn File, header: &SegmentHeader, sync: bool) -> io::Result<()> {
    file.arm()?;
    let mut block = AlignedBuffer::new(BLOCK_BYTES)?;
    let encoded = header.encode();
    block[..encoded.len()].copy_from_slice(&encoded);
    write_through(file, &block, 0, sync)
}

fn remove(shared: &Shared, number: u32, sync_first: &[Arc<dyn File>]) -> Outcome {
    let removed = sync_all(sync_first)
        .and_then(|()| shared.disk.remove(&segment_name(number)))
        .and_then(|()| sync_names(shared));
    match removed {
        Ok(()) => Outcome::Gone { number, fresh: None },
        Err(error) => Outcome::Stayed { number, error },
    }
}

fn sync_all(files: &[Arc<dyn File>]) -> io::Result<()> {
    files.iter().try_for_each(|file| file.sync())
}

fn copy(shared: &Shared, header: SegmentHeader, file: &dyn File, seed: Seed, from: u64) -> Outcome {
    let step_bytes = COMPACT_STEP_BYTES.min(shared.settings.segment_room_bytes() / 4);
    let mut scanner = Scanner::from(file, seed, header.segment_bytes, from);
    let (mut records, mut bytes, mut next) = (Vec::new(), 0, None);
    while let Some((found, payload)) = scanner.next() {
        if found.header.kind == Kind::Seal {
            break;
        }
        let offset = u32::try_from(found.offset).unwrap_or(u32::MAX);
        let place = Place { segment: header.number, offset, payload_bytes: found.header.payload_bytes };
        if !shared.index().is_current(found.header.kind, found.header.id, place) {
            continue;
        }
        if bytes > 0 && bytes + found.header.stride_bytes() > step_bytes {
            next = Some(found.offset);
            break;
        }
        bytes += found.header.stride_bytes();
        records.push(CopiedRecord { header: found.header, place, payload: Bytes::copy_from_slice(payload) });
    }
    let damaged = scanner.broken.len() as u64 + scanner.unreadable;
    Outcome::Copied { number: header.number, records, next, damaged }
}

/// The way to the threads.
pub(crate) struct Housekeeper {
    slow: SyncSender<Job>,
    quick: SyncSender<Job>,
    threads: [JoinHandle<()>; 2],
}

impl Housekeeper {
    /// Making a segment takes as long as writing all of it, wiping one as long as a single block; so that no emptied
    /// segment waits for a new one, each has its own thread.
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (slow, slow_jobs) = sync_channel(JOBS_MAX);
        let (quick, quick_jobs) = sync_channel(JOBS_MAX);
        let thread = |name: &str| Builder::new().name(name.to_owned());
        let (keeper, wiper) = (Arc::clone(shared), Arc::clone(shared));
        let threads = [
            thread("spool-segments").spawn(move || keep(&keeper, &slow_jobs))?,
            thread("spool-recycle").spawn(move || wipe_all(&wiper, &quick_jobs))?,
        ];
        Ok(Self { slow, quick, threads })
    }

    /// Hands the job back when its thread has enough to do.
    pub(crate) fn send(&self, job: Job) -> Result<(), Job> {
        let jobs = match job {
            Job::Prepare { .. } | Job::Copy { .. } => &self.slow,
            Job::Wipe { .. } | Job::Remove { .. } => &self.quick,
        };
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// Waits for what was begun.
    pub(crate) fn stop(self) {
        drop((self.slow, self.quick));
        for thread in self.threads {
            // A thread that panicked has nothing left to wait for.
            let _ = thread.join();
        }
    }
}

fn wipe_all(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let outcome = perform(shared, job);
        shared.report(outcome);
    }
}

fn keep(shared: &Shared, jobs: &Receiver<Job>) {
    // Compaction alone has to wait: its next step begins when its budget allows.
    let mut delayed: Option<(Instant, Job)> = None;
    let mut copied_until = Instant::now();
    loop {
        let patience =
            delayed.as_ref().map_or(LOOK_INTERVAL, |(at, _)| at.saturating_duration_since(Instant::now()));
        match jobs.recv_timeout(patience.min(LOOK_INTERVAL)) {
            Ok(job @ Job::Copy { .. }) if copied_until > Instant::now() => {
                delayed = Some((copied_until, job))
            }
            Ok(job) => copied_until = copied_until.max(carry_out(shared, job)),
            Err(RecvTimeoutError::Timeout) => {
                shared.look_at_space();
                match delayed.take() {
                    Some((at, job)) if at <= Instant::now() => copied_until = carry_out(shared, job),
                    other => delayed = other,
                }
                shared.report(Outcome::Tick);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Returns when the next step of compaction may begin.
fn carry_out(shared: &Shared, job: Job) -> Instant {
    let begun = Instant::now();
    let outcome = perform(shared, job);
    let read = match &outcome {
        Outcome::Copied { records, next, .. } => {
            let first = records.first().map_or(0, |record| u64::from(record.place.offset));
            next.unwrap_or(shared.settings.segment_bytes).saturating_sub(first)
        }
        _ => 0,
    };
    shared.report(outcome);
    if shared.wishes().is_some() {
        return begun;
    }
    begun + Duration::from_millis(read * 1000 / shared.settings.compact_bytes_per_second)
}
