//! Which sequence numbers of a run have arrived, and for whom.
//!
//! Owns, for one run on one worker, a table with one 32-bit fingerprint of the recipient per sequence
//! number, in chunks; further recipients of the same number go to a set beside it. A number seen again for
//! the same recipient is a duplicate. Numbers are chosen by the sender, so the table grows only while it is
//! dense and within a budget; what it refuses is counted as untracked, never guessed. Workers do not share
//! a table: [`merge`] finds what two of them have both seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Sequence numbers in one chunk.
const CHUNK_NUMBERS: usize = 4096;

/// Memory of one chunk, in bytes.
pub(crate) const CHUNK_BYTES: usize = CHUNK_NUMBERS * size_of::<u32>();

/// Chunks that a run may start without having filled others: a hostile sender gets a mebibyte.
const CHUNKS_FREE: usize = 64;

/// Numbers that must have arrived for each further chunk. Far below a full chunk, because each of many
/// workers sees only its share.
const NUMBERS_PER_CHUNK_MIN: usize = 16;

/// Pairs of number and recipient kept for numbers with more than one recipient, in pairs (about 100 bytes
/// each).
const FURTHER_PAIRS_MAX: usize = 1 << 20;

/// Ranges that a report lists before it says that it was cut.
pub(crate) const RANGES_MAX: usize = 100_000;

type Chunk = [u32; CHUNK_NUMBERS];

/// The table of one run on one worker. Cloning is cheap: chunks are shared until one side writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    chunks: BTreeMap<u64, Arc<Chunk>>,
    further: Arc<BTreeSet<(u64, u32)>>,
    pairs: usize,
}

/// What the ledger made of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    Again,
    /// The budget is spent, or the numbers are too far apart.
    Untracked,
}

impl Ledger {
    /// Notes one delivery. `chunks_left` is the budget of all runs and shrinks with each new chunk.
    pub(crate) fn insert(&mut self, sequence: u64, recipient: u32, chunks_left: &mut usize) -> Seen {
        let (index, offset) = place(sequence);
        let room = *chunks_left > 0 && self.chunks.len() < CHUNKS_FREE + self.pairs / NUMBERS_PER_CHUNK_MIN;
        let chunk = match self.chunks.get_mut(&index) {
            Some(chunk) => chunk,
            None if room => {
                *chunks_left -= 1;
                self.chunks.entry(index).or_insert_with(|| Arc::new([0; CHUNK_NUMBERS]))
            }
            None => return Seen::Untracked,
        };
        let slot = &mut Arc::make_mut(chunk)[offset];
        if *slot == recipient {
            return Seen::Again;
        }
        if *slot == 0 {
            *slot = recipient;
            self.pairs += 1;
            return Seen::New;
        }
        self.insert_further(sequence, recipient)
    }

    /// How many chunks the table holds.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// How many different pairs of number and recipient it holds.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    fn insert_further(&mut self, sequence: u64, recipient: u32) -> Seen {
        if self.further.contains(&(sequence, recipient)) {
            return Seen::Again;
        }
        if self.further.len() >= FURTHER_PAIRS_MAX {
            return Seen::Untracked;
        }
        Arc::make_mut(&mut self.further).insert((sequence, recipient));
        self.pairs += 1;
        Seen::New
    }
}

/// The tables of all workers for one run, seen as one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Different pairs of number and recipient.
    pub(crate) distinct: u64,
    /// Pairs that more than one worker has: duplicates that no worker could see alone.
    pub(crate) shared: u64,
    /// Ranges of numbers that have arrived, both ends included, in order.
    pub(crate) had: Vec<(u64, u64)>,
    /// Whether there were more ranges than the limit.
    pub(crate) cut: bool,
}

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

    fn push(&mut self, sequence: u64) {
        let full = self.had.len() == RANGES_MAX;
        match self.had.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(sequence) => *last = sequence,
            _ if full => self.cut = true,
            _ => self.had.push((sequence, sequence)),
        }
    }
}

/// Puts the tables of all workers together.
pub(crate) fn merge(ledgers: &[Ledger]) -> Merged {
    let mut merged = Merged::default();
    let indexes: BTreeSet<u64> = ledgers.iter().flat_map(|ledger| ledger.chunks.keys().copied()).collect();
    for index in indexes {
        let chunks: Vec<&Chunk> =
            ledgers.iter().filter_map(|ledger| ledger.chunks.get(&index)).map(AsRef::as_ref).collect();
        merged.shared += pairs_shared(index, &chunks, ledgers);
        for offset in 0..CHUNK_NUMBERS {
            if chunks.iter().any(|chunk| chunk[offset] != 0) {
                merged.push(index * CHUNK_NUMBERS as u64 + offset as u64);
            }
        }
    }
    let pairs: usize = ledgers.iter().map(Ledger::pairs).sum();
    merged.distinct = pairs as u64 - merged.shared;
    merged
}

