//! What the kernel says is in force for a process.
//!
//! It owns the proof that a limit holds: quota, processors and memory are read from the files of the group in which the kernel
//! says the process is, and compared with what was asked for. It refuses what differs, in either direction, with both numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use reports::machine::Cgroup;
use reports::run::{Run, counter};

use super::cores::Cores;
use super::{Account, GROUP_PREFIX, Limits, Usage};
use crate::error::{Error, Result};

/// The kernel keeps quotas in microseconds of a period and memory in pages; nothing may differ by more than this part.
const DIFFERENCE_MAX: f64 = 0.001;

/// The label of a run that names the control group of the relay.
const GROUP_LABEL: &str = "cgroup";
/// The label of a run that lists the processors of the relay.
const CORES_LABEL: &str = "relay_cores";

/// The limits of a process as they were read back.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    /// Processors' worth of time.
    pub cpus: f64,
    /// The processors that it may use.
    pub cores: Cores,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The name of its control group.
    pub group: String,
    /// Where its group is counted.
    pub account: Account,
}

impl InForce {
    /// Reads what is in force for a process and makes sure that it is what was asked for. `root` is `/` but in tests.
    ///
    /// # Errors
    /// [`Error::Unable`] with the limit that does not hold.
    pub fn verify(root: &Path, process: u32, asked: &Limits) -> Result<Self> {
        let name = process.to_string();
        let found = Cgroup::of_process(root, &name);
        let fail = |what: &str, found: String, asked: String| {
            Error::Unable(format!(
                "process {process} is not under the limit that was set: {what} is {found}, {asked} was asked for; does \
                 someone else manage the control groups of this host?"
            ))
        };
        let none = || "without a limit".to_owned();
        let cpus = found.cpu_quota.filter(|quota| is_near(*quota, asked.cpus));
        let cpus = cpus.ok_or_else(|| {
            fail(
                "its CPU quota",
                found.cpu_quota.map_or_else(none, |quota| quota.to_string()),
                asked.cpus.to_string(),
            )
        })?;
        let memory = found.memory_max_bytes.filter(|bytes| is_near(*bytes as f64, asked.memory_bytes as f64));
        let memory_bytes = memory.ok_or_else(|| {
            let found = found.memory_max_bytes.map_or_else(none, |bytes| format!("{bytes} bytes"));
            fail("its memory", found, format!("{} bytes", asked.memory_bytes))
        })?;
        let cores = cores_of(root, process).unwrap_or_default();
        if cores != asked.cores {
            return Err(fail(
                "the list of its processors",
                format!("\"{cores}\""),
                format!("\"{}\"", asked.cores),
            ));
        }
        let version = found.version.unwrap_or(2);
        let folder = |controller: &str| {
            let controller = if version == 2 { "" } else { controller };
            Cgroup::folders(root, &name, controller).into_iter().next().unwrap_or_default()
        };
        let group = group_of(root, process, version).ok_or_else(|| {
            fail("its control group", "another".to_owned(), format!("one called {GROUP_PREFIX}…"))
        })?;
        let account = Account { version, cpu: folder("cpu"), memory: folder("memory") };
        Ok(Self { cpus, cores, memory_bytes, group, account })
    }

    /// Writes into a run of the relay what held for it, and what its group went through since `before`.
    pub fn describe(&self, run: &mut Run, before: &Usage) {
        run.labels.insert(GROUP_LABEL.into(), self.group.clone());
        run.labels.insert(CORES_LABEL.into(), self.cores.to_string());
        let now = self.account.usage();
        let hits = now.memory_limit_hits.zip(before.memory_limit_hits);
        let counts = [
            (counter::CGROUP_CPUS, Some(self.cpus)),
            (counter::CGROUP_MEMORY_BYTES, Some(self.memory_bytes as f64)),
            (counter::CGROUP_MEMORY_PEAK_BYTES, now.memory_peak_bytes.map(|bytes| bytes as f64)),
            (counter::CGROUP_MEMORY_LIMIT_HITS, hits.map(|(now, before)| now.saturating_sub(before) as f64)),
            (
                counter::CGROUP_THROTTLED_S,
                now.throttled_s.zip(before.throttled_s).map(|(now, before)| (now - before).max(0.0)),
            ),
        ];
        let known = counts.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count?)));
        run.counters.extend(known);
    }
}

fn is_near(found: f64, asked: f64) -> bool {
    (found - asked).abs() <= asked * DIFFERENCE_MAX
}

