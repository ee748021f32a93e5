//! Processor time: of this process and of single threads of it, and how many processors there are for it.
//!
//! Owns where the kernel tells it. What the kernel does not tell is `None`, never 0.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use rustix::time::{ClockId, clock_gettime};

use crate::clock::NS_PER_SECOND;

/// Processors that this process may use; a quota of its control group and a mask of processors count.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Nanoseconds that all threads of this process have run.
pub(crate) fn process_ns() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    seconds * NS_PER_SECOND + u64::try_from(used.tv_nsec).unwrap_or(0)
}

/// Nanoseconds that a thread of this process has run, by its number in the kernel.
pub(crate) fn thread_ns(thread: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_has_run_and_is_part_of_its_process() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let Some(before_ns) = thread_ns(thread) else {
            eprintln!("skipped: this kernel does not tell how long threads have run");
            return;
        };
        let mut number = 1u64;
        while thread_ns(thread).is_some_and(|now_ns| now_ns < before_ns + 1_000_000) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(process_ns() >= before_ns + 1_000_000);
        assert_eq!(thread_ns(i32::MAX), None);
    }
}
