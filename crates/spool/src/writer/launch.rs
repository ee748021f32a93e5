//! Filling and sending batches: which requests go together, and into which segment.
//! Owns the limits of a batch. Refuses intake when only the reserve of segments is left; everything else waits for
//! housekeeping to make one. A batch for which there is no memory is refused to its caller.

use std::sync::Arc;
use std::time::Instant;

use super::{Active, Parked, Writer};
use crate::batch::{Batch, Fate, Page};
use crate::disk::{AlignedBuffer, Load, Write};
use crate::error::AppendError;
use crate::format::{BLOCK_BYTES, RECORD_HEADER_BYTES, aligned_block, in_memory};
use crate::index::SegmentState;
use crate::queue::Request;
use crate::stats::add;

/// Bytes on their way beyond which a third batch only makes each of them smaller.
const IN_FLIGHT_BYTES_ENOUGH: usize = 1 << 20;

/// Whether there is a segment for the request at the front.
enum Room {
    Yes,
    /// A batch that closes the active segment went out; ask again.
    Closed,
    /// Housekeeping is making a segment.
    Wait,
    /// Only deletes and marks may have what is left.
    Refused,
}

impl Writer {
    /// Sends at most one batch, or refuses one request; false when nothing more can be done now.
    pub(super) fn launch(&mut self) -> bool {
        if self.is_failed() {
            return self.refuse_everything();
        }
        if self.is_busy() || self.has_failed_batch() {
            return false;
        }
        if self.launch_parked() {
            return true;
        }
        let Some(front) = self.backlog.front() else { return false };
        let (bytes, is_intake) = (front.bytes, front.is_intake());
        if bytes > self.shared.settings.segment_room_bytes() {
            return self.park();
        }
        match self.make_room(bytes, is_intake) {
            Room::Yes => self.fill_batch(),
            Room::Closed => {}
            Room::Wait => return false,
            Room::Refused => self.refuse_front(),
        }
        true
    }

    /// Another batch would gain nothing now: as many as may be are on their way, or two that keep the disk busy. What
    /// gathers meanwhile makes the next one larger.
    pub(super) fn is_busy(&self) -> bool {
        let bytes: usize = self.batches.iter().map(|batch| batch.bytes).sum();
        let enough = self.batches.len() >= 2 && bytes >= IN_FLIGHT_BYTES_ENOUGH;
        enough || self.batches.len() >= self.shared.settings.batches_in_flight_max
    }

    fn refuse_everything(&mut self) -> bool {
        let Some(error) = self.shared.failed() else { return false };
        let parked = self.parked.drain(..).map(|parked| parked.request);
        let refused: Vec<Request> = self.backlog.drain(..).chain(parked).collect();
        for request in refused {
            self.give_back(&request);
            request.refuse(error.clone());
        }
        false
    }

    fn refuse_front(&mut self) {
        if let Some(request) = self.backlog.pop_front() {
            self.give_back(&request);
            request.refuse(self.shared.full());
        }
    }

    pub(super) fn give_back(&self, request: &Request) {
        // What is neither came without a permit.
        self.shared.queue.give_back(usize::from(request.is_intake()), usize::from(request.is_changes()));
    }

    fn make_room(&mut self, bytes: u64, is_intake: bool) -> Room {
        if let Some(active) = self.active {
            if active.offset + bytes + RECORD_HEADER_BYTES as u64 <= self.shared.settings.segment_bytes {
                return Room::Yes;
            }
            self.close_active();
            return Room::Closed;
        }
        if self.open_spare(is_intake) {
            return Room::Yes;
        }
        // Without a spare everybody waits for housekeeping; intake does not wait for a disk that is full.
        let no_more = self.make_failed || self.shared.condition.is_at_floor();
        if is_intake && no_more { Room::Refused } else { Room::Wait }
    }

    /// Makes a spare the active segment. Intake leaves the reserve alone.
    pub(super) fn open_spare(&mut self, is_intake: bool) -> bool {
        if is_intake && self.spares.len() <= self.reserve() {
            return false;
        }
        let Some(number) = self.spares.pop_front() else { return false };
        if let Some(segment) = self.shared.index().segment_mut(number) {
            segment.state = SegmentState::Active;
        }
        self.active = Some(Active { number, offset: BLOCK_BYTES as u64 });
        true
    }

