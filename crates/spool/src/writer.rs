//! The writer: takes what has gathered, fills a batch, writes it, and wakes everybody who waited for it.
//! Owns the lane, the batch buffers, the active segment and every sequence number; runs as the thread "spool-writer", or
//! turn by turn under a test. Never waits for a timer: a batch goes out whenever a slot is free. A failed write poisons
//! its segment and is repeated once elsewhere from memory; if that fails the spool refuses everything.

pub(crate) use segments::salt;

mod compaction;
mod launch;
mod segments;
mod settle;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::batch::Batch;
use crate::disk::{AlignedBuffer, Done, Lane, Load};
use crate::housekeeping::{Housekeeper, Job};
use crate::options::SEGMENTS_RESERVED;
use crate::queue::Request;
use crate::shared::Shared;
use crate::types::Durability;

/// Where batches go.
#[derive(Clone, Copy, Debug)]
struct Active {
    number: u32,
    /// Offset of the next batch.
    offset: u64,
}

/// A transaction that needs a segment of its own, and the segment once it is made.
struct Parked {
    request: Request,
    /// Housekeeping was asked for its segment.
    asked: bool,
    segment: Option<u32>,
}

/// A segment that is being compacted.
struct Compaction {
    segment: u32,
    /// Where the next step begins; `None` when the last step is in the backlog.
    next: Option<u64>,
    /// A step is with housekeeping.
    reading: bool,
}

/// Who carries out jobs: the thread, or nobody until a test says so.
pub(crate) enum Hands {
    Thread(Housekeeper),
    #[cfg(test)]
    Idle,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    lane: Box<dyn Lane>,
    hands: Hands,
    /// Memory to write from, used again and again.
    loads: Vec<Load>,
    /// Batches that are over, whose lists are used again.
    resting: Vec<Batch>,
    backlog: VecDeque<Request>,
    parked: VecDeque<Parked>,
    /// In the order of their sequences; the front is acknowledged first.
    batches: VecDeque<Batch>,
    /// Landed and waiting to be acknowledged.
    landed: Vec<Batch>,
    done: Vec<Done>,
    active: Option<Active>,
    spares: VecDeque<u32>,
    /// Numbers promised to segments that housekeeping makes.
    making: Vec<u32>,
    /// Segments that housekeeping wipes, each of which will be a spare.
    wiping: usize,
    /// Segments are being made until there are as many as wanted.
    refilling: bool,
    jobs: VecDeque<Job>,
    compaction: Option<Compaction>,
    /// Somebody waits for everything up to this generation to be compacted.
    thorough: Option<u64>,
    consider_compaction: bool,
    /// Segments in use when compaction last began. If there are not fewer now, it has gained nothing and rests until
    /// something else is written or time has passed.
    compacted_from: usize,
    /// Something other than compaction was written since compaction last began.
    written_since: bool,
    /// The last attempt to make a segment failed; the next waits for a tick.
    make_failed: bool,
    next_sequence: u64,
    durable_sequence: u64,
    next_generation: u64,
    next_token: u64,
}

/// What recovery hands to the writer.
pub(crate) struct Start {
    pub(crate) next_sequence: u64,
    pub(crate) next_generation: u64,
    pub(crate) spares: VecDeque<u32>,
}

impl Writer {
    /// `buffers`: one for each batch that may be in flight.
    pub(crate) fn new(
        shared: Arc<Shared>,
        lane: Box<dyn Lane>,
        hands: Hands,
        buffers: Vec<AlignedBuffer>,
        start: Start,
    ) -> Self {
        Self {
            shared,
            lane,
            hands,
            loads: buffers.into_iter().map(|buffer| Load { buffer, pieces: Vec::new(), bytes: 0 }).collect(),
            resting: Vec::new(),
            backlog: VecDeque::new(),
            parked: VecDeque::new(),
            batches: VecDeque::new(),
            landed: Vec::new(),
            done: Vec::new(),
            active: None,
            spares: start.spares,
            making: Vec::new(),
            wiping: 0,
            refilling: false,
            jobs: VecDeque::new(),
            compaction: None,
            thorough: None,
            consider_compaction: false,
            compacted_from: usize::MAX,
            written_since: false,
            make_failed: false,
            next_sequence: start.next_sequence,
            durable_sequence: start.next_sequence - 1,
            next_generation: start.next_generation,
            next_token: 0,
        }
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let _ending = Ending(Arc::clone(&self.shared));
        while self.turn(true) {}
        self.stop();
    }

