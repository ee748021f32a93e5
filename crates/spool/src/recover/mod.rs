//! What a directory of segments says after a crash: which messages are alive, what was torn, what is damaged.
//! Owns the parallel scan and the judgement between a torn tail (nobody was promised it) and damage (somebody was).
//! Damage is copied to `damaged/`, counted and logged, and recovery goes on; it fails only when the directory itself
//! cannot be read.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::disk::{Disk, File, PREPARING_SUFFIX, read_through};
use crate::format::{
    BLOCK_BYTES, Kind, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, epoch_of, in_memory,
};
use crate::index::{IdMap, Index, Place, Segment, SegmentState};
use crate::options::{Rules, SCAN_THREADS_MAX};
use crate::scan::{Found, Scanner};
use crate::types::{Id, Recovered, Recovery};

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

/// One record that counts: it verified, and so did the rest of its transaction.
pub(crate) struct Kept {
    kind: Kind,
    id: Id,
    body: Id,
    sequence: u64,
    offset: u32,
    pub(crate) payload_bytes: u32,
    /// Empty for bodies.
    payload: Bytes,
}

/// One segment, scanned.
pub(crate) struct Scanned {
    header: SegmentHeader,
    file: Arc<dyn File>,
    pub(crate) kept: Vec<Kept>,
    /// Sequences that verified, as ranges without holes.
    runs: Vec<Range<u64>>,
    pub(crate) gaps: Vec<Gap>,
    /// Highest sequence of each opening that some record here knows to be durable.
    durable: BTreeMap<u64, u64>,
    pub(crate) sealed: bool,
    pub(crate) records: u64,
}

/// Bytes between two valid records (or after the last) where records should have been or may have been.
#[derive(Debug)]
pub(crate) struct Gap {
    region: Range<u64>,
    /// First sequence that is missing; `None` at the start of a segment.
    from: Option<u64>,
    /// Sequence after the last missing one; `None` at the tail.
    until: Option<u64>,
    /// A header verified in the region, or a transaction is incomplete: something was written here.
    evidence: bool,
}

/// Scans everything and builds the index.
pub(crate) fn recover(disk: &dyn Disk, rules: Rules) -> io::Result<Fold> {
    let mut recovery = Recovery::default();
    let mut names = Vec::new();
    for entry in disk.list()? {
        match segment_number(&entry.name) {
            Some(number) if entry.is_file => names.push((number, entry.name)),
            _ if entry.is_file && entry.name.ends_with(PREPARING_SUFFIX) => disk.remove(&entry.name)?,
            _ if entry.name == LOCK_NAME || entry.name == crate::disk::DAMAGED_DIR => {}
            _ => recovery.foreign.push(entry.name),
        }
    }
    names.sort();
    recovery.foreign.sort();
    if !recovery.foreign.is_empty() {
        tracing::warn!(names = ?recovery.foreign, "entries in the spool that are not ours are left alone");
    }
    let scanned = scan_all(disk, &names, rules, &mut recovery)?;
    judge_gaps(disk, &scanned, &mut recovery);
    Ok(fold(scanned, rules, recovery))
}

fn scan_all(
    disk: &dyn Disk,
    names: &[(u32, String)],
    rules: Rules,
    recovery: &mut Recovery,
) -> io::Result<Vec<Scanned>> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(SCAN_THREADS_MAX);
    let worker = || {
        let mut results = Vec::new();
        while let Some((number, name)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push((*number, scan_segment(disk, *number, name, rules)));
            if results.len().is_multiple_of(64) {
                tracing::info!(segments = names.len(), at = *number, "scanning the spool");
            }
        }
        results
    };
    let mut results: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.min(names.len())).map(|_| scope.spawn(worker)).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap_or_default()).collect()
    });
    results.sort_by_key(|(number, _)| *number);
    let mut scanned = Vec::with_capacity(results.len());
    for (number, result) in results {
        match result? {
            Ok(segment) => {
                recovery.segments += 1;
                recovery.records += segment.records;
                scanned.push(segment);
            }
            Err(what) => {
                tracing::error!(
                    segment = number,
                    what,
                    "segment set aside in damaged/: its header is unreadable"
                );
                recovery.damaged += 1;
                disk.set_file_aside(&segment_name(number))?;
            }
        }
    }
    Ok(scanned)
}

/// The inner error says why the segment as a whole cannot be read.
fn scan_segment(
    disk: &dyn Disk,
    number: u32,
    name: &str,
    rules: Rules,
) -> io::Result<Result<Scanned, &'static str>> {
    let file = disk.open(name)?;
    // What a dying process wrote may still be in a cache; nothing may be concluded from it before it is durable.
    if rules.opening_syncs {
        file.sync()?;
    }
    let mut head = [0; SEGMENT_HEADER_BYTES];
    if read_through(&*file, &mut head, 0).is_err() {
        return Ok(Err("its first block cannot be read"));
    }
    let header = match SegmentHeader::decode(&head) {
        Ok(header) if header.number == number => header,
        Ok(_) => return Ok(Err("it is a copy of another segment")),
        Err(what) => return Ok(Err(what)),
    };
    let bytes = file.bytes()?.min(header.segment_bytes);
    Ok(Ok(scan_records(file, header, bytes, rules)))
}

