//! A hierarchical timing wheel: mail that is not due yet, in order of its due time, at constant cost per message.
//!
//! Six levels of 64 slots, from one millisecond to two years. A slot is a list of nodes that lie in the schedule's slab; a message
//! moves down one level at most five times in its life. What is due later than the wheel is wide waits in its last slot and is
//! looked at again.

use super::slab::{List, Slab};
use crate::clock::UnixMs;

const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
/// Lists of a wheel; the homes of its nodes are below this.
pub(super) const HOMES: u16 = 384;
const _: () = assert!(HOMES as usize == SLOTS * LEVELS);
/// The span of the wheel in milliseconds: 2^36, a little over two years.
const SPAN_MS: u64 = 1 << (SLOT_BITS * LEVELS);
/// The furthest place from the hand: one slot of the last level short of a whole turn, so that it is never the hand's own slot.
const REACH_MS: u64 = SPAN_MS - (SPAN_MS >> SLOT_BITS);

/// Nodes that wait for their time.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Everything due up to here has been given out.
    now_ms: u64,
    /// For each level, bit n is set when slot n holds something.
    occupied: [u64; LEVELS],
    slots: Box<[List]>,
}

impl Wheel {
    /// An empty wheel that starts to turn at `now`.
    pub(super) fn new(now: UnixMs) -> Self {
        Self { now_ms: now.0, occupied: [0; LEVELS], slots: vec![List::EMPTY; SLOTS * LEVELS].into() }
    }

    /// Whether a node that is due then comes out with the next [`advance`](Self::advance) to any time.
    pub(super) fn is_past(&self, due: UnixMs) -> bool {
        due.0 <= self.now_ms
    }

    /// Puts a node in that is in no list. What is due already comes out one tick on.
    pub(super) fn place<T>(&mut self, slab: &mut Slab<T>, number: u32) {
        let node = slab.node_mut(number);
        // The slot at `now_ms` has been emptied already, so the earliest place is one tick on.
        let at = node.due_ms.clamp(self.now_ms.saturating_add(1), self.now_ms.saturating_add(REACH_MS));
        let level = level_of(self.now_ms, at);
        let slot = slot_of(at, level);
        let home = level * SLOTS + slot;
        node.home = u16::try_from(home).unwrap_or(0);
        slab.push(&mut self.slots[home], number);
        self.occupied[level] |= 1 << slot;
    }

    /// Takes a node out before its time.
    pub(super) fn unplace<T>(&mut self, slab: &mut Slab<T>, number: u32) {
        let home = usize::from(slab.node(number).home);
        slab.unlink(&mut self.slots[home], number);
        if self.slots[home].is_empty() {
            self.occupied[home / SLOTS] &= !(1 << (home % SLOTS));
        }
    }

    /// A time before which nothing comes out; `None` when nothing waits. Never later than the first due time, perhaps earlier.
    pub(super) fn next_due(&self) -> Option<UnixMs> {
        self.next_slot().map(|(at, _, _)| UnixMs(at))
    }

    /// Turns the wheel to `now` and gives out what is due, earlier slots first. A clock that went back gives nothing.
    pub(super) fn advance<T>(
        &mut self,
        slab: &mut Slab<T>,
        now: UnixMs,
        mut take: impl FnMut(&mut Slab<T>, u32),
    ) {
        while let Some((at, level, slot)) = self.next_slot().filter(|(at, _, _)| *at <= now.0) {
            self.now_ms = self.now_ms.max(at);
            self.occupied[level] &= !(1 << slot);
            let mut list = std::mem::replace(&mut self.slots[level * SLOTS + slot], List::EMPTY);
            while let Some(number) = slab.pop(&mut list) {
                if slab.node(number).due_ms <= self.now_ms {
                    take(slab, number);
                } else {
                    self.place(slab, number);
                }
            }
        }
        self.now_ms = self.now_ms.max(now.0);
    }

    /// The occupied slot that comes first: when it is reached, its level and its place.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let candidates = self.occupied.iter().enumerate().filter_map(|(level, occupied)| {
            if *occupied == 0 {
                return None;
            }
            let shift = SLOT_BITS * level;
            let here = slot_of(self.now_ms, level);
            let ahead = occupied & (u64::MAX << here);
            let first = if ahead == 0 { *occupied } else { ahead };
            let slot = first.trailing_zeros() as usize;
            let turn_ms = 1_u64 << (shift + SLOT_BITS);
            let turn_start = self.now_ms & !(turn_ms - 1);
            let at = turn_start + ((slot as u64) << shift);
            // A slot behind the hand belongs to the next turn.
            let at = if slot < here { at + turn_ms } else { at };
            Some((at.max(self.now_ms), level, slot))
        });
        candidates.min()
    }
}

