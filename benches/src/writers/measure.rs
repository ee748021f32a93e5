//! One run of one contender: the window of time that counts, and what happened in it.
//!
//! It owns the arithmetic. Appends that end before the window are the warm-up, those that end after it are left out; so the rate
//! is the number that ended within it, over its length. Nothing here fails.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reports::latency::{new_histogram, record_ns};
use tokio::runtime::Runtime;

use super::appender::Mail;
use super::processor;
use crate::error::Result;

/// What is offered in one cell of the table.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What is appended.
    pub mail: Mail,
    /// Tasks or threads, each of which waits for its append before the next.
    pub writers: usize,
}

/// Who runs it, and for how long.
#[derive(Debug)]
pub struct Stage<'r> {
    /// Two workers for the tasks of the asynchronous contenders.
    pub runtime: &'r Runtime,
    /// Time before the window.
    pub warm_up: Duration,
    /// Length of the window.
    pub length: Duration,
}

impl Stage<'_> {
    /// A window that begins after the warm-up.
    pub fn window(&self) -> Window {
        let from = Instant::now() + self.warm_up;
        Window { from, until: from + self.length }
    }

    /// Looks at the beginning of the window and at its end, on the calling thread.
    pub fn watch<T>(&self, window: Window, mut look: impl FnMut() -> T) -> (T, T) {
        self.runtime.block_on(async {
            tokio::time::sleep_until(window.from.into()).await;
            let first = look();
            tokio::time::sleep_until(window.until.into()).await;
            (first, look())
        })
    }
}

/// The time that counts.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Appends that end before are the warm-up.
    pub from: Instant,
    /// No append begins after.
    pub until: Instant,
}

impl Window {
    /// Counts an append that ended within the window.
    pub fn note(&self, tally: &mut Histogram<u64>, begun: Instant, ended: Instant) {
        if ended >= self.from && ended < self.until {
            let elapsed = ended.duration_since(begun).as_nanos();
            record_ns(tally, u64::try_from(elapsed).unwrap_or(u64::MAX));
        }
    }
}

/// What is read at both ends of a window.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    /// When it was read: on a busy machine a little late.
    pub at: Instant,
    /// Processor time of the whole process.
    pub cpu: Duration,
    /// Of the thread that fills and sends batches, where there is one.
    pub writer_cpu: Option<Duration>,
    /// Writes so far.
    pub batches: u64,
    /// Messages in them.
    pub batched: u64,
    /// Segments made so far: there should be no new one in a window.
    pub segments_made: u64,
}

impl Edge {
    /// Time and processor time of the process, and nothing else.
    pub fn of_process() -> Self {
        let (at, cpu) = (Instant::now(), processor::of_process());
        Self { at, cpu, writer_cpu: None, batches: 0, batched: 0, segments_made: 0 }
    }
}

/// What happened in a window.
#[derive(Debug)]
pub struct Outcome {
    /// Of the appends that ended in it, in microseconds.
    pub latencies: Histogram<u64>,
    /// Length of the window.
    pub length: Duration,
    /// At its beginning and its end.
    pub edges: (Edge, Edge),
}

impl Outcome {
    /// Processor time for each append, in microseconds, from what was used between the two edges.
    pub fn each_us(&self, used: Duration) -> f64 {
        let (first, last) = self.edges;
        let between = last.at.duration_since(first.at).as_secs_f64();
        let appends = self.latencies.len().max(1) as f64 / self.length.as_secs_f64() * between;
        used.as_secs_f64() * 1e6 / appends
    }
}

/// One contender, ready to run.
pub trait Way {
    /// Appends for the warm-up and the window.
    ///
    /// # Errors
    /// When it cannot write.
    fn run(&mut self, load: &Load, stage: &Stage<'_>) -> Result<Outcome>;
}

/// The sum of the writers' histograms.
pub fn merged(tallies: impl IntoIterator<Item = Histogram<u64>>) -> Histogram<u64> {
    let mut sum = new_histogram();
    for tally in tallies {
        // All have the same range, so nothing can be out of it.
        sum.add(tally).expect("both histograms have the range of new_histogram");
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_looks_do_not_change_what_an_append_costs() {
        let mut latencies = new_histogram();
        (0..1000).for_each(|_| record_ns(&mut latencies, 1_000_000));
        let edges = (Edge::of_process(), Edge::of_process());
        let mut outcome = Outcome { latencies, length: Duration::from_secs(2), edges };
        outcome.edges.1.at = outcome.edges.0.at + Duration::from_secs(1);
        // Half of the window was seen, so half of the appends are behind the time that was used.
        assert!((outcome.each_us(Duration::from_millis(5)) - 10.0).abs() < 1e-6);
    }

    #[test]
    fn only_what_ends_within_the_window_counts() {
        let from = Instant::now();
        let window = Window { from, until: from + Duration::from_secs(2) };
        let at = |ms| from + Duration::from_millis(ms);
        let (mut one, mut other) = (new_histogram(), new_histogram());
        window.note(&mut one, from - Duration::from_millis(5), at(0));
        window.note(&mut one, at(1), at(2));
        window.note(&mut other, at(1990), at(2000));
        window.note(&mut other, from - Duration::from_millis(2), from - Duration::from_millis(1));
        let sum = merged([one, other]);
        assert_eq!((sum.len(), sum.min(), sum.max()), (2, 1000, 5003));
    }
}
