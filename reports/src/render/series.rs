//! What the charts draw: runs in groups of one body size, latency spectra, rates, latencies over time.
//!
//! It owns the reading of histogram files for the page; each is read once. Where a file cannot be read it falls back to the five
//! recorded percentiles and says so.

use super::format;
use super::view::{Place, View};
use crate::latency::{self, Interval};
use crate::results::Side;
use crate::run::{Kind, Latency, Record, Run};

/// Points drawn of one line over time at most; longer runs are averaged down to it.
const TIME_POINTS_MAX: usize = 240;

/// Points of a spectrum for each halving of the distance to 100 %.
const SPECTRUM_TICKS: u32 = 5;

/// Seconds in which few values fall do not draw a tail: HDR's axis ends here at the latest.
const INVERSE_MAX: f64 = 1e6;

/// Columns of a heat map at most.
const HEAT_COLUMNS_MAX: usize = 48;

/// Rows of a heat map for each factor of ten.
pub(super) const HEAT_ROWS_PER_DECADE: usize = 6;

/// Messages by time and latency: columns of counts, each from the lowest row up.
#[derive(Default)]
pub(super) struct Heat {
    pub(super) seconds: f64,
    /// The lowest row begins at this power of ten of microseconds, times [`HEAT_ROWS_PER_DECADE`].
    pub(super) first_row: usize,
    pub(super) columns: Vec<Vec<u64>>,
}

/// A run with what its lines need.
pub(super) struct Drawn<'v> {
    pub(super) run: &'v Run,
    /// Index of its record.
    pub(super) entry: usize,
    /// Kind or tier, for the legend.
    pub(super) class: String,
    pub(super) tier: usize,
    /// Points (1/(1 - quantile), microseconds).
    pub(super) inject: Vec<(f64, f64)>,
    /// Points (1/(1 - quantile), microseconds).
    pub(super) end_to_end: Vec<(f64, f64)>,
    /// Points (seconds since the start, messages per second).
    pub(super) rate: Vec<(f64, f64)>,
    /// Points (seconds since the start, p99 in microseconds) of what arrived then.
    pub(super) latency: Vec<(f64, f64)>,
    pub(super) heat: Heat,
    /// The whole end-to-end histogram as text, for the data in the page.
    pub(super) histogram: Option<String>,
}

/// All runs of one body size, kumod first.
pub(super) struct Group<'v> {
    pub(super) body_bytes: u64,
    pub(super) runs: Vec<Drawn<'v>>,
}

/// The runs that are drawn, by body size, and what could not be read. Where colours tell tiers apart, only runs
/// through kumod are drawn.
pub(super) fn groups<'v>(view: &'v View<'_>) -> (Vec<Group<'v>>, Vec<String>) {
    let mut complaints = Vec::new();
    let mut groups: Vec<Group<'v>> = Vec::new();
    let is_drawn = |run: &Run| run.is_at_full_rate() && (!view.by_tier() || run.kind == Kind::Kumod);
    let mut runs: Vec<(&Run, &Place<'_>)> = view.runs().filter(|(run, _)| is_drawn(run)).collect();
    runs.sort_by_key(|(run, place)| (run.body_bytes, order(run.kind), place.tier));
    for (run, place) in runs {
        let drawn = draw(view, run, place, &mut complaints);
        match groups.last_mut().filter(|group| group.body_bytes == run.body_bytes) {
            Some(group) => group.runs.push(drawn),
            None => groups.push(Group { body_bytes: run.body_bytes, runs: vec![drawn] }),
        }
    }
    (groups, complaints)
}

/// Runs by body size, then kumod, floor, direct, then as recorded.
pub(super) fn ordered(record: &Record) -> Vec<&Run> {
    let mut runs: Vec<&Run> = record.runs.iter().collect();
    runs.sort_by_key(|run| (run.body_bytes, order(run.kind)));
    runs
}

/// The order in which kinds stand side by side.
pub(super) fn order(kind: Kind) -> u8 {
    match kind {
        Kind::Kumod => 0,
        Kind::Floor => 1,
        Kind::Direct => 2,
    }
}

fn draw<'v>(view: &View<'_>, run: &'v Run, place: &Place<'_>, complaints: &mut Vec<String>) -> Drawn<'v> {
    let mut drawn = Drawn {
        run,
        entry: place.entry,
        class: view.class(run, place),
        tier: place.tier,
        inject: Vec::new(),
        end_to_end: Vec::new(),
        rate: Vec::new(),
        latency: Vec::new(),
        heat: Heat::default(),
        histogram: None,
    };
    if !place.is_shown {
        return drawn;
    }
    let entry = &view.entries[place.entry];
    let mut intervals = |side| {
        entry.intervals(place.original, side).unwrap_or_else(|reason| {
            complaints
                .push(format!("{}: {reason}. The chart shows the five recorded percentiles.", run.name));
            None
        })
    };
    let (inject, end_to_end) = (intervals(Side::Inject), intervals(Side::EndToEnd));
    drawn.inject = points(inject.as_deref(), run.latency_us.inject, run.delivered).0;
    (drawn.end_to_end, drawn.histogram) =
        points(end_to_end.as_deref(), run.latency_us.end_to_end, run.delivered);
    let over_time = end_to_end.or(inject).unwrap_or_default();
    drawn.latency = over_time_p99(&over_time);
    if run.kind == Kind::Kumod {
        drawn.heat = heat(&over_time);
    }
    drawn.rate = rate(&run.rate_per_second);
    drawn
}

