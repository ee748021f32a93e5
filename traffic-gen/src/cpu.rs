//! Processor time of this process.
//!
//! Owns where the kernel tells it; the kernel always does.

use rustix::time::{ClockId, clock_gettime};

use crate::clock::NS_PER_SECOND;

/// Nanoseconds that all threads of this process have run.
pub(crate) fn process_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    seconds * NS_PER_SECOND + u64::try_from(used.tv_nsec).unwrap_or(0)
}
