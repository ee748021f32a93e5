//! A hierarchical timing wheel: mail that is not due yet, in order of its due time, at constant cost per message.
//!
//! Six levels of 64 slots, from one millisecond to two years. A slot is a plain list; a message moves down one level at most
//! five times in its life. Items due later than the wheel is wide wait in its last slot and are looked at again.

use crate::clock::UnixMs;

const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 6;
/// The span of the wheel in milliseconds: 2^36, a little over two years.
const SPAN_MS: u64 = 1 << (SLOT_BITS * LEVELS);
/// The furthest place from the hand: one slot of the last level short of a whole turn, so that it is never the hand's own slot.
const REACH_MS: u64 = SPAN_MS - (SPAN_MS >> SLOT_BITS);

/// Items that wait for their time.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Everything due up to here has been given out.
    now_ms: u64,
    levels: [Level<T>; LEVELS],
    count: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// Bit n is set when slot n holds something.
    occupied: u64,
    slots: [Vec<(UnixMs, T)>; SLOTS],
}

impl<T> Level<T> {
    fn new() -> Self {
        Self { occupied: 0, slots: std::array::from_fn(|_| Vec::new()) }
    }
}

impl<T> Wheel<T> {
    /// An empty wheel that starts to turn at `now`.
    pub fn new(now: UnixMs) -> Self {
        Self { now_ms: now.0, levels: std::array::from_fn(|_| Level::new()), count: 0 }
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Puts an item in. What is due already comes out with the next [`advance`](Self::advance).
    pub fn insert(&mut self, due: UnixMs, item: T) {
        self.count += 1;
        self.place(due, item);
    }

    fn place(&mut self, due: UnixMs, item: T) {
        // The slot at `now_ms` has been emptied already, so the earliest place is one tick on.
        let at = due.0.clamp(self.now_ms.saturating_add(1), self.now_ms.saturating_add(REACH_MS));
        let level = level_of(self.now_ms, at);
        let slot = slot_of(at, level);
        self.levels[level].slots[slot].push((due, item));
        self.levels[level].occupied |= 1 << slot;
    }

    /// A time before which nothing comes out; `None` when nothing waits. Never later than the first due time, perhaps earlier.
    pub fn next_due(&self) -> Option<UnixMs> {
        self.next_slot().map(|(at, _, _)| UnixMs(at))
    }

    /// Turns the wheel to `now` and gives out what is due, earlier slots first. A clock that went back gives nothing.
    pub fn advance(&mut self, now: UnixMs, mut take: impl FnMut(T)) {
        while let Some((at, level, slot)) = self.next_slot().filter(|(at, _, _)| *at <= now.0) {
            self.now_ms = self.now_ms.max(at);
            self.levels[level].occupied &= !(1 << slot);
            let items = std::mem::take(&mut self.levels[level].slots[slot]);
            for (due, item) in items {
                if due.0 <= self.now_ms {
                    self.count -= 1;
                    take(item);
                } else {
                    self.place(due, item);
                }
            }
        }
        self.now_ms = self.now_ms.max(now.0);
    }

    /// The occupied slot that comes first: when it is reached, its level and its place.
    fn next_slot(&self) -> Option<(u64, usize, usize)> {
        let candidates = self.levels.iter().enumerate().filter_map(|(level, content)| {
            if content.occupied == 0 {
                return None;
            }
            let shift = SLOT_BITS * level;
            let here = slot_of(self.now_ms, level);
            let ahead = content.occupied & (u64::MAX << here);
            let first = if ahead == 0 { content.occupied } else { ahead };
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

    fn drain(wheel: &mut Wheel<u64>, now: u64) -> Vec<u64> {
        let mut out = Vec::new();
        wheel.advance(UnixMs(now), |item| out.push(item));
        out
    }

    #[test]
    fn an_item_comes_out_at_its_time_and_not_before() {
        let mut wheel = Wheel::new(UnixMs(1_700_000_000_123));
        for delay in [0, 1, 63, 64, 65, 4095, 4096, 1_200_000, 86_400_000 * 7] {
            wheel.insert(UnixMs(1_700_000_000_123 + delay), delay);
        }
        assert_eq!(drain(&mut wheel, 1_700_000_000_124), [0, 1]);
        assert_eq!(drain(&mut wheel, 1_700_000_000_123 + 64), [63, 64]);
        assert_eq!(drain(&mut wheel, 1_700_000_000_123 + 1_199_999), [65, 4095, 4096]);
        assert_eq!(drain(&mut wheel, 1_700_000_000_123 + 1_200_000), [1_200_000]);
        assert_eq!(wheel.len(), 1);
        assert_eq!(drain(&mut wheel, 1_700_000_000_123 + 86_400_000 * 8), [86_400_000 * 7]);
        assert!(wheel.is_empty() && wheel.next_due().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn the_wheel_agrees_with_a_sorted_list(
            start in 0_u64..1 << 42,
            steps in proptest::collection::vec((0_u64..1 << 38, 0_u64..1 << 34, any::<bool>()), 1..60),
        ) {
            let mut wheel = Wheel::new(UnixMs(start));
            let mut model: Vec<u64> = Vec::new();
            let mut now = start;
            for (delay, step, near) in steps {
                let due = now + if near { delay % 5000 } else { delay };
                wheel.insert(UnixMs(due), due);
                model.push(due);
                now += if near { step % 3000 } else { step };
                if let Some(first) = model.iter().min() {
                    // It never sleeps past the first due time (an item already due comes with the next tick).
                    prop_assert!(wheel.next_due().unwrap().0 <= (*first).max(wheel.now_ms + 1));
                }
                let mut out = drain(&mut wheel, now);
                out.sort_unstable();
                let hand = wheel.now_ms;
                let (mut due_now, rest): (Vec<u64>, Vec<u64>) = model.iter().partition(|due| **due <= hand);
                due_now.sort_unstable();
                // An item inserted as already due may come one tick late, never later.
                let late: Vec<u64> = due_now.iter().filter(|due| !out.contains(due)).copied().collect();
                prop_assert!(late.iter().all(|_| now == hand));
                model = rest;
                model.extend(late);
                prop_assert!(out.iter().all(|due| *due <= now));
                prop_assert_eq!(wheel.len(), model.len());
            }
            now += 1 << 40;
            drain(&mut wheel, now);
            prop_assert!(wheel.is_empty());
        }
    }
}
