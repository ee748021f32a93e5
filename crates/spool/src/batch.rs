//! Filling one aligned buffer with records: the only copy a body ever makes.
//! Owns the layout inside a batch (headers, alignment, commit flags, padding). Keeps the index in step, record by record,
//! in the order in which they are written. Does no I/O; what does not fit is the writer's business.

use std::time::Instant;

use bytes::Bytes;
use crc32c::crc32c;
use tokio::sync::oneshot;

use crate::disk::{Load, Piece};
use crate::error::AppendError;
use crate::format::{
    Kind, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RecordHeader, Seed, aligned_block, in_memory,
    record_stride_bytes, reseed,
};
use crate::index::{Index, Move, Place};
use crate::queue::{CopiedRecord, Request, Work};
use crate::types::{Acknowledgement, Change, Id, Transaction};

/// Somebody who waits for a batch.
pub(crate) struct Waiter {
    pub(crate) caller: oneshot::Sender<Acknowledgement>,
    /// When the caller came; `None` for changes, whose latency nobody asks for.
    pub(crate) entered: Option<Instant>,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Writing,
    Landed,
    Failed(String),
}

/// Records on their way to one place of one segment.
pub(crate) struct Batch {
    pub(crate) token: u64,
    pub(crate) segment: u32,
    pub(crate) offset: u64,
    /// Length written, padding included.
    pub(crate) bytes: usize,
    pub(crate) records: u32,
    /// Transactions in it that callers wait for.
    pub(crate) appends: u64,
    /// Sequence of its last record; that of the batch before if it has none.
    pub(crate) last_sequence: u64,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) moves: Vec<Move>,
    /// Bodies that durability `deferred` still keeps.
    pub(crate) deferred: Vec<Id>,
    /// What it was written from, when the lane has handed it back.
    pub(crate) load: Option<Load>,
    pub(crate) fate: Fate,
    /// When the lane got it.
    pub(crate) sent: Instant,
    /// Second attempt, in another segment.
    pub(crate) again: bool,
    /// Has a segment to itself.
    pub(crate) alone: bool,
}

impl Batch {
    pub(crate) fn new(token: u64, segment: u32, offset: u64) -> Self {
        Self {
            token,
            segment,
            offset,
            bytes: 0,
            records: 0,
            appends: 0,
            last_sequence: 0,
            waiters: Vec::new(),
            moves: Vec::new(),
            deferred: Vec::new(),
            load: None,
            fate: Fate::Writing,
            sent: Instant::now(),
            again: false,
            alone: false,
        }
    }

    /// A batch that is over, for another one: its lists keep their memory.
    pub(crate) fn again_as(self, token: u64, segment: u32, offset: u64) -> Self {
        let Self { mut waiters, mut moves, mut deferred, .. } = self;
        waiters.clear();
        moves.clear();
        deferred.clear();
        Self { waiters, moves, deferred, ..Self::new(token, segment, offset) }
    }

    /// Changes the batch's place: every record gets the checksum of the other segment. The moves are what the index has
    /// to learn. A seal stays behind, for it closed the other segment.
    pub(crate) fn relocate(&mut self, segment: u32, offset: u64, from: Seed, to: Seed) -> Vec<Move> {
        let mut moves = Vec::new();
        let Some(load) = &mut self.load else { return moves };
        let mut at = 0;
        while at < self.bytes {
            let Some(start) = load.in_buffer(at) else { break };
            let Some(header) = RecordHeader::decode(&load.buffer[start..], from) else { break };
            let end = at + in_memory(header.stride_bytes());
            let bytes = &mut load.buffer[start..start + RECORD_HEADER_BYTES];
            if header.kind == Kind::Seal {
                bytes.fill(0);
            } else {
                reseed(bytes, to);
                let place = |segment, base| place_of(segment, base, at, header.payload_bytes);
                let (from, to) = (place(self.segment, self.offset), place(segment, offset));
                moves.push(Move { kind: header.kind, id: header.id, from, to });
            }
            at = end;
        }
        (self.segment, self.offset) = (segment, offset);
        moves
    }
}

fn place_of(segment: u32, base: u64, at: usize, payload_bytes: u32) -> Place {
    // Segments end below 4 GiB.
    Place { segment, offset: u32::try_from(base + at as u64).unwrap_or(u32::MAX), payload_bytes }
}

/// Most pieces of one batch; the kernel takes 1,024 at once.
const GATHER_PIECES_MAX: usize = 1000;

