//! Whose turn it is among the scheduled queues that feed one ready queue: deficit round robin (Shreedhar and Varghese, 1995).
//!
//! Each queue that has mail here is a flow. In its turn a flow sends what its quantum is worth and goes to the end of the round; large
//! messages cost more than small ones, and a priority is a larger quantum. A message that arrives in an empty flow is therefore sent
//! within one round, however deep the others are (KumoMTA's issue 321). Constant cost per message, and no allocation.
//!
//! A flow may have more mail in the store than here. The caller is told when it runs low, and reports what a pull brought; between
//! the two nobody else pulls for it. When the places are used up a message is handed back, unless its flow has none here.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::lines::{Line, Lines};

/// What a flow of priority 1 may send in one turn.
pub const QUANTUM: u32 = 16;
/// A message costs one for each begun piece of so many bytes.
const COST_BYTES: u64 = 8 << 10;
/// The most that one message costs, so that no turn takes longer than a few rounds to come.
const COST_MAX: u32 = 64;
/// A flow with fewer messages than this, and more in the store, is to be filled.
const LOW: usize = 16;
/// Messages pulled for a flow at once.
pub const PULL_MAX: usize = 64;

/// The number of a scheduled queue, as its owner gives it.
pub type FlowKey = u64;

/// What a message of so many bytes costs its flow.
pub fn cost_of(bytes: u64) -> u32 {
    u32::try_from(bytes / COST_BYTES + 1).unwrap_or(COST_MAX).min(COST_MAX)
}

/// A message and whose it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket<E> {
    /// The scheduled queue.
    pub flow: FlowKey,
    /// Its share of a round.
    pub priority: u32,
    /// What the message takes of it; see [`cost_of`].
    pub cost: u32,
    /// The message.
    pub entry: E,
}

/// Messages `E` by flow.
#[derive(Debug)]
pub struct Rounds<E> {
    flows: HashMap<FlowKey, Flow, BuildHasherDefault<KeyHasher>>,
    /// Flows that have messages and are not paused, in the order of their turns.
    ring: VecDeque<FlowKey>,
    lines: Lines<E>,
    /// Messages of flows in the ring.
    active: usize,
}

#[derive(Debug)]
struct Flow {
    line: Line,
    deficit: u32,
    quantum: u32,
    in_ring: bool,
    paused: bool,
    /// The store may have more due messages of this queue.
    more: bool,
    pull: Pull,
}

/// Whether somebody is bringing messages from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pull {
    Idle,
    UnderWay,
    /// And more fell due meanwhile.
    Again,
}

/// Keys are numbers given out one after another by this process, so that nobody can choose them to collide.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, key: u64) {
        // The golden ratio spreads neighbours over the high bits; the low ones stay as different as they were.
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Flow {
    fn new() -> Self {
        Self {
            line: Line::EMPTY,
            deficit: 0,
            quantum: QUANTUM,
            in_ring: false,
            paused: false,
            more: false,
            pull: Pull::Idle,
        }
    }

    fn is_low(&self) -> bool {
        self.more && self.pull == Pull::Idle && self.line.len() < LOW
    }

    fn is_done(&self) -> bool {
        self.line.is_empty() && !self.more && !self.paused && self.pull == Pull::Idle
    }

    /// Whether new mail has to wait: the places are used up and the flow has some of them, or older mail of it is in the store.
    fn is_full(&self, used_up: bool) -> bool {
        self.more || (used_up && !self.line.is_empty()) || (self.paused && self.line.len() >= PULL_MAX)
    }

    /// A flow enters at the end of the round with one quantum, so that its first message goes when its turn comes.
    fn enter(&mut self, key: FlowKey, ring: &mut VecDeque<FlowKey>, active: &mut usize) {
        if self.in_ring || self.paused || self.line.is_empty() {
            return;
        }
        self.in_ring = true;
        self.deficit = self.deficit.max(self.quantum);
        *active += self.line.len();
        ring.push_back(key);
    }

    fn leave(&mut self, key: FlowKey, ring: &mut VecDeque<FlowKey>, active: &mut usize) {
        if self.in_ring {
            *active -= self.line.len();
            ring.retain(|other| *other != key);
            self.in_ring = false;
        }
    }
}

impl<E> Default for Rounds<E> {
    fn default() -> Self {
        Self { flows: HashMap::default(), ring: VecDeque::new(), lines: Lines::new(), active: 0 }
    }
}

