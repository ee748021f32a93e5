//! The answer to `GET /ledger/<run>`: everything that an audit needs to know about one run.
//!
//! Field names are a promise: programs read them. Times are nanoseconds of `CLOCK_MONOTONIC`. Every list has a limit;
//! a list that is shorter than its count was cut, and the counts stay true.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use message::traffic::RunId;
use serde::Serialize;

use crate::ledger::{Ledger, Repeat, bitmaps};
use crate::notes::{Corruption, Duplicate, Reorder};
use crate::stats::{MergedRun, by_run};
use crate::tally::{RunTally, Tally};

/// What has arrived of one run.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerReport {
    /// The run.
    pub run: String,
    /// Messages answered with 250; one for several recipients counts once.
    pub accepted: u64,
    /// Ranges of sequence numbers that have arrived, both ends included.
    pub had: Vec<(u64, u64)>,
    /// The gaps below the highest number that has arrived.
    pub missing: Vec<(u64, u64)>,
    /// For each gap, when the numbers below and above it arrived; null where there is none below.
    pub missing_between_ns: Vec<(Option<u64>, u64)>,
    /// Ranges of sequence numbers that have arrived for more than one recipient: first, last, recipients.
    pub several: Vec<(u64, u64, u64)>,
    /// Whether there were more ranges than an answer holds; then these lists end early, and `?format=bitmap`
    /// has all numbers.
    pub cut: bool,
    /// Different deliveries.
    pub distinct: u64,
    /// Deliveries seen again.
    pub duplicated: u64,
    /// Which they were, in the order of their numbers; the first of them where there were very many.
    pub duplicates: Vec<Duplicate>,
    /// Damaged messages.
    pub corrupted: u64,
    /// Which they were, in the order of their numbers; the first of them where there were very many.
    pub corruptions: Vec<Corruption>,
    /// Messages that arrived after a later one of the same connection of the generator.
    pub reordered: u64,
    /// Which they were, in the order of their numbers; the first of them where there were very many.
    pub reorders: Vec<Reorder>,
    /// Messages of connections whose order is not watched.
    pub order_unwatched: u64,
    /// Deliveries that the ledger had no room for.
    pub untracked: u64,
    /// The first arrival.
    pub first_ns: u64,
    /// The last arrival.
    pub last_ns: u64,
}

impl LedgerReport {
    /// `None` for a run that nobody has heard of.
    pub(crate) fn new(tallies: &[Tally], run: RunId) -> Option<Self> {
        let parts = by_run(tallies).remove(&run)?;
        let MergedRun { counts, merged, first_ns, last_ns, .. } = MergedRun::new(&parts);
        let reorders = reorders(&parts, &merged.repeats);
        let reorders_listed: usize = parts.iter().map(|part| part.reorders.all().len()).sum();
        Some(Self {
            run: run.to_string(),
            accepted: counts.accepted,
            missing: merged.missing(),
            missing_between_ns: merged.missing_ns(),
            several: merged.several,
            cut: merged.cut,
            distinct: merged.distinct,
            duplicated: counts.duplicated,
            duplicates: duplicates(&parts, &merged.repeats),
            corrupted: counts.corrupted,
            corruptions: sorted(&parts, |part| part.corruptions.all(), |note| (note.seq, note.at_ns)),
            reordered: counts.reordered - (reorders_listed - reorders.len()) as u64,
            reorders,
            order_unwatched: counts.order_unwatched,
            untracked: counts.untracked,
            first_ns,
            last_ns,
            had: merged.had,
        })
    }
}

/// The answer to `GET /ledger/<run>?format=bitmap`: the numbers alone, however scattered they are.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LedgerBitmap {
    run: String,
    /// Numbers in each chunk.
    chunk_numbers: u64,
    /// By the first number of the chunk: a bit for each number in base64, the lowest number in the lowest bit
    /// of the first byte. A chunk that is not there has had none.
    chunks: BTreeMap<u64, String>,
    untracked: u64,
}

impl LedgerBitmap {
    /// `None` for a run that nobody has heard of.
    pub(crate) fn new(tallies: &[Tally], run: RunId) -> Option<Self> {
        let parts = by_run(tallies).remove(&run)?;
        let ledgers: Vec<Ledger> = parts.iter().map(|part| part.ledger.clone()).collect();
        let chunk_numbers = Ledger::CHUNK_NUMBERS;
        let chunks =
            bitmaps(&ledgers).map(|(index, bits)| (index * chunk_numbers, STANDARD.encode(bits))).collect();
        let untracked = parts.iter().map(|part| part.counts.untracked).sum();
        Some(Self { run: run.to_string(), chunk_numbers, chunks, untracked })
    }
}

/// Those that one worker saw, and those that only two of them together did.
fn duplicates(parts: &[&RunTally], repeats: &[Repeat]) -> Vec<Duplicate> {
    let mut all = sorted(parts, |part| part.duplicates.all(), |note| (note.seq, note.again_ns));
    all.extend(repeats.iter().map(|repeat| Duplicate {
        seq: repeat.sequence,
        recipient: repeat.recipient,
        conn: None,
        first_ns: repeat.first_ns,
        first_connection: None,
        again_ns: repeat.again_ns,
        again_connection: None,
    }));
    all.sort_by_key(|note| (note.seq, note.again_ns));
    all
}

/// A message that came twice, by two workers, looked new to both; its second arrival is not a late first one.
fn reorders(parts: &[&RunTally], repeats: &[Repeat]) -> Vec<Reorder> {
    let mut all = sorted(parts, |part| part.reorders.all(), |note| (note.seq, note.at_ns));
    let is_repeat = |note: &Reorder| {
        let at = repeats.partition_point(|repeat| repeat.sequence < note.seq);
        let mut same = repeats[at..].iter().take_while(|repeat| repeat.sequence == note.seq);
        same.any(|repeat| note.at_ns.abs_diff(repeat.again_ns) <= note.at_ns.abs_diff(repeat.first_ns))
    };
    all.retain(|note| !is_repeat(note));
    all
}

fn sorted<T: Clone, K: Ord>(
    parts: &[&RunTally],
    notes: impl Fn(&RunTally) -> &[T],
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut all: Vec<T> = parts.iter().flat_map(|part| notes(part)).cloned().collect();
    all.sort_by_key(key);
    all
}