/// A buffer being filled.
pub(crate) struct Page<'b> {
    buffer: &'b mut [u8],
    pieces: &'b mut Vec<Piece>,
    /// Parts of bodies from this length on are noted in the pieces instead of being copied; `None`: none is.
    gather_bytes_min: Option<usize>,
    /// Where in the buffer the stretch behind the last piece begins.
    piece_start: usize,
    seed: Seed,
    segment: u32,
    offset: u64,
    /// Bytes of the batch as it lies on the disk.
    used: usize,
    /// Bytes of the buffer that are filled.
    filled: usize,
    /// Sequence of the next record.
    pub(crate) sequence: u64,
    durable_sequence: Option<u64>,
    /// The last record: its header is written when it is known whether a transaction ends with it.
    open: Option<(usize, RecordHeader)>,
    position: u16,
    pub(crate) records: u32,
    pub(crate) skipped: u64,
}

impl<'b> Page<'b> {
    /// `batch` says where the buffer will be written.
    pub(crate) fn new(
        load: &'b mut Load,
        gather_bytes_min: Option<usize>,
        batch: &Batch,
        seed: Seed,
        sequence: u64,
        durable_sequence: Option<u64>,
    ) -> Self {
        let (segment, offset) = (batch.segment, batch.offset);
        let Load { buffer, pieces, .. } = load;
        let (piece_start, used, filled) = (0, 0, 0);
        let (open, position, records, skipped) = (None, 0, 0, 0);
        Self {
            buffer,
            pieces,
            gather_bytes_min,
            piece_start,
            seed,
            segment,
            offset,
            used,
            filled,
            sequence,
            durable_sequence,
            open,
            position,
            records,
            skipped,
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Writes one request, which must fit, and tells the index.
    pub(crate) fn put(&mut self, index: &mut Index, batch: &mut Batch, request: Request) {
        let Request { work, waiter, entered, .. } = request;
        let is_append = matches!(work, Work::Transaction { .. });
        let result = match work {
            Work::Transaction { transaction, body_crc } => {
                let result = self.put_transaction(index, &transaction, body_crc);
                batch.appends += u64::from(result.is_ok());
                result
            }
            Work::Deferred { transaction, body_crc } => {
                batch.deferred.extend(transaction.body.as_ref().map(|(id, _)| *id));
                self.put_transaction(index, &transaction, body_crc)
            }
            Work::Changes(changes) => self.put_changes(index, &changes),
            Work::Copies(records) => {
                self.put_copies(index, batch, &records);
                Ok(())
            }
        };
        match (result, waiter) {
            (Ok(()), Some(caller)) => {
                batch.waiters.push(Waiter { caller, entered: is_append.then_some(entered) });
            }
            // A caller that no longer waits needs no answer.
            (Err(error), Some(caller)) => drop(caller.send(Err(error))),
            (_, None) => {}
        }
    }

    fn put_transaction(
        &mut self,
        index: &mut Index,
        transaction: &Transaction,
        body_crc: u32,
    ) -> Result<(), AppendError> {
        index.check(transaction)?;
        if let Some((id, parts)) = &transaction.body {
            let place = self.record(Kind::Body, *id, Id::default(), body_crc, parts);
            index.add_body(*id, place);
        }
        for envelope in &transaction.envelopes {
            let place = self.small(Kind::Envelope, envelope.id, envelope.body, &envelope.bytes);
            index.add_envelope(envelope.id, envelope.body, place);
        }
        self.commit();
        Ok(())
    }

    fn put_changes(&mut self, index: &mut Index, changes: &[Change]) -> Result<(), AppendError> {
        let unknown = changes.iter().find_map(|change| match change {
            Change::Rewrite { body, .. } if !index.has_body(*body) => Some(*body),
            _ => None,
        });
        if let Some(body) = unknown {
            return Err(AppendError::UnknownBody(body));
        }
        changes.iter().for_each(|change| self.put_change(index, change));
        self.commit();
        Ok(())
    }

    fn put_change(&mut self, index: &mut Index, change: &Change) {
        let (Change::Mark { id, .. } | Change::Delete { id, .. } | Change::Rewrite { id, .. }) = change;
        if !index.is_alive(*id) {
            self.skipped += 1;
            return;
        }
        let sequence = self.sequence;
        match change {
            Change::Mark { id, bytes } => {
                let place = self.small(Kind::Mark, *id, Id::default(), bytes);
                index.mark(*id, place, sequence);
            }
            Change::Delete { id, bytes } => {
                let place = self.small(Kind::Delete, *id, Id::default(), bytes);
                index.delete(*id, place, sequence);
            }
            // A delete earlier in the same list may have taken the body with it.
            Change::Rewrite { body, .. } if !index.has_body(*body) => self.skipped += 1,
            Change::Rewrite { id, body, bytes } => {
                let place = self.small(Kind::Envelope, *id, *body, bytes);
                index.rewrite(*id, *body, place, sequence);
            }
        }
    }

    fn put_copies(&mut self, index: &mut Index, batch: &mut Batch, records: &[CopiedRecord]) {
        for CopiedRecord { header, place, payload } in records {
            if !index.is_current(header.kind, header.id, *place) {
                continue;
            }
            let parts = std::slice::from_ref(payload);
            let to = self.record(header.kind, header.id, header.body, header.payload_crc, parts);
            self.commit();
            index.begin_move(header.kind, header.id, to);
            batch.moves.push(Move { kind: header.kind, id: header.id, from: *place, to });
        }
    }

    /// Closes the segment.
    pub(crate) fn seal(&mut self) {
        self.flush(false);
        let header = RecordHeader {
            kind: Kind::Seal,
            commit: true,
            position: 0,
            payload_bytes: 0,
            payload_crc: crc32c(&[]),
            sequence: self.sequence,
            durable_sequence: self.durable_sequence,
            id: Id::default(),
            body: Id::default(),
        };
        let at = self.filled;
        self.buffer[at..at + RECORD_HEADER_BYTES].copy_from_slice(&header.encode(self.seed));
        self.used += RECORD_HEADER_BYTES;
        self.filled += RECORD_HEADER_BYTES;
    }

    /// Pads to whole blocks; returns the bytes to write.
    pub(crate) fn finish(mut self) -> usize {
        self.flush(true);
        let end = aligned_block(self.used);
        self.pad(end - self.used);
        self.used = end;
        let own = self.piece_start..self.filled;
        if !self.pieces.is_empty() {
            self.pieces.push(Piece::Own(own));
        }
        end
    }

    fn pad(&mut self, bytes: usize) {
        self.buffer[self.filled..self.filled + bytes].fill(0);
        self.filled += bytes;
    }

    /// The only copy of a body, or none.
    fn add(&mut self, part: &Bytes) {
        let lend = self.gather_bytes_min.is_some_and(|min| part.len() >= min);
        if lend && self.pieces.len() < GATHER_PIECES_MAX {
            self.pieces.push(Piece::Own(self.piece_start..self.filled));
            self.pieces.push(Piece::Lent(part.clone()));
            self.piece_start = self.filled;
        } else {
            let end = self.filled + part.len();
            self.buffer[self.filled..end].copy_from_slice(part);
            self.filled = end;
        }
    }

    fn small(&mut self, kind: Kind, id: Id, body: Id, bytes: &Bytes) -> Place {
        self.record(kind, id, body, crc32c(bytes), std::slice::from_ref(bytes))
    }

    fn record(&mut self, kind: Kind, id: Id, body: Id, payload_crc: u32, parts: &[Bytes]) -> Place {
        self.flush(false);
        let (at, header_at) = (self.used, self.filled);
        self.filled += RECORD_HEADER_BYTES;
        parts.iter().for_each(|part| self.add(part));
        // Transactions are limited to 1 GiB before they come here.
        let payload: usize = parts.iter().map(Bytes::len).sum();
        let payload_bytes = u32::try_from(payload).unwrap_or(u32::MAX);
        let stride = in_memory(record_stride_bytes(u64::from(payload_bytes)));
        self.pad(stride - RECORD_HEADER_BYTES - payload);
        self.used += stride;
        debug_assert!(self.used.is_multiple_of(RECORD_ALIGN_BYTES));
        let header = RecordHeader {
            kind,
            commit: false,
            position: self.position,
            payload_bytes,
            payload_crc,
            sequence: self.sequence,
            durable_sequence: self.durable_sequence,
            id,
            body,
        };
        self.open = Some((header_at, header));
        self.sequence += 1;
        self.position += 1;
        self.records += 1;
        place_of(self.segment, self.offset, at, payload_bytes)
    }

    /// The transaction ends with the record written last.
    fn commit(&mut self) {
        self.flush(true);
        self.position = 0;
    }

    fn flush(&mut self, commit: bool) {
        if let Some((at, mut header)) = self.open.take() {
            header.commit = commit;
            self.buffer[at..at + RECORD_HEADER_BYTES].copy_from_slice(&header.encode(self.seed));
        }
    }
}