    /// Sends a batch that holds nothing but the seal.
    pub(super) fn close_active(&mut self) {
        let Some(active) = self.active else { return };
        let Some(load) = self.load_for(RECORD_HEADER_BYTES) else { return };
        let batch = self.new_batch(active.number, active.offset);
        self.seal_and_send(batch, load);
    }

    fn seal_and_send(&mut self, mut batch: Batch, mut load: Load) {
        let durable = self.syncs().then_some(self.durable_sequence);
        let shared = Arc::clone(&self.shared);
        let Some(seed) = shared.index().segment(batch.segment).map(|segment| segment.seed) else { return };
        let mut page = Page::new(&mut load, None, &batch, seed, self.next_sequence, durable);
        page.seal();
        batch.bytes = page.finish();
        batch.last_sequence = self.next_sequence - 1;
        self.leave_active();
        self.send(batch, load);
    }

    /// The active segment takes no more batches.
    pub(super) fn leave_active(&mut self) {
        if let Some(active) = self.active.take() {
            self.close_segment(active.number, SegmentState::Closed);
        }
    }

    pub(super) fn close_segment(&mut self, number: u32, state: SegmentState) {
        let mut index = self.shared.index();
        if let Some(segment) = index.segment_mut(number) {
            segment.state = state;
            segment.file.retire();
            self.consider_compaction = true;
        }
        index.note_empty(number);
    }

    fn new_batch(&mut self, segment: u32, offset: u64) -> Batch {
        self.next_token += 1;
        match self.resting.pop() {
            Some(batch) => batch.again_as(self.next_token, segment, offset),
            None => Batch::new(self.next_token, segment, offset),
        }
    }

    /// One of the reused buffers, or one made for a transaction that is larger than they are.
    fn load_for(&mut self, bytes: usize) -> Option<Load> {
        let new =
            |bytes| Some(Load { buffer: AlignedBuffer::new(bytes).ok()?, pieces: Vec::new(), bytes: 0 });
        if bytes <= self.shared.settings.batch_bytes_max {
            return self.loads.pop().or_else(|| new(bytes));
        }
        let load = new(bytes);
        if load.is_none() {
            tracing::error!(bytes, "no memory for a batch");
        }
        load
    }

    fn fill_batch(&mut self) {
        let (Some(active), Some(front)) = (self.active, self.backlog.front()) else { return };
        let Some(mut load) = self.load_for(in_memory(front.bytes) + RECORD_HEADER_BYTES) else {
            return self.refuse_front();
        };
        let mut batch = self.new_batch(active.number, active.offset);
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let room = in_memory(settings.segment_bytes - active.offset);
        // The seal has to fit behind whatever is put in.
        let limit = load.buffer.len().min(room) - RECORD_HEADER_BYTES;
        let mut index = shared.index();
        let Some(seed) = index.segment(active.number).map(|segment| segment.seed) else { return };
        let durable = self.syncs().then_some(self.durable_sequence);
        let gather = self.lane.gather_bytes_min();
        let mut page = Page::new(&mut load, gather, &batch, seed, self.next_sequence, durable);
        let (mut intake, mut changes) = (0, 0);
        while let Some(front) = self.backlog.front() {
            let fits = page.used() as u64 + front.bytes <= limit as u64;
            if !fits || page.records as usize >= settings.batch_records_max {
                break;
            }
            let Some(request) = self.backlog.pop_front() else { break };
            intake += usize::from(request.is_intake());
            changes += usize::from(request.is_changes());
            page.put(&mut index, &mut batch, request);
        }
        drop(index);
        self.next_sequence = page.sequence;
        batch.records = page.records;
        batch.last_sequence = page.sequence - 1;
        add(&shared.counters.changes_skipped, page.skipped);
        shared.queue.give_back(intake, changes);
        self.written_since |= intake + changes > 0;
        if page.records == 0 {
            return self.nothing_to_write(batch, load);
        }
        let closes = room - aligned_block(page.used()) < BLOCK_BYTES;
        if closes {
            page.seal();
        }
        batch.bytes = page.finish();
        self.advance_active(batch.bytes as u64, closes);
        self.send(batch, load);
    }