/// The spectrum of the intervals, or else of the five recorded numbers; and the whole histogram as text.
fn points(
    intervals: Option<&[Interval]>,
    recorded_us: Option<Latency>,
    values: u64,
) -> (Vec<(f64, f64)>, Option<String>) {
    let Some(intervals) = intervals else {
        return (recorded(recorded_us, values), None);
    };
    let sum = latency::merge(intervals);
    let mut points: Vec<(f64, f64)> = latency::spectrum(&sum, SPECTRUM_TICKS)
        .map(|point| (point.inverse(sum.len()).min(INVERSE_MAX), point.latency_us.max(1.0)))
        .collect();
    // The last steps of the iteration share one value and one place.
    points.dedup();
    (points, Some(latency::to_text(&sum)))
}

/// The spectrum as far as five numbers tell it.
fn recorded(latency: Option<Latency>, values: u64) -> Vec<(f64, f64)> {
    let Some(Latency { p50, p90, p99, p99_9, max }) = latency else {
        return Vec::new();
    };
    let largest = (values as f64).clamp(1000.0, INVERSE_MAX);
    let points = [(2.0, p50), (10.0, p90), (100.0, p99), (1000.0, p99_9), (largest, max)];
    points.into_iter().map(|(x, us)| (x, us.max(1.0))).collect()
}

/// The middle of each second and its rate, averaged where there are too many.
fn rate(per_second: &[f64]) -> Vec<(f64, f64)> {
    let width = per_second.len().div_ceil(TIME_POINTS_MAX).max(1);
    let chunks = per_second.chunks(width).enumerate();
    chunks
        .map(|(index, chunk)| {
            let middle = (index * width) as f64 + chunk.len() as f64 / 2.0;
            (middle, chunk.iter().sum::<f64>() / chunk.len() as f64)
        })
        .collect()
}

/// The 99th percentile of what arrived in each interval; neighbours are joined where there are too many.
fn over_time_p99(intervals: &[Interval]) -> Vec<(f64, f64)> {
    let width = intervals.len().div_ceil(TIME_POINTS_MAX).max(1);
    let chunks =
        intervals.chunks(width).filter(|chunk| chunk.iter().any(|interval| !interval.histogram.is_empty()));
    chunks
        .filter_map(|chunk| {
            let (first, last) = (chunk.first()?, chunk.last()?);
            let middle = (first.offset + last.offset + last.length).as_secs_f64() / 2.0;
            let p99 = match chunk {
                [one] => one.histogram.value_at_quantile(0.99),
                several => latency::merge(several).value_at_quantile(0.99),
            };
            Some((middle, (p99 as f64).max(1.0)))
        })
        .collect()
}

fn heat(intervals: &[Interval]) -> Heat {
    let width = intervals.len().div_ceil(HEAT_COLUMNS_MAX).max(1);
    let row_of = |us: u64| format::index((us.max(1) as f64).log10() * HEAT_ROWS_PER_DECADE as f64);
    let mut columns: Vec<Vec<u64>> = Vec::new();
    for chunk in intervals.chunks(width) {
        let mut column = Vec::new();
        for value in chunk.iter().flat_map(|interval| interval.histogram.iter_recorded()) {
            let row = row_of(value.value_iterated_to());
            if column.len() <= row {
                column.resize(row + 1, 0);
            }
            column[row] += value.count_since_last_iteration();
        }
        columns.push(column);
    }
    let lowest = |column: &Vec<u64>| column.iter().position(|count| *count > 0);
    let first_row = columns.iter().filter_map(lowest).min().unwrap_or(0);
    columns.iter_mut().for_each(|column| drop(column.drain(..first_row.min(column.len()))));
    let end = intervals.last().map(|last| (last.offset + last.length).as_secs_f64());
    Heat { seconds: end.unwrap_or(0.0), first_row, columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_averaged() {
        let points = rate(&vec![3.0; 3600]);
        assert_eq!(points.len(), TIME_POINTS_MAX);
        assert!(points.iter().all(|(_, rate)| *rate == 3.0));
        assert_eq!(rate(&[1.0, 2.0]), [(0.5, 1.0), (1.5, 2.0)]);
        assert!(rate(&[]).is_empty());
    }

    #[test]
    fn heat_counts_every_message_once() {
        let second = std::time::Duration::from_secs(1);
        let intervals: Vec<Interval> = (0..100_u32)
            .map(|at| {
                let mut histogram = latency::new_histogram();
                (0..50_u64).for_each(|n| latency::record_ns(&mut histogram, (1 + n) * 1_000_000));
                Interval { offset: second * at, length: second, histogram }
            })
            .collect();
        let heat = heat(&intervals);
        assert!(heat.columns.len() <= HEAT_COLUMNS_MAX);
        assert_eq!(heat.columns.iter().flatten().sum::<u64>(), 5000);
        assert_eq!(heat.first_row, 3 * HEAT_ROWS_PER_DECADE);
        assert_eq!(heat.seconds, 100.0);
    }
}
