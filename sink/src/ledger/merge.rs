//! The tables of all workers for one run, seen as one.
//!
//! Owns the questions that no worker can answer alone: which deliveries two of them have both had, which
//! numbers are missing and when they were due, for how many recipients each number has arrived. Works on
//! copies and takes time in proportion to the tables. Lists end at named limits and say so.

use std::collections::{BTreeMap, BTreeSet};

use super::chunk::{Chunk, NOBODY, NUMBERS};
use super::{Ledger, Plane, place};

/// Ranges that a report lists before it says that it was cut.
const RANGES_MAX: usize = 100_000;

/// Repeats across workers that are listed one by one.
const REPEATS_MAX: usize = 10_000;

/// The tables of all workers for one run, seen as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Different pairs of number and recipient.
    pub(crate) distinct: u64,
    /// Pairs that more than one worker has, each counted once less than it was seen: duplicates that no
    /// worker could see alone.
    pub(crate) shared: u64,
    /// The first of them, in the order of their numbers.
    pub(crate) repeats: Vec<Repeat>,
    /// Ranges of numbers that have arrived, both ends included, in order.
    pub(crate) had: Vec<(u64, u64)>,
    /// When the first and the last number of each range arrived, in nanoseconds.
    pub(crate) had_ns: Vec<(u64, u64)>,
    /// Ranges of numbers that have arrived for more than one recipient, and for how many.
    pub(crate) several: Vec<(u64, u64, u64)>,
    /// Whether there were more ranges than the limit.
    pub(crate) cut: bool,
}

/// A delivery that two workers have both had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) sequence: u64,
    pub(crate) recipient: u32,
    pub(crate) first_ns: u64,
    pub(crate) again_ns: u64,
}

/// One delivery of a number: recipient and time.
type Delivery = (u32, u64);

impl Merged {
    /// The gaps below the highest number seen.
    pub(crate) fn missing(&self) -> Vec<(u64, u64)> {
        let mut next = 0;
        let mut gaps = Vec::new();
        for &(first, last) in &self.had {
            if first > next {
                gaps.push((next, first - 1));
            }
            next = last.saturating_add(1);
        }
        gaps
    }

    /// For each of the gaps when its neighbours arrived, the one below and the one above.
    pub(crate) fn missing_ns(&self) -> Vec<(Option<u64>, u64)> {
        let below = self.had_ns.iter().map(|edge| Some(edge.1));
        let edges = std::iter::once(None).chain(below).zip(&self.had_ns);
        let gaps = edges.map(|(below, above)| (below, above.0));
        match self.had.first() {
            // Nothing is missing below number 0.
            Some((0, _)) => gaps.skip(1).collect(),
            _ => gaps.collect(),
        }
    }

    fn push(&mut self, sequence: u64) {
        let full = self.had.len() == RANGES_MAX;
        match self.had.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(sequence) => *last = sequence,
            _ if full => self.cut = true,
            _ => self.had.push((sequence, sequence)),
        }
    }

    fn push_several(&mut self, sequence: u64, recipients: u64) {
        let full = self.several.len() == RANGES_MAX;
        match self.several.last_mut() {
            Some((_, last, count)) if *last + 1 == sequence && *count == recipients => *last = sequence,
            _ if full => self.cut = true,
            _ => self.several.push((sequence, sequence, recipients)),
        }
    }

    /// Adds a number that has arrived several times, for one recipient or for more; sorts its deliveries.
    fn add(&mut self, sequence: u64, deliveries: &mut [Delivery]) {
        deliveries.sort_unstable();
        let others = deliveries.windows(2).filter(|pair| pair[0].0 != pair[1].0).count() as u64;
        for pair in deliveries.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            self.shared += 1;
            if self.repeats.len() < REPEATS_MAX {
                let [(recipient, first_ns), (_, again_ns)] = [pair[0], pair[1]];
                self.repeats.push(Repeat { sequence, recipient, first_ns, again_ns });
            }
        }
        self.push(sequence);
        if others > 0 {
            self.push_several(sequence, others + 1);
        }
    }
}

