//! What a group has gone through: throttled time, memory at its limit, programs that the kernel ended.
//!
//! It owns the reading of those counts from the files of either version. It refuses nothing: what a kernel does not count is
//! unknown.

use std::fs;
use std::path::{Path, PathBuf};

/// Times that the memory of a group of version 1 was at its limit.
const FAILURES: &str = "memory.failcnt";
/// The same of memory and swap together.
const FAILURES_WITH_SWAP: &str = "memory.memsw.failcnt";

/// Where the kernel counts what happens to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub(super) version: u32,
    pub(super) cpu: PathBuf,
    pub(super) memory: PathBuf,
}

/// What a group has gone through since it was made; `None` where its kernel does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Seconds that its threads stood still because the quota of a period was used up.
    pub throttled_s: Option<f64>,
    /// Times that the memory limit was met, and pages were given back or refused.
    pub memory_limit_hits: Option<u64>,
    /// The most memory that it had, bytes, page cache included.
    pub memory_peak_bytes: Option<u64>,
    /// Processes that were killed because nothing could be given back.
    pub killed: Option<u64>,
}

impl Account {
    /// What the group has gone through so far. It can still be asked when the process has ended, as long as the group is there.
    pub fn usage(&self) -> Usage {
        let number =
            |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
        if self.version == 1 {
            return Usage {
                throttled_s: word(&self.cpu, "cpu.stat", "throttled_time").map(|ns| ns as f64 / 1e9),
                // Where swap is counted too, the limit on both together is the one that is met.
                memory_limit_hits: [FAILURES, FAILURES_WITH_SWAP]
                    .into_iter()
                    .filter_map(|file| number(&self.memory, file))
                    .max(),
                memory_peak_bytes: number(&self.memory, "memory.max_usage_in_bytes"),
                killed: word(&self.memory, "memory.oom_control", "oom_kill"),
            };
        }
        Usage {
            throttled_s: word(&self.cpu, "cpu.stat", "throttled_usec").map(|us| us as f64 / 1e6),
            memory_limit_hits: word(&self.memory, "memory.events", "max"),
            memory_peak_bytes: number(&self.memory, "memory.peak"),
            killed: word(&self.memory, "memory.events", "oom_kill"),
        }
    }
}

/// The number behind a word in a file of words and numbers.
fn word(folder: &Path, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
