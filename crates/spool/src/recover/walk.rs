//! Reads the segments, several at a time, and keeps of each what recovery needs: where its records lie, which sequences are
//! there, and where something is missing. Payloads of envelopes, marks and deletes are copied once, into chunks that
//! many share; bodies are verified and left on the disk. A segment that cannot be read at all is named, not passed over.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::io::Errno;

use super::{Progress, SegmentFile};
use crate::disk::{File, read_through};
use crate::format::{
    BLOCK_BYTES, Kind, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, epoch_of, in_memory,
};
use crate::index::Place;
use crate::options::{Rules, SCAN_THREADS_MAX};
use crate::scan::{Found, Scanner};
use crate::types::Id;

/// Bytes of small payloads that share one allocation. Whoever keeps one of them keeps its chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes to read that are worth a thread of their own.
const THREAD_BYTES_MIN: u64 = 4 << 20;

/// Why a segment's file is not there to be scanned.
#[derive(Debug)]
pub(crate) enum OpenFailure {
    /// The medium: the segment is damaged as a whole.
    Unreadable(io::Error),
    /// It was removed since the directory was listed.
    Gone,
    /// Anything else: the file may be sound, and nothing is concluded without it.
    Stop(io::Error),
}

impl OpenFailure {
    /// What the kernel's answer to an open means.
    pub(crate) fn of(error: io::Error) -> Self {
        if is_of_the_medium(&error) { Self::Unreadable(error) } else { Self::Stop(error) }
    }
}

/// Whether an error tells of the disk, rather than of this process or its rights.
fn is_of_the_medium(error: &io::Error) -> bool {
    let medium = [Errno::IO, Errno::NXIO, Errno::NODEV, Errno::BADMSG, Errno::UCLEAN];
    error.raw_os_error().is_some_and(|code| medium.contains(&Errno::from_raw_os_error(code)))
}

/// A segment that is damaged as a whole.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) number: u32,
    pub(crate) what: String,
}

/// One record that verified.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) body: Id,
    pub(crate) sequence: u64,
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(crate) payload_bytes: u32,
    /// Where the payload was copied to; bodies have no copy.
    pub(super) chunk: u32,
    pub(super) at: u32,
}

impl Entry {
    pub(crate) fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.offset, payload_bytes: self.payload_bytes }
    }
}

/// Records by kind.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    pub(crate) bodies: Vec<Entry>,
    pub(crate) envelopes: Vec<Entry>,
    pub(crate) marks: Vec<Entry>,
    pub(crate) deletes: Vec<Entry>,
}

impl Kinds {
    pub(crate) fn push(&mut self, kind: Kind, entry: Entry) {
        match kind {
            Kind::Body => self.bodies.push(entry),
            Kind::Envelope => self.envelopes.push(entry),
            Kind::Mark => self.marks.push(entry),
            Kind::Delete => self.deletes.push(entry),
            Kind::Seal => {}
        }
    }

    pub(crate) fn each(&self) -> [&Vec<Entry>; 4] {
        [&self.bodies, &self.envelopes, &self.marks, &self.deletes]
    }

    pub(crate) fn each_mut(&mut self) -> [&mut Vec<Entry>; 4] {
        [&mut self.bodies, &mut self.envelopes, &mut self.marks, &mut self.deletes]
    }
}

/// Copies of small payloads, many to an allocation.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    full: Vec<Bytes>,
    filling: Vec<u8>,
}

impl Payloads {
    /// Where the copy lies: the chunk and the offset in it.
    fn keep(&mut self, payload: &[u8]) -> (u32, u32) {
        if self.filling.len() + payload.len() > self.filling.capacity() {
            self.finish();
            self.filling = Vec::with_capacity(payload.len().max(CHUNK_BYTES));
        }
        let at = self.filling.len();
        self.filling.extend_from_slice(payload);
        // A segment ends below 4 GiB, and so do the payloads in it.
        let short = |number| u32::try_from(number).unwrap_or(u32::MAX);
        (short(self.full.len()), short(at))
    }

    fn finish(&mut self) {
        if self.filling.capacity() > 0 {
            self.full.push(Bytes::from(std::mem::take(&mut self.filling)));
        }
    }

    /// A slice of its chunk.
    pub(crate) fn of(&self, entry: &Entry) -> Bytes {
        let range = entry.at as usize..entry.at as usize + entry.payload_bytes as usize;
        self.full
            .get(entry.chunk as usize)
            .filter(|chunk| chunk.len() >= range.end)
            .map_or_else(Bytes::new, |chunk| chunk.slice(range))
    }
}

