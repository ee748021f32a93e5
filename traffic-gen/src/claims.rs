//! Who sends which message: the one counter that all workers share, and the end of the run.
//!
//! A sequence number is given out at the moment when its message begins, so the numbers are dense and every
//! number given out ends as sent, failed or unknown. Numbers are never given back. A process that has a part
//! of a run gives out every so manieth number only.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::plan::Share;

/// Alone on its cache lines: it is the only word that every core writes.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Claims {
    next: AtomicU64,
    limit: u64,
    share: Share,
    deadline_ns: AtomicU64,
    closed: AtomicBool,
}

impl Claims {
    /// Gives out the numbers of a share, of `count` numbers altogether.
    pub(crate) fn new(share: Share, count: u64) -> Self {
        Self {
            next: AtomicU64::new(0),
            limit: share.part(count),
            share,
            deadline_ns: AtomicU64::new(u64::MAX),
            closed: AtomicBool::new(false),
        }
    }

    /// The number of a message that begins now.
    pub(crate) fn claim(&self, now_ns: u64) -> Option<u64> {
        if !self.are_open(now_ns) {
            return None;
        }
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        (sequence < self.limit).then(|| self.share.index + sequence * self.share.of.max(1))
    }

    /// Whether there is anything left to begin.
    pub(crate) fn are_open(&self, now_ns: u64) -> bool {
        now_ns < self.deadline_ns()
            && self.next.load(Ordering::Relaxed) < self.limit
            && !self.closed.load(Ordering::Relaxed)
    }

    /// Begins nothing any more; the run has ended at that time.
    pub(crate) fn close(&self, now_ns: u64) {
        self.set_deadline(now_ns);
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether all numbers have been given out.
    pub(crate) fn are_exhausted(&self) -> bool {
        self.begun() >= self.limit
    }

    /// Messages begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed).min(self.limit)
    }

    /// Messages to begin, at most.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn deadline_ns(&self) -> u64 {
        self.deadline_ns.load(Ordering::Relaxed)
    }

    /// Gives out nothing at or after that time; an earlier one stays.
    pub(crate) fn set_deadline(&self, deadline_ns: u64) {
        self.deadline_ns.fetch_min(deadline_ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_end_with_the_limit_the_deadline_or_the_wish() {
        let claims = Claims::new(Share::default(), 3);
        assert_eq!([0, 0, 99, 99].map(|now_ns| claims.claim(now_ns)), [Some(0), Some(1), Some(2), None]);
        assert_eq!((claims.begun(), claims.are_exhausted()), (3, true));
        let claims = Claims::new(Share::default(), u64::MAX);
        claims.set_deadline(100);
        assert_eq!((claims.claim(99), claims.claim(100), claims.begun()), (Some(0), None, 1));
        claims.close(50);
        claims.set_deadline(100);
        assert_eq!((claims.claim(0), claims.begun(), claims.deadline_ns()), (None, 1, 50));
    }

    #[test]
    fn shares_divide_the_numbers_among_them() {
        let mut all: Vec<u64> = (0..3)
            .flat_map(|index| {
                let claims = Claims::new(Share { index, of: 3 }, 10);
                std::iter::from_fn(move || claims.claim(0))
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }
}