/// How many pairs of this chunk more than one worker has, each counted once less than it was seen.
fn pairs_shared(index: u64, chunks: &[&Chunk], ledgers: &[Ledger]) -> u64 {
    let first = index * CHUNK_NUMBERS as u64;
    let numbers = (first, 0)..=(first + (CHUNK_NUMBERS as u64 - 1), u32::MAX);
    let further: Vec<(u64, u32)> =
        ledgers.iter().flat_map(|ledger| ledger.further.range(numbers.clone()).copied()).collect();
    match chunks {
        [_] if further.is_empty() => 0,
        [a, b] if further.is_empty() => {
            a.iter().zip(b.iter()).filter(|(left, right)| left == right && **left != 0).count() as u64
        }
        _ => pairs_repeated(first, chunks, further),
    }
}

fn pairs_repeated(first: u64, chunks: &[&Chunk], mut pairs: Vec<(u64, u32)>) -> u64 {
    for chunk in chunks {
        let used = chunk.iter().enumerate().filter(|(_, recipient)| **recipient != 0);
        pairs.extend(used.map(|(offset, recipient)| (first + offset as u64, *recipient)));
    }
    pairs.sort_unstable();
    pairs.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
}

/// The fingerprint of a recipient; the domain counts without case (RFC 5321 2.3.11). Never 0, which means
/// "nobody yet".
pub(crate) fn fingerprint(local: &str, domain: &str) -> u32 {
    let mut sum = crc32c::crc32c(local.as_bytes());
    for part in domain.as_bytes().chunks(64) {
        let mut lower = [b'@'; 65];
        lower[1..=part.len()].copy_from_slice(part);
        lower.make_ascii_lowercase();
        sum = crc32c::crc32c_append(sum, &lower[..=part.len()]);
    }
    sum.max(1)
}

fn place(sequence: u64) -> (u64, usize) {
    let numbers = CHUNK_NUMBERS as u64;
    (sequence / numbers, usize::try_from(sequence % numbers).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const BUDGET: usize = 1000;

    #[test]
    fn one_number_for_several_recipients_is_no_duplicate() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        let (ann, bob) = (fingerprint("ann", "example"), fingerprint("bob", "example"));
        assert_eq!(ledger.insert(7, ann, &mut left), Seen::New);
        assert_eq!(ledger.insert(7, bob, &mut left), Seen::New);
        assert_eq!(ledger.insert(7, fingerprint("ann", "EXAMPLE"), &mut left), Seen::Again);
        assert_eq!(ledger.insert(7, bob, &mut left), Seen::Again);
        assert_eq!(merge(&[ledger]), Merged { distinct: 2, shared: 0, had: vec![(7, 7)], cut: false });
    }

    #[test]
    fn gaps_are_listed_up_to_the_highest_number() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        for sequence in (0..10_000u64).filter(|sequence| !matches!(sequence, 0 | 100 | 4095..=4097)) {
            ledger.insert(sequence, 1, &mut left);
        }
        let merged = merge(&[ledger]);
        assert_eq!(merged.had, [(1, 99), (101, 4094), (4098, 9999)]);
        assert_eq!(merged.missing(), [(0, 0), (100, 100), (4095, 4097)]);
    }

    #[test]
    fn wild_numbers_cannot_take_the_memory() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        let untracked = (0..100_000u64)
            .filter(|step| {
                ledger.insert(step.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1, &mut left) == Seen::Untracked
            })
            .count();
        assert!(untracked > 90_000);
        assert!(ledger.chunks() < 100, "{}", ledger.chunks());
        assert_eq!(ledger.insert(u64::MAX, 1, &mut 0), Seen::Untracked);
        merge(&[ledger]).missing();
    }

    #[test]
    fn a_worker_that_sees_one_number_in_fifty_still_tracks_all() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        let tracked =
            (0..4_000_000u64).step_by(50).all(|sequence| ledger.insert(sequence, 1, &mut left) == Seen::New);
        assert!(tracked);
    }

    proptest! {
        #[test]
        fn workers_together_know_what_one_would(
            deliveries in proptest::collection::vec((0usize..3, 0u64..9000, 1u32..4), 0..300),
        ) {
            let mut ledgers = vec![Ledger::default(); 3];
            let (mut left, mut pairs, mut again) = (BUDGET, BTreeSet::new(), 0);
            for &(worker, sequence, recipient) in &deliveries {
                let seen = ledgers[worker].insert(sequence, recipient, &mut left);
                again += u64::from(seen == Seen::Again);
                pairs.insert((sequence, recipient));
            }
            let merged = merge(&ledgers);
            prop_assert_eq!(merged.distinct, pairs.len() as u64);
            prop_assert_eq!(merged.distinct + merged.shared + again, deliveries.len() as u64);
            let numbers: BTreeSet<u64> = pairs.iter().map(|pair| pair.0).collect();
            let listed: BTreeSet<u64> = merged.had.iter().flat_map(|&(first, last)| first..=last).collect();
            prop_assert_eq!(numbers, listed);
        }
    }
}
