//! `CLOCK_MONOTONIC` in nanoseconds: the clock of `sent`, of latencies and of the schedule. The sink reads
//! the same one.

use rustix::time::{ClockId, clock_gettime};

pub(crate) const NS_PER_SECOND: u64 = 1_000_000_000;

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * NS_PER_SECOND + u64::try_from(now.tv_nsec).unwrap_or(0)
}
