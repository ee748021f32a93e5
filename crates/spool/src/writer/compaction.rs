//! Compaction: mostly dead segments are emptied by writing what lives in them again.
//! Owns the choice of segments and the order of steps. Reading is housekeeping's and keeps to a budget; writing is an
//! ordinary batch that waits its turn. What cannot be read stays where it is, counted and logged.

use std::sync::Arc;

use super::{Compaction, Writer};
use crate::housekeeping::Job;
use crate::index::SegmentState;
use crate::queue::{CopiedRecord, Request, Work};
use crate::stats::add;

impl Writer {
    /// Begins with another segment, or goes on with the one begun.
    pub(super) fn keep_compacting(&mut self) {
        self.take_wishes();
        if self.compaction.is_none() {
            self.compaction = match self.thorough {
                Some(until_generation) => self.choose_thoroughly(until_generation),
                None if std::mem::take(&mut self.consider_compaction) => self.choose_segment(),
                None => None,
            };
        }
        if self.thorough.is_some() && self.compaction.is_none() {
            self.end_thorough();
        }
        let Some(Compaction { segment, next: Some(from), reading }) = &mut self.compaction else { return };
        if *reading {
            return;
        }
        let index = self.shared.index();
        let Some(found) = index.segment(*segment).filter(|found| found.state == SegmentState::Closed) else {
            // It was emptied before its turn came.
            drop(index);
            self.compaction = None;
            return;
        };
        *reading = true;
        let (header, file, seed) = (found.header, Arc::clone(&found.file), found.seed);
        self.jobs.push_back(Job::Copy { header, file, seed, from: *from });
    }

    fn choose_segment(&mut self) -> Option<Compaction> {
        let segment_bytes = self.shared.settings.segment_bytes;
        let shared = Arc::clone(&self.shared);
        let index = shared.index();
        let (in_use, needed) = index.occupancy(segment_bytes);
        let too_many =
            in_use > 2 * needed + self.shared.settings.compact_slack_segments && !self.spares.is_empty();
        let in_vain = in_use >= self.compacted_from && !self.written_since;
        if !too_many || in_vain {
            return None;
        }
        let segment = index.oldest_mostly_dead(segment_bytes)?;
        drop(index);
        (self.compacted_from, self.written_since) = (in_use, false);
        Some(self.begin(segment))
    }

    fn begin(&self, segment: u32) -> Compaction {
        add(&self.shared.counters.compactions, 1);
        let from = crate::format::BLOCK_BYTES as u64;
        Compaction { segment, next: Some(from), reading: false }
    }

    // All of it at once, because somebody asked for it.

    /// What is written from now on is not looked at, so it comes to an end.
    fn take_wishes(&mut self) {
        if self.thorough.is_none() && self.shared.wishes().is_some() {
            self.thorough = Some(self.next_generation);
            self.close_active();
        }
    }

    fn choose_thoroughly(&mut self, until_generation: u64) -> Option<Compaction> {
        if self.spares.is_empty() {
            return None;
        }
        let segment_bytes = self.shared.settings.segment_bytes;
        let segment = self.shared.index().oldest_worth_copying(segment_bytes, until_generation)?;
        Some(self.begin(segment))
    }

    /// Answers when the last copy is durable and the last emptied segment is gone.
    fn end_thorough(&mut self) {
        let error = self.shared.failed().or_else(|| {
            let stuck = self.spares.is_empty() && self.make_failed;
            stuck.then(|| self.shared.full())
        });
        let busy = !self.is_idle() || self.wiping > 0 || !self.making.is_empty() || self.spares.is_empty();
        if error.is_none() && (busy || self.remove_surplus()) {
            return;
        }
        self.thorough = None;
        if let Some(wish) = self.shared.wishes().take() {
            // Who no longer waits needs no answer.
            let _ = wish.send(error.map_or(Ok(()), Err));
        }
    }

    /// Spares beyond those that are kept ready. False when there are none.
    fn remove_surplus(&mut self) -> bool {
        let surplus = self.spares.len().saturating_sub(self.shared.settings.segments_spare);
        for number in self.spares.drain(..surplus) {
            if let Some(segment) = self.shared.index().segment_mut(number) {
                segment.state = SegmentState::Leaving;
            }
            self.wiping += 1;
            self.jobs.push_back(Job::Remove { number, sync_first: Vec::new() });
        }
        surplus > 0
    }

    pub(super) fn copied(
        &mut self,
        number: u32,
        records: Vec<CopiedRecord>,
        next: Option<u64>,
        damaged: u64,
    ) {
        if damaged > 0 {
            tracing::error!(segment = number, damaged, "compaction met records that cannot be read");
            add(&self.shared.counters.damaged, damaged);
        }
        if !records.is_empty() {
            self.backlog.push_back(Request::new(Work::Copies(records), None));
        }
        let Some(compaction) = &mut self.compaction else { return };
        (compaction.next, compaction.reading) = (next, false);
        if next.is_none() {
            self.compaction = None;
            self.consider_compaction = true;
            // Whatever is alive in it now could not be read or is in the backlog; it is not chosen twice.
            if let Some(segment) = self.shared.index().segment_mut(number) {
                segment.compacted = true;
            }
        }
    }
}
