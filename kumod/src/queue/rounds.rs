//! Whose turn it is among the scheduled queues that feed one ready queue: deficit round robin (Shreedhar and Varghese, 1995).
//!
//! Each queue that has mail here is a flow. In its turn a flow sends what its quantum is worth and goes to the end of the round; large
//! messages cost more than small ones, and a priority is a larger quantum. A message that arrives in an empty flow is therefore sent
//! within one round, however deep the others are (KumoMTA's issue 321). Constant cost per message.
//!
//! A flow may have more mail in the store than here. The caller is told when it runs low, and reports what a pull brought; between
//! the two nobody else pulls for it. When the places are used up a message is handed back, unless its flow has none here.

use std::collections::{HashMap, VecDeque};

/// What a flow of priority 1 may send in one turn.
const QUANTUM: u32 = 16;
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

/// Messages `E` by flow.
#[derive(Debug)]
pub struct Rounds<E> {
    flows: HashMap<FlowKey, Flow<E>>,
    /// Flows that have messages and are not paused, in the order of their turns.
    ring: VecDeque<FlowKey>,
    length: usize,
    /// Messages of flows in the ring.
    active: usize,
}

#[derive(Debug)]
struct Flow<E> {
    line: VecDeque<(u32, E)>,
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

impl<E> Flow<E> {
    fn new() -> Self {
        Self {
            line: VecDeque::new(),
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
}

impl<E> Default for Rounds<E> {
    fn default() -> Self {
        Self { flows: HashMap::new(), ring: VecDeque::new(), length: 0, active: 0 }
    }
}

impl<E> Rounds<E> {
    /// Messages that are here.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no message is here.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Messages that may be sent now: those of flows that are not paused.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Whether nothing is here, nor on its way from the store.
    pub fn is_deserted(&self) -> bool {
        self.flows.is_empty()
    }

    /// Whether new mail of the flow has to wait: the places are used up and the flow has some of them, or older mail of it is in
    /// the store.
    pub fn is_full_for(&self, key: FlowKey, length_max: usize) -> bool {
        self.flows.get(&key).is_some_and(|flow| {
            let used_up = self.active >= length_max && !flow.line.is_empty();
            flow.more || used_up || (flow.paused && flow.line.len() >= PULL_MAX)
        })
    }

    /// Adds a message to the end of its flow.
    pub fn push(&mut self, key: FlowKey, priority: u32, cost: u32, entry: E) {
        let flow = self.flows.entry(key).or_insert_with(Flow::new);
        flow.quantum = QUANTUM.saturating_mul(priority.max(1));
        flow.line.push_back((cost, entry));
        self.length += 1;
        self.active += usize::from(flow.in_ring);
        self.enter_ring(key);
    }

    /// Puts a message back that was taken and not sent, and keeps its flow out of the round until [`resume`](Self::resume). What the
    /// flow has beyond [`PULL_MAX`] is handed back, to wait in the store.
    pub fn pause(&mut self, key: FlowKey, cost: u32, entry: E) -> Vec<E> {
        let flow = self.flows.entry(key).or_insert_with(Flow::new);
        self.length += 1;
        if flow.in_ring {
            self.active -= flow.line.len();
            self.ring.retain(|other| *other != key);
            flow.in_ring = false;
        }
        flow.line.push_front((cost, entry));
        flow.deficit = flow.deficit.saturating_add(cost);
        flow.paused = true;
        let beyond = flow.line.split_off(flow.line.len().min(PULL_MAX));
        flow.more |= !beyond.is_empty();
        self.length -= beyond.len();
        beyond.into_iter().map(|(_, entry)| entry).collect()
    }

    /// A pause is over. Says whether the flow is to be filled now.
    pub fn resume(&mut self, key: FlowKey) -> bool {
        let Some(flow) = self.flows.get_mut(&key) else { return false };
        flow.paused = false;
        let is_low = flow.is_low();
        self.enter_ring(key);
        self.forget_if_done(key);
        is_low
    }

    /// The next message in turn, and the flow that is to be filled now, if it is.
    pub fn pop(&mut self) -> Option<(E, Option<FlowKey>)> {
        loop {
            let key = *self.ring.front()?;
            let Some(flow) = self.flows.get_mut(&key) else {
                self.ring.pop_front();
                continue;
            };
            match flow.line.front() {
                Some((cost, _)) if *cost > flow.deficit => {
                    flow.deficit += flow.quantum;
                    self.ring.rotate_left(1);
                }
                Some(_) => {
                    let (cost, entry) = flow.line.pop_front()?;
                    flow.deficit -= cost;
                    (self.length, self.active) = (self.length - 1, self.active - 1);
                    let is_low = flow.is_low();
                    if flow.line.is_empty() {
                        self.leave_ring(key);
                    }
                    return Some((entry, is_low.then_some(key)));
                }
                None => self.leave_ring(key),
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

    /// Takes everything out, as when the site cannot be reached, and names the flows that are to be filled.
    pub fn drain(&mut self) -> (Vec<E>, Vec<FlowKey>) {
        let mut taken = Vec::with_capacity(self.length);
        for key in self.flows.keys().copied().collect::<Vec<_>>() {
            taken.extend(self.take_line(key));
        }
        let low = self.flows.iter().filter(|(_, flow)| flow.is_low()).map(|(key, _)| *key).collect();
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
        let Some(flow) = self.flows.get_mut(&key) else { return Vec::new() };
        let taken: Vec<E> = flow.line.drain(..).map(|(_, entry)| entry).collect();
        self.length -= taken.len();
        if flow.in_ring {
            self.active -= taken.len();
            self.ring.retain(|other| *other != key);
            flow.in_ring = false;
        }
        self.forget_if_done(key);
        taken
    }

    /// A flow enters at the end of the round with one quantum, so that its first message goes when its turn comes.
    fn enter_ring(&mut self, key: FlowKey) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.in_ring || flow.paused || flow.line.is_empty() {
            return;
        }
        flow.in_ring = true;
        flow.deficit = flow.deficit.max(flow.quantum);
        self.active += flow.line.len();
        self.ring.push_back(key);
    }

    /// The flow in front has nothing left. What it had saved is lost, so that nobody saves up for a burst.
    fn leave_ring(&mut self, key: FlowKey) {
        self.ring.pop_front();
        if let Some(flow) = self.flows.get_mut(&key) {
            (flow.in_ring, flow.deficit) = (false, 0);
        }
        self.forget_if_done(key);
    }

    fn forget_if_done(&mut self, key: FlowKey) {
        if self.flows.get(&key).is_some_and(Flow::is_done) {
            self.flows.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn pop<E>(rounds: &mut Rounds<E>) -> Option<E> {
        rounds.pop().map(|(entry, _)| entry)
    }

    #[test]
    fn a_password_reset_overtakes_a_million_newsletters() {
        let mut rounds = Rounds::default();
        for number in 0..1_000_000 {
            rounds.push(1, 1, cost_of(20_000), number);
        }
        for _ in 0..1000 {
            pop(&mut rounds);
        }
        rounds.push(2, 1, cost_of(2_000), -1);
        let before = std::iter::from_fn(|| pop(&mut rounds)).position(|number| number == -1).unwrap();
        assert!(before <= QUANTUM as usize / 3 + 1, "{before} newsletters went first");
    }

    #[test]
    fn one_deep_queue_among_ten_thousand_takes_its_turn_like_any_other() {
        let mut rounds = Rounds::default();
        for number in 0..100_000_u64 {
            rounds.push(0, 1, 1, number);
        }
        (1..10_000).for_each(|flow| rounds.push(flow, 1, 1, u64::MAX));
        let round: Vec<_> = std::iter::from_fn(|| pop(&mut rounds)).take(9_999 + QUANTUM as usize).collect();
        assert_eq!(round.iter().filter(|number| **number == u64::MAX).count(), 9_999);
    }

    #[test]
    fn a_priority_is_a_larger_share_and_large_messages_cost_more() {
        let mut rounds = Rounds::default();
        for _ in 0..100_000 {
            rounds.push(1, 1, cost_of(100), 'a');
            rounds.push(2, 4, cost_of(100), 'b');
            rounds.push(3, 1, cost_of(4 * COST_BYTES - 1), 'c');
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
        (0..PULL_MAX).for_each(|number| rounds.push(7, 1, 1, number));
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
                    0..=2 => { rounds.push(flow, 1 + cost % 3, cost, (flow, tick)); line.push_back(tick); }
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
                    6 if cost == 1 => {
                        let taken: Vec<u32> = rounds.remove(flow).into_iter().map(|(_, number)| number).collect();
                        prop_assert_eq!(taken, line.drain(..).collect::<Vec<_>>());
                        paused[usize::try_from(flow).unwrap()] = false;
                    }
                    _ => {
                        let room = rounds.begin_pull(flow, 20);
                        for _ in 0..room.min(cost as usize) {
                            rounds.push(flow, 1, 1, (flow, tick));
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
