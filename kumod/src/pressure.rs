//! Memory: how much the process uses, and whether that is so much that new mail has to wait.
//!
//! Over the limit new connections and messages are refused, while what is here goes on being delivered, which frees memory. Below nine
//! tenths of the limit mail is taken again. Refusing costs a look at a flag. Where the host does not say what is used, there is no limit.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::metrics::Sample;

/// Between two looks at the memory in use.
pub const LOOK_INTERVAL_MS: u64 = 250;
/// Of the memory that the host grants, so much may be used unless something else is said, in percent.
const DEFAULT_PERCENT: u64 = 75;
/// Mail is taken again below so much of the limit, in percent.
const RESUME_PERCENT: u64 = 90;

/// The state of the process's memory.
#[derive(Debug)]
pub struct Pressure {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    over: AtomicBool,
    times_over: AtomicU64,
}

impl Pressure {
    /// With a limit, or with what suits the memory that host and control group grant.
    pub fn new(limit_bytes: Option<u64>) -> Self {
        let limit_bytes = limit_bytes.or_else(|| granted_bytes().map(|bytes| bytes / 100 * DEFAULT_PERCENT));
        let [used_bytes, times_over] = [0, 0].map(AtomicU64::new);
        Self {
            limit_bytes: limit_bytes.unwrap_or(u64::MAX),
            used_bytes,
            over: AtomicBool::new(false),
            times_over,
        }
    }

    /// Notes what is in use now, and says whether it is over the limit.
    pub fn note(&self, used_bytes: u64) -> bool {
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        let was_over = self.over.load(Ordering::Relaxed);
        let line = if was_over { self.limit_bytes / 100 * RESUME_PERCENT } else { self.limit_bytes };
        let over = used_bytes >= line;
        if over != was_over {
            self.over.store(over, Ordering::Relaxed);
            if over {
                self.times_over.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    used_bytes,
                    limit_bytes = self.limit_bytes,
                    "memory is short: new mail has to wait"
                );
            } else {
                tracing::info!(used_bytes, "memory is enough again: new mail is taken");
            }
        }
        over
    }

    /// Why new mail has to wait, if it has to.
    pub fn refusal(&self) -> Option<String> {
        if !self.over.load(Ordering::Relaxed) {
            return None;
        }
        let used = self.used_bytes.load(Ordering::Relaxed);
        Some(format!("memory is short: {used} bytes of {} are in use", self.limit_bytes))
    }

    /// For whoever asks for metrics.
    pub fn samples(&self) -> Vec<Sample> {
        let gauge =
            |name, help, value: u64| Sample::gauge(name, help, i64::try_from(value).unwrap_or(i64::MAX));
        vec![
            gauge("memory_usage", "Bytes of memory in use", self.used_bytes.load(Ordering::Relaxed)),
            gauge("memory_limit", "Bytes of memory from which on new mail is refused", self.limit_bytes),
            Sample::counter(
                "memory_over_limit_count",
                "Times that memory went over its limit",
                self.times_over.load(Ordering::Relaxed),
            ),
        ]
    }
}

/// Bytes that the process holds in memory.
pub fn used_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// What control group and host grant, whichever is less.
fn granted_bytes() -> Option<u64> {
    let number = |path: String| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group_limits = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => number(format!("/sys/fs/cgroup{path}/memory.max")),
            "memory" => number(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")),
            _ => None,
        }
    });
    group_limits.chain(host_bytes()).min()
}

fn host_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn mail_waits_over_the_limit_and_flows_again_well_below_it() {
        let pressure = Pressure::new(Some(1000));
        assert!(!pressure.note(999) && pressure.refusal().is_none());
        assert!(pressure.note(1000));
        assert_eq!(pressure.refusal().unwrap(), "memory is short: 1000 bytes of 1000 are in use");
        assert!(pressure.note(900), "a little less is not enough");
        assert!(!pressure.note(899));
        assert_eq!(pressure.refusal(), None);
        assert!(pressure.note(2000));
        assert_eq!(pressure.times_over.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_host_says_what_it_grants_and_what_is_used() {
        let (used, granted) = (used_bytes().unwrap(), granted_bytes().unwrap());
        assert!(used > 100_000 && used < granted, "{used} of {granted}");
    }
}
