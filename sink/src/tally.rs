//! What one worker has counted: totals, and for each run its ledger, its latencies and its arrivals per
//! second.
//!
//! The worker locks its own tally once per message, and nobody else wants it except a reader of statistics,
//! who takes a cheap copy. Runs come and go: beyond a limit the one that has been silent longest is folded
//! into the totals, and its ledger is gone.

use hdrhistogram::Histogram;
use message::traffic::{RunId, TrafficHeader};
use reports::latency::{new_histogram, record_ns};

use crate::body::Arrived;
use crate::ledger::{Ledger, Seen};

/// Runs that a worker remembers one by one.
pub(crate) const RUNS_MAX: usize = 32;

/// Seconds of a run that are counted one by one, two days; later arrivals count for the last of them.
const SECONDS_MAX: usize = 2 * 86_400;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Counts that can be added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Messages answered with 250.
    pub(crate) accepted: u64,
    /// Their bytes, header and body.
    pub(crate) bytes: u64,
    /// Deliveries that the worker had seen before.
    pub(crate) duplicated: u64,
    /// Messages whose body does not have the sum that its header promised.
    pub(crate) corrupted: u64,
    /// Deliveries that the ledger had no room for.
    pub(crate) untracked: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.bytes += other.bytes;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.untracked += other.untracked;
    }
}

/// One worker's view of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunTally {
    pub(crate) run: RunId,
    pub(crate) counts: Counts,
    pub(crate) ledger: Ledger,
    pub(crate) latency: Histogram<u64>,
    /// Times of `CLOCK_MONOTONIC` in nanoseconds.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    pub(crate) first_sent_ns: u64,
    /// The second of `CLOCK_MONOTONIC` that `per_second` starts with.
    pub(crate) first_second: u64,
    pub(crate) per_second: Vec<u32>,
}

impl RunTally {
    fn new(run: RunId, now_ns: u64) -> Self {
        Self {
            run,
            counts: Counts::default(),
            ledger: Ledger::default(),
            latency: new_histogram(),
            first_ns: now_ns,
            last_ns: now_ns,
            first_sent_ns: u64::MAX,
            first_second: now_ns / NS_PER_SECOND,
            per_second: Vec::new(),
        }
    }

    fn record(&mut self, traffic: &TrafficHeader, bytes: u64, now_ns: u64) {
        self.counts.accepted += 1;
        self.counts.bytes += bytes;
        self.last_ns = now_ns;
        self.first_sent_ns = self.first_sent_ns.min(traffic.sent_ns);
        record_ns(&mut self.latency, now_ns.saturating_sub(traffic.sent_ns));
        let second = usize::try_from(now_ns / NS_PER_SECOND - self.first_second).unwrap_or(usize::MAX);
        let second = second.min(SECONDS_MAX - 1);
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] = self.per_second[second].saturating_add(1);
    }
}

/// Everything that one worker has counted.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) totals: Counts,
    /// Different deliveries of the runs that were folded away.
    pub(crate) distinct_folded: u64,
    pub(crate) latency_folded: Option<Histogram<u64>>,
    /// The run heard of last stands first.
    pub(crate) runs: Vec<RunTally>,
    second: u64,
    second_count: u64,
    second_before_count: u64,
    chunks_left: usize,
}

impl Tally {
    /// An empty tally with room for that many chunks of ledger.
    pub(crate) fn new(ledger_chunks_max: usize) -> Self {
        Self {
            totals: Counts::default(),
            distinct_folded: 0,
            latency_folded: None,
            runs: Vec::new(),
            second: 0,
            second_count: 0,
            second_before_count: 0,
            chunks_left: ledger_chunks_max,
        }
    }

