//! What a directory of segments says after a crash: which messages are alive, what was torn, what is damaged.
//! Owns the order of the work: `walk` reads the segments in parallel, `judge` tells a torn tail (nobody was promised it)
//! from damage (somebody was), `fold` finds what is alive. Damage and envelopes without a body are copied to `damaged/`,
//! counted and logged, and recovery goes on. It fails when the directory cannot be read, when a segment cannot be
//! opened for a reason that is not the medium's, and when one can be made durable neither in place nor as a copy: what
//! is not durable must not make anything else dead.

mod fold;
mod judge;
mod progress;
mod walk;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::disk::{DAMAGED_DIR, Disk, Entry, File, PREPARING_SUFFIX, read_through};
use crate::format::{SEQUENCE_COUNT_BITS, epoch_of, in_memory};
use crate::index::Index;
use crate::options::Rules;
use crate::types::Recovery;

pub(crate) use fold::{Folded, Orphan, fold};
pub(crate) use judge::{Judgement, Region, judge};
pub use progress::ScanProgress;
pub(crate) use progress::{PROGRESS_INTERVAL, Progress};
pub(crate) use walk::{OpenFailure, Scan, Scanned, Unreadable, scan_all, scan_records};

/// Bytes of one damaged region that are copied; the segment itself stays where it is as long as anything in it lives.
const SET_ASIDE_BYTES_MAX: u64 = 64 << 20;
/// Names in the directory that are ours and are not segments.
pub(crate) const LOCK_NAME: &str = "lock";

/// What the writer goes on from.
pub(crate) struct Fold {
    pub(crate) index: Index,
    pub(crate) recovery: Recovery,
    /// First sequence of this opening.
    pub(crate) next_sequence: u64,
    pub(crate) next_generation: u64,
}

/// The name of a segment's file.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{number:08}.segment")
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".segment")?;
    if digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// The entries of a spool's directory, sorted by what they are.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// By number.
    pub(crate) segments: Vec<SegmentFile>,
    /// Segments that a dead process did not finish making.
    pub(crate) preparing: Vec<String>,
    /// What is not ours.
    pub(crate) foreign: Vec<String>,
}

/// The file of a segment, as the directory shows it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Contents {
    pub(crate) fn of(entries: Vec<Entry>) -> Self {
        let mut contents = Self::default();
        for Entry { name, bytes, is_file } in entries {
            match segment_number(&name) {
                Some(number) if is_file => contents.segments.push(SegmentFile { number, name, bytes }),
                _ if is_file && name.ends_with(PREPARING_SUFFIX) => contents.preparing.push(name),
                _ if name == LOCK_NAME || name == DAMAGED_DIR => {}
                _ => contents.foreign.push(name),
            }
        }
        contents.segments.sort_by_key(|file| file.number);
        contents.foreign.sort();
        contents
    }
}

/// Scans everything and builds the index.
#[cfg(test)]
pub(crate) fn recover(disk: &dyn Disk, rules: Rules) -> io::Result<Fold> {
    recover_telling(disk, rules, &|_| {})
}