/// One segment, scanned.
pub(crate) struct Scanned {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn File>,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Records that count: they verified, and so did the rest of their transactions.
    pub(crate) kept: Kinds,
    /// Records of transactions that are not whole.
    pub(crate) incomplete: Vec<(Kind, Entry)>,
    pub(crate) payloads: Payloads,
    /// Sequences that verified, as ranges without holes.
    pub(crate) runs: Vec<Range<u64>>,
    pub(crate) gaps: Vec<Gap>,
    /// Highest sequence of each opening that some record here knows to be durable.
    pub(crate) durable: BTreeMap<u64, u64>,
    pub(crate) sealed: bool,
    pub(crate) records: u64,
    /// Bytes of records that verified, headers and alignment included.
    pub(crate) record_bytes: u64,
    /// Where the last valid record ends.
    pub(crate) end: u64,
}

/// Bytes between two valid records (or after the last) where records should have been or may have been.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) region: Range<u64>,
    /// First sequence that is missing; `None` at the start of a segment.
    pub(crate) from: Option<u64>,
    /// Sequence after the last missing one; `None` at the tail.
    pub(crate) until: Option<u64>,
    /// A header verified in the region, or a transaction is incomplete: something was written here.
    pub(crate) evidence: bool,
}

/// All segments, scanned.
pub(crate) struct Scan {
    /// By number.
    pub(crate) segments: Vec<Scanned>,
    pub(crate) unreadable: Vec<Unreadable>,
}

/// How a segment's file is come by.
pub(crate) type Open<'a> = dyn Fn(&str) -> Result<Arc<dyn File>, OpenFailure> + Sync + 'a;

/// Scans every segment, on as many threads as the host has, [`SCAN_THREADS_MAX`] at most.
pub(crate) fn scan_all(
    files: &[SegmentFile],
    open: &Open<'_>,
    rules: Rules,
    progress: &Progress<'_>,
) -> io::Result<Scan> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push((file.number, scan_segment(file, open, rules)));
            progress.segment_done(file.bytes);
        }
        results
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads_worth(files)).map(|_| scope.spawn(worker)).collect();
        let mut results = worker();
        for other in others {
            // Going on without the segments of that thread would make what they hold disappear.
            results.extend(other.join().map_err(|_| io::Error::other("a scanning thread panicked"))?);
        }
        io::Result::Ok(results)
    })?;
    results.sort_by_key(|(number, _)| *number);
    let mut scan = Scan { segments: Vec::with_capacity(results.len()), unreadable: Vec::new() };
    for (number, result) in results {
        match result {
            Ok(Ok(segment)) => scan.segments.push(segment),
            Ok(Err(what)) => scan.unreadable.push(Unreadable { number, what }),
            Err(OpenFailure::Gone) => {}
            Err(OpenFailure::Unreadable(error)) => {
                scan.unreadable.push(Unreadable { number, what: format!("it cannot be opened: {error}") });
            }
            Err(OpenFailure::Stop(error)) => return Err(error),
        }
    }
    Ok(scan)
}

/// How many threads so much to read is worth, the calling one included.
fn threads_worth(files: &[SegmentFile]) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(SCAN_THREADS_MAX);
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    cores.min(files.len()).min(in_memory(bytes / THREAD_BYTES_MIN)).max(1)
}

/// The inner error says why the segment as a whole cannot be read.
fn scan_segment(
    entry: &SegmentFile,
    open: &Open<'_>,
    rules: Rules,
) -> Result<Result<Scanned, String>, OpenFailure> {
    let file = open(&entry.name)?;
    let mut head = [0; SEGMENT_HEADER_BYTES];
    if let Err(error) = read_through(&*file, &mut head, 0) {
        return Ok(Err(format!("its first block cannot be read: {error}")));
    }
    let header = match SegmentHeader::decode(&head) {
        Ok(header) if header.number == entry.number => header,
        Ok(header) => return Ok(Err(format!("it is a copy of segment {:08}", header.number))),
        Err(what) => return Ok(Err(what.to_owned())),
    };
    let bytes = file.bytes().map_err(OpenFailure::of)?;
    Ok(Ok(scan_records(file, header, bytes, rules)))
}