    /// Counts one accepted message and its deliveries.
    pub(crate) fn record(&mut self, arrived: &Arrived, recipients: &[u32], now_ns: u64) {
        self.totals.accepted += 1;
        self.totals.bytes += arrived.bytes;
        self.turn_second(now_ns / NS_PER_SECOND);
        self.second_count += 1;
        let Some(traffic) = arrived.traffic else { return };
        self.bring_to_front(traffic.run, now_ns);
        let run = &mut self.runs[0];
        run.record(&traffic, arrived.bytes, now_ns);
        if !arrived.intact {
            run.counts.corrupted += 1;
            self.totals.corrupted += 1;
        }
        for recipient in recipients {
            match run.ledger.insert(traffic.seq, *recipient, &mut self.chunks_left) {
                Seen::New => {}
                Seen::Again => {
                    run.counts.duplicated += 1;
                    self.totals.duplicated += 1;
                }
                Seen::Untracked => {
                    run.counts.untracked += 1;
                    self.totals.untracked += 1;
                }
            }
        }
    }

    /// Messages of the last whole second.
    pub(crate) fn rate(&self, now_ns: u64) -> u64 {
        match (now_ns / NS_PER_SECOND).checked_sub(self.second) {
            Some(0) => self.second_before_count,
            Some(1) => self.second_count,
            _ => 0,
        }
    }

    fn turn_second(&mut self, second: u64) {
        if second != self.second {
            self.second_before_count = if second == self.second + 1 { self.second_count } else { 0 };
            self.second = second;
            self.second_count = 0;
        }
    }

    fn bring_to_front(&mut self, run: RunId, now_ns: u64) {
        match self.runs.iter().position(|known| known.run == run) {
            Some(0) => {}
            Some(at) => self.runs[..=at].rotate_right(1),
            None => {
                self.fold_oldest();
                self.runs.insert(0, RunTally::new(run, now_ns));
            }
        }
    }

    /// Makes room for one more run.
    fn fold_oldest(&mut self) {
        if self.runs.len() < RUNS_MAX {
            return;
        }
        let Some(oldest) = self.runs.pop() else { return };
        self.chunks_left += oldest.ledger.chunks();
        self.distinct_folded += oldest.ledger.pairs() as u64;
        match &mut self.latency_folded {
            // Both have the same bounds, so the sum always fits.
            Some(folded) => folded.add(&oldest.latency).unwrap_or_default(),
            none => *none = Some(oldest.latency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(run: u64, seq: u64) -> Arrived {
        let traffic = TrafficHeader { run: RunId::from_random(run), conn: 0, seq, sent_ns: 5_000, crc: 0 };
        Arrived { bytes: 10, traffic: Some(traffic), intact: true }
    }

    #[test]
    fn old_runs_are_folded_into_the_totals() {
        let mut tally = Tally::new(100);
        let runs = RUNS_MAX as u64 + 5;
        for run in 0..runs {
            tally.record(&arrived(run, 0), &[1], 10_000);
            tally.record(&arrived(run, 0), &[1], 10_000);
        }
        assert_eq!(tally.runs.len(), RUNS_MAX);
        assert_eq!(tally.runs[0].run, RunId::from_random(runs - 1));
        assert_eq!(
            (tally.totals.accepted, tally.totals.duplicated, tally.distinct_folded),
            (2 * runs, runs, 5)
        );
        assert_eq!(tally.latency_folded.map(|histogram| histogram.len()), Some(10));
        assert_eq!(tally.chunks_left, 100 - RUNS_MAX);
    }

    #[test]
    fn the_rate_is_that_of_the_last_whole_second() {
        let mut tally = Tally::new(100);
        for at_ms in [1_100, 1_200, 1_900, 2_100] {
            tally.record(&arrived(1, at_ms), &[1], at_ms * 1_000_000);
        }
        assert_eq!(tally.rate(2_500_000_000), 3);
        assert_eq!(tally.rate(3_500_000_000), 1);
        assert_eq!(tally.rate(4_500_000_000), 0);
        assert_eq!(tally.runs[0].per_second, [3, 1]);
    }

    #[test]
    fn mail_without_the_header_only_counts() {
        let mut tally = Tally::new(100);
        tally.record(&Arrived { bytes: 7, traffic: None, intact: true }, &[1, 2], 0);
        assert_eq!((tally.totals.accepted, tally.totals.bytes), (1, 7));
        assert!(tally.runs.is_empty());
    }
}