impl<E> Rounds<E> {
    /// Messages that are here.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether no message is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that may be sent now: those of flows that are not paused.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether nothing is here, nor on its way from the store, nor paused.
    pub fn is_deserted(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether new mail of the flow has to wait: the places are used up and the flow has some of them, or older mail of it is in
    /// the store.
    pub fn is_full_for(&self, key: FlowKey, length_max: usize) -> bool {
        self.flows.get(&key).is_some_and(|flow| flow.is_full(self.active >= length_max))
    }

    /// Whether there is a place for mail of the flow that is brought from the store: one, even where all are taken.
    pub fn has_room(&self, key: FlowKey, length_max: usize) -> bool {
        let Some(flow) = self.flows.get(&key) else { return true };
        let is_used_up = self.active >= length_max || (flow.paused && flow.line.len() >= PULL_MAX);
        flow.line.is_empty() || !is_used_up
    }

    /// Adds a message to the end of its flow.
    pub fn push(&mut self, ticket: Ticket<E>) {
        let Self { flows, ring, lines, active } = self;
        let flow = flows.entry(ticket.flow).or_insert_with(Flow::new);
        add(flow, ring, lines, active, ticket);
    }

    /// The same for new mail, which may have to wait.
    ///
    /// # Errors
    /// Hands the message back where [`is_full_for`](Self::is_full_for) holds.
    pub fn try_push(&mut self, ticket: Ticket<E>, length_max: usize) -> Result<(), E> {
        let Self { flows, ring, lines, active } = self;
        let used_up = *active >= length_max;
        let flow = match flows.entry(ticket.flow) {
            Entry::Occupied(known) if known.get().is_full(used_up) => return Err(ticket.entry),
            known => known.or_insert_with(Flow::new),
        };
        add(flow, ring, lines, active, ticket);
        Ok(())
    }

    /// Puts a message back that was taken and not sent, and keeps its flow out of the round until [`resume`](Self::resume). What the
    /// flow has beyond [`PULL_MAX`] is handed back, to wait in the store.
    pub fn pause(&mut self, key: FlowKey, cost: u32, entry: E) -> Vec<E> {
        let Self { flows, ring, lines, active } = self;
        let flow = flows.entry(key).or_insert_with(Flow::new);
        flow.leave(key, ring, active);
        lines.push_front(&mut flow.line, cost, entry);
        flow.deficit = flow.deficit.saturating_add(cost);
        flow.paused = true;
        let beyond =
            if flow.line.len() > PULL_MAX { lines.split_off(&mut flow.line, PULL_MAX) } else { Vec::new() };
        flow.more |= !beyond.is_empty();
        beyond
    }

    /// A pause is over. Says whether the flow is to be filled now.
    pub fn resume(&mut self, key: FlowKey) -> bool {
        let Self { flows, ring, active, .. } = self;
        let Some(flow) = flows.get_mut(&key) else { return false };
        flow.paused = false;
        flow.enter(key, ring, active);
        let is_low = flow.is_low();
        self.forget_if_done(key);
        is_low
    }

    /// The next message in turn, and the flow that is to be filled now, if it is.
    pub fn pop(&mut self) -> Option<(E, Option<FlowKey>)> {
        let Self { flows, ring, lines, active } = self;
        loop {
            let key = *ring.front()?;
            let Entry::Occupied(mut known) = flows.entry(key) else {
                ring.pop_front();
                continue;
            };
            let flow = known.get_mut();
            if lines.front_cost(&flow.line).is_some_and(|cost| cost > flow.deficit) {
                flow.deficit += flow.quantum;
                ring.rotate_left(1);
                continue;
            }
            let taken = lines.pop_front(&mut flow.line);
            let is_low = flow.is_low();
            if flow.line.is_empty() {
                // What it had saved is lost, so that nobody saves up for a burst.
                (flow.in_ring, flow.deficit) = (false, 0);
                ring.pop_front();
            }
            if let Some((cost, entry)) = taken {
                flow.deficit = flow.deficit.saturating_sub(cost);
                *active -= 1;
                if flow.is_done() {
                    known.remove();
                }
                return Some((entry, is_low.then_some(key)));
            }
        }
    }

    /// More messages of the flow are due in the store. Says how many to claim; 0 when somebody does already or there is no place,
    /// and whoever takes messages out will be told.
    pub fn begin_pull(&mut self, key: FlowKey, length_max: usize) -> usize {
        let room = length_max.saturating_sub(self.active);
        let flow = self.flows.entry(key).or_insert_with(Flow::new);
        if flow.pull != Pull::Idle {
            flow.pull = Pull::Again;
            return 0;
        }
        let count = match flow.line.len() {
            0 => room.clamp(1, PULL_MAX),
            waiting if flow.paused => room.min(PULL_MAX.saturating_sub(waiting)),
            _ => room.min(PULL_MAX),
        };
        if count > 0 {
            flow.pull = Pull::UnderWay;
        } else {
            flow.more = true;
        }
        count
    }

    /// There is more of the flow in the store, which somebody else found. Says whether the flow is to be filled now.
    pub fn note_more(&mut self, key: FlowKey) -> bool {
        let flow = self.flows.entry(key).or_insert_with(Flow::new);
        flow.more = true;
        flow.is_low()
    }

    /// A pull has ended; what it brought was pushed before. `more` when it brought all that was asked for. Says whether to pull
    /// again at once.
    pub fn end_pull(&mut self, key: FlowKey, more: bool) -> bool {
        let Some(flow) = self.flows.get_mut(&key) else { return false };
        flow.more = more || flow.pull == Pull::Again;
        flow.pull = Pull::Idle;
        let again = flow.is_low();
        self.forget_if_done(key);
        again
    }

    /// Takes what is chosen out, and names the flows that are to be filled.
    pub fn take_if(&mut self, mut is_chosen: impl FnMut(&E) -> bool) -> (Vec<E>, Vec<FlowKey>) {
        let (mut taken, mut low) = (Vec::new(), Vec::new());
        let Self { flows, ring, lines, active } = self;
        flows.retain(|key, flow| {
            let chosen = lines.take_if(&mut flow.line, &mut is_chosen);
            if flow.in_ring {
                *active -= chosen.len();
            }
            if flow.in_ring && flow.line.is_empty() {
                ring.retain(|other| other != key);
                (flow.in_ring, flow.deficit) = (false, 0);
            }
            if flow.is_low() {
                low.push(*key);
            }
            taken.extend(chosen);
            !flow.is_done()
        });
        (taken, low)
    }

    /// Takes one flow's messages out. What is in the store stays there, and nobody is told to fill the flow any more.
    pub fn remove(&mut self, key: FlowKey) -> Vec<E> {
        if let Some(flow) = self.flows.get_mut(&key) {
            (flow.more, flow.paused) = (false, false);
        }
        self.take_line(key)
    }

    fn take_line(&mut self, key: FlowKey) -> Vec<E> {
        let Self { flows, ring, lines, active } = self;
        let Some(flow) = flows.get_mut(&key) else { return Vec::new() };
        flow.leave(key, ring, active);
        let taken = lines.split_off(&mut flow.line, 0);
        self.forget_if_done(key);
        taken
    }

    fn forget_if_done(&mut self, key: FlowKey) {
        if self.flows.get(&key).is_some_and(Flow::is_done) {
            self.flows.remove(&key);
        }
    }
}

fn add<E>(
    flow: &mut Flow,
    ring: &mut VecDeque<FlowKey>,
    lines: &mut Lines<E>,
    active: &mut usize,
    ticket: Ticket<E>,
) {
    flow.quantum = QUANTUM.saturating_mul(ticket.priority.max(1));
    lines.push_back(&mut flow.line, ticket.cost, ticket.entry);
    if flow.in_ring {
        *active += 1;
    } else {
        flow.enter(ticket.flow, ring, active);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn push<E>(rounds: &mut Rounds<E>, flow: FlowKey, priority: u32, cost: u32, entry: E) {
        rounds.push(Ticket { flow, priority, cost, entry });
    }

    fn pop<E>(rounds: &mut Rounds<E>) -> Option<E> {
        rounds.pop().map(|(entry, _)| entry)
    }

    #[test]
    fn a_password_reset_overtakes_a_million_newsletters() {
        let mut rounds = Rounds::default();
        for number in 0..1_000_000 {
            push(&mut rounds, 1, 1, cost_of(20_000), number);
        }
        for _ in 0..1000 {
            pop(&mut rounds);
        }
        push(&mut rounds, 2, 1, cost_of(2_000), -1);
        let before = std::iter::from_fn(|| pop(&mut rounds)).position(|number| number == -1).unwrap();
        assert!(before <= QUANTUM as usize / 3 + 1, "{before} newsletters went first");
    }

    #[test]
    fn one_deep_queue_among_ten_thousand_takes_its_turn_like_any_other() {
        let mut rounds = Rounds::default();
        for number in 0..100_000_u64 {
            push(&mut rounds, 0, 1, 1, number);
        }
        (1..10_000).for_each(|flow| push(&mut rounds, flow, 1, 1, u64::MAX));
        let round: Vec<_> = std::iter::from_fn(|| pop(&mut rounds)).take(9_999 + QUANTUM as usize).collect();
        assert_eq!(round.iter().filter(|number| **number == u64::MAX).count(), 9_999);
    }

    #[test]
    fn a_priority_is_a_larger_share_and_large_messages_cost_more() {
        let mut rounds = Rounds::default();
        for _ in 0..100_000 {
            push(&mut rounds, 1, 1, cost_of(100), 'a');
            push(&mut rounds, 2, 4, cost_of(100), 'b');
            push(&mut rounds, 3, 1, cost_of(4 * COST_BYTES - 1), 'c');
        }
        let sent: Vec<_> = std::iter::from_fn(|| pop(&mut rounds)).take(21_000).collect();
        let count = |flow| sent.iter().filter(|sent| **sent == flow).count();
        assert!(count('b').abs_diff(4 * count('a')) <= 4 * QUANTUM as usize);
        assert!(count('a').abs_diff(4 * count('c')) <= 4 * QUANTUM as usize);
    }

    #[test]
    fn a_flow_that_runs_low_is_filled_by_one_at_a_time() {
        let mut rounds: Rounds<usize> = Rounds::default();
        assert_eq!(rounds.begin_pull(7, 100), PULL_MAX);
        assert_eq!(rounds.begin_pull(7, 100), 0, "somebody does already");
        assert!(!rounds.is_full_for(7, 100), "new mail may pass while somebody looks");
        (0..PULL_MAX).for_each(|number| push(&mut rounds, 7, 1, 1, number));
        assert!(!rounds.end_pull(7, false), "there is enough for now");
        assert!(rounds.is_full_for(7, 100), "older mail is in the store");
        let low: Vec<_> = std::iter::from_fn(|| rounds.pop()).map(|(_, low)| low).collect();
        assert_eq!(low.iter().position(Option::is_some), Some(PULL_MAX - LOW));
        assert_eq!(rounds.begin_pull(7, 100), PULL_MAX);
        assert!(!rounds.end_pull(7, false));
        assert!(rounds.is_deserted());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Whatever happens in whatever order: each message comes out once, in the order of its flow; counts are right; and whenever
        /// mail may go, some is given out.
        #[test]
        fn nothing_is_lost_or_stuck(steps in proptest::collection::vec((0_u8..8, 0_u64..4, 1_u32..20), 1..300)) {
            let mut rounds = Rounds::default();
            let mut model: BTreeMap<u64, VecDeque<u32>> = BTreeMap::new();
            let mut paused = [false; 4];
            for (tick, (step, flow, cost)) in (0_u32..).zip(steps) {
                let line = model.entry(flow).or_default();
                match step {
                    0..=2 => { push(&mut rounds, flow, 1 + cost % 3, cost, (flow, tick)); line.push_back(tick); }
                    3 | 4 => {
                        let free = |(flow, line): (&u64, &VecDeque<u32>)| !line.is_empty() && !paused[usize::try_from(*flow).unwrap()];
                        let expected = model.iter().any(free);
                        let taken = rounds.pop();
                        prop_assert_eq!(taken.is_some(), expected);
                        if let Some(((flow, number), _)) = taken {
                            prop_assert_eq!(model.get_mut(&flow).unwrap().pop_front(), Some(number));
                            if cost % 4 == 0 {
                                let line = model.get_mut(&flow).unwrap();
                                line.push_front(number);
                                for (_, beyond) in rounds.pause(flow, cost, (flow, number)).into_iter().rev() {
                                    prop_assert_eq!(line.pop_back(), Some(beyond));
                                }
                                paused[usize::try_from(flow).unwrap()] = true;
                            }
                        }
                    }
                    5 => { rounds.resume(flow); paused[usize::try_from(flow).unwrap()] = false; }
                    6 if cost == 2 => {
                        let (taken, _) = rounds.take_if(|(_, number)| number % 3 == 0);
                        for (of, number) in taken {
                            let line = model.get_mut(&of).unwrap();
                            let at = line.iter().position(|other| *other == number).unwrap();
                            line.remove(at);
                        }
                    }
                    6 if cost == 1 => {
                        let taken: Vec<u32> = rounds.remove(flow).into_iter().map(|(_, number)| number).collect();
                        prop_assert_eq!(taken, line.drain(..).collect::<Vec<_>>());
                        paused[usize::try_from(flow).unwrap()] = false;
                    }
                    _ => {
                        let room = rounds.begin_pull(flow, 20);
                        for _ in 0..room.min(cost as usize) {
                            push(&mut rounds, flow, 1, 1, (flow, tick));
                            line.push_back(tick);
                        }
                        if room > 0 { rounds.end_pull(flow, room <= cost as usize); }
                    }
                }
                prop_assert_eq!(rounds.len(), model.values().map(VecDeque::len).sum::<usize>());
                let active: usize = model.iter().filter(|(flow, _)| !paused[usize::try_from(**flow).unwrap()]).map(|(_, line)| line.len()).sum();
                prop_assert_eq!(rounds.active(), active);
            }
        }
    }
}
