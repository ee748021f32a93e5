//! When messages are due: at once in a closed loop, by the schedule in an open one.
//!
//! With a rate each worker has an equal share of the schedule and releases its messages when they are due,
//! whether a connection is free or not. A connection that takes a message late still counts its latency
//! from the time that was intended, so a server that stalls cannot hide it. Waking is exact to the kernel's
//! timer, not to the millisecond of the runtime's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use crate::claims::Claims;
use crate::clock::{NS_PER_SECOND, now_ns};

/// Messages released and not yet taken by a connection, at most; the semaphore's own limit is far above.
const RELEASED_MAX: u64 = 1 << 40;

/// One worker's share of a constant rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Between two messages of the whole run, in nanoseconds.
    pub(crate) interval_ns: f64,
    pub(crate) workers: u64,
    pub(crate) index: u64,
}

impl Share {
    /// When message `number` of this worker is due, counted from the start of the schedule.
    fn due_ns(&self, number: u64) -> u64 {
        let slot = (number * self.workers + self.index) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and the product is positive"
        )]
        let due_ns = (slot * self.interval_ns) as u64;
        due_ns
    }

    /// How many messages of this worker are due after that time.
    fn due_by(&self, elapsed_ns: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and the quotient is positive"
        )]
        let slots = (elapsed_ns as f64 / self.interval_ns) as u64 + 1;
        let mut number = slots.saturating_sub(self.index).div_ceil(self.workers);
        // The estimate may be off by the rounding of the division.
        while number > 0 && self.due_ns(number - 1) > elapsed_ns {
            number -= 1;
        }
        while self.due_ns(number) <= elapsed_ns {
            number += 1;
        }
        number
    }
}

/// An open loop on one worker.
#[derive(Debug)]
pub(crate) struct Pacer {
    share: Share,
    start_ns: OnceLock<u64>,
    due: Semaphore,
    released: AtomicU64,
    taken: AtomicU64,
}

impl Pacer {
    pub(crate) fn new(share: Share) -> Self {
        Self {
            share,
            start_ns: OnceLock::new(),
            due: Semaphore::new(0),
            released: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// Waits until a message is due and returns its intended time; `None` when nothing more will be. Giving
    /// up the wait loses nothing.
    pub(crate) async fn next_ns(&self) -> Option<u64> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.start_ns.get()? + self.share.due_ns(number))
    }

    /// Releases nothing more; waiting connections are told.
    pub(crate) fn close(&self) {
        self.due.close();
    }

    /// Messages that were due and never begun.
    pub(crate) fn behind(&self) -> u64 {
        self.released.load(Ordering::Relaxed).saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Releases messages as they become due, until the run has no more to begin.
    pub(crate) async fn run(&self, start_ns: u64, claims: &Claims) -> io::Result<()> {
        let start_ns = *self.start_ns.get_or_init(|| start_ns);
        let timer = Timer::new()?;
        let mut released = 0;
        loop {
            let now_ns = now_ns();
            if !claims.are_open(now_ns) {
                break;
            }
            let due = self.share.due_by(now_ns.saturating_sub(start_ns));
            let more = (due - released).min(RELEASED_MAX.saturating_sub(self.behind()));
            self.due.add_permits(usize::try_from(more).unwrap_or(0));
            released += more;
            self.released.store(released, Ordering::Relaxed);
            timer.wait_until(claims.deadline_ns().min(start_ns + self.share.due_ns(due))).await?;
        }
        self.close();
        Ok(())
    }
}

/// A kernel timer that the runtime waits for like a socket.
struct Timer {
    file: AsyncFd<OwnedFd>,
}

impl Timer {
    #[expect(
        deprecated,
        reason = "the warning is about files closed under the registration, and this one belongs to it"
    )]
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { file: AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)? })
    }

    async fn wait_until(&self, at_ns: u64) -> io::Result<()> {
        let at = Timespec {
            tv_sec: i64::try_from(at_ns / NS_PER_SECOND).unwrap_or(i64::MAX),
            // The remainder is below a thousand million; zero in both fields would disarm the timer.
            tv_nsec: i64::try_from(at_ns % NS_PER_SECOND).unwrap_or(0).max(1),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(self.file.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = self.file.readable().await?;
            let read = ready.try_io(|file| Ok(rustix::io::read(file.get_ref(), &mut [0; 8])?));
            // Not ready after all: the readiness was that of an earlier time.
            if let Ok(result) = read {
                return result.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_together_are_the_schedule(
            interval_ns in 1.0f64..1e9,
            workers in 1u64..9,
            elapsed_ns in 0u64..10_000_000_000,
        ) {
            let share = |index| Share { interval_ns, workers, index };
            let due: u64 = (0..workers).map(|index| share(index).due_by(elapsed_ns)).sum();
            let whole = Share { interval_ns, workers: 1, index: 0 }.due_by(elapsed_ns);
            prop_assert_eq!(due, whole);
            for index in 0..workers {
                let share = share(index);
                let number = share.due_by(elapsed_ns);
                prop_assert!(share.due_ns(number) > elapsed_ns);
                prop_assert!(number == 0 || share.due_ns(number - 1) <= elapsed_ns);
            }
        }
    }
}
