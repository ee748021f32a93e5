//! Tells what was torn from what is damaged. A record says how far the log was durable when it was written, so a missing
//! sequence at or below that was promised to somebody. Pure: no I/O, cannot fail.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Scanned;
use crate::format::epoch_of;

/// Bytes of a segment without a record that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) segment: u32,
    pub(crate) generation: u64,
    pub(crate) range: Range<u64>,
}

/// What the gaps between records mean.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// Something was promised here and is no longer there.
    pub(crate) damaged: Vec<Region>,
    /// Writes that a crash cut short.
    pub(crate) torn: Vec<Region>,
}

/// Judges every gap, and lets count what is left of transactions that were durable once: the rest of them was damaged
/// since, and their other messages were promised, too.
pub(crate) fn judge(scanned: &mut [Scanned]) -> Judgement {
    let durable = durable_sequences(scanned);
    let was_durable = |sequence: u64| durable.get(&epoch_of(sequence)).is_some_and(|last| sequence <= *last);
    let present = Present::of(scanned);
    let mut judgement = Judgement::default();
    for segment in scanned {
        for gap in &segment.gaps {
            let missing = gap.from.or_else(|| gap.until.map(|until| until.saturating_sub(1)));
            let (number, generation) = (segment.header.number, segment.header.generation);
            let region = Region { segment: number, generation, range: gap.region.clone() };
            if missing.is_some_and(|sequence| was_durable(sequence) && !present.contains(sequence)) {
                judgement.damaged.push(region);
            } else if gap.until.is_some() || gap.evidence {
                judgement.torn.push(region);
            }
        }
        for (kind, entry) in std::mem::take(&mut segment.incomplete) {
            if was_durable(entry.sequence) {
                segment.kept.push(kind, entry);
            }
        }
    }
    judgement
}

/// The highest durable sequence of each opening, as far as any record knows.
fn durable_sequences(scanned: &[Scanned]) -> BTreeMap<u64, u64> {
    let mut durable: BTreeMap<u64, u64> = BTreeMap::new();
    for (epoch, sequence) in scanned.iter().flat_map(|segment| &segment.durable) {
        let known = durable.entry(*epoch).or_default();
        *known = (*known).max(*sequence);
    }
    durable
}

/// Sequences that verified in any segment, as ranges in order that do not overlap.
struct Present(Vec<Range<u64>>);

impl Present {
    fn of(scanned: &[Scanned]) -> Self {
        let mut runs: Vec<Range<u64>> =
            scanned.iter().flat_map(|segment| segment.runs.iter().cloned()).collect();
        runs.sort_unstable_by_key(|run| run.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(runs.len());
        for run in runs {
            match merged.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => merged.push(run),
            }
        }
        Self(merged)
    }

    fn contains(&self, sequence: u64) -> bool {
        let after = self.0.partition_point(|run| run.start <= sequence);
        after > 0 && self.0[after - 1].end > sequence
    }
}
