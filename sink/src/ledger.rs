//! Which sequence numbers of a run have arrived, for whom, and when.
//!
//! Owns, for one run on one worker, tables with one 32-bit fingerprint of a recipient per sequence number, in
//! chunks; the second recipient of a number goes to the second table and so on, and what is beyond
//! [`PLANES_MAX`] recipients goes to a set beside them. A number seen again for the same recipient is a
//! duplicate. Numbers are chosen by the sender, so the tables grow only while they are dense and within a
//! budget; what they refuse is counted as untracked, never guessed. Workers do not share a table:
//! [`merge`] finds what two of them have both seen.

mod chunk;
mod merge;

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk::{Chunk, NOBODY, NUMBERS};
pub(crate) use merge::{Merged, Repeat, bitmaps, merge};

/// Memory of one chunk, in bytes.
pub(crate) const CHUNK_BYTES: usize = size_of::<Chunk>();

/// Chunks that a run may start without having filled others: a hostile sender gets a mebibyte and a half.
const CHUNKS_FREE: usize = 64;

/// Numbers that must have arrived for each further chunk. Far below a full chunk, because each of many
/// workers sees only its share.
const NUMBERS_PER_CHUNK_MIN: usize = 16;

/// Recipients of one number that are kept in tables, looked through one after the other.
const PLANES_MAX: usize = 128;

/// Pairs of number and recipient kept beyond the tables, in pairs (about 100 bytes each).
const FURTHER_PAIRS_MAX: usize = 1 << 18;

/// The chunks of one recipient each per number, by number divided by the size of a chunk.
type Plane = BTreeMap<u64, Arc<Chunk>>;

/// The tables of one run on one worker. Cloning is cheap: chunks are shared until one side writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    planes: Vec<Plane>,
    /// With the time of the first arrival in nanoseconds.
    further: Arc<BTreeMap<(u64, u32), u64>>,
    chunks: usize,
    pairs: usize,
}

/// What the ledger made of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    New,
    /// It has arrived before, first at about that time.
    Again {
        first_ns: u64,
    },
    /// The budget is spent, or the numbers are too far apart.
    Untracked,
}

impl Ledger {
    /// Sequence numbers in one chunk.
    pub(crate) const CHUNK_NUMBERS: u64 = NUMBERS as u64;

    /// Notes one delivery. `chunks_left` is the budget of all runs and shrinks with each new chunk.
    pub(crate) fn insert(
        &mut self,
        sequence: u64,
        recipient: u32,
        now_ns: u64,
        chunks_left: &mut usize,
    ) -> Seen {
        // First, because a table may be made after a recipient has found its place beside the tables.
        if let Some(first_ns) = self.further.get(&(sequence, recipient)) {
            return Seen::Again { first_ns: *first_ns };
        }
        let (index, offset) = place(sequence);
        for number in 0..PLANES_MAX {
            let Some(chunk) = self.chunk(number, index, now_ns, chunks_left) else {
                if number == 0 {
                    return Seen::Untracked;
                }
                break;
            };
            let there = chunk.recipient(offset);
            if there == recipient {
                return Seen::Again { first_ns: chunk.arrived_ns(offset) };
            }
            if there == NOBODY {
                Arc::make_mut(chunk).set(offset, recipient, now_ns);
                self.pairs += 1;
                return Seen::New;
            }
        }
        self.insert_further(sequence, recipient, now_ns)
    }

    /// How many chunks the tables hold.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks
    }

    /// How many different pairs of number and recipient there are.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// The chunk where that number has its place, made where there is none and room for it.
    fn chunk(
        &mut self,
        plane: usize,
        index: u64,
        now_ns: u64,
        chunks_left: &mut usize,
    ) -> Option<&mut Arc<Chunk>> {
        if self.planes.len() <= plane {
            self.planes.push(Plane::new());
        }
        let room = *chunks_left > 0 && self.chunks < CHUNKS_FREE + self.pairs / NUMBERS_PER_CHUNK_MIN;
        match self.planes[plane].entry(index) {
            std::collections::btree_map::Entry::Occupied(entry) => Some(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) if room => {
                *chunks_left -= 1;
                self.chunks += 1;
                Some(entry.insert(Arc::new(Chunk::new(now_ns))))
            }
            std::collections::btree_map::Entry::Vacant(_) => None,
        }
    }

    fn insert_further(&mut self, sequence: u64, recipient: u32, now_ns: u64) -> Seen {
        if self.further.len() >= FURTHER_PAIRS_MAX {
            return Seen::Untracked;
        }
        Arc::make_mut(&mut self.further).insert((sequence, recipient), now_ns);
        self.pairs += 1;
        Seen::New
    }
}