/// Puts the tables of all workers together.
pub(crate) fn merge(ledgers: &[Ledger]) -> Merged {
    let mut merged = Merged::default();
    let mut deliveries = Vec::new();
    for index in indexes(ledgers) {
        let first = index * NUMBERS as u64;
        let chunks = chunks_at(index, ledgers);
        let further = further_at(first, ledgers);
        for offset in 0..NUMBERS {
            let sequence = first + offset as u64;
            // Whoever is beside the tables has a place in the first of them, too.
            match chunks.iter().filter(|chunk| chunk.recipient(offset) != NOBODY).count() {
                0 => {}
                1 if further.is_empty() => merged.push(sequence),
                _ => {
                    deliveries.clear();
                    deliveries.extend(chunks.iter().filter_map(|chunk| delivery(chunk, offset)));
                    deliveries.extend(further.get(&sequence).into_iter().flatten());
                    merged.add(sequence, &mut deliveries);
                }
            }
        }
    }
    let pairs: usize = ledgers.iter().map(Ledger::pairs).sum();
    merged.distinct = pairs as u64 - merged.shared;
    let arrived_ns = |sequence| arrived_ns(sequence, ledgers);
    merged.had_ns = merged.had.iter().map(|range| (arrived_ns(range.0), arrived_ns(range.1))).collect();
    merged
}

/// When a number that has arrived did so for the first time.
fn arrived_ns(sequence: u64, ledgers: &[Ledger]) -> u64 {
    let (index, offset) = place(sequence);
    let deliveries = chunks_at(index, ledgers).into_iter().filter_map(|chunk| delivery(chunk, offset));
    deliveries.map(|delivery| delivery.1).min().unwrap_or(0)
}

fn delivery(chunk: &Chunk, offset: usize) -> Option<Delivery> {
    let recipient = chunk.recipient(offset);
    (recipient != NOBODY).then(|| (recipient, chunk.arrived_ns(offset)))
}

/// For each chunk that any worker has: its index and a bit per number, the lowest number in the lowest bit of
/// the first byte.
pub(crate) fn bitmaps(ledgers: &[Ledger]) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
    indexes(ledgers).into_iter().map(|index| {
        let chunks = chunks_at(index, ledgers);
        let mut bits = vec![0; NUMBERS / 8];
        for offset in 0..NUMBERS {
            if chunks.iter().any(|chunk| chunk.recipient(offset) != NOBODY) {
                bits[offset / 8] |= 1 << (offset % 8);
            }
        }
        (index, bits)
    })
}

fn indexes(ledgers: &[Ledger]) -> BTreeSet<u64> {
    ledgers.iter().flat_map(|ledger| &ledger.planes).flat_map(Plane::keys).copied().collect()
}

fn chunks_at(index: u64, ledgers: &[Ledger]) -> Vec<&Chunk> {
    let planes = ledgers.iter().flat_map(|ledger| &ledger.planes);
    planes.filter_map(|plane| plane.get(&index)).map(AsRef::as_ref).collect()
}

