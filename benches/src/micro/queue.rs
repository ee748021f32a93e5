//! The life of a message in the queues: put on the wheel, due, claimed from its scheduled queue, in its site's ready queue, taken
//! by a dispatcher.
//!
//! It owns ten thousand messages that wait for up to an hour and are put back when they were taken, so that the wheel is always as
//! full. Time is a number that is moved to when the next message is due. Nothing is ever refused: a ready queue holds one message here.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use kumod::clock::UnixMs;
use kumod::envelope::{Envelope, IdSource, Mark, Meta, NodeId};
use kumod::ports::{Claimed, Entry, Lease};
use kumod::queue::{Ready, Schedule, Ticket, cost_of};

use super::measure::by_this_thread;
use super::{Operation, Spent};
use crate::error::Result;

/// Messages on the wheel.
const WAITING: u64 = 10_000;
/// Sites, each with a ready queue.
const SITES: usize = 100;
/// The longest wait in milliseconds, as of a message that is tried again.
const WAIT_MS_MAX: u64 = 3_600_000;
const READY_MAX: usize = 1024;
const CONNECTIONS_MAX: usize = 32;

/// A message on the wheel, as the store keeps it there.
struct Waiting {
    site: usize,
    envelope: Arc<Envelope>,
    mark: Mark,
}

/// The queues, always equally full.
pub struct Queues {
    schedule: Schedule<Waiting>,
    ready: Vec<Ready<Entry, ()>>,
    due: Vec<Waiting>,
    now: UnixMs,
    /// Of a generator whose numbers are the same in every run.
    chance: u64,
}

impl Default for Queues {
    fn default() -> Self {
        let now = UnixMs(1_700_000_000_000);
        let ready = (0..SITES).map(|_| Ready::new(READY_MAX, CONNECTIONS_MAX)).collect();
        let mut queues = Self { schedule: Schedule::new(now), ready, due: Vec::new(), now, chance: 1 };
        let ids = IdSource::new(NodeId(1), 0);
        for number in 0..WAITING {
            let site = usize::try_from(number).unwrap_or(0) % SITES;
            let waiting = Waiting { site, envelope: envelope(&ids, site), mark: Mark::default() };
            queues.enqueue(waiting);
        }
        queues
    }
}

impl Queues {
    /// Goes on until so many messages were taken; perhaps a few more, where several are due at once. Returns how many.
    pub fn cycle(&mut self, messages: u64) -> u64 {
        let mut taken = 0;
        while taken < messages {
            // There is always a message on the wheel.
            self.now = self.schedule.next_due().unwrap_or(self.now);
            self.schedule.advance(self.now);
            while let Some(queue) = self.schedule.next_stirred() {
                let due = &mut self.due;
                self.schedule.claim(&queue, usize::MAX, |waiting| due.push(waiting));
            }
            while let Some(waiting) = self.due.pop() {
                taken += 1;
                let back = self.through_ready_queue(waiting);
                self.enqueue(back);
            }
        }
        taken
    }

    fn through_ready_queue(&mut self, waiting: Waiting) -> Waiting {
        let Waiting { site, envelope, mark } = waiting;
        let cost = cost_of(envelope.message_bytes());
        let entry = Entry { claimed: Claimed { envelope, mark, lease: Lease::ENDLESS }, body: None };
        let ready = &mut self.ready[site];
        let entry = match ready.push(Ticket { flow: site as u64, priority: 1, cost, entry }) {
            Ok(pushed) => {
                black_box(pushed);
                ready.pop().map(|(entry, _)| entry)
            }
            Err(refused) => Some(refused),
        };
        // What was pushed into an empty queue is what comes out of it.
        let claimed = entry.expect("the message is in the queue").claimed;
        Waiting { site, envelope: claimed.envelope, mark: claimed.mark }
    }

    fn enqueue(&mut self, waiting: Waiting) {
        // The multiplier and the addend of Knuth's MMIX; the upper half is the random one.
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait_ms = 1 + (self.chance >> 32) % WAIT_MS_MAX;
        let envelope = Arc::clone(&waiting.envelope);
        let due = UnixMs(self.now.0 + wait_ms);
        // Ten thousand messages have numbers.
        let _ = self.schedule.insert(&envelope.queue, due, waiting);
    }
}

impl Operation for Queues {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        let mut taken = 0;
        let spent = by_this_thread(operations, || taken = self.cycle(operations));
        Ok(Spent { operations: taken, ..spent })
    }
}

fn envelope(ids: &IdSource, site: usize) -> Arc<Envelope> {
    let created = UnixMs(1_700_000_000_000);
    let domain = format!("site-{site}.example.org");
    Arc::new(Envelope {
        id: ids.next(created),
        body: ids.next(created),
        body_bytes: 1000,
        sender: "sender@example.com".to_owned(),
        recipients: vec![format!("recipient@{domain}")],
        queue: domain,
        created,
        received_from: None,
        eight_bit: false,
        smtputf8: false,
        header_prefix: Bytes::new(),
        requests: None,
        scheduling: None,
        meta: Meta::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_put_back() {
        let mut queues = Queues::default();
        let begun = queues.now;
        let taken = queues.cycle(3 * WAITING);
        assert!(taken >= 3 * WAITING);
        assert_eq!(queues.schedule.len() as u64, WAITING);
        assert!(queues.ready.iter().all(|ready| ready.rounds.active() == 0));
        // Each waits for half an hour in the mean. All begin at the same moment, and of waits that have just begun a third of a
        // mean more is left than of any others, so three rounds take ten thirds of half an hour.
        let hours = queues.now.since(begun).as_secs_f64() / 3600.0;
        assert!((1.6..1.75).contains(&hours), "{hours}");
    }
}
