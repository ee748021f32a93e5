//! A ready queue: messages for one site that may go now, and how many connections they are worth.
//!
//! Owns the bounds and the idle dispatchers; whose turn it is `rounds` knows. The tasks that hold connections are its callers. When it is
//! full a message is handed back, never dropped: it waits in its scheduled queue.

use super::rounds::{FlowKey, Rounds, Ticket};

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

/// New mail may exceed the length by this part: clients that saw a place each may come all at once.
const SLACK_PART: usize = 8;

/// What is to be done so that mail moves on.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<E, I> {
    /// Nothing: dispatchers that are at work will come to it, or nothing may go.
    Queued,
    /// This dispatcher is idle: give it the message. If it is gone, push again. `low`: its flow is to be filled.
    Hand {
        /// The dispatcher.
        idle: I,
        /// The message.
        entry: E,
        /// The flow is to be filled from the store.
        low: bool,
    },
    /// One more connection is worth opening. It is counted already; [`Ready::closed`] takes it back.
    Open,
}

/// The messages `E` of one site by turns, and the idle dispatchers `I` that wait for one.
#[derive(Debug)]
pub struct Ready<E, I> {
    /// Whose turn it is.
    pub rounds: Rounds<E>,
    idle: Vec<I>,
    length_max: usize,
    connections_max: usize,
    /// Dispatchers that exist, idle or not.
    dispatchers: usize,
    /// Each message is worth a connection.
    aggressive: bool,
    /// Nothing comes in and nothing goes out.
    held: bool,
}

impl<E, I> Ready<E, I> {
    /// An empty queue.
    pub fn new(length_max: usize, connections_max: usize) -> Self {
        let rounds = Rounds::default();
        Self {
            rounds,
            idle: Vec::new(),
            length_max,
            connections_max,
            dispatchers: 0,
            aggressive: false,
            held: false,
        }
    }

    /// Takes new limits, which hold from the next push on.
    pub fn set_limits(&mut self, length_max: usize, connections_max: usize) {
        self.length_max = length_max;
        self.connections_max = connections_max;
    }

    /// Whether each message is worth a connection, up to the limit, however short the queue is.
    pub fn set_aggressive(&mut self, aggressive: bool) {
        self.aggressive = aggressive;
    }

    /// Holds the queue, or lets go of it. What is here stays; after letting go, [`step`](Self::step).
    pub fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether the queue is held.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Messages that may be here.
    pub fn length_max(&self) -> usize {
        self.length_max
    }

    /// Whether nothing is here at all, neither message nor dispatcher.
    pub fn is_deserted(&self) -> bool {
        self.rounds.is_deserted() && self.dispatchers == 0
    }

    /// Whether new mail of a flow should wait.
    pub fn is_full_for(&self, flow: FlowKey) -> bool {
        self.rounds.is_full_for(flow, self.length_max)
    }

    /// Whether there is a place for mail of a flow that is brought from the store.
    pub fn has_room(&self, flow: FlowKey) -> bool {
        !self.held && self.rounds.has_room(flow, self.length_max)
    }

    /// How many messages to claim for a flow from the store; see [`Rounds::begin_pull`].
    pub fn begin_pull(&mut self, flow: FlowKey) -> usize {
        if self.held {
            self.rounds.note_more(flow);
            return 0;
        }
        self.rounds.begin_pull(flow, self.length_max)
    }

    /// Adds a new message to the end of its flow.
    ///
    /// # Errors
    /// Hands the message back when the queue is full or held.
    pub fn push(&mut self, ticket: Ticket<E>) -> Result<Step<E, I>, E> {
        if self.held {
            return Err(ticket.entry);
        }
        // Where nothing waits nobody's turn is to be kept.
        if self.rounds.is_deserted()
            && let Some(idle) = self.idle.pop()
        {
            return Ok(Step::Hand { idle, entry: ticket.entry, low: false });
        }
        self.rounds.try_push(ticket, self.length_max + self.length_max / SLACK_PART)?;
        Ok(self.step())
    }

    /// Adds a message for which a place was found before: it was pulled, or comes back.
    pub fn place(&mut self, ticket: Ticket<E>) -> Step<E, I> {
        self.rounds.push(ticket);
        self.step()
    }

