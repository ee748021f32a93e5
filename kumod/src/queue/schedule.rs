//! All scheduled queues of a node: what is not due waits on one wheel, what is due waits in its own queue's line.
//!
//! A message is one node of 64 bytes that moves from the wheel to its queue's line and out, without being copied. A queue that has
//! come to have due mail is told of once ([`Schedule::next_stirred`]); who was told claims until a claim empties the line, and hears
//! of the queue again when more falls due. Queues without mail are forgotten. Nothing here fails: a message for which there is no
//! number is handed back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::slab::{List, Slab};
use super::wheel::{HOMES, Wheel};
use crate::clock::UnixMs;
use crate::ports::Wanted;

/// The home of a node that waits in its queue's line.
const IN_LINE: u16 = HOMES;

/// Messages `T` by due time and queue.
#[derive(Debug)]
pub struct Schedule<T> {
    slab: Slab<T>,
    wheel: Wheel,
    queues: Vec<Queue>,
    numbers: HashMap<Arc<str>, u32>,
    /// Numbers of forgotten queues, to be used again.
    vacant: Vec<u32>,
    /// Queues that have due mail and that nobody has been told of yet.
    stirred: VecDeque<u32>,
    in_line: usize,
}

#[derive(Debug)]
struct Queue {
    name: Arc<str>,
    line: List,
    /// Messages on the wheel and in the line.
    messages: u32,
    news: News,
}

/// Who knows that a queue has due mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// There is none.
    None,
    /// It stands in `stirred`.
    Listed,
    /// Somebody was told and still claims.
    Told,
}

impl<T> Schedule<T> {
    /// An empty schedule whose wheel starts to turn at `now`.
    pub fn new(now: UnixMs) -> Self {
        Self {
            slab: Slab::new(),
            wheel: Wheel::new(now),
            queues: Vec::new(),
            numbers: HashMap::new(),
            vacant: Vec::new(),
            stirred: VecDeque::new(),
            in_line: 0,
        }
    }

    /// Messages that wait, due or not.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.slab.len() == 0
    }

    /// Messages that are due and have not been claimed.
    pub fn due(&self) -> usize {
        self.in_line
    }

    /// Queues that have messages here.
    pub fn queues(&self) -> usize {
        self.numbers.len()
    }

    /// Puts a message in. What is due already goes to the end of its queue's line.
    ///
    /// # Errors
    /// Hands the message back when there are four thousand million.
    pub fn insert(&mut self, queue: &str, due: UnixMs, item: T) -> Result<(), T> {
        let owner = self.number(queue);
        let node = match self.slab.add(due.0, owner, item) {
            Ok(node) => node,
            Err(item) => {
                self.forget_if_empty(owner);
                return Err(item);
            }
        };
        self.queues[owner as usize].messages += 1;
        if self.wheel.is_past(due) {
            self.line_up(node);
        } else {
            self.wheel.place(&mut self.slab, node);
        }
        Ok(())
    }

    /// Turns the wheel: what is due goes to its queue's line. A clock that went back changes nothing.
    pub fn advance(&mut self, now: UnixMs) {
        let Self { slab, wheel, queues, stirred, in_line, .. } = self;
        wheel.advance(slab, now, |slab, node| append(slab, queues, stirred, in_line, node));
    }

    /// The next queue that has come to have due mail; the caller claims from it until a claim brings less than was asked.
    pub fn next_stirred(&mut self) -> Option<Arc<str>> {
        loop {
            let number = self.stirred.pop_front()?;
            let queue = &mut self.queues[number as usize];
            // Somebody who had not been told may have claimed everything.
            if queue.news == News::Listed {
                queue.news = News::Told;
                return Some(Arc::clone(&queue.name));
            }
        }
    }

    /// Takes up to `limit` due messages of one queue, in the order in which they fell due.
    pub fn claim(&mut self, queue: &str, limit: usize, mut take: impl FnMut(T)) {
        let Some(number) = self.numbers.get(queue).copied() else { return };
        for _ in 0..limit {
            let Some(node) = self.slab.pop(&mut self.queues[number as usize].line) else { break };
            self.in_line -= 1;
            self.queues[number as usize].messages -= 1;
            if let Some(item) = self.slab.remove(node) {
                take(item);
            }
        }
        let found = &mut self.queues[number as usize];
        if found.line.is_empty() {
            found.news = News::None;
        }
        self.forget_if_empty(number);
    }

    /// Takes messages out that are chosen by their queue and their age, and says where to go on; `None` when everything has been looked
    /// at. It looks at a few thousand messages at a time, so that nobody waits for it long. `born` reads an item's birth; those are
    /// taken that were born before what `wanted` says of their queue.
    pub fn pick(
        &mut self,
        from: usize,
        wanted: &mut Wanted<'_>,
        born: impl Fn(&T) -> UnixMs,
        mut take: impl FnMut(&Arc<str>, UnixMs, T),
    ) -> Option<usize> {
        let nodes = self.slab.chunk(from)?;
        let looked_at = nodes.filter(|(_, node)| !wanted.due_only || node.home == IN_LINE);
        let births = looked_at.filter_map(|(number, node)| Some((number, node.owner, born(node.item()?))));
        let chosen = chosen_nodes(births, |owner| (wanted.born_before)(&self.queues[owner as usize].name));
        for node in chosen {
            let owner = self.slab.node(node).owner;
            let queue = &mut self.queues[owner as usize];
            if self.slab.node(node).home == IN_LINE {
                self.slab.unlink(&mut queue.line, node);
                self.in_line -= 1;
            } else {
                self.wheel.unplace(&mut self.slab, node);
            }
            queue.messages -= 1;
            let (name, due) = (Arc::clone(&queue.name), UnixMs(self.slab.node(node).due_ms));
            if queue.messages == 0 {
                queue.news = News::None;
            }
            self.forget_if_empty(owner);
            if let Some(item) = self.slab.remove(node) {
                take(&name, due, item);
            }
        }
        Some(from + 1)
    }

    /// A time before which nothing falls due; the beginning of time when there is a queue to tell of. `None` when nothing waits on
    /// the wheel.
    pub fn next_due(&self) -> Option<UnixMs> {
        if self.stirred.is_empty() { self.wheel.next_due() } else { Some(UnixMs(0)) }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name: Arc<str> = name.into();
        let queue = Queue { name: Arc::clone(&name), line: List::EMPTY, messages: 0, news: News::None };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.queues[number as usize] = queue;
                number
            }
            None => {
                self.queues.push(queue);
                // There are no more queues than messages, whose numbers have 32 bits.
                u32::try_from(self.queues.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(name, number);
        number
    }

    fn forget_if_empty(&mut self, number: u32) {
        let queue = &self.queues[number as usize];
        if queue.messages == 0 {
            self.numbers.remove(&queue.name);
            self.vacant.push(number);
        }
    }

    fn line_up(&mut self, node: u32) {
        let Self { slab, queues, stirred, in_line, .. } = self;
        append(slab, queues, stirred, in_line, node);
    }
}