pub(crate) fn scan_records(file: Arc<dyn File>, header: SegmentHeader, bytes: u64, rules: Rules) -> Scanned {
    let mut walk = Walk::default();
    let mut scanner = Scanner::new(&*file, header.seed(rules), bytes);
    while let Some((found, payload)) = scanner.next() {
        walk.see(&found, payload);
        if walk.sealed {
            break;
        }
    }
    if !walk.sealed {
        let broken = scanner.broken.last().is_some_and(|region| region.start >= walk.end);
        walk.tail(bytes, broken);
    }
    let Walk { kept, runs, gaps, durable, sealed, records, .. } = walk;
    Scanned { header, file, kept, runs, gaps, durable, sealed, records }
}

/// State of one walk over a segment's valid records.
struct Walk {
    kept: Vec<Kept>,
    pending: Vec<Kept>,
    runs: Vec<Range<u64>>,
    gaps: Vec<Gap>,
    durable: BTreeMap<u64, u64>,
    sealed: bool,
    records: u64,
    end: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            pending: Vec::new(),
            runs: Vec::new(),
            gaps: Vec::new(),
            durable: BTreeMap::new(),
            sealed: false,
            records: 0,
            end: BLOCK_BYTES as u64,
        }
    }
}

impl Walk {
    fn see(&mut self, found: &Found, payload: &[u8]) {
        let header = &found.header;
        let expected = self.runs.last().map(|run| run.end);
        if expected.map_or(found.offset > self.end, |expected| expected != header.sequence) {
            let evidence = !self.pending.is_empty();
            let region = self.end..found.offset;
            self.gaps.push(Gap { region, from: expected, until: Some(header.sequence), evidence });
            self.pending.clear();
        }
        self.end = found.end();
        if let Some(durable) = header.durable_sequence {
            let known = self.durable.entry(epoch_of(header.sequence)).or_default();
            *known = (*known).max(durable);
        }
        if header.kind == Kind::Seal {
            self.sealed = true;
            return;
        }
        self.records += 1;
        match self.runs.last_mut() {
            Some(run) if run.end == header.sequence => run.end += 1,
            _ => self.runs.push(header.sequence..header.sequence + 1),
        }
        self.keep(found, payload);
    }

    fn keep(&mut self, found: &Found, payload: &[u8]) {
        let header = &found.header;
        if header.position == 0 {
            self.pending.clear();
        }
        if usize::from(header.position) != self.pending.len() {
            // The beginning of this transaction is missing: none of it counts.
            self.pending.clear();
            return;
        }
        self.pending.push(Kept {
            kind: header.kind,
            id: header.id,
            body: header.body,
            sequence: header.sequence,
            offset: u32::try_from(found.offset).unwrap_or(u32::MAX),
            payload_bytes: header.payload_bytes,
            payload: if header.kind == Kind::Body { Bytes::new() } else { Bytes::copy_from_slice(payload) },
        });
        if header.commit {
            self.kept.append(&mut self.pending);
        }
    }

    fn tail(&mut self, bytes: u64, broken: bool) {
        if self.end + RECORD_HEADER_BYTES as u64 > bytes {
            // Full to the last record: there was no room for a seal.
            return;
        }
        let evidence = broken || !self.pending.is_empty();
        let from = self.runs.last().map(|run| run.end);
        self.gaps.push(Gap { region: self.end..bytes, from, until: None, evidence });
        self.pending.clear();
    }
}

/// Tells what was torn from what is damaged. A record says how far the log was durable when it was written, so a missing
/// sequence at or below that was promised to somebody.
fn judge_gaps(disk: &dyn Disk, scanned: &[Scanned], recovery: &mut Recovery) {
    let mut durable: BTreeMap<u64, u64> = BTreeMap::new();
    for (epoch, sequence) in scanned.iter().flat_map(|segment| &segment.durable) {
        let known = durable.entry(*epoch).or_default();
        *known = (*known).max(*sequence);
    }
    let elsewhere =
        |sequence: u64| scanned.iter().flat_map(|segment| &segment.runs).any(|r| r.contains(&sequence));
    let promised = |sequence: u64| {
        durable.get(&epoch_of(sequence)).is_some_and(|durable| sequence <= *durable) && !elsewhere(sequence)
    };
    for segment in scanned {
        for gap in &segment.gaps {
            let missing = gap.from.or_else(|| gap.until.map(|until| until.saturating_sub(1)));
            if missing.is_some_and(promised) {
                recovery.damaged += 1;
                set_aside(disk, segment, gap);
            } else if gap.until.is_some() || gap.evidence {
                recovery.torn += 1;
            }
        }
    }
    if recovery.torn > 0 {
        tracing::info!(
            torn = recovery.torn,
            "unfinished writes dropped; nobody was told that they were done"
        );
    }
}