/// The processors that the kernel lets a process use.
fn cores_of(root: &Path, process: u32) -> Option<Cores> {
    let status = fs::read_to_string(root.join(format!("proc/{process}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().parse().ok()
}

/// The name of the group that holds a process, and only that: the folders above it are nobody's business. `None` where it is
/// none of ours in one of the hierarchies.
fn group_of(root: &Path, process: u32, version: u32) -> Option<String> {
    let text = fs::read_to_string(root.join(format!("proc/{process}/cgroup"))).ok()?;
    let is_asked_for = |line: &&str| {
        let mut controllers = line.split(':').nth(1).unwrap_or_default().split(',');
        if version == 2 {
            controllers.all(str::is_empty)
        } else {
            controllers.any(|name| super::limiter::CONTROLLERS.contains(&name))
        }
    };
    let names: Option<BTreeSet<&str>> = text
        .lines()
        .filter(is_asked_for)
        .map(|line| line.rsplit('/').next().filter(|name| name.starts_with(GROUP_PREFIX)))
        .collect();
    let names: Vec<&str> = names?.into_iter().collect();
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cgroup::fake::{self, write};

    fn asked() -> Limits {
        Limits { cpus: 0.5, cores: "1".parse().unwrap(), memory_bytes: 1 << 30 }
    }

    fn limited_1(root: &Path) {
        fake::version_1(root);
        write(
            root,
            "proc/9/cgroup",
            "4:pids:/\n3:cpu,cpuacct:/own/kumod-lab-7-t\n2:cpuset:/kumod-lab-7-t\n1:memory:/own/kumod-lab-7-t\n0::/\n",
        );
        write(root, "proc/9/status", "Name:\tkumod\nCpus_allowed_list:\t1\n");
        write(root, "sys/fs/cgroup/cpu/own/kumod-lab-7-t/cpu.cfs_quota_us", "50000\n");
        write(root, "sys/fs/cgroup/cpu/own/kumod-lab-7-t/cpu.cfs_period_us", "100000\n");
        write(
            root,
            "sys/fs/cgroup/cpu/own/kumod-lab-7-t/cpu.stat",
            "nr_throttled 3\nthrottled_time 1500000000\n",
        );
        write(root, "sys/fs/cgroup/memory/own/kumod-lab-7-t/memory.limit_in_bytes", "1073741824\n");
        write(root, "sys/fs/cgroup/memory/own/kumod-lab-7-t/memory.failcnt", "12\n");
        write(root, "sys/fs/cgroup/memory/own/kumod-lab-7-t/memory.max_usage_in_bytes", "1048576\n");
        write(
            root,
            "sys/fs/cgroup/memory/own/kumod-lab-7-t/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        );
    }

    #[test]
    fn version_1_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        limited_1(root.path());
        let found = InForce::verify(root.path(), 9, &asked()).unwrap();
        assert_eq!((found.account.version, found.cpus, found.memory_bytes), (1, 0.5, 1 << 30));
        assert_eq!(found.group, "kumod-lab-7-t");
        let expected = Usage {
            throttled_s: Some(1.5),
            memory_limit_hits: Some(12),
            memory_peak_bytes: Some(1 << 20),
            killed: Some(1),
        };
        assert_eq!(found.account.usage(), expected);
        let mut run = Run::default();
        found.describe(
            &mut run,
            &Usage { throttled_s: Some(0.5), memory_limit_hits: Some(12), ..Usage::default() },
        );
        assert_eq!((run.labels["relay_cores"].as_str(), run.counters["cgroup_cpus"]), ("1", 0.5));
        assert_eq!(
            (run.counters["cgroup_throttled_s"], run.counters["cgroup_memory_limit_hits"]),
            (1.0, 0.0)
        );
    }

    #[test]
    fn version_2_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        fake::version_2(root.path(), "cpuset cpu memory");
        write(root.path(), "proc/9/cgroup", "0::/own/kumod-lab-7-t\n");
        write(root.path(), "proc/9/status", "Cpus_allowed_list:\t1\n");
        let file = |name: &str, content: &str| {
            write(root.path(), &format!("sys/fs/cgroup/own/kumod-lab-7-t/{name}"), content)
        };
        file("cpu.max", "50000 100000\n");
        file("memory.max", "1073741824\n");
        file("cpu.stat", "usage_usec 9\nthrottled_usec 250000\n");
        file("memory.events", "low 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n");
        let found = InForce::verify(root.path(), 9, &asked()).unwrap();
        assert_eq!((found.account.version, found.group.as_str()), (2, "kumod-lab-7-t"));
        let expected = Usage {
            throttled_s: Some(0.25),
            memory_limit_hits: Some(7),
            memory_peak_bytes: None,
            killed: Some(2),
        };
        assert_eq!(found.account.usage(), expected);
    }

    const OTHER_SET: &str = "3:cpu:/own/kumod-lab-7-t\n2:cpuset:/other\n1:memory:/own/kumod-lab-7-t\n";

    #[test]
    fn a_limit_that_does_not_hold_is_an_error_with_both_numbers() {
        let cases: [(&str, &str, &[&str]); 6] = [
            (
                "sys/fs/cgroup/cpu/own/kumod-lab-7-t/cpu.cfs_quota_us",
                "-1\n",
                &["CPU quota", "without a limit", "0.5 was"],
            ),
            // A group above ours that is tighter is in force too.
            (
                "sys/fs/cgroup/memory/own/memory.limit_in_bytes",
                "1000\n",
                &["memory", "1000 bytes", "1073741824"],
            ),
            ("proc/9/status", "Cpus_allowed_list:\t0-1\n", &["processors", "\"0-1\"", "\"1\" was asked for"]),
            ("proc/9/status", "", &["processors", "\"\""]),
            ("proc/9/cgroup", "0::/\n", &["CPU quota"]),
            // Somebody moved it: the limits hold by chance.
            ("proc/9/cgroup", OTHER_SET, &["its control group is another"]),
        ];
        for (path, content, words) in cases {
            let root = tempfile::tempdir().unwrap();
            limited_1(root.path());
            write(root.path(), path, content);
            let error = InForce::verify(root.path(), 9, &asked()).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
