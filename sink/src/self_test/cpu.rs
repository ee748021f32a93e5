//! Processor time of the sink's threads and of the whole process.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// What the threads of workers are called, with a number behind it.
const WORKER: &str = "sink-";

/// Processor time used since the process began, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    pub(super) sink_s: f64,
    pub(super) all_s: f64,
}

impl Cpu {
    /// `None` where the host does not tell.
    pub(super) fn now() -> Option<Self> {
        let mut sink_ns = 0;
        for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
            let read = |file| fs::read_to_string(task.path().join(file));
            // A thread may end meanwhile; the sink's do not.
            let Ok(name) = read("comm") else { continue };
            if is_worker(name.trim_end()) {
                // The first number is the time on a processor, in nanoseconds.
                sink_ns += read("schedstat").ok()?.split(' ').next()?.parse::<u64>().ok()?;
            }
        }
        let all = clock_gettime(ClockId::ProcessCPUTime);
        Some(Self { sink_s: sink_ns as f64 / 1e9, all_s: all.tv_sec as f64 + all.tv_nsec as f64 / 1e9 })
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self { sink_s: self.sink_s - before.sink_s, all_s: self.all_s - before.all_s }
    }
}

fn is_worker(name: &str) -> bool {
    let number = name.strip_prefix(WORKER);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_are_the_sink() {
        assert!(is_worker("sink-0") && is_worker("sink-12"));
        assert!(!is_worker("sink-http") && !is_worker("sink-") && !is_worker("load-0"));
    }
}