fn set_aside(disk: &dyn Disk, segment: &Scanned, gap: &Gap) {
    let SegmentHeader { number, generation, .. } = segment.header;
    let (offset, bytes) = (gap.region.start, gap.region.end.saturating_sub(gap.region.start));
    tracing::error!(segment = number, offset, bytes, "damaged region set aside in damaged/");
    let mut copy = vec![0; in_memory(bytes.min(SET_ASIDE_BYTES_MAX))];
    let filled = read_through(&*segment.file, &mut copy, offset).unwrap_or(0);
    copy.truncate(filled);
    let name = format!("{number:08}-{generation:016x}-{offset:010}.bytes");
    if let Err(error) = disk.set_bytes_aside(&name, &copy) {
        tracing::error!(%error, name, "the damaged region could not be copied; it stays in its segment");
    }
}

/// The newest of several records that say the same thing, and where the others are.
struct Newest {
    sequence: u64,
    place: Place,
    body: Id,
    payload: Bytes,
    copies: Vec<u32>,
}

type Latest = IdMap<Newest>;

fn fold(scanned: Vec<Scanned>, rules: Rules, recovery: Recovery) -> Fold {
    let mut index = Index::new(rules);
    let (mut bodies, mut envelopes) = (Latest::default(), Latest::default());
    let (mut marks, mut deletes) = (Latest::default(), Latest::default());
    let (mut last_sequence, mut last_generation) = (0, 0);
    for segment in scanned {
        let number = segment.header.number;
        last_generation = last_generation.max(segment.header.generation);
        last_sequence = segment.runs.iter().map(|run| run.end).fold(last_sequence, u64::max);
        for kept in segment.kept {
            let latest = match kept.kind {
                Kind::Body => &mut bodies,
                Kind::Envelope => &mut envelopes,
                Kind::Mark => &mut marks,
                Kind::Delete => &mut deletes,
                Kind::Seal => continue,
            };
            note(latest, number, kept);
        }
        index.put_segment(Segment::new(segment.header, rules, segment.file, SegmentState::Closed));
    }
    let next_sequence = (epoch_of(last_sequence) + 1) << crate::format::SEQUENCE_COUNT_BITS;
    let mut found = Fold { index, recovery, next_sequence, next_generation: last_generation + 1 };
    settle_deletes(&mut found, &deletes, &mut envelopes);
    settle_messages(&mut found, &bodies, envelopes, &mut marks);
    found.recovery.deletes = deletes.into_iter().map(|(id, delete)| (id, delete.payload)).collect();
    found.recovery.deletes.sort_unstable_by_key(|(id, _)| *id);
    found.recovery.messages.sort_unstable_by_key(|message| message.id);
    found
}

fn note(latest: &mut Latest, segment: u32, kept: Kept) {
    let place = Place { segment, offset: kept.offset, payload_bytes: kept.payload_bytes };
    let newest = latest.entry(kept.id).or_insert_with(|| Newest {
        sequence: 0,
        place,
        body: kept.body,
        payload: Bytes::new(),
        copies: Vec::new(),
    });
    newest.copies.push(segment);
    if kept.sequence >= newest.sequence {
        newest.sequence = kept.sequence;
        newest.place = place;
        newest.body = kept.body;
        newest.payload = kept.payload;
    }
}

fn settle_deletes(found: &mut Fold, deletes: &Latest, envelopes: &mut Latest) {
    for (id, delete) in deletes {
        if let Some(envelope) = envelopes.remove(id) {
            found.index.recover_deleted(*id, delete.place, &envelope.copies);
        }
    }
}

fn settle_messages(found: &mut Fold, bodies: &Latest, envelopes: Latest, marks: &mut Latest) {
    for (id, envelope) in envelopes {
        let Some(body) = bodies.get(&envelope.body) else {
            tracing::error!(message = %id, body = %envelope.body, "message dropped: its body is not in the spool");
            found.recovery.orphans += 1;
            continue;
        };
        if !found.index.has_body(envelope.body) {
            found.index.recover_body(envelope.body, body.place);
        }
        let mark = marks.remove(&id);
        let mark_place = mark.as_ref().map(|mark| mark.place);
        found.index.recover_message(id, envelope.body, envelope.place, mark_place, &envelope.copies);
        found.recovery.messages.push(Recovered {
            id,
            body: envelope.body,
            envelope: envelope.payload,
            marks: mark.map(|mark| mark.payload).into_iter().collect(),
            body_bytes: u64::from(body.place.payload_bytes),
        });
    }
}