/// The fingerprint of a recipient: CRC-32C of `local@domain` with the domain in lower case, which counts
/// without case (RFC 5321 2.3.11). Never 0, which means "nobody yet".
pub(crate) fn fingerprint(local: &str, domain: &str) -> u32 {
    let mut sum = crc32c::crc32c_append(crc32c::crc32c(local.as_bytes()), b"@");
    for part in domain.as_bytes().chunks(64) {
        let mut lower = [0; 64];
        lower[..part.len()].copy_from_slice(part);
        lower.make_ascii_lowercase();
        sum = crc32c::crc32c_append(sum, &lower[..part.len()]);
    }
    sum.max(1)
}

fn place(sequence: u64) -> (u64, usize) {
    let numbers = NUMBERS as u64;
    (sequence / numbers, usize::try_from(sequence % numbers).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 1000;

    #[test]
    fn one_number_for_several_recipients_is_no_duplicate() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        let (ann, bob) = (fingerprint("ann", "example"), fingerprint("bob", "example"));
        assert_eq!(ledger.insert(7, ann, 1_000, &mut left), Seen::New);
        assert_eq!(ledger.insert(7, bob, 5_000, &mut left), Seen::New);
        let again = ledger.insert(7, fingerprint("ann", "EXAMPLE"), 9_000, &mut left);
        assert_eq!(again, Seen::Again { first_ns: 1_000 });
        assert_eq!(ledger.insert(7, bob, 9_000, &mut left), Seen::Again { first_ns: 5_000 });
        assert_eq!((ledger.pairs(), ledger.chunks()), (2, 2));
    }

    #[test]
    fn a_message_for_hundreds_is_tracked_for_each() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        for sequence in 0..10 {
            let new =
                (1..=300).all(|recipient| ledger.insert(sequence, recipient, 0, &mut left) == Seen::New);
            assert!(new);
        }
        let again = (1..=300)
            .all(|recipient| ledger.insert(3, recipient, 0, &mut left) == Seen::Again { first_ns: 0 });
        assert!(again);
        assert_eq!((ledger.pairs(), merge(&[ledger]).distinct), (3000, 3000));
    }

    #[test]
    fn the_fingerprint_is_the_sum_of_the_address() {
        assert_eq!(fingerprint("ann", "Example.ORG"), crc32c::crc32c(b"ann@example.org"));
        let long = "d".repeat(200);
        assert_eq!(fingerprint("ann", &long), crc32c::crc32c(format!("ann@{long}").as_bytes()));
    }

    #[test]
    fn wild_numbers_cannot_take_the_memory() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        let untracked = (0..100_000u64)
            .filter(|step| {
                let sequence = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                ledger.insert(sequence, 1, 0, &mut left) == Seen::Untracked
            })
            .count();
        assert!(untracked > 90_000);
        assert!(ledger.chunks() < 100, "{}", ledger.chunks());
        assert_eq!(ledger.insert(u64::MAX, 1, 0, &mut 0), Seen::Untracked);
        merge(&[ledger]).missing();
    }

    #[test]
    fn a_worker_that_sees_one_number_in_fifty_still_tracks_all() {
        let (mut ledger, mut left) = (Ledger::default(), BUDGET);
        let tracked = (0..4_000_000u64)
            .step_by(50)
            .all(|sequence| ledger.insert(sequence, 1, 0, &mut left) == Seen::New);
        assert!(tracked);
    }

    #[test]
    fn a_message_costs_six_bytes() {
        const { assert!(CHUNK_BYTES <= NUMBERS * 6 + 8) };
    }
}
