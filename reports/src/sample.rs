//! What a process has used so far, from `/proc/PID`.
//!
//! It owns the reading of `stat`, `status`, `io` and `task`. It refuses nothing: a process that is gone
//! is `None`, a file that may not be read is a field of `None`. Samples are taken before and after a
//! measurement, and [`crate::run::ProcessUse::between`] takes the difference.

use std::fs;
use std::path::Path;

use crate::files;

/// What one process has used since it started.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessSample {
    /// Seconds in user mode, threads that have ended included.
    pub cpu_user_s: f64,
    /// Seconds in the kernel, threads that have ended included.
    pub cpu_system_s: f64,
    /// Resident set size in bytes.
    pub rss_bytes: u64,
    /// Its peak in bytes (`VmHWM`).
    pub rss_peak_bytes: u64,
    /// Threads alive.
    pub threads: u64,
    /// Bytes it caused to be read from storage; needs the same user.
    pub read_bytes: Option<u64>,
    /// Bytes it caused to be written to storage; needs the same user.
    pub write_bytes: Option<u64>,
    /// Times that threads still alive gave up the CPU to wait.
    pub switches_voluntary: u64,
    /// Times that threads still alive had the CPU taken away.
    pub switches_involuntary: u64,
}

impl ProcessSample {
    /// User and system time in seconds.
    pub fn cpu_s(&self) -> f64 {
        self.cpu_user_s + self.cpu_system_s
    }

    /// Context switches of threads still alive.
    pub fn switches(&self) -> u64 {
        self.switches_voluntary + self.switches_involuntary
    }
}

/// Reads [`ProcessSample`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessSampler;

impl ProcessSampler {
    /// What process `pid` has used; `None` once it is gone. `root` is `/` but in tests.
    pub fn read(pid: u32, root: &Path) -> Option<ProcessSample> {
        let stat = files::text(root, &format!("/proc/{pid}/stat"))?;
        let status = files::text(root, &format!("/proc/{pid}/status"))?;
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let (user_ticks, system_ticks) = cpu_ticks(&stat)?;
        let storage = files::text(root, &format!("/proc/{pid}/io")).unwrap_or_default();
        let number = |key| files::field(&storage, key)?.parse().ok();
        let (switches_voluntary, switches_involuntary) = switches(pid, root);
        Some(ProcessSample {
            cpu_user_s: user_ticks as f64 / ticks_per_second,
            cpu_system_s: system_ticks as f64 / ticks_per_second,
            // A zombie has no memory any more, and no such lines.
            rss_bytes: files::kibibytes(&status, "VmRSS").unwrap_or(0),
            rss_peak_bytes: files::kibibytes(&status, "VmHWM").unwrap_or(0),
            threads: files::field(&status, "Threads").and_then(|n| n.parse().ok()).unwrap_or(0),
            read_bytes: number("read_bytes"),
            write_bytes: number("write_bytes"),
            switches_voluntary,
            switches_involuntary,
        })
    }
}

/// `utime` and `stime` of `/proc/PID/stat` (proc(5), fields 14 and 15).
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    // The name in field 2 may hold spaces and parentheses; nothing after its last parenthesis does.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Context switches of all threads; `/proc/PID/status` itself counts the first thread alone.
fn switches(pid: u32, root: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    let Ok(tasks) = fs::read_dir(files::below(root, &format!("/proc/{pid}/task"))) else {
        return sum;
    };
    for task in tasks.flatten() {
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        let number = |key| files::field(&status, key).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        sum.0 += number("voluntary_ctxt_switches");
        sum.1 += number("nonvoluntary_ctxt_switches");
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ProcessUse;

    fn fake(root: &Path) {
        let folder = root.join("proc/7");
        for thread in ["7", "8"] {
            let task = folder.join("task").join(thread);
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("status"), "voluntary_ctxt_switches:\t20\nnonvoluntary_ctxt_switches:\t3\n")
                .unwrap();
        }
        let stat = "7 (a) S (b) R 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 2 0 100 1 1";
        fs::write(folder.join("stat"), stat).unwrap();
        let status = "Name:\ta) S (b\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t2\n";
        fs::write(folder.join("status"), status).unwrap();
        fs::write(folder.join("io"), "rchar: 5\nread_bytes: 0\nwrite_bytes: 4096\n").unwrap();
    }

    #[test]
    fn reads_a_process_with_a_nasty_name() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path());
        let sample = ProcessSampler::read(7, root.path()).unwrap();
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(sample.cpu_s(), 200.0 / ticks_per_second);
        assert_eq!(sample.rss_bytes, 1 << 20);
        assert_eq!(sample.rss_peak_bytes, 2 << 20);
        assert_eq!(sample.write_bytes, Some(4096));
        assert_eq!((sample.switches_voluntary, sample.switches_involuntary), (40, 6));
        assert_eq!(ProcessSampler::read(9, root.path()), None);
    }

    #[test]
    fn unreadable_storage_counters_are_unknown() {
        let root = tempfile::tempdir().unwrap();
        fake(root.path());
        fs::remove_file(root.path().join("proc/7/io")).unwrap();
        assert_eq!(ProcessSampler::read(7, root.path()).unwrap().write_bytes, None);
    }

    #[test]
    fn reads_itself() {
        let sample = ProcessSampler::read(std::process::id(), Path::new("/")).unwrap();
        assert!(sample.rss_peak_bytes >= sample.rss_bytes && sample.rss_bytes > 0);
    }

    #[test]
    fn use_is_the_difference() {
        let first = ProcessSample { cpu_user_s: 1.0, write_bytes: Some(100), ..ProcessSample::default() };
        let last = ProcessSample {
            cpu_user_s: 2.0,
            cpu_system_s: 0.5,
            rss_peak_bytes: 9,
            write_bytes: Some(150),
            ..ProcessSample::default()
        };
        let used = ProcessUse::between(&first, &last);
        assert_eq!(used, ProcessUse { cpu_s: 1.5, rss_peak_bytes: 9, write_bytes: 50 });
    }
}
