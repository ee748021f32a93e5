//! Opening a spool: lock, probe, recover, make spares, start the threads.
//! Refuses a directory that another process holds, and options out of range. Falls back from io_uring to threads and from
//! direct to buffered writing with a warning that says why. When it returns, the first append can be written at once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

use crate::disk::{AlignedBuffer, Barrier, HostDisk, Lane, ThreadsLane, UringLane, Waker, make_directory};
use crate::error::OpenError;
use crate::file_system;
use crate::format::SegmentHeader;
use crate::housekeeping::{Housekeeper, Job, Outcome, perform, prepare};
use crate::index::{Segment, SegmentState};
use crate::lock::Lock;
use crate::options::{Backend, Options, SEGMENTS_RESERVED, Settings, WriteMode};
use crate::probe::{Probe, probe};
use crate::recover::{Fold, ScanProgress, recover_telling};
use crate::shared::Shared;
use crate::spool::{Engine, Spool};
use crate::types::Recovery;
use crate::writer::{Hands, Start, Writer, batch_buffers, salt};

impl Spool {
    /// Opens the spool in `options.dir`, which is made if it is missing. Blocks: it reads every segment and writes spare
    /// ones.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_telling(options, &|_| {})
    }

    /// Like [`Spool::open`], and calls `tell` about once a second while the log is being read, from the threads that read
    /// it. It must be quick: they wait for it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_telling(
        options: Options,
        tell: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<(Self, Recovery), OpenError> {
        let settings = Settings::of(options)?;
        let dir = settings.dir.clone();
        let host = |action: &str| {
            let (dir, action) = (dir.clone(), action.to_owned());
            move |source: io::Error| OpenError::Host { dir, action, source }
        };
        make_directory(&dir).map_err(host("make the directory"))?;
        if file_system::is_volatile(&dir) {
            return Err(OpenError::Volatile { dir });
        }
        let lock = Lock::take(&dir)?;
        let found = probe(&dir);
        let engine = choose(&settings, &found)?;
        let direct = engine.mode == WriteMode::Direct.name();
        let disk = Arc::new(HostDisk::new(&dir, direct));
        let fold = recover_telling(&*disk, settings.rules, tell).map_err(host("read the log"))?;
        let waker = Arc::new(Waker::new().map_err(host("make an eventfd"))?);
        let (shared, start, recovery) =
            begin(settings, disk, waker, fold).map_err(host("make spare segments"))?;
        let held = lock.descriptor().map_err(host("duplicate a descriptor"))?;
        let (writer, engine) = spawn(&shared, start, engine, held).map_err(host("start the writer"))?;
        Ok((Self::assemble(shared, engine, writer, lock), recovery))
    }
}

/// Back end and mode, with the reason if they are not the first choice.
fn choose(settings: &Settings, found: &Probe) -> Result<Engine, OpenError> {
    let mut reasons = Vec::new();
    let backend = match (settings.backend, &found.uring_refused) {
        (Backend::Threads, _) => "threads",
        (Backend::Auto | Backend::Uring, None) => "uring",
        #[cfg(feature = "tokio-uring")]
        (Backend::TokioUring, None) => "tokio-uring",
        (Backend::Auto, Some(reason)) => {
            tracing::warn!(reason, "io_uring is not available; writing with threads");
            reasons.push(reason.clone());
            "threads"
        }
        (_, Some(reason)) => {
            return Err(OpenError::Uring { dir: settings.dir.clone(), reason: reason.clone() });
        }
    };
    let wanted = match settings.mode {
        WriteMode::Auto if file_system::overwrites_in_place(&found.file_system) => WriteMode::Direct,
        WriteMode::Auto => WriteMode::Buffered,
        named => named,
    };
    let mode = match &found.direct_refused {
        Some(reason) if wanted == WriteMode::Direct => {
            tracing::warn!(reason, "direct writing is not available; writing through the page cache");
            reasons.push(reason.clone());
            WriteMode::Buffered
        }
        _ => wanted,
    };
    if found.file_system == "tmpfs" {
        tracing::warn!(dir = %settings.dir.display(), "the spool lies on tmpfs: nothing in it survives a restart of the host");
    }
    let fallback_reason = (!reasons.is_empty()).then(|| reasons.join("; "));
    let file_system = found.file_system.clone();
    Ok(Engine { backend, mode: mode.name(), fallback_reason, file_system })
}

/// Frees what recovery found dead and makes the spares.
pub(crate) fn begin(
    settings: Settings,
    disk: Arc<dyn crate::disk::Disk>,
    waker: Arc<Waker>,
    fold: Fold,
) -> io::Result<(Arc<Shared>, Start, Recovery)> {
    let Fold { index, recovery, next_sequence, next_generation } = fold;
    let shared = Arc::new(Shared::new(settings, disk, waker, index));
    shared.counters.damaged.store(recovery.damaged, Ordering::Relaxed);
    shared.counters.torn.store(recovery.torn, Ordering::Relaxed);
    shared.look_at_space();
    let mut start = Start { next_sequence, next_generation, spares: VecDeque::new() };
    recycle(&shared, &mut start);
    make_spares(&shared, &mut start)?;
    Ok((shared, start, recovery))
}