    fn advance_active(&mut self, bytes: u64, closes: bool) {
        if let Some(active) = &mut self.active {
            active.offset += bytes;
        }
        if closes {
            self.leave_active();
        }
    }

    /// All requests were refused or had nothing alive to change. Those that wait do so for what went before them.
    fn nothing_to_write(&mut self, mut batch: Batch, load: Load) {
        self.recycle(load);
        match self.batches.back_mut() {
            Some(last) => last.waiters.append(&mut batch.waiters),
            None => self.landed.push(batch),
        }
    }

    pub(super) fn send(&mut self, mut batch: Batch, mut load: Load) {
        batch.fate = Fate::Writing;
        batch.sent = Instant::now();
        let sync = self.syncs();
        let file = self.shared.index().segment_mut(batch.segment).map(|segment| {
            segment.in_flight += 1;
            segment.written_bytes = segment.written_bytes.max(batch.offset + batch.bytes as u64);
            segment.unsynced |= !sync;
            Arc::clone(&segment.file)
        });
        let Some(file) = file else { return };
        let counters = &self.shared.counters;
        add(&counters.batches, 1);
        add(&counters.barriers, u64::from(sync));
        add(&counters.bytes_written, batch.bytes as u64);
        let (token, offset) = (batch.token, batch.offset);
        load.bytes = batch.bytes;
        self.batches.push_back(batch);
        self.lane.submit(Write { token, file, offset, load, sync });
    }

    pub(super) fn recycle(&mut self, mut load: Load) {
        let settings = &self.shared.settings;
        // What was lent goes back in any case.
        load.pieces.clear();
        let ours = load.buffer.len() == settings.batch_bytes_max;
        if ours && self.loads.len() < settings.batches_in_flight_max {
            self.loads.push(load);
        }
    }

    // Transactions larger than a segment.

    fn park(&mut self) -> bool {
        if let Some(request) = self.backlog.pop_front() {
            self.parked.push_back(Parked { request, asked: false, segment: None });
            self.make_parked_segment();
        }
        true
    }

    /// Asks for a segment for the first transaction that needs its own; one at a time.
    pub(super) fn make_parked_segment(&mut self) {
        let Some(parked) = self.parked.front_mut().filter(|parked| !parked.asked) else { return };
        parked.asked = true;
        let bytes = BLOCK_BYTES + aligned_block(in_memory(parked.request.bytes) + RECORD_HEADER_BYTES);
        self.make_segment(bytes as u64);
    }

    fn launch_parked(&mut self) -> bool {
        if self.parked.front().is_none_or(|parked| parked.segment.is_none()) {
            return false;
        }
        if self.active.is_some() {
            // Sequences within a segment have no holes, so whatever follows goes to another segment.
            self.close_active();
            return true;
        }
        let Some(Parked { request, segment: Some(number), .. }) = self.parked.pop_front() else {
            return false;
        };
        self.give_back(&request);
        let Some(mut load) = self.load_for(in_memory(request.bytes) + RECORD_HEADER_BYTES) else {
            request.refuse(AppendError::Failed { reason: "no memory for the batch".to_owned() });
            return true;
        };
        let mut batch = self.new_batch(number, BLOCK_BYTES as u64);
        batch.alone = true;
        let shared = Arc::clone(&self.shared);
        let mut index = shared.index();
        let Some(seed) = index.segment(number).map(|segment| segment.seed) else { return true };
        let durable = self.syncs().then_some(self.durable_sequence);
        let gather = self.lane.gather_bytes_min();
        let mut page = Page::new(&mut load, gather, &batch, seed, self.next_sequence, durable);
        page.put(&mut index, &mut batch, request);
        drop(index);
        self.next_sequence = page.sequence;
        batch.records = page.records;
        batch.last_sequence = page.sequence - 1;
        page.seal();
        batch.bytes = page.finish();
        self.close_segment(number, SegmentState::Closed);
        self.send(batch, load);
        // The next one asks for its segment when this has got its own.
        self.make_parked_segment();
        true
    }
}
