//! The life of segments: spares are made ahead, emptied ones wiped or removed, mostly dead ones emptied by copying.
//! Owns generations and numbers. Decides only; housekeeping does the work, so that no append waits for it. What cannot
//! be made is tried again after a tick; what cannot be wiped or removed stays, and so does what guards against it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::Writer;
use crate::disk::File;
use crate::format::SegmentHeader;
use crate::housekeeping::{Job, Outcome};
use crate::index::{Segment, SegmentState};
use crate::stats::add;

impl Writer {
    pub(super) fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Prepared { header, file } => self.prepared(header, file),
            Outcome::Gone { number, fresh } => self.gone(number, fresh),
            Outcome::Stayed { number, error } => {
                // Its contents are dead but can still be read, so what guards against them stays, too.
                tracing::error!(segment = number, %error, "an emptied segment can neither be wiped nor removed");
                self.wiping = self.wiping.saturating_sub(1);
            }
            Outcome::Copied { number, records, next, damaged } => self.copied(number, records, next, damaged),
            Outcome::Tick => {
                self.make_failed = false;
                self.consider_compaction = true;
                self.compacted_from = usize::MAX;
            }
        }
        let starved = self.make_failed && self.spares.len() <= self.reserve();
        self.shared.condition.set_starved(starved);
    }

    fn prepared(&mut self, header: SegmentHeader, file: std::io::Result<Arc<dyn File>>) {
        self.making.retain(|number| *number != header.number);
        let ordinary = header.segment_bytes == self.shared.settings.segment_bytes;
        match file {
            Ok(file) => {
                add(&self.shared.counters.segments_made, 1);
                let segment = Segment::new(header, self.shared.settings.rules, file, SegmentState::Spare);
                self.shared.index().put_segment(segment);
                match self.parked.front_mut() {
                    Some(parked) if !ordinary => parked.segment = Some(header.number),
                    _ => self.spares.push_back(header.number),
                }
            }
            Err(error) => {
                tracing::error!(segment = header.number, %error, "a segment cannot be made");
                self.shared.look_at_space();
                self.make_failed = true;
                if !ordinary && let Some(parked) = self.parked.pop_front() {
                    self.give_back(&parked.request);
                    parked.request.refuse(self.shared.full());
                    self.make_parked_segment();
                }
            }
        }
    }

    fn gone(&mut self, number: u32, fresh: Option<(SegmentHeader, Arc<dyn File>)>) {
        self.wiping = self.wiping.saturating_sub(1);
        let mut index = self.shared.index();
        index.segment_gone(number);
        if let Some((header, file)) = fresh {
            index.put_segment(Segment::new(header, self.shared.settings.rules, file, SegmentState::Spare));
            self.spares.push_back(number);
            add(&self.shared.counters.segments_recycled, 1);
        }
    }

    /// Hands emptied segments to housekeeping.
    pub(super) fn reclaim(&mut self) {
        let mut numbers = Vec::new();
        let shared = Arc::clone(&self.shared);
        let mut index = shared.index();
        index.take_reclaimable(self.durable_sequence, &mut numbers);
        for number in numbers {
            let sync_first = index.take_unsynced();
            let Some(segment) = index.segment_mut(number) else { continue };
            let header = self.next_header(number, segment.header.segment_bytes);
            let spares = self.spares.len() + self.wiping;
            let ordinary = header.segment_bytes == shared.settings.segment_bytes;
            self.wiping += 1;
            if segment.poisoned || !ordinary || spares >= shared.settings.spares_max() {
                self.jobs.push_back(Job::Remove { number, sync_first });
            } else {
                self.jobs.push_back(Job::Wipe { header, file: Arc::clone(&segment.file), sync_first });
            }
        }
    }

    /// Generations never repeat, and the salt cannot be guessed.
    pub(crate) fn next_header(&mut self, number: u32, segment_bytes: u64) -> SegmentHeader {
        let generation = self.next_generation;
        self.next_generation += 1;
        SegmentHeader { number, generation, salt: salt(generation), segment_bytes }
    }

    /// Asks for segments when few are left, until there are as many as wanted. Making one competes with appends for the
    /// disk, so as long as emptied segments come back nothing is made.
    pub(super) fn keep_spares(&mut self) {
        let settings = &self.shared.settings;
        let (wanted, reserve) = (settings.segments_spare, self.reserve());
        let (few, wanted) = match self.shared.condition.is_at_floor() {
            true => (reserve, reserve),
            false => ((reserve + 1).max(wanted / 2), wanted),
        };
        let segment_bytes = settings.segment_bytes;
        let ready = self.spares.len() + self.wiping + self.making.len();
        self.refilling = ready < few || (self.refilling && ready < wanted);
        if self.refilling && self.making.is_empty() && !self.make_failed {
            self.make_segment(segment_bytes);
        }
    }

    pub(super) fn make_segment(&mut self, segment_bytes: u64) {
        let number = self.shared.index().free_number(&self.making);
        let header = self.next_header(number, segment_bytes);
        self.making.push(number);
        self.jobs.push_back(Job::Prepare { header });
    }
}

/// Random enough that nobody outside can compute a record's checksum.
pub(crate) fn salt(generation: u64) -> u64 {
    RandomState::new().hash_one(generation)
}
