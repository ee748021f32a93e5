//! What one worker has counted: totals, and for each run its ledger, its latencies and its arrivals per
//! second.
//!
//! The worker locks its own tally once per message, and nobody else wants it except a reader of statistics,
//! who takes a cheap copy. Runs come and go: beyond a limit the one that has been silent longest is folded
//! into the totals, and its ledger is gone.

use std::sync::Arc;

use hdrhistogram::Histogram;
use message::traffic::{RunId, TrafficHeader};
use reports::latency::{new_histogram, record_ns};

use crate::body::Arrived;
use crate::ledger::{Ledger, Seen};
use crate::notes::{Corruption, Duplicate, Notes, Reorder};
use crate::order::{Order, Orders, Place};
use crate::worker::since_ns;

/// Runs that a worker remembers one by one.
pub(crate) const RUNS_MAX: usize = 32;

/// Seconds of a run that are counted one by one, two days; later arrivals count for the last of them.
const SECONDS_MAX: usize = 2 * 86_400;

/// Messages of a run whose connection is remembered, 32 KiB.
const BRINGERS: usize = 2048;

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
    /// Messages that arrived after a later one of the same connection of the generator.
    pub(crate) reordered: u64,
    /// Messages of connections whose order is not watched.
    pub(crate) order_unwatched: u64,
    /// Messages without the laboratory's header.
    pub(crate) headerless: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.bytes += other.bytes;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.untracked += other.untracked;
        self.reordered += other.reordered;
        self.order_unwatched += other.order_unwatched;
        self.headerless += other.headerless;
    }
}

/// Which connection brought the messages of late: number and connection, each where its number falls.
#[derive(Clone, Debug)]
struct Bringers(Box<[(u64, u64); BRINGERS]>);

impl Bringers {
    fn new() -> Self {
        // No message of a run has this number: the header has room for twelve digits.
        Self(Box::new([(u64::MAX, 0); BRINGERS]))
    }

    fn note(&mut self, sequence: u64, connection: u64) {
        self.0[Self::place(sequence)] = (sequence, connection);
    }

    fn of(&self, sequence: u64) -> Option<u64> {
        let (noted, connection) = self.0[Self::place(sequence)];
        (noted == sequence).then_some(connection)
    }

    fn place(sequence: u64) -> usize {
        usize::try_from(sequence % BRINGERS as u64).unwrap_or(0)
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
    pub(crate) duplicates: Notes<Duplicate>,
    pub(crate) corruptions: Notes<Corruption>,
    pub(crate) reorders: Notes<Reorder>,
    order: Arc<Order>,
    bringers: Bringers,
}

impl RunTally {
    fn new(run: RunId, order: Arc<Order>, now_ns: u64) -> Self {
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
            duplicates: Notes::default(),
            corruptions: Notes::default(),
            reorders: Notes::default(),
            order,
            bringers: Bringers::new(),
        }
    }

    fn record(&mut self, traffic: &TrafficHeader, bytes: u64, now_ns: u64) {
        self.counts.accepted += 1;
        self.counts.bytes += bytes;
        self.last_ns = now_ns;
        self.first_sent_ns = self.first_sent_ns.min(traffic.sent_ns);
        record_ns(&mut self.latency, since_ns(traffic.sent_ns, now_ns));
        let second = usize::try_from(now_ns / NS_PER_SECOND - self.first_second).unwrap_or(usize::MAX);
        let second = second.min(SECONDS_MAX - 1);
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] = self.per_second[second].saturating_add(1);
    }

    /// Notes the deliveries of one message, and adds what is wrong with them to `totals`.
    fn deliver(&mut self, delivery: &Delivery<'_>, totals: &mut Counts, chunks_left: &mut usize) {
        let Delivery { arrived, traffic, recipients, now_ns } = *delivery;
        let mut wrong = Counts::default();
        if !arrived.is_intact() {
            wrong.corrupted = 1;
            self.corruptions.add(|| Corruption::of(delivery));
        }
        let mut is_new = false;
        for recipient in recipients {
            match self.ledger.insert(traffic.seq, *recipient, now_ns, chunks_left) {
                Seen::New => is_new = true,
                Seen::Again { first_ns } => {
                    wrong.duplicated += 1;
                    let first_connection = self.bringers.of(traffic.seq);
                    self.duplicates.add(|| Duplicate::of(delivery, *recipient, first_ns, first_connection));
                }
                Seen::Untracked => wrong.untracked += 1,
            }
        }
        if is_new {
            self.bringers.note(traffic.seq, arrived.connection);
            match self.order.arrive(traffic.conn, traffic.seq) {
                Place::InOrder => {}
                Place::After(after) => {
                    wrong.reordered = 1;
                    self.reorders.add(|| Reorder::of(delivery, after));
                }
                Place::Unwatched => wrong.order_unwatched = 1,
            }
        }
        self.counts.add(&wrong);
        totals.add(&wrong);
    }
}

