//! Results over time: where a number changed for good, and with which commit.
//!
//! It owns the series, one for each metric of each tier and workload on one kind of machine, in the order in which the runs
//! began. It refuses to join what was measured on different machines. Disturbed runs are left out and counted; a series
//! that is too short has no change points, and says so.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compare::cell_of;
use crate::disturbance::disturbances;
use crate::metrics::Metric;
use crate::results::Entry;
use crate::run::{Kind, Run};
use crate::stats::{Changes, median_of};
use crate::words;

/// Values of a series without which no change is looked for.
pub const VALUES_MIN: usize = 6;

/// A change and where it came in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The commit of the first run after the change; `None` is unknown.
    pub commit: Option<String>,
    /// The commit of the last run before it.
    pub commit_before: Option<String>,
    /// The first run after the change.
    pub run_id: String,
    /// When that run began.
    pub started_utc: String,
    /// Median before.
    pub before: f64,
    /// Median after.
    pub after: f64,
    /// `after / before - 1`.
    pub relative: f64,
    /// How often chance makes such a change.
    pub probability: f64,
}

/// One metric over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// The machine in one word, [`crate::machine::Machine::tier_key`].
    pub machine: String,
    /// Tier, body size and what else tells this workload from others.
    pub cell: String,
    /// [`Metric::name`].
    pub metric: &'static str,
    /// [`Metric::unit`].
    pub unit: &'static str,
    /// Runs that count.
    pub values: usize,
    /// Runs that were left out because somebody disturbed them.
    pub disturbed: usize,
    /// The newest value.
    pub newest: f64,
    /// What changed, oldest first.
    pub changes: Vec<Change>,
}

struct Point<'r> {
    entry: &'r Entry,
    value: f64,
}

type Key = (String, String);

/// The series of a metric in these records.
pub fn series(entries: &[Entry], metric: &'static Metric, rule: &Changes) -> Vec<Series> {
    let mut ordered: Vec<&Entry> = entries.iter().collect();
    // Times are RFC 3339 in UTC: their order is that of the text.
    ordered.sort_by(|a, b| {
        (&a.record.started_utc, &a.record.run_id).cmp(&(&b.record.started_utc, &b.record.run_id))
    });
    let mut points: BTreeMap<Key, (Vec<Point<'_>>, usize)> = BTreeMap::new();
    for entry in ordered {
        for (key, (mut values, disturbed)) in of_record(entry, metric) {
            let (series, left_out) = points.entry(key).or_default();
            *left_out += disturbed;
            if !values.is_empty() {
                series.push(Point { entry, value: median_of(&mut values) });
            }
        }
    }
    let drawn = points.into_iter().filter(|(_, (points, _))| !points.is_empty());
    drawn
        .map(|((machine, cell), (points, disturbed))| one(machine, cell, &points, disturbed, metric, rule))
        .collect()
}

/// Values of one record by series: a record may hold several runs of one kind.
fn of_record(entry: &Entry, metric: &Metric) -> BTreeMap<Key, (Vec<f64>, usize)> {
    let machine = &entry.record.machine;
    let mut values: BTreeMap<Key, (Vec<f64>, usize)> = BTreeMap::new();
    for run in entry.record.runs.iter().filter(|run| run.kind == Kind::Kumod) {
        let Some(value) = metric.of(run) else { continue };
        let place = values.entry((machine.tier_key(&run.tier), cell_of(run))).or_default();
        if is_quiet(entry, run) { place.0.push(value) } else { place.1 += 1 }
    }
    values
}

fn is_quiet(entry: &Entry, run: &Run) -> bool {
    disturbances(run, entry.record.machine.cpu.online.map_or(run.tier.cpus, f64::from)).is_empty()
}

fn one(
    machine: String,
    cell: String,
    points: &[Point<'_>],
    disturbed: usize,
    metric: &'static Metric,
    rule: &Changes,
) -> Series {
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let found = if values.len() < VALUES_MIN { Vec::new() } else { rule.find(&values) };
    let commit = |at: usize| points.get(at).and_then(|point| point.entry.record.software.git_commit.clone());
    let changes = found.into_iter().filter_map(|change| {
        let record = &points.get(change.index)?.entry.record;
        Some(Change {
            commit: commit(change.index),
            commit_before: change.index.checked_sub(1).and_then(commit),
            run_id: record.run_id.clone(),
            started_utc: record.started_utc.clone(),
            before: change.before,
            after: change.after,
            relative: change.relative(),
            probability: change.probability,
        })
    });
    Series {
        machine,
        cell,
        metric: metric.name,
        unit: metric.unit,
        values: values.len(),
        disturbed,
        newest: values.last().copied().unwrap_or(0.0),
        changes: changes.collect(),
    }
}

/// The series as text, one paragraph each.
pub fn render(all: &[Series]) -> String {
    let mut text = String::new();
    for series in all {
        let unit = series.unit;
        text.push_str(&words::one_line(&format!("{} of {}, {}", series.metric, series.machine, series.cell)));
        text.push_str(&format!(": {} runs, newest {} {unit}", series.values, words::digits(series.newest)));
        if series.disturbed > 0 {
            text.push_str(&format!(", {} left out because they were disturbed", series.disturbed));
        }
        text.push('\n');
        if series.values < VALUES_MIN {
            text.push_str(&format!("  too few to look for changes: {VALUES_MIN} are needed\n"));
        } else if series.changes.is_empty() {
            text.push_str("  no change\n");
        }
        series.changes.iter().for_each(|change| text.push_str(&sentence(change, unit)));
    }
    text
}

fn sentence(change: &Change, unit: &str) -> String {
    let commit = |commit: Option<&String>| {
        commit.map_or_else(|| "an unknown commit".to_owned(), |hash| hash.chars().take(12).collect())
    };
    let line = format!(
        "  {:+.1} % since {} ({}, run {}): {} to {} {unit}, p {:.3}; the last run before was at {}",
        change.relative * 100.0,
        commit(change.commit.as_ref()),
        change.started_utc,
        change.run_id,
        words::digits(change.before),
        words::digits(change.after),
        change.probability,
        commit(change.commit_before.as_ref()),
    );
    format!("{}\n", words::one_line(&line))
}