/// Neighbours often belong to the same queue, which is then asked about once.
fn chosen_nodes(
    nodes: impl Iterator<Item = (u32, u32, UnixMs)>,
    mut born_before: impl FnMut(u32) -> Option<UnixMs>,
) -> Vec<u32> {
    let mut last = None;
    let chosen = nodes.filter(|(_, owner, born)| {
        let (_, bound) = match last {
            Some(asked @ (of, _)) if of == *owner => asked,
            _ => *last.insert((*owner, born_before(*owner))),
        };
        bound.is_some_and(|bound| *born < bound)
    });
    chosen.map(|(number, _, _)| number).collect()
}

fn append<T>(
    slab: &mut Slab<T>,
    queues: &mut [Queue],
    stirred: &mut VecDeque<u32>,
    in_line: &mut usize,
    node: u32,
) {
    slab.node_mut(node).home = IN_LINE;
    let number = slab.node(node).owner;
    let queue = &mut queues[number as usize];
    slab.push(&mut queue.line, node);
    *in_line += 1;
    if queue.news == News::None {
        queue.news = News::Listed;
        stirred.push_back(number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn claim(schedule: &mut Schedule<u64>, queue: &str, limit: usize) -> Vec<u64> {
        let mut out = Vec::new();
        schedule.claim(queue, limit, |item| out.push(item));
        out
    }

    #[test]
    fn a_queue_is_told_of_once_until_it_is_empty() {
        let mut schedule = Schedule::new(UnixMs(0));
        for item in 1..=3 {
            schedule.insert("a", UnixMs(item), item).unwrap();
        }
        assert_eq!((schedule.next_due(), schedule.next_stirred()), (Some(UnixMs(1)), None));
        schedule.advance(UnixMs(2));
        assert_eq!((schedule.next_due(), schedule.next_stirred().as_deref()), (Some(UnixMs(0)), Some("a")));
        assert_eq!(claim(&mut schedule, "a", 1), [1]);
        schedule.advance(UnixMs(3));
        assert_eq!(schedule.next_stirred(), None, "whoever was told still claims");
        assert_eq!(claim(&mut schedule, "a", 5), [2, 3]);
        assert_eq!((schedule.len(), schedule.queues()), (0, 0));
        schedule.insert("a", UnixMs(3), 4).unwrap();
        assert_eq!(schedule.next_stirred().as_deref(), Some("a"), "due already, and nobody knows");
        assert_eq!(claim(&mut schedule, "a", 1), [4]);
        assert_eq!(schedule.next_due(), None);
    }

    #[test]
    fn what_is_old_is_taken_out_of_chosen_queues_due_or_not() {
        let mut schedule = Schedule::new(UnixMs(0));
        for item in 0..10_000 {
            let due = if item % 4 < 2 { 0 } else { 5_000_000 };
            schedule.insert(if item % 2 == 0 { "a" } else { "b" }, UnixMs(due + item), item).unwrap();
        }
        schedule.advance(UnixMs(20_000));
        let pick = |schedule: &mut Schedule<u64>, due_only| {
            let (mut at, mut taken) = (Some(0), Vec::new());
            while let Some(from) = at {
                let mut born_before = |queue: &str| (queue == "b").then_some(UnixMs(5000));
                let mut wanted = Wanted { due_only, born_before: &mut born_before };
                at = schedule.pick(from, &mut wanted, |item| UnixMs(*item), |_, _, item| taken.push(item));
            }
            taken.sort_unstable();
            taken
        };
        assert_eq!(pick(&mut schedule, true), (1..5000).step_by(4).collect::<Vec<_>>());
        assert_eq!(pick(&mut schedule, false), (3..5000).step_by(4).collect::<Vec<_>>());
        assert_eq!((schedule.len(), schedule.due()), (7500, 3750));
        assert_eq!(
            (claim(&mut schedule, "a", 10_000).len(), claim(&mut schedule, "b", 10_000).len()),
            (2500, 1250)
        );
        schedule.advance(UnixMs(6_000_000));
        assert_eq!(
            (claim(&mut schedule, "a", 10_000).len(), claim(&mut schedule, "b", 10_000).len()),
            (2500, 1250)
        );
        assert!(schedule.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Whatever order of arrivals, ticks, clock steps and claims: each message comes out once, of its own queue, not before its
        /// time, and a queue with due mail has been told of.
        #[test]
        fn nothing_is_lost_early_or_forgotten(
            steps in proptest::collection::vec((0_u8..7, 0_usize..4, 0_u64..200_000), 1..200),
        ) {
            let mut schedule = Schedule::new(UnixMs(1000));
            let mut model: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
            let mut told = [false; 4];
            let (mut now, mut next) = (1000, 0);
            for (step, queue, amount) in steps {
                match step {
                    0..=2 => {
                        schedule.insert(&queue.to_string(), UnixMs(now + amount), next).unwrap();
                        model.insert(next, (queue, now + amount));
                        next += 1;
                    }
                    3 => { now += amount; schedule.advance(UnixMs(now)); }
                    4 => schedule.advance(UnixMs(now.saturating_sub(amount))),
                    5 => {
                        let mut born_before = |name: &str| (name == queue.to_string()).then_some(UnixMs(amount));
                        let mut wanted = Wanted { due_only: amount % 2 == 0, born_before: &mut born_before };
                        let mut out = Vec::new();
                        schedule.pick(0, &mut wanted, |item| UnixMs(*item), |_, _, item| out.push(item));
                        for item in out {
                            prop_assert!(item < amount && model.remove(&item).unwrap().0 == queue);
                        }
                    }
                    _ => {
                        let asked = 1 + usize::try_from(amount % 3).unwrap();
                        let out = claim(&mut schedule, &queue.to_string(), asked);
                        if out.len() < asked { told[queue] = false; }
                        for item in out {
                            let (of, due) = model.remove(&item).unwrap();
                            prop_assert_eq!(of, queue);
                            prop_assert!(due <= now, "due at {} and given out at {}", due, now);
                        }
                    }
                }
                while let Some(name) = schedule.next_stirred() {
                    told[name.parse::<usize>().unwrap()] = true;
                }
                prop_assert_eq!(schedule.len(), model.len());
                let waits = |queue: usize| model.values().any(|(of, due)| *of == queue && *due < now);
                if step == 3 {
                    prop_assert!((0..4).all(|queue| !waits(queue) || told[queue]));
                }
            }
            schedule.advance(UnixMs(now + 200_001));
            for queue in 0..4 {
                for item in claim(&mut schedule, &queue.to_string(), usize::MAX) {
                    prop_assert_eq!(model.remove(&item).unwrap().0, queue);
                }
            }
            prop_assert!(model.is_empty() && schedule.is_empty());
        }
    }
}
