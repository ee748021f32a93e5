//! What comes back from the disk: acknowledging in order, and writing failed batches again elsewhere.
//! Owns the durable sequence and the last word to every caller. Nothing is acknowledged before everything in front of it
//! is. A batch that fails twice fails the spool, and everybody who waits is told.

use std::time::Instant;

use super::{Active, Writer};
use crate::batch::{Batch, Fate};
use crate::disk::Done;
use crate::error::AppendError;
use crate::format::{BLOCK_BYTES, RECORD_HEADER_BYTES};
use crate::index::SegmentState;
use crate::stats::{add, micros};
use crate::types::Committed;

impl Writer {
    /// The lane has answered for a batch.
    pub(super) fn land(&mut self, done: Done) {
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.token == done.token) else { return };
        self.shared.latencies().barrier_us.saturating_record(micros(batch.sent.elapsed()));
        batch.load = Some(done.load);
        batch.fate = match done.result {
            Ok(()) => Fate::Landed,
            Err(error) => {
                let (segment, offset) = (batch.segment, batch.offset);
                tracing::error!(segment, offset, %error, "a write failed; its segment is not used any more");
                Fate::Failed(error.to_string())
            }
        };
        if batch.fate != Fate::Landed {
            let segment = batch.segment;
            self.poison(segment);
        }
    }

    /// Only now may the segment be reclaimed: what landed early still waits for its turn, and with it the index does.
    fn leave(&self, segment: u32) {
        if let Some(segment) = self.shared.index().segment_mut(segment) {
            segment.in_flight -= 1;
        }
    }

    fn poison(&mut self, segment: u32) {
        if self.active.is_some_and(|active| active.number == segment) {
            self.active = None;
        }
        if let Some(segment) = self.shared.index().segment_mut(segment) {
            segment.poisoned = true;
        }
        self.close_segment(segment, SegmentState::Poisoned);
        add(&self.shared.counters.segments_poisoned, 1);
    }

    pub(super) fn has_failed_batch(&self) -> bool {
        self.batches.iter().any(|batch| matches!(batch.fate, Fate::Failed(_)))
    }

    /// Takes landed batches off the front, in order. Once something failed, nothing behind it is acknowledged before
    /// it has landed elsewhere.
    pub(super) fn settle_batches(&mut self) {
        while self.batches.front().is_some_and(|batch| batch.fate == Fate::Landed) {
            if let Some(mut batch) = self.batches.pop_front() {
                self.batch_is_durable(&mut batch);
                self.landed.push(batch);
            }
        }
        let writing = self.batches.iter().any(|batch| batch.fate == Fate::Writing);
        if self.has_failed_batch() && !writing {
            self.write_again();
        }
    }

    fn batch_is_durable(&mut self, batch: &mut Batch) {
        self.durable_sequence = self.durable_sequence.max(batch.last_sequence);
        self.leave(batch.segment);
        let mut index = self.shared.index();
        for moved in batch.moves.drain(..) {
            index.finish_move(&moved, batch.last_sequence);
            add(&self.shared.counters.compacted_bytes, u64::from(moved.to.payload_bytes));
        }
        index.note_empty(batch.segment);
        drop(index);
        self.measure(batch);
        batch.deferred.drain(..).for_each(|body| self.shared.deferred.is_written(body));
        let counters = &self.shared.counters;
        add(&counters.appends, batch.appends);
        add(&counters.records, u64::from(batch.records));
        if let Some(load) = batch.load.take() {
            self.recycle(load);
        }
    }

    fn measure(&self, batch: &Batch) {
        let now = Instant::now();
        let mut latencies = self.shared.latencies();
        for entered in batch.waiters.iter().filter_map(|waiter| waiter.entered) {
            latencies.append_us.saturating_record(micros(now.saturating_duration_since(entered)));
        }
        latencies.batch_records.saturating_record(u64::from(batch.records));
        latencies.batch_bytes.saturating_record(batch.bytes as u64);
    }

    /// Wakes everybody whose batch is durable, all in one go.
    pub(super) fn acknowledge(&mut self) {
        let committed = Committed { durability: self.shared.settings.durability };
        for mut batch in self.landed.drain(..) {
            for waiter in batch.waiters.drain(..) {
                // A caller that no longer waits needs no answer; its transaction stands.
                let _ = waiter.caller.send(Ok(committed));
            }
            if self.resting.len() <= self.shared.settings.batches_in_flight_max {
                self.resting.push(batch);
            }
        }
    }

    /// Every batch from the first failed one on has come back. Those on poisoned segments are written again from memory;
    /// whatever fails twice fails the spool.
    fn write_again(&mut self) {
        let mut waiting = std::mem::take(&mut self.batches);
        while let Some(batch) = waiting.pop_front() {
            if !self.is_on_poisoned(&batch) {
                self.batches.push_back(batch);
                continue;
            }
            if batch.alone {
                self.give_up_alone(batch);
                continue;
            }
            match self.place_elsewhere(&batch) {
                Ok(active) => self.rewrite(batch, active),
                Err(reason) => {
                    waiting.push_front(batch);
                    return self.fail(waiting, reason);
                }
            }
        }
    }

    fn is_on_poisoned(&self, batch: &Batch) -> bool {
        let index = self.shared.index();
        index.segment(batch.segment).is_some_and(|segment| segment.state == SegmentState::Poisoned)
    }

    /// A transaction with a segment of its own is not repeated: its caller is told, and the segment is removed.
    fn give_up_alone(&mut self, batch: Batch) {
        let Fate::Failed(reason) = &batch.fate else { return };
        let error = AppendError::Failed { reason: reason.clone() };
        self.leave(batch.segment);
        self.shared.index().forget_segment(batch.segment);
        for waiter in batch.waiters {
            // A caller that no longer waits needs no answer.
            let _ = waiter.caller.send(Err(error.clone()));
        }
    }

    fn place_elsewhere(&mut self, batch: &Batch) -> Result<Active, String> {
        let reason = match &batch.fate {
            Fate::Failed(reason) if batch.again => return Err(reason.clone()),
            Fate::Failed(reason) => reason,
            Fate::Landed | Fate::Writing => "a write before it failed",
        };
        self.room_elsewhere(batch.bytes as u64)
            .ok_or_else(|| format!("{reason}, and there is no other segment"))
    }

    fn room_elsewhere(&mut self, bytes: u64) -> Option<Active> {
        let segment_bytes = self.shared.settings.segment_bytes;
        let fits = |active: &Active| active.offset + bytes + RECORD_HEADER_BYTES as u64 <= segment_bytes;
        if !self.active.as_ref().is_some_and(fits) {
            self.leave_active();
            if !self.open_spare(false) {
                return None;
            }
        }
        // A batch that filled the rest of its segment to the last block fits only because its seal stays behind.
        self.active.filter(|active| active.offset + bytes <= segment_bytes)
    }

    fn rewrite(&mut self, mut batch: Batch, active: Active) {
        self.leave(batch.segment);
        let mut index = self.shared.index();
        let seeds = (index.segment(batch.segment), index.segment(active.number));
        let (Some(from), Some(to)) = (seeds.0.map(|s| s.seed), seeds.1.map(|s| s.seed)) else { return };
        let moves = batch.relocate(active.number, active.offset, from, to);
        for moved in &moves {
            index.relocate(moved, batch.last_sequence);
            batch.moves.iter_mut().filter(|copy| copy.to == moved.from).for_each(|copy| copy.to = moved.to);
        }
        drop(index);
        let offset = active.offset + batch.bytes as u64;
        self.active = Some(Active { offset, ..active });
        if offset + BLOCK_BYTES as u64 > self.shared.settings.segment_bytes {
            self.leave_active();
        }
        batch.again = true;
        if let Some(load) = batch.load.take() {
            self.send(batch, load);
        }
    }

    fn fail(&mut self, batches: impl IntoIterator<Item = Batch>, reason: String) {
        self.shared.condition.fail(reason);
        let Some(error) = self.shared.failed() else { return };
        let written = std::mem::take(&mut self.batches);
        for waiter in written.into_iter().chain(batches).flat_map(|batch| batch.waiters) {
            // A caller that no longer waits needs no answer.
            let _ = waiter.caller.send(Err(error.clone()));
        }
    }
}