/// The same, with a word about once a second on how far the reading is.
pub(crate) fn recover_telling(
    disk: &dyn Disk,
    rules: Rules,
    tell: &(dyn Fn(ScanProgress) + Sync),
) -> io::Result<Fold> {
    let Contents { segments, preparing, foreign } = Contents::of(disk.list()?);
    preparing.iter().try_for_each(|name| disk.remove(name))?;
    if !foreign.is_empty() {
        tracing::warn!(names = ?foreign, "entries in the spool that are not ours are left alone");
    }
    let tell = |progress| {
        log_progress(progress);
        tell(progress);
    };
    let progress = Progress::new(&segments, PROGRESS_INTERVAL, &tell);
    let mut scan = scan_all(&segments, &|name| open_durable(disk, name, rules), rules, &progress)?;
    let unreadable = scan.unreadable.len() as u64;
    for Unreadable { number, what } in &scan.unreadable {
        tracing::error!(segment = number, what, "segment set aside in damaged/: it cannot be read at all");
        disk.set_file_aside(&segment_name(*number))?;
    }
    let judgement = judge(&mut scan.segments);
    for region in &judgement.damaged {
        let segment = scan.segments.iter().find(|segment| segment.header.number == region.segment);
        segment.iter().for_each(|segment| set_region_aside(disk, &*segment.file, region));
    }
    let torn = judgement.torn.len() as u64;
    if torn > 0 {
        tracing::info!(torn, "unfinished writes dropped; nobody was told that they were done");
    }
    let mut recovery = Recovery {
        segments: scan.segments.len() as u64,
        records: scan.segments.iter().map(|segment| segment.records).sum(),
        torn,
        damaged: unreadable + judgement.damaged.len() as u64,
        foreign,
        ..Recovery::default()
    };
    let folded = fold(scan.segments, rules);
    folded.orphans.iter().for_each(|orphan| set_orphan_aside(disk, orphan));
    recovery.orphans = folded.orphans.len() as u64;
    recovery.messages = folded.messages;
    recovery.deletes = folded.deletes;
    // A segment that cannot be read may hold an opening of its own, and a number of an opening is never used twice.
    let next_epoch = epoch_of(folded.next_sequence) + 1 + unreadable;
    Ok(Fold {
        index: folded.index,
        recovery,
        next_sequence: next_epoch << SEQUENCE_COUNT_BITS,
        next_generation: folded.last_generation.saturating_add(1),
    })
}

fn log_progress(progress: ScanProgress) {
    let ScanProgress { segments_done, segments, bytes_done, bytes } = progress;
    tracing::info!(
        segments_done,
        segments,
        bytes_done,
        bytes,
        percent = progress.percent(),
        "reading the spool"
    );
}

/// Opens a segment and makes it durable as it is: what a dying process wrote may still be in a cache only. Where a sync
/// fails, the kernel may have dropped what it could not write, so the file is left behind and what can be read of it
/// is written anew.
fn open_durable(disk: &dyn Disk, name: &str, rules: Rules) -> Result<Arc<dyn File>, OpenFailure> {
    let file = disk.open(name).map_err(OpenFailure::of)?;
    if !rules.opening_syncs {
        return Ok(file);
    }
    let Err(error) = file.sync() else { return Ok(file) };
    tracing::error!(name, %error, "a segment cannot be synced; it is written anew");
    drop(file);
    disk.write_anew(name).map_err(|again| {
        let text = format!("{name} cannot be synced ({error}) and cannot be written anew ({again})");
        OpenFailure::Stop(io::Error::new(again.kind(), text))
    })
}

/// Copies a damaged region to `damaged/`, once. Where that fails it stays in its segment, for as long as that lasts.
pub(crate) fn set_region_aside(disk: &dyn Disk, file: &dyn File, region: &Region) {
    let Region { segment, generation, range: Range { start: offset, end } } = region;
    let bytes = end.saturating_sub(*offset);
    tracing::error!(segment, offset, bytes, "damaged region set aside in damaged/");
    let mut copy = vec![0; in_memory(bytes.min(SET_ASIDE_BYTES_MAX))];
    let filled = read_through(file, &mut copy, *offset).unwrap_or(0);
    copy.truncate(filled);
    let name = format!("{segment:08}-{generation:016x}-{offset:010}.bytes");
    if let Err(error) = disk.set_bytes_aside(&name, &copy) {
        tracing::error!(%error, name, "the damaged region could not be copied; it stays in its segment");
    }
}

/// Keeps what says who was to get a message whose body is gone.
fn set_orphan_aside(disk: &dyn Disk, orphan: &Orphan) {
    let Orphan { id, body, segment, offset, envelope } = orphan;
    let name = format!("{id}.envelope");
    tracing::error!(%id, %body, segment, offset, name, "a message has no body; its envelope is set aside in damaged/");
    if let Err(error) = disk.set_bytes_aside(&name, envelope) {
        tracing::error!(%error, name, "the envelope could not be copied; it stays in its segment");
    }
}
