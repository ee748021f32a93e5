//! Limits on one program: processors, a share of their time, and memory, set with the kernel's control groups.
//!
//! It owns the choice of a way (version 1, version 2, or systemd's manager), the groups that it makes under names of its own,
//! the joining of a program before it is executed, and the proof: what is in force is read back from the kernel and compared.
//! It refuses to go on where that differs, and to leave a group that someone limited. Groups go when their handle is dropped;
//! those of a laboratory that died are removed by the next one.

pub mod cores;
pub mod enter;

pub use account::{Account, Usage};
pub use group::{Group, remove_leftovers};
pub use in_force::InForce;
pub use limiter::{Limiter, Place};
pub use systemd::Manager;

mod account;
mod group;
mod in_force;
mod limiter;
mod systemd;

use cores::Cores;

/// Every group of the laboratory is called this, the number of its process, and what it is for.
pub const GROUP_PREFIX: &str = "kumod-lab-";
/// The span over which the kernel adds up processor time, in microseconds; its own default.
const PERIOD_US: u64 = 100_000;

/// What a program may have.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Processors' worth of time, which may be a fraction.
    pub cpus: f64,
    /// The processors on which it may run.
    pub cores: Cores,
    /// Bytes of memory, the page cache of its files included.
    pub memory_bytes: u64,
}

impl Limits {
    /// Microseconds of processor time in each [`PERIOD_US`].
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    fn quota_us(&self) -> u64 {
        (self.cpus * PERIOD_US as f64).round() as u64
    }
}

#[cfg(test)]
pub(crate) mod fake {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::fs;
    use std::path::Path;

    /// Writes a file of a machine that does not exist.
    pub(crate) fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A host with version 1 controllers, each mounted by itself.
    pub(crate) fn version_1(root: &Path) {
        write(root, "proc/self/cgroup", "3:cpu,cpuacct:/own\n2:cpuset:/\n1:memory:/own\n0::/\n");
        let mounts = ["cpu", "cpuset", "memory"]
            .map(|name| format!("30 1 0:30 / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"));
        write(root, "proc/self/mountinfo", &mounts.concat());
        write(root, "sys/fs/cgroup/cpu/own/cpu.cfs_quota_us", "-1\n");
        write(root, "sys/fs/cgroup/memory/own/memory.limit_in_bytes", "9223372036854771712\n");
        write(root, "sys/fs/cgroup/cpuset/cpuset.mems", "0-1\n");
    }

    /// A host with version 2, this process in `/own/lab`; `subtree` is what `/own` gives to the groups below it.
    pub(crate) fn version_2(root: &Path, subtree: &str) {
        write(root, "proc/self/cgroup", "0::/own/lab\n");
        write(root, "proc/self/mountinfo", "30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        for (group, processes, gives) in
            [("", "", "cpu memory"), ("/own", "", subtree), ("/own/lab", "7\n", "")]
        {
            let file = |name: &str, content: &str| {
                write(root, &format!("sys/fs/cgroup{group}/{name}"), content);
            };
            file("cgroup.controllers", "cpuset cpu io memory pids\n");
            file("cgroup.subtree_control", &format!("{gives}\n"));
            file("cgroup.procs", processes);
            if !group.is_empty() {
                file("cgroup.type", "domain\n");
                file("cpu.max", "max 100000\n");
                file("memory.max", "max\n");
                file("cpuset.cpus", "\n");
            }
        }
    }
}
