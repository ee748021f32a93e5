//! When messages are due: at once in a closed loop, by the schedule in an open one.
//!
//! In an open loop each worker has its share of the schedule and releases its messages when they are due,
//! whether a connection is free or not. A connection that takes a message late still counts its latency from
//! the time that was intended, so a server that stalls cannot hide it. Waking is exact to the kernel's timer,
//! not to the millisecond of the runtime's. What is released and not yet taken costs no memory, however much
//! it is: those who take walk through the same schedule as the one who releases.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

use crate::claims::Claims;
use crate::clock::{NS_PER_SECOND, now_ns};
use crate::cursor::Cursor;

/// Messages released and not yet taken by a connection, at most; the semaphore's own limit is far above.
const RELEASED_MAX: u64 = 1 << 40;

/// An open loop on one worker.
#[derive(Debug)]
pub(crate) struct Pacer {
    start_ns: OnceLock<u64>,
    due: Semaphore,
    /// Where those who take messages are; only this worker's thread locks it.
    taking: Mutex<Cursor>,
    released: AtomicU64,
    taken: AtomicU64,
}

impl Pacer {
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self {
            start_ns: OnceLock::new(),
            due: Semaphore::new(0),
            taking: Mutex::new(cursor),
            released: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// Waits until a message is due and returns its intended time; `None` when nothing more will be. Giving
    /// up the wait loses nothing.
    pub(crate) async fn next_ns(&self) -> Option<u64> {
        self.due.acquire().await.ok()?.forget();
        self.taken.fetch_add(1, Ordering::Relaxed);
        let due_ns = self.taking.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(self.start_ns.get()? + due_ns)
    }

    /// Releases nothing more; waiting connections are told.
    pub(crate) fn close(&self) {
        self.due.close();
    }

    /// Messages that have become due.
    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }

    /// Messages released that no connection has taken.
    fn behind(&self) -> u64 {
        self.released().saturating_sub(self.taken.load(Ordering::Relaxed))
    }

    /// Releases messages as they become due, until the run has no more to begin.
    pub(crate) async fn run(&self, start_ns: u64, claims: &Claims) -> io::Result<()> {
        let start_ns = *self.start_ns.get_or_init(|| start_ns);
        let mut releasing = self.taking.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let timer = Timer::new()?;
        loop {
            let now_ns = now_ns();
            // What was due before the end was due, even if nobody looked in between.
            let until_ns = now_ns.min(claims.deadline_ns().saturating_sub(1));
            let room = RELEASED_MAX.saturating_sub(self.behind());
            let more = releasing.advance(until_ns.saturating_sub(start_ns), room);
            self.due.add_permits(usize::try_from(more).unwrap_or(0));
            self.released.fetch_add(more, Ordering::Relaxed);
            if !claims.are_open(now_ns) {
                break;
            }
            let next_ns = releasing.peek().map_or(u64::MAX, |due_ns| start_ns.saturating_add(due_ns));
            timer.wait_until(claims.deadline_ns().min(next_ns)).await?;
        }
        self.close();
        Ok(())
    }
}

/// A kernel timer that the runtime waits for like a socket.
pub(crate) struct Timer {
    file: AsyncFd<OwnedFd>,
}

impl Timer {
    #[expect(
        deprecated,
        reason = "the warning is about files closed under the registration, and this one belongs to it"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { file: AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)? })
    }

    pub(crate) async fn wait_until(&self, at_ns: u64) -> io::Result<()> {
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