/// The level whose slots tell `at` from `now`: that of the highest bit in which they differ.
fn level_of(now_ms: u64, at: u64) -> usize {
    let differing = (now_ms ^ at) | (SLOTS as u64 - 1);
    let level = (63 - differing.leading_zeros() as usize) / SLOT_BITS;
    level.min(LEVELS - 1)
}

#[expect(clippy::cast_possible_truncation, reason = "six bits are left")]
fn slot_of(at: u64, level: usize) -> usize {
    ((at >> (SLOT_BITS * level)) & (SLOTS as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    struct Fixture {
        wheel: Wheel,
        slab: Slab<u64>,
    }

    impl Fixture {
        fn new(now: u64) -> Self {
            Self { wheel: Wheel::new(UnixMs(now)), slab: Slab::new() }
        }

        fn insert(&mut self, due: u64, item: u64) -> u32 {
            let number = self.slab.add(due, 0, item).unwrap();
            self.wheel.place(&mut self.slab, number);
            number
        }

        fn drain(&mut self, now: u64) -> Vec<u64> {
            let mut out = Vec::new();
            self.wheel.advance(&mut self.slab, UnixMs(now), |slab, number| {
                out.push(slab.remove(number).unwrap());
            });
            out
        }
    }

    #[test]
    fn an_item_comes_out_at_its_time_and_not_before() {
        let mut world = Fixture::new(1_700_000_000_123);
        for delay in [0, 1, 63, 64, 65, 4095, 4096, 1_200_000, 86_400_000 * 7] {
            world.insert(1_700_000_000_123 + delay, delay);
        }
        assert_eq!(world.drain(1_700_000_000_124), [0, 1]);
        assert_eq!(world.drain(1_700_000_000_123 + 64), [63, 64]);
        assert_eq!(world.drain(1_700_000_000_123 + 1_199_999), [65, 4095, 4096]);
        assert_eq!(world.drain(1_700_000_000_123 + 1_200_000), [1_200_000]);
        assert_eq!(world.slab.len(), 1);
        assert_eq!(world.drain(1_700_000_000_123 + 86_400_000 * 8), [86_400_000 * 7]);
        assert!(world.slab.len() == 0 && world.wheel.next_due().is_none());
    }

    #[test]
    fn whoever_wakes_when_told_is_never_late() {
        let start = 1_700_000_000_123;
        let mut world = Fixture::new(start);
        for delay in (1..200).map(|number: u64| number * number * 37) {
            world.insert(start + delay, start + delay);
        }
        let mut wakings = 0;
        while let Some(at) = world.wheel.next_due() {
            wakings += 1;
            for due in world.drain(at.0) {
                assert_eq!(due, at.0, "due at its own millisecond");
            }
        }
        assert!(world.slab.len() == 0 && wakings < 199 * 6, "{wakings} wakings");
    }

    #[test]
    fn an_item_taken_out_early_leaves_no_trace() {
        let mut world = Fixture::new(1000);
        let number = world.insert(5000, 1);
        world.insert(9000, 2);
        world.wheel.unplace(&mut world.slab, number);
        assert_eq!(world.slab.remove(number), Some(1));
        assert!(world.drain(8999).is_empty());
        assert_eq!(world.drain(9000), [2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn the_wheel_agrees_with_a_sorted_list(
            start in 0_u64..1 << 42,
            steps in proptest::collection::vec((0_u64..1 << 38, 0_u64..1 << 34, any::<bool>()), 1..60),
        ) {
            let mut world = Fixture::new(start);
            let mut model: Vec<u64> = Vec::new();
            let mut now = start;
            for (delay, step, near) in steps {
                let due = now + if near { delay % 5000 } else { delay };
                world.insert(due, due);
                model.push(due);
                now += if near { step % 3000 } else { step };
                if let Some(first) = model.iter().min() {
                    // It never sleeps past the first due time (an item already due comes with the next tick).
                    prop_assert!(world.wheel.next_due().unwrap().0 <= (*first).max(world.wheel.now_ms + 1));
                }
                let mut out = world.drain(now);
                out.sort_unstable();
                let hand = world.wheel.now_ms;
                let (mut due_now, rest): (Vec<u64>, Vec<u64>) = model.iter().partition(|due| **due <= hand);
                due_now.sort_unstable();
                // An item inserted as already due may come one tick late, never later.
                let late: Vec<u64> = due_now.iter().filter(|due| !out.contains(due)).copied().collect();
                prop_assert!(late.iter().all(|_| now == hand));
                model = rest;
                model.extend(late);
                prop_assert!(out.iter().all(|due| *due <= now));
                prop_assert_eq!(world.slab.len(), model.len());
            }
            now += 1 << 40;
            world.drain(now);
            prop_assert_eq!(world.slab.len(), 0);
        }
    }
}
