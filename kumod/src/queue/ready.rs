//! A ready queue: messages for one site that may go now, and how many connections they are worth.
//!
//! Owns the order and the bounds; the tasks that hold connections are its callers. When it is full a message is handed back, never
//! dropped: it waits in its scheduled queue.

use std::collections::VecDeque;

/// Growth of the number of connections with the length of the queue, as KumoMTA has it: a short queue is not worth all of them.
const CONNECTIONS_GROWTH: f64 = 0.023;

/// How many connections a queue of `length` messages is worth under `limit`.
pub fn connections_wanted(limit: usize, length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    let part = 1.0 - (-CONNECTIONS_GROWTH * length as f64).exp();
    // The product is between 0 and the limit, which was a usize.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and limit")]
    let wanted = (limit as f64 * part).ceil() as usize;
    wanted.clamp(1, limit.max(1))
}

/// What a push asks of the caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<E, I> {
    /// A dispatcher that is at work will come to it.
    Queued,
    /// This dispatcher is idle: give it the message. If it is gone, push again.
    Hand(I, E),
    /// One more connection is worth opening. It is counted already; [`Ready::closed`] takes it back.
    Open,
}

/// The messages `E` of one site, first in first out, and the idle dispatchers `I` that wait for one.
#[derive(Debug)]
pub struct Ready<E, I> {
    fifo: VecDeque<E>,
    idle: Vec<I>,
    length_max: usize,
    connections_max: usize,
    /// Dispatchers that exist, idle or not.
    dispatchers: usize,
}

impl<E, I> Ready<E, I> {
    /// An empty queue.
    pub fn new(length_max: usize, connections_max: usize) -> Self {
        Self { fifo: VecDeque::new(), idle: Vec::new(), length_max, connections_max, dispatchers: 0 }
    }

    /// Takes new limits, which hold from the next push on.
    pub fn set_limits(&mut self, length_max: usize, connections_max: usize) {
        self.length_max = length_max;
        self.connections_max = connections_max;
    }

    /// Messages that wait here.
    pub fn len(&self) -> usize {
        self.fifo.len()
    }

    /// Whether no message waits here.
    pub fn is_empty(&self) -> bool {
        self.fifo.is_empty()
    }

    /// Whether nothing is here at all, neither message nor dispatcher.
    pub fn is_deserted(&self) -> bool {
        self.fifo.is_empty() && self.dispatchers == 0
    }

    /// Whether a push would be refused.
    pub fn is_full(&self) -> bool {
        self.fifo.len() >= self.length_max
    }

    /// Adds a message at the end, or hands it to an idle dispatcher (the one that went idle last: its connection is the warmest).
    ///
    /// # Errors
    /// Hands the message back when the queue is full.
    pub fn push(&mut self, entry: E) -> Result<Pushed<E, I>, E> {
        if let Some(idle) = self.idle.pop() {
            return Ok(Pushed::Hand(idle, entry));
        }
        if self.is_full() {
            return Err(entry);
        }
        self.fifo.push_back(entry);
        Ok(if self.open_one() { Pushed::Open } else { Pushed::Queued })
    }

    /// The next message. Without one the caller either goes or [`park`](Self::park)s under the same lock.
    pub fn pop(&mut self) -> Option<E> {
        self.fifo.pop_front()
    }

    /// A dispatcher waits for a message.
    pub fn park(&mut self, idle: I) {
        self.idle.push(idle);
    }

    /// A dispatcher no longer waits. `None`: a push has taken its place already, and a message is on the way to it.
    pub fn unpark(&mut self, is_it: impl FnMut(&I) -> bool) -> Option<I> {
        let at = self.idle.iter().position(is_it)?;
        Some(self.idle.swap_remove(at))
    }

    /// A dispatcher is gone. `true` when another one is to be opened in its place; it is counted already.
    pub fn closed(&mut self) -> bool {
        self.dispatchers = self.dispatchers.saturating_sub(1);
        self.open_one()
    }

    /// Takes everything that waits, as when the site cannot be reached.
    pub fn drain(&mut self) -> Vec<E> {
        self.fifo.drain(..).collect()
    }

    fn open_one(&mut self) -> bool {
        let worth = self.dispatchers < connections_wanted(self.connections_max, self.fifo.len());
        if worth {
            self.dispatchers += 1;
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connections_grow_with_the_queue_and_stop_at_the_limit() {
        assert_eq!(connections_wanted(32, 0), 0);
        assert_eq!(connections_wanted(32, 1), 1);
        assert!((6..=8).contains(&connections_wanted(32, 10)));
        assert_eq!(connections_wanted(32, 1000), 32);
        assert_eq!(connections_wanted(1, 1_000_000), 1);
    }

    #[test]
    fn a_full_queue_hands_the_message_back() {
        let mut ready: Ready<u8, char> = Ready::new(2, 1);
        assert_eq!(ready.push(1), Ok(Pushed::Open));
        assert_eq!(ready.push(2), Ok(Pushed::Queued));
        assert_eq!(ready.push(3), Err(3));
        assert_eq!([ready.pop(), ready.pop(), ready.pop()], [Some(1), Some(2), None]);
        ready.park('d');
        assert_eq!(ready.push(4), Ok(Pushed::Hand('d', 4)));
        assert_eq!(ready.unpark(|idle| *idle == 'd'), None);
    }

    proptest! {
        /// Whatever order of pushes, pops, parkings and departures: no message is lost, order holds, and as long as a message
        /// waits some dispatcher is at work that will come to it.
        #[test]
        fn no_message_is_stranded(steps in proptest::collection::vec(0_u8..5, 1..200), limit in 1_usize..5) {
            let mut ready: Ready<u32, u32> = Ready::new(50, limit);
            let (mut busy, mut parked, mut next, mut expected) = (0_usize, Vec::new(), 0_u32, 0_u32);
            for (tick, step) in (0_u32..).zip(steps) {
                match step {
                    0 | 1 => if let Ok(pushed) = ready.push(next) {
                        next += 1;
                        match pushed {
                            Pushed::Hand(idle, entry) => {
                                parked.retain(|other| *other != idle);
                                prop_assert_eq!(entry, expected);
                                expected += 1;
                                busy += 1;
                            }
                            Pushed::Open => busy += 1,
                            Pushed::Queued => {}
                        }
                    },
                    2 if busy > 0 => match ready.pop() {
                        Some(entry) => { prop_assert_eq!(entry, expected); expected += 1; }
                        None => { ready.park(tick); parked.push(tick); busy -= 1; }
                    },
                    3 => if let Some(idle) = parked.pop() {
                        prop_assert_eq!(ready.unpark(|other| *other == idle), Some(idle));
                        if ready.closed() { busy += 1; }
                    },
                    4 if busy > 0 => {
                        busy -= 1;
                        if ready.closed() { busy += 1; }
                    },
                    _ => {}
                }
                prop_assert!(busy + parked.len() <= limit);
                prop_assert!(ready.is_empty() || busy > 0, "{} waiting, {} parked", ready.len(), parked.len());
            }
            prop_assert_eq!(u32::try_from(ready.len()).unwrap(), next - expected);
        }
    }
}