/// One message with all that is known about it.
struct Delivery<'a> {
    arrived: &'a Arrived,
    traffic: &'a TrafficHeader,
    recipients: &'a [u32],
    now_ns: u64,
}

impl Duplicate {
    fn of(delivery: &Delivery<'_>, recipient: u32, first_ns: u64, first_connection: Option<u64>) -> Self {
        Self {
            seq: delivery.traffic.seq,
            recipient,
            conn: Some(delivery.traffic.conn),
            first_ns,
            first_connection,
            again_ns: delivery.now_ns,
            again_connection: Some(delivery.arrived.connection),
        }
    }
}

impl Corruption {
    fn of(delivery: &Delivery<'_>) -> Self {
        Self {
            seq: delivery.traffic.seq,
            conn: delivery.traffic.conn,
            at_ns: delivery.now_ns,
            connection: delivery.arrived.connection,
            expected: delivery.traffic.crc,
            found: delivery.arrived.crc,
        }
    }
}

impl Reorder {
    fn of(delivery: &Delivery<'_>, after: u64) -> Self {
        Self {
            seq: delivery.traffic.seq,
            after,
            conn: delivery.traffic.conn,
            at_ns: delivery.now_ns,
            connection: delivery.arrived.connection,
        }
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
    orders: Arc<Orders>,
}

impl Tally {
    /// An empty tally with room for that many chunks of ledger. All workers of a server share `orders`.
    pub(crate) fn new(ledger_chunks_max: usize, orders: Arc<Orders>) -> Self {
        Self {
            totals: Counts::default(),
            distinct_folded: 0,
            latency_folded: None,
            runs: Vec::new(),
            second: 0,
            second_count: 0,
            second_before_count: 0,
            chunks_left: ledger_chunks_max,
            orders,
        }
    }

    /// Counts one accepted message and its deliveries.
    pub(crate) fn record(&mut self, arrived: &Arrived, recipients: &[u32], now_ns: u64) {
        self.totals.accepted += 1;
        self.totals.bytes += arrived.bytes;
        self.turn_second(now_ns / NS_PER_SECOND);
        self.second_count += 1;
        let Some(traffic) = &arrived.traffic else {
            self.totals.headerless += 1;
            return;
        };
        self.bring_to_front(traffic.run, now_ns);
        let run = &mut self.runs[0];
        run.record(traffic, arrived.bytes, now_ns);
        let delivery = Delivery { arrived, traffic, recipients, now_ns };
        run.deliver(&delivery, &mut self.totals, &mut self.chunks_left);
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
                self.runs.insert(0, RunTally::new(run, self.orders.of(run), now_ns));
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
        Arrived { bytes: 10, traffic: Some(traffic), crc: 0, connection: 7 }
    }

    #[test]
    fn a_time_of_day_is_compared_with_the_time_of_day() {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let minute_ago = now - std::time::Duration::from_secs(60);
        let mut tally = Tally::new(100, Arc::default());
        let mut arrived = arrived(1, 0);
        arrived.traffic.as_mut().unwrap().sent_ns = u64::try_from(minute_ago.as_nanos()).unwrap();
        tally.record(&arrived, &[1], crate::worker::now_ns());
        let latency_us = tally.runs[0].latency.max();
        assert!((60_000_000..3_600_000_000).contains(&latency_us), "{latency_us}");
    }

    #[test]
    fn old_runs_are_folded_into_the_totals() {
        let mut tally = Tally::new(100, Arc::default());
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
        let mut tally = Tally::new(100, Arc::default());
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
        let mut tally = Tally::new(100, Arc::default());
        tally.record(&Arrived { bytes: 7, traffic: None, crc: 0, connection: 0 }, &[1, 2], 0);
        assert_eq!((tally.totals.accepted, tally.totals.bytes, tally.totals.headerless), (1, 7, 1));
        assert!(tally.runs.is_empty());
    }
}
