//! How long this host keeps a thread from running that only wants to look at the clock.
//!
//! A thread sleeps for a millisecond again and again and records by how much it overslept. What it missed
//! while it overslept for several milliseconds is counted as if it had looked each time, so that one long
//! pause weighs as much as it lasted. The host may refuse the thread; then there are no hiccups to show, and
//! the run goes on.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use reports::latency::{LATENCY_US_MAX, LATENCY_US_MIN, new_histogram};

use crate::clock::now_ns;

/// How long the thread means to sleep, in microseconds.
const SLEEP_US: u64 = 1_000;

/// The thread and what it has seen.
pub(crate) struct Hiccups {
    seen: Arc<Mutex<Histogram<u64>>>,
    /// Dropped to end the thread.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hiccups {
    pub(crate) fn start() -> Self {
        let seen = Arc::new(Mutex::new(new_histogram()));
        let (stop, stopped) = sync_channel(0);
        let of_thread = Arc::clone(&seen);
        let thread = thread::Builder::new().name("hiccups".to_owned()).spawn(move || {
            let mut before_ns = now_ns();
            while stopped.recv_timeout(Duration::from_micros(SLEEP_US)) == Err(RecvTimeoutError::Timeout) {
                let after_ns = now_ns();
                let slept_us = after_ns.saturating_sub(before_ns) / 1_000;
                record(&mut of_thread.lock().unwrap_or_else(PoisonError::into_inner), slept_us);
                before_ns = after_ns;
            }
        });
        Self { seen, stop: Some(stop), thread: thread.ok() }
    }

    /// Adds what was seen since the last time to `sum`.
    pub(crate) fn take(&self, sum: &mut Histogram<u64>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Both are made by the same function with the same bounds, which is the only thing that could be
        // refused.
        sum.add(&*seen).unwrap_or_default();
        seen.reset();
    }
}

impl Drop for Hiccups {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, it has said so.
            let _ = thread.join();
        }
    }
}

/// Records how long a sleep took beyond what was meant, with what was missed meanwhile.
fn record(histogram: &mut Histogram<u64>, slept_us: u64) {
    let over_us = slept_us.saturating_sub(SLEEP_US).clamp(LATENCY_US_MIN, LATENCY_US_MAX);
    // Within the bounds, so it is not refused.
    histogram.record_correct(over_us, SLEEP_US).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_weighs_as_much_as_it_lasted() {
        let mut histogram = new_histogram();
        (0..90).for_each(|_| record(&mut histogram, SLEEP_US));
        record(&mut histogram, SLEEP_US + 10_000);
        // Ten looks were missed or late among a hundred.
        assert_eq!((histogram.len(), histogram.count_between(1_500, 11_000)), (100, 9));
        assert!((9_990..10_010).contains(&histogram.max()));
    }

    #[test]
    fn the_thread_sees_something_and_ends() {
        let hiccups = Hiccups::start();
        let mut sum = new_histogram();
        while sum.len() < 3 {
            hiccups.take(&mut sum);
            thread::yield_now();
        }
        drop(hiccups);
    }
}