    /// One round; false when there is nothing left to do and never will be.
    pub(crate) fn turn(&mut self, block: bool) -> bool {
        self.shared.queue.take(&mut self.backlog);
        self.take_outcomes();
        self.settle_batches();
        self.reclaim();
        while self.launch() {}
        // Acknowledged only now, so that the disk works while callers are woken.
        self.acknowledge();
        self.keep_spares();
        self.keep_compacting();
        self.send_jobs();
        if self.is_idle() && self.shared.queue.is_closed() && self.shared.queue.is_empty() {
            return false;
        }
        self.sleep(block);
        true
    }

    fn is_idle(&self) -> bool {
        self.backlog.is_empty() && self.parked.is_empty() && self.batches.is_empty() && self.landed.is_empty()
    }

    fn is_failed(&self) -> bool {
        self.shared.condition.failure().is_some()
    }

    /// Waits in the lane for a batch to land, and for new work if there is a slot for it.
    fn sleep(&mut self, block: bool) {
        let mut block = block;
        if block && !self.is_busy() {
            self.shared.waker.about_to_sleep();
            // Whoever came before the flag was up did not ring.
            let missed = !self.shared.queue.is_empty()
                || !self.shared.outcomes().is_empty()
                || (self.thorough.is_none() && self.shared.wishes().is_some());
            block = !missed && !self.is_over();
        }
        let mut done = std::mem::take(&mut self.done);
        self.lane.collect(block, &mut done);
        self.shared.waker.awake();
        for landed in done.drain(..) {
            self.land(landed);
        }
        self.done = done;
    }

    fn is_over(&self) -> bool {
        self.is_idle() && self.shared.queue.is_closed()
    }

    /// Closes the active segment in order, so that the next start finds a complete log.
    fn stop(mut self) {
        if !self.is_failed() {
            self.close_active();
        }
        while !self.batches.is_empty() && !self.is_failed() {
            self.sleep(true);
            self.take_outcomes();
            self.settle_batches();
        }
        self.acknowledge();
        match self.hands {
            Hands::Thread(housekeeper) => housekeeper.stop(),
            #[cfg(test)]
            Hands::Idle => {}
        }
    }

    fn take_outcomes(&mut self) {
        let outcomes = std::mem::take(&mut *self.shared.outcomes());
        for outcome in outcomes {
            self.take_outcome(outcome);
        }
    }

    fn send_jobs(&mut self) {
        match &self.hands {
            Hands::Thread(housekeeper) => {
                while let Some(job) = self.jobs.pop_front() {
                    if let Err(job) = housekeeper.send(job) {
                        self.jobs.push_front(job);
                        return;
                    }
                }
            }
            #[cfg(test)]
            Hands::Idle => {}
        }
    }

    fn syncs(&self) -> bool {
        self.shared.settings.durability == Durability::Commit
    }

    /// Spares that intake may not touch.
    fn reserve(&self) -> usize {
        SEGMENTS_RESERVED.min(self.shared.settings.segments_spare - 1)
    }

    /// Performs one waiting job, for tests that decide when.
    #[cfg(test)]
    pub(crate) fn work_off(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else { return false };
        let outcome = crate::housekeeping::perform(&self.shared, job);
        self.shared.report(outcome);
        true
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// Nobody waits for a writer that is no more. Built with `panic = "abort"` the process is gone anyway.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.condition.fail("the writer met a bug and ended".to_owned());
            self.0.queue.close();
            self.0.queue.take(&mut VecDeque::new());
            self.0.wishes().take();
        }
    }
}

/// One buffer for each batch that may be in flight.
pub(crate) fn batch_buffers(settings: &crate::options::Settings) -> io::Result<Vec<AlignedBuffer>> {
    (0..settings.batches_in_flight_max).map(|_| AlignedBuffer::new(settings.batch_bytes_max)).collect()
}
