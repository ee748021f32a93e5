//! Processor time of this process and of single threads in it.
//!
//! It owns the reading of clocks and of `/proc/self/task`. What a kernel does not tell is `None`; the clock of the whole process
//! is always there.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// User and system time of this process since its start: threads that ended and the kernel's workers included.
pub fn of_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// Numbers of the living threads of this process with a name.
pub fn threads_named(name: &str) -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let numbers = tasks.filter_map(|task| {
        let called = fs::read_to_string(task.path().join("comm")).ok()?;
        if called.trim_end() != name {
            return None;
        }
        task.file_name().to_str()?.parse().ok()
    });
    numbers.collect()
}

/// User and system time of a thread of this process.
pub fn of_thread(thread: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_thread_is_found_by_its_name() {
        let look = || {
            let found = threads_named("looked-for");
            // Kernels without scheduler statistics say nothing of a living thread, either.
            (
                found.len(),
                of_thread(found[0]).is_some() || !std::path::Path::new("/proc/self/schedstat").exists(),
            )
        };
        let looked =
            std::thread::Builder::new().name("looked-for".into()).spawn(look).unwrap().join().unwrap();
        assert_eq!(looked, (1, true));
        assert!(threads_named("nobody").is_empty());
        assert!(of_process() > Duration::ZERO);
    }
}
