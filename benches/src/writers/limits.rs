//! What the spool is expected to reach, and whether it did.
//!
//! It owns the limits with their units. A ratio is taken within each round, between runs that were seconds apart, and then the median of
//! the rounds; so a disk that is slower for a minute does not decide. What was not measured is neither reached nor missed.

use reports::run::Latency;
use serde::{Deserialize, Serialize};

use super::plan::Contender;
use super::run::Cell;

/// Writers of the cells that the limits are about.
pub const WRITERS: usize = 64;
/// Who has to reach them; the first is the default on a file system that takes direct writes.
pub const SUBJECTS: [Contender; 4] = [
    Contender::SpoolUring,
    Contender::SpoolUringBuffered,
    Contender::SpoolThreads,
    Contender::SpoolTokioUring,
];

const SMALL_BYTES: u64 = 1_000;
const LARGE_BYTES: u64 = 100_000;

/// Median of the rounds, and their extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

/// Which side of a value is good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bound {
    /// Whether the median is on the good side.
    pub fn is_reached(self, measured: Spread) -> bool {
        match self {
            Self::AtLeast(bound) => measured.median >= bound,
            Self::AtMost(bound) => measured.median <= bound,
        }
    }
}

/// A limit, and what each subject measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    /// What is measured, with its unit.
    pub what: &'static str,
    /// Where it should be.
    pub bound: Bound,
    /// In the order of [`SUBJECTS`].
    pub measured: Vec<Option<Spread>>,
}

/// All limits, from all cells.
pub fn limits(cells: &[Cell]) -> Vec<Limit> {
    let rate = |cell: &Cell| cell.appends_per_second;
    let bandwidth = |cell: &Cell| cell.bytes_per_second;
    let p99_ms = |cell: &Cell| milliseconds(cell.latency_us);
    let cpu = |cell: &Cell| cell.cpu_us_per_append;
    let (files, disk) = (Some(Contender::FilesSynced), Some(Contender::LargeOverwrites));
    let limit = |what, bound, body_bytes, value: &dyn Fn(&Cell) -> f64, against| {
        let measured = SUBJECTS.map(|subject| spread(cells, body_bytes, subject, value, against));
        Limit { what, bound, measured: measured.into() }
    };
    vec![
        limit("100 KB: bandwidth, of 4 MiB overwrites", Bound::AtLeast(0.45), LARGE_BYTES, &bandwidth, disk),
        limit("100 KB: rate, of a synced file per message", Bound::AtLeast(3.5), LARGE_BYTES, &rate, files),
        limit("1 KB: rate, of a synced file per message", Bound::AtLeast(9.0), SMALL_BYTES, &rate, files),
        limit(
            "1 KB: appends/s, on the development machine",
            Bound::AtLeast(150_000.0),
            SMALL_BYTES,
            &rate,
            None,
        ),
        limit("1 KB: p99 in ms", Bound::AtMost(1.0), SMALL_BYTES, &p99_ms, None),
        limit("100 KB: p99 in ms", Bound::AtMost(6.0), LARGE_BYTES, &p99_ms, None),
        limit("1 KB: CPU per append in us", Bound::AtMost(5.0), SMALL_BYTES, &cpu, None),
        limit("100 KB: CPU per append in us", Bound::AtMost(35.0), LARGE_BYTES, &cpu, None),
    ]
}

fn milliseconds(latency: Latency) -> f64 {
    latency.p99 / 1000.0
}

/// The value of the subject's rounds, each over that of `against` in the same round if there is one.
fn spread(
    cells: &[Cell],
    body_bytes: u64,
    subject: Contender,
    value: &dyn Fn(&Cell) -> f64,
    against: Option<Contender>,
) -> Option<Spread> {
    let of = |contender| {
        cells.iter().filter(move |cell| {
            (cell.contender, cell.body_bytes, cell.writers) == (contender, body_bytes, WRITERS)
        })
    };
    Spread::of(of(subject).filter_map(|cell| match against {
        None => Some(value(cell)),
        Some(other) => {
            let other = of(other).find(|other| other.round == cell.round)?;
            (value(other) > 0.0).then(|| value(cell) / value(other))
        }
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::writers) fn cell(contender: Contender, body_bytes: u64, round: u32, rate: f64) -> Cell {
        let latency_us = Latency { p50: 400.0, p90: 600.0, p99: 900.0, p99_9: 2000.0, max: 12_345.0 };
        Cell {
            contender,
            body_bytes,
            writers: WRITERS,
            round,
            seconds: 1.0,
            appends: 1000,
            appends_per_second: rate,
            bytes_per_second: rate * contender.append_bytes(body_bytes) as f64,
            latency_us,
            cpu_us_per_append: 4.0,
            writer_cpu_us_per_append: Some(1.5),
            appends_per_batch: Some(33.0),
            segments_made: 0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let (spool, files) = (Contender::SpoolUring, Contender::FilesSynced);
        // In the second round the whole disk was ten times slower.
        let rounds = [(1, 100_000.0, 10_000.0), (2, 10_000.0, 1_000.0), (3, 120_000.0, 10_000.0)];
        let cells: Vec<Cell> = rounds
            .iter()
            .flat_map(|(round, ours, theirs)| {
                [cell(spool, 1000, *round, *ours), cell(files, 1000, *round, *theirs)]
            })
            .collect();
        let found = limits(&cells);
        let ratio =
            found.iter().find(|limit| limit.what.starts_with("1 KB: rate")).map(|limit| limit.measured[0]);
        assert_eq!(ratio, Some(Some(Spread { median: 10.0, min: 10.0, max: 12.0 })));
        let unmeasured = found.iter().filter(|limit| limit.measured[0].is_none()).count();
        assert_eq!(unmeasured, 4, "nothing was measured with 100 KB");
        assert!(found.iter().all(|limit| limit.measured[1].is_none()));
    }

    #[test]
    fn a_limit_has_a_good_side() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0]);
        assert_eq!(spread, Some(Spread { median: 2.5, min: 1.0, max: 10.0 }));
        assert!(spread.is_some_and(|spread| Bound::AtLeast(2.5).is_reached(spread)));
        assert!(spread.is_some_and(|spread| !Bound::AtMost(2.4).is_reached(spread)));
        assert_eq!(Spread::of([]), None);
    }
}