/// Walks over the records of a segment whose file has `bytes`.
pub(crate) fn scan_records(file: Arc<dyn File>, header: SegmentHeader, bytes: u64, rules: Rules) -> Scanned {
    let mut walk = Walk::new(file, header, bytes);
    let file = Arc::clone(&walk.scanned.file);
    let mut scanner = Scanner::new(&*file, header.seed(rules), bytes.min(header.segment_bytes));
    while let Some((found, payload)) = scanner.next() {
        walk.see(&found, payload);
        if walk.scanned.sealed {
            break;
        }
    }
    if !walk.scanned.sealed {
        let broken = scanner.broken.last().is_some_and(|region| region.start >= walk.scanned.end);
        walk.tail(broken);
    }
    walk.finish()
}

/// State of one walk over a segment's valid records.
struct Walk {
    scanned: Scanned,
    /// Records of the transaction that has not ended yet.
    pending: Vec<(Kind, Entry)>,
}

impl Walk {
    fn new(file: Arc<dyn File>, header: SegmentHeader, bytes: u64) -> Self {
        let scanned = Scanned {
            header,
            file,
            bytes,
            kept: Kinds::default(),
            incomplete: Vec::new(),
            payloads: Payloads::default(),
            runs: Vec::new(),
            gaps: Vec::new(),
            durable: BTreeMap::new(),
            sealed: false,
            records: 0,
            record_bytes: 0,
            end: BLOCK_BYTES as u64,
        };
        Self { scanned, pending: Vec::new() }
    }

    fn see(&mut self, found: &Found, payload: &[u8]) {
        let header = &found.header;
        let expected = self.scanned.runs.last().map(|run| run.end);
        if expected.map_or(found.offset > self.scanned.end, |expected| expected != header.sequence) {
            let evidence = !self.pending.is_empty();
            let region = self.scanned.end..found.offset;
            self.scanned.gaps.push(Gap { region, from: expected, until: Some(header.sequence), evidence });
            self.break_off();
        }
        self.scanned.end = found.end();
        if let Some(durable) = header.durable_sequence {
            let known = self.scanned.durable.entry(epoch_of(header.sequence)).or_default();
            *known = (*known).max(durable);
        }
        if header.kind == Kind::Seal {
            self.scanned.sealed = true;
            return;
        }
        self.scanned.records += 1;
        self.scanned.record_bytes += header.stride_bytes();
        // No spool lives to see the last number; a forged one must not overflow.
        let next = header.sequence.saturating_add(1);
        match self.scanned.runs.last_mut() {
            Some(run) if run.end == header.sequence => run.end = next,
            _ => self.scanned.runs.push(header.sequence..next),
        }
        self.keep(found, payload);
    }

    fn keep(&mut self, found: &Found, payload: &[u8]) {
        let header = &found.header;
        let is_body = header.kind == Kind::Body;
        let (chunk, at) = if is_body { (0, 0) } else { self.scanned.payloads.keep(payload) };
        let entry = Entry {
            id: header.id,
            body: header.body,
            sequence: header.sequence,
            segment: self.scanned.header.number,
            offset: u32::try_from(found.offset).unwrap_or(u32::MAX),
            payload_bytes: header.payload_bytes,
            chunk,
            at,
        };
        if header.position == 0 {
            self.break_off();
        }
        if usize::from(header.position) != self.pending.len() {
            // The beginning of this transaction is missing.
            self.break_off();
            self.scanned.incomplete.push((header.kind, entry));
            return;
        }
        self.pending.push((header.kind, entry));
        if header.commit {
            self.pending.drain(..).for_each(|(kind, entry)| self.scanned.kept.push(kind, entry));
        }
    }

    /// The transaction at hand will not be whole.
    fn break_off(&mut self) {
        self.scanned.incomplete.append(&mut self.pending);
    }

    fn tail(&mut self, broken: bool) {
        if self.scanned.end + RECORD_HEADER_BYTES as u64 > self.scanned.header.segment_bytes {
            // Full to the last record: there was no room for a seal.
            return;
        }
        let evidence = broken || !self.pending.is_empty();
        let from = self.scanned.runs.last().map(|run| run.end);
        let region =
            self.scanned.end..self.scanned.bytes.min(self.scanned.header.segment_bytes).max(self.scanned.end);
        self.scanned.gaps.push(Gap { region, from, until: None, evidence });
        self.break_off();
    }

    fn finish(mut self) -> Scanned {
        self.break_off();
        self.scanned.payloads.finish();
        self.scanned
    }
}