    /// What to do so that what is here moves on. The dispatcher that went idle last is the first to get work: its connection is the
    /// warmest.
    pub fn step(&mut self) -> Step<E, I> {
        if self.held || self.rounds.active() == 0 {
            return Step::Queued;
        }
        if let Some(idle) = self.idle.pop() {
            match self.rounds.pop() {
                Some((entry, low)) => return Step::Hand { idle, entry, low: low.is_some() },
                None => self.idle.push(idle),
            }
        }
        if self.open_one() { Step::Open } else { Step::Queued }
    }

    /// The next message, and whether its flow is to be filled. Without one the caller either goes or [`park`](Self::park)s under the
    /// same lock.
    pub fn pop(&mut self) -> Option<(E, bool)> {
        if self.held {
            return None;
        }
        self.rounds.pop().map(|(entry, low)| (entry, low.is_some()))
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

    fn open_one(&mut self) -> bool {
        let waiting = self.rounds.active();
        let wanted =
            if self.aggressive { waiting } else { connections_wanted(self.connections_max, waiting) };
        let worth = !self.held && self.dispatchers < self.connections_max && self.dispatchers < wanted;
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
    fn each_message_is_worth_a_connection_where_that_is_wanted() {
        for (aggressive, expected) in [(false, 1), (true, 3)] {
            let mut ready: Ready<u8, char> = Ready::new(10, 3);
            ready.set_aggressive(aggressive);
            let steps = (1..=5).map(|entry| ready.push(ticket(entry)).unwrap());
            assert_eq!(steps.filter(|step| *step == Step::Open).count(), expected);
        }
    }

    fn ticket<E>(entry: E) -> Ticket<E> {
        Ticket { flow: 1, priority: 1, cost: 1, entry }
    }

    #[test]
    fn a_full_queue_hands_the_message_back() {
        let mut ready: Ready<u8, char> = Ready::new(2, 1);
        assert_eq!(ready.push(ticket(1)), Ok(Step::Open));
        assert_eq!(ready.push(ticket(2)), Ok(Step::Queued));
        assert_eq!(ready.push(ticket(3)), Err(3));
        let other = Ticket { flow: 2, ..ticket(9) };
        assert_eq!(ready.push(other), Ok(Step::Queued), "a flow without any has a place");
        let mut popped: Vec<u8> = std::iter::from_fn(|| ready.pop()).map(|(entry, _)| entry).collect();
        popped.sort_unstable();
        assert_eq!(popped, [1, 2, 9]);
        ready.park('d');
        assert_eq!(ready.push(ticket(4)), Ok(Step::Hand { idle: 'd', entry: 4, low: false }));
        assert_eq!(ready.unpark(|idle| *idle == 'd'), None);
    }

    #[test]
    fn a_queue_that_is_held_takes_and_gives_nothing() {
        let mut ready: Ready<u8, char> = Ready::new(10, 1);
        assert_eq!(ready.push(ticket(1)), Ok(Step::Open));
        ready.set_held(true);
        assert_eq!((ready.push(ticket(2)), ready.pop(), ready.begin_pull(1)), (Err(2), None, 0));
        assert!(!ready.has_room(7) && !ready.closed());
        ready.set_held(false);
        assert_eq!(
            (ready.step(), ready.pop()),
            (Step::Open, Some((1, true))),
            "there may be more in the store"
        );
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
                    0 | 1 => if let Ok(pushed) = ready.push(ticket(next)) {
                        next += 1;
                        match pushed {
                            Step::Hand { idle, entry, .. } => {
                                parked.retain(|other| *other != idle);
                                prop_assert_eq!(entry, expected);
                                expected += 1;
                                busy += 1;
                            }
                            Step::Open => busy += 1,
                            Step::Queued => {}
                        }
                    },
                    2 if busy > 0 => match ready.pop() {
                        Some((entry, _)) => { prop_assert_eq!(entry, expected); expected += 1; }
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
                prop_assert!(ready.rounds.is_empty() || busy > 0, "{} waiting, {} parked", ready.rounds.len(), parked.len());
            }
            prop_assert_eq!(u32::try_from(ready.rounds.len()).unwrap(), next - expected);
        }
    }
}