/// Wipes or removes every segment without anything alive, until there is none: wiping one can free others.
fn recycle(shared: &Shared, start: &mut Start) {
    let numbers: Vec<u32> = shared.index().segments().map(|segment| segment.header.number).collect();
    numbers.iter().for_each(|number| shared.index().note_empty(*number));
    loop {
        let mut reclaimable = Vec::new();
        shared.index().take_reclaimable(u64::MAX, &mut reclaimable);
        if reclaimable.is_empty() {
            return;
        }
        for number in reclaimable {
            reuse(shared, start, number);
        }
    }
}

fn reuse(shared: &Shared, start: &mut Start, number: u32) {
    let Some((bytes, file)) = shared
        .index()
        .segment(number)
        .map(|segment| (segment.header.segment_bytes, Arc::clone(&segment.file)))
    else {
        return;
    };
    let fits = bytes == shared.settings.segment_bytes && start.spares.len() < shared.settings.spares_max();
    let job = if fits {
        Job::Wipe { header: next_header(start, number, bytes), file, sync_first: Vec::new() }
    } else {
        Job::Remove { number, sync_first: Vec::new() }
    };
    match perform(shared, job) {
        Outcome::Gone { number, fresh } => {
            shared.index().segment_gone(number);
            if let Some((header, file)) = fresh {
                shared.index().put_segment(Segment::new(
                    header,
                    shared.settings.rules,
                    file,
                    SegmentState::Spare,
                ));
                start.spares.push_back(number);
            }
        }
        Outcome::Stayed { number, error } => {
            tracing::error!(segment = number, %error, "an empty segment can neither be wiped nor removed");
        }
        Outcome::Prepared { .. } | Outcome::Copied { .. } | Outcome::Tick => {}
    }
}

fn next_header(start: &mut Start, number: u32, segment_bytes: u64) -> SegmentHeader {
    let generation = start.next_generation;
    start.next_generation += 1;
    SegmentHeader { number, generation, salt: salt(generation), segment_bytes }
}

/// As many as wanted; at the disk's floor only those that deletes and marks need.
fn make_spares(shared: &Shared, start: &mut Start) -> io::Result<()> {
    let settings = &shared.settings;
    let at_floor = shared.condition.is_at_floor();
    let wanted =
        if at_floor { settings.segments_spare.min(SEGMENTS_RESERVED) } else { settings.segments_spare };
    if start.spares.len() < wanted {
        tracing::info!(
            segments = wanted - start.spares.len(),
            bytes = settings.segment_bytes,
            "making spare segments"
        );
    }
    while start.spares.len() < wanted {
        let number = shared.index().free_number(&[]);
        let header = next_header(start, number, settings.segment_bytes);
        match prepare(shared, &header) {
            Ok(file) => {
                shared.index().put_segment(Segment::new(header, settings.rules, file, SegmentState::Spare));
                start.spares.push_back(number);
            }
            // With at least one, deletes can be written, and they free space.
            Err(error) if !start.spares.is_empty() => {
                tracing::error!(%error, spares = start.spares.len(), "fewer spare segments than wanted");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Starts both threads. The ring is made by the thread that uses it, which tells what it got.
fn spawn(
    shared: &Arc<Shared>,
    start: Start,
    engine: Engine,
    lock: OwnedFd,
) -> io::Result<(JoinHandle<()>, Engine)> {
    let housekeeper = Housekeeper::start(shared)?;
    let mut buffers = batch_buffers(&shared.settings)?;
    let (tell, told) = sync_channel::<io::Result<Engine>>(1);
    let shared = Arc::clone(shared);
    let writer = Builder::new().name("spool-writer".to_owned()).spawn(move || {
        match build_lane(&shared, &mut buffers, engine, lock.as_fd()) {
            Ok((lane, engine)) => {
                // The opening thread waits for this word.
                let _ = tell.send(Ok(engine));
                Writer::new(shared, lane, Hands::Thread(housekeeper), buffers, start).run();
            }
            Err(error) => {
                let _ = tell.send(Err(error));
                housekeeper.stop();
            }
        }
    })?;
    let engine = told.recv().map_err(|_| io::Error::other("the writer ended at once"))??;
    Ok((writer, engine))
}

fn build_lane(
    shared: &Shared,
    buffers: &mut [AlignedBuffer],
    mut engine: Engine,
    lock: BorrowedFd<'_>,
) -> io::Result<(Box<dyn Lane>, Engine)> {
    let waker = &shared.waker;
    let direct = engine.mode == WriteMode::Direct.name();
    if engine.backend == "uring" {
        // Through the page cache the write only copies, and the sync behind it is one for all of it.
        let barrier = if direct { Barrier::InWrite } else { Barrier::Linked };
        match UringLane::new(Arc::clone(waker), buffers, barrier, Some(lock)) {
            Ok(lane) => return Ok((Box::new(lane), engine)),
            Err(error) => {
                tracing::warn!(%error, "io_uring worked a moment ago and is refused now; writing with threads");
                engine.backend = "threads";
                engine.fallback_reason = Some(format!("io_uring: {error}"));
            }
        }
    }
    #[cfg(feature = "tokio-uring")]
    if engine.backend == "tokio-uring" {
        let in_flight_max = shared.settings.batches_in_flight_max;
        let lane = crate::disk::TokioUringLane::new(Arc::clone(waker), in_flight_max)?;
        return Ok((Box::new(lane), engine));
    }
    let lane = ThreadsLane::new(Arc::clone(waker), shared.settings.batches_in_flight_max, !direct)?;
    Ok((Box::new(lane), engine))
}
