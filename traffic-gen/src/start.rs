//! When a run begins: as soon as the connections stand, or at an agreed time.
//!
//! Connections are opened first and messages begin together, so that the figures are those of the load
//! asked for and not of its ramp, nor of handshakes that go on beside it. Connections that do not come up
//! within a limit are not waited for any longer; they join later. With the beginning it is decided which
//! messages count for the figures.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::claims::Claims;
use crate::clock::now_ns;

/// How long a worker waits for its connections before it begins without the rest.
pub(crate) const START_WAIT_MAX: Duration = Duration::from_secs(5);

/// The times of a run, `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Messages begin.
    pub(crate) start_ns: u64,
    /// Messages count for the figures.
    pub(crate) from_ns: u64,
    /// The last moment at which a message could begin.
    pub(crate) until_ns: u64,
}

impl Times {
    /// Whether a message that was meant for that time counts for the figures.
    pub(crate) fn counts(&self, meant_ns: u64) -> bool {
        meant_ns >= self.from_ns
    }

    /// Whether that time lies in the window that the figures are about.
    pub(crate) fn has(&self, at_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&at_ns)
    }
}

/// The start of the run, the same for all workers: when the last of them has its connections, or the first has
/// waited for too long.
#[derive(Debug)]
pub(crate) struct Start {
    times: OnceLock<Times>,
    /// Workers that do not have their connections yet.
    missing: AtomicUsize,
    /// Closed when nobody is waited for any more.
    complete: Semaphore,
    /// The start that was agreed on, if there was one.
    agreed_ns: Option<u64>,
    warm_up_ns: u64,
    length_ns: Option<u64>,
}

impl Start {
    /// A run whose messages begin over such a length, the warm-up included, or until all are sent.
    pub(crate) fn new(
        workers: usize,
        agreed_ns: Option<u64>,
        warm_up: Duration,
        length: Option<Duration>,
    ) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            times: OnceLock::new(),
            missing: AtomicUsize::new(workers),
            complete: Semaphore::new(0),
            agreed_ns,
            warm_up_ns: ns(warm_up),
            length_ns: length.map(ns),
        }
    }

    /// A worker has its connections, or has ended; to be called once by each.
    pub(crate) fn one_is_ready(&self) {
        if self.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.complete.close();
        }
    }

    /// Waits until all workers are ready, or one of them does not wait any more.
    pub(crate) async fn all_are_ready(&self) {
        // The semaphore gives nothing; being closed is the sign.
        let _ = self.complete.acquire().await;
    }

    /// Begins the run, unless another worker was first. The run's time counts from there.
    pub(crate) fn begin(&self, claims: &Claims) -> u64 {
        let times = self.times.get_or_init(|| {
            let start_ns = self.agreed_ns.unwrap_or_else(now_ns);
            let until_ns = self.length_ns.map_or(u64::MAX, |length_ns| start_ns.saturating_add(length_ns));
            claims.set_deadline(until_ns);
            Times { start_ns, from_ns: start_ns.saturating_add(self.warm_up_ns), until_ns }
        });
        self.complete.close();
        times.start_ns
    }

    /// When the run was agreed to begin.
    pub(crate) fn agreed_ns(&self) -> Option<u64> {
        self.agreed_ns
    }

    /// The times of the run; `None` before it began.
    pub(crate) fn times(&self) -> Option<Times> {
        self.times.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Share;

    #[test]
    fn the_first_worker_sets_the_times_of_all() {
        let claims = Claims::new(Share::default(), 10);
        let start = Start::new(1, Some(1_000), Duration::from_nanos(50), Some(Duration::from_nanos(200)));
        assert_eq!(start.times(), None);
        assert_eq!((start.begin(&claims), start.begin(&claims)), (1_000, 1_000));
        let times = start.times().unwrap();
        assert_eq!(times, Times { start_ns: 1_000, from_ns: 1_050, until_ns: 1_200 });
        assert_eq!(claims.deadline_ns(), 1_200);
        assert_eq!([1_049, 1_050, 1_199, 1_200].map(|at_ns| times.has(at_ns)), [false, true, true, false]);
        assert!(times.counts(1_200) && !times.counts(1_049));
    }

    #[test]
    fn the_last_worker_is_waited_for_unless_one_begins_without_it() {
        let start = || Start::new(2, None, Duration::ZERO, None);
        let all = start();
        all.one_is_ready();
        assert!(!all.complete.is_closed());
        all.one_is_ready();
        assert!(all.complete.is_closed());
        let impatient = start();
        impatient.begin(&Claims::new(Share::default(), 1));
        assert!(impatient.complete.is_closed());
    }
}