/// What stands beside the tables for the chunk that begins with that number.
fn further_at(first: u64, ledgers: &[Ledger]) -> BTreeMap<u64, Vec<Delivery>> {
    let numbers = (first, 0)..=(first + (NUMBERS as u64 - 1), u32::MAX);
    let mut further: BTreeMap<u64, Vec<Delivery>> = BTreeMap::new();
    for ledger in ledgers {
        for (&(sequence, recipient), &at_ns) in ledger.further.range(numbers.clone()) {
            further.entry(sequence).or_default().push((recipient, at_ns));
        }
    }
    further
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Seen;
    use super::*;

    const BUDGET: usize = 1000;

    #[test]
    fn gaps_are_listed_up_to_the_highest_number_with_the_times_of_their_neighbours() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        for sequence in (0..10_000u64).filter(|sequence| !matches!(sequence, 0 | 100 | 4095..=4097)) {
            let _ = ledger.insert(sequence, 1, sequence * 1_000, &mut left);
        }
        let merged = merge(&[ledger]);
        assert_eq!(merged.had, [(1, 99), (101, 4094), (4098, 9999)]);
        assert_eq!(merged.missing(), [(0, 0), (100, 100), (4095, 4097)]);
        let times = merged.missing_ns();
        assert_eq!((times[0], times[1]), ((None, 1_000), (Some(99_000), 101_000)));
        let (below, above) = times[2];
        assert!(below.is_some_and(|below| (4_090_000..=4_094_000).contains(&below)), "{below:?}");
        assert_eq!(above, 4_098_000);
    }

    #[test]
    fn a_delivery_that_two_workers_had_is_listed_with_both_times() {
        let mut ledgers = vec![Ledger::default(); 2];
        let mut left = BUDGET;
        let _ = ledgers[1].insert(5, 9, 1_000_000, &mut left);
        let _ = ledgers[0].insert(5, 9, 3_000_000, &mut left);
        let _ = ledgers[0].insert(5, 8, 4_000_000, &mut left);
        let merged = merge(&ledgers);
        let repeat = Repeat { sequence: 5, recipient: 9, first_ns: 1_000_000, again_ns: 3_000_000 };
        assert_eq!((merged.distinct, merged.shared, merged.repeats), (2, 1, vec![repeat]));
        assert_eq!(merged.several, [(5, 5, 2)]);
    }

    #[test]
    fn the_bitmap_has_a_bit_for_each_number_whoever_had_it() {
        let mut ledgers = vec![Ledger::default(); 2];
        let mut left = BUDGET;
        for (worker, sequence) in [(0, 0), (1, 9), (0, 9), (1, 4096)] {
            let _ = ledgers[worker].insert(sequence, 1, 0, &mut left);
        }
        let maps: Vec<(u64, Vec<u8>)> = bitmaps(&ledgers).collect();
        assert_eq!((maps[0].0, &maps[0].1[..3]), (0, &[1, 2, 0][..]));
        assert_eq!((maps[1].0, &maps[1].1[..2]), (1, &[1, 0][..]));
    }

    proptest! {
        #[test]
        fn workers_together_know_what_one_would(
            deliveries in proptest::collection::vec((0usize..3, 0u64..9000, 1u32..14), 0..300),
        ) {
            let mut ledgers = vec![Ledger::default(); 3];
            let (mut left, mut pairs, mut again) = (BUDGET, BTreeSet::new(), 0);
            for (now_us, &(worker, sequence, recipient)) in deliveries.iter().enumerate() {
                // Few numbers, so that some have more recipients than there are tables.
                let sequence = sequence / 3_000 * 4_000;
                let seen = ledgers[worker].insert(sequence, recipient, now_us as u64 * 1_000, &mut left);
                again += u64::from(matches!(seen, Seen::Again { .. }));
                pairs.insert((sequence, recipient));
            }
            let merged = merge(&ledgers);
            prop_assert_eq!(merged.distinct, pairs.len() as u64);
            prop_assert_eq!(merged.distinct + merged.shared + again, deliveries.len() as u64);
            prop_assert_eq!(merged.repeats.len() as u64, merged.shared);
            prop_assert!(merged.repeats.iter().all(|repeat| repeat.first_ns <= repeat.again_ns));
            let numbers: BTreeSet<u64> = pairs.iter().map(|pair| pair.0).collect();
            let listed: BTreeSet<u64> = merged.had.iter().flat_map(|&(first, last)| first..=last).collect();
            prop_assert_eq!(&numbers, &listed);
            for number in numbers {
                let recipients = pairs.iter().filter(|pair| pair.0 == number).count() as u64;
                let found = merged.several.iter().find(|range| (range.0..=range.1).contains(&number));
                prop_assert_eq!(found.map_or(1, |range| range.2), recipients);
            }
        }
    }
}
