//! What readers get: the tallies of all workers put together.
//!
//! Field names are a promise: programs read them. Times are nanoseconds of `CLOCK_MONOTONIC`, latencies
//! microseconds from the intended send to the arrival. Merging works on copies, so mail goes on meanwhile;
//! two numbers of one answer may be some messages apart while mail passes, and agree once it rests.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use message::traffic::RunId;
use reports::latency::{new_histogram, summary};
use reports::run::Latency;
use serde::Serialize;

use crate::capture::CaptureStats;
use crate::ledger::{Ledger, Merged, merge};
use crate::tally::{Counts, RunTally, Tally};

/// The answer to `GET /stats`: all runs seen since the start.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// Messages answered with 250, with or without the laboratory's header.
    pub accepted: u64,
    /// Their bytes, header and body.
    pub bytes: u64,
    /// Messages in the last whole second.
    pub rate_per_s: u64,
    /// Different deliveries: pairs of sequence number and recipient.
    pub distinct: u64,
    /// Deliveries seen again.
    pub duplicated: u64,
    /// Messages whose body does not have the promised CRC-32C.
    pub corrupted: u64,
    /// Deliveries that the ledger had no room for; where this is not 0, the ledger proves nothing about them.
    pub untracked: u64,
    /// Messages that arrived after a later one of the same connection of the generator.
    pub reordered: u64,
    /// Messages without the laboratory's header.
    pub headerless: u64,
    /// From the intended send to the arrival.
    pub latency_us: Latency,
    /// Mail written to files; null where none is asked for.
    pub capture: Option<CaptureStats>,
    /// Connections open now.
    pub connections: usize,
    /// Connections since the start.
    pub connections_total: u64,
    /// The runs remembered one by one.
    pub runs: BTreeMap<String, RunStats>,
}

/// One run in [`Stats`].
#[derive(Clone, Debug, Serialize)]
pub struct RunStats {
    /// Messages answered with 250.
    pub accepted: u64,
    /// Their bytes, header and body.
    pub bytes: u64,
    /// Different deliveries.
    pub distinct: u64,
    /// Deliveries seen again.
    pub duplicated: u64,
    /// Damaged messages.
    pub corrupted: u64,
    /// Deliveries that the ledger had no room for.
    pub untracked: u64,
    /// Messages that arrived after a later one of the same connection of the generator.
    pub reordered: u64,
    /// Sequence numbers below the highest that have not arrived.
    pub missing: u64,
    /// The highest sequence number.
    pub seq_max: Option<u64>,
    /// The first arrival.
    pub first_ns: u64,
    /// The last arrival.
    pub last_ns: u64,
    /// The earliest intended send among the messages that arrived.
    pub first_sent_ns: u64,
    /// From the intended send to the arrival.
    pub latency_us: Latency,
    /// The second of `CLOCK_MONOTONIC` that `per_second` starts with.
    pub first_second: u64,
    /// Messages in each second.
    pub per_second: Vec<u64>,
}

/// One run with the tallies of all workers put together.
pub(crate) struct MergedRun {
    pub(crate) counts: Counts,
    pub(crate) merged: Merged,
    latency: Histogram<u64>,
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    first_sent_ns: u64,
    first_second: u64,
    per_second: Vec<u64>,
}

impl Stats {
    pub(crate) fn new(tallies: &[Tally], now_ns: u64) -> Self {
        let mut totals = Counts::default();
        let mut latency = new_histogram();
        let mut distinct = 0;
        for tally in tallies {
            totals.add(&tally.totals);
            distinct += tally.distinct_folded;
            if let Some(folded) = &tally.latency_folded {
                add(&mut latency, folded);
            }
        }
        let mut runs = BTreeMap::new();
        for (run, parts) in by_run(tallies) {
            let merged = MergedRun::new(&parts);
            distinct += merged.merged.distinct;
            totals.duplicated += merged.merged.shared;
            add(&mut latency, &merged.latency);
            runs.insert(run.to_string(), merged.stats());
        }
        Self {
            accepted: totals.accepted,
            bytes: totals.bytes,
            rate_per_s: tallies.iter().map(|tally| tally.rate(now_ns)).sum(),
            distinct,
            duplicated: totals.duplicated,
            corrupted: totals.corrupted,
            untracked: totals.untracked,
            reordered: totals.reordered,
            headerless: totals.headerless,
            latency_us: summary(&latency),
            capture: None,
            connections: 0,
            connections_total: 0,
            runs,
        }
    }
}

/// The latencies of one run, with its first arrival's distance from its last in nanoseconds.
pub(crate) fn latency_of(tallies: &[Tally], run: RunId) -> Option<(Histogram<u64>, u64)> {
    let run = MergedRun::new(&by_run(tallies).remove(&run)?);
    Some((run.latency, run.last_ns - run.first_ns))
}

impl MergedRun {
    pub(crate) fn new(parts: &[&RunTally]) -> Self {
        let ledgers: Vec<Ledger> = parts.iter().map(|part| part.ledger.clone()).collect();
        let smallest = |value: fn(&RunTally) -> u64| parts.iter().map(|part| value(part)).min().unwrap_or(0);
        let mut run = Self {
            counts: Counts::default(),
            merged: merge(&ledgers),
            latency: new_histogram(),
            first_ns: smallest(|part| part.first_ns),
            last_ns: parts.iter().map(|part| part.last_ns).max().unwrap_or(0),
            first_sent_ns: smallest(|part| part.first_sent_ns),
            first_second: smallest(|part| part.first_second),
            per_second: Vec::new(),
        };
        for part in parts {
            run.counts.add(&part.counts);
            add(&mut run.latency, &part.latency);
            run.add_seconds(part);
        }
        run.counts.duplicated += run.merged.shared;
        run
    }

    fn add_seconds(&mut self, part: &RunTally) {
        let start = usize::try_from(part.first_second - self.first_second).unwrap_or(0);
        let end = start + part.per_second.len();
        if self.per_second.len() < end {
            self.per_second.resize(end, 0);
        }
        for (sum, count) in self.per_second[start..].iter_mut().zip(&part.per_second) {
            *sum += u64::from(*count);
        }
    }

    fn stats(self) -> RunStats {
        RunStats {
            accepted: self.counts.accepted,
            bytes: self.counts.bytes,
            distinct: self.merged.distinct,
            duplicated: self.counts.duplicated,
            corrupted: self.counts.corrupted,
            untracked: self.counts.untracked,
            reordered: self.counts.reordered,
            missing: self.merged.missing().iter().map(|(first, last)| (last - first).saturating_add(1)).sum(),
            seq_max: self.merged.had.last().map(|(_, last)| *last),
            first_ns: self.first_ns,
            last_ns: self.last_ns,
            first_sent_ns: self.first_sent_ns,
            latency_us: summary(&self.latency),
            first_second: self.first_second,
            per_second: self.per_second,
        }
    }
}

pub(crate) fn by_run(tallies: &[Tally]) -> BTreeMap<RunId, Vec<&RunTally>> {
    let mut runs: BTreeMap<RunId, Vec<&RunTally>> = BTreeMap::new();
    for part in tallies.iter().flat_map(|tally| &tally.runs) {
        runs.entry(part.run).or_default().push(part);
    }
    runs
}

fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    // All histograms are made by the same function with the same bounds, which is the only thing that could
    // be refused.
    sum.add(part).unwrap_or_default();
}
