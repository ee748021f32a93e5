//! Limits of the control groups that hold a process, version 1, 2 and both at once.
//!
//! It owns the search: from the group of the process up to the mounted root, the tightest limit counts.
//! It refuses nothing; where no group is known the version is unknown.

use std::path::{Path, PathBuf};

use super::Cgroup;
use crate::files;

/// A version 1 limit of this size or more means none (the kernel's own maximum, rounded to pages).
const V1_UNLIMITED_BYTES: u64 = 1 << 62;

impl Cgroup {
    /// The limits in force for a process; `process` is its number or `self`, `root` is `/` but in tests.
    pub fn of_process(root: &Path, process: &str) -> Self {
        probe(root, process)
    }

    /// The folders of the group that holds a process and of all groups above it, from the inside out. `controller` is
    /// `cpu`, `cpuset`, `memory`, or the empty word for version 2. Nothing where there is no such group.
    pub fn folders(root: &Path, process: &str, controller: &str) -> Vec<PathBuf> {
        let groups = files::text(root, &format!("/proc/{process}/cgroup")).unwrap_or_default();
        let mounts = files::text(root, "/proc/self/mountinfo").unwrap_or_default();
        folders(root, &groups, &mounts, controller)
    }
}

pub(super) fn probe(root: &Path, process: &str) -> Cgroup {
    let found = |controller| Cgroup::folders(root, process, controller);
    let (cpu_v1, memory_v1, unified) = (found("cpu"), found("memory"), found(""));
    if !cpu_v1.is_empty() || !memory_v1.is_empty() {
        let limited = |file| least(&memory_v1, file).filter(|bytes| *bytes < V1_UNLIMITED_BYTES);
        return Cgroup {
            version: Some(1),
            cpu_quota: tightest(cpu_v1.iter().filter_map(|folder| quota_v1(folder))),
            memory_max_bytes: limited("memory.limit_in_bytes"),
            memory_high_bytes: None,
            swap_max_bytes: limited("memory.memsw.limit_in_bytes"),
            pids_max: least(&found("pids"), "pids.max"),
            cpuset: cpuset(&found("cpuset"), ["cpuset.effective_cpus", "cpuset.cpus"]),
        };
    }
    Cgroup {
        version: (!unified.is_empty()).then_some(2),
        cpu_quota: tightest(unified.iter().filter_map(|folder| quota_v2(folder))),
        memory_max_bytes: least(&unified, "memory.max"),
        memory_high_bytes: least(&unified, "memory.high"),
        swap_max_bytes: least(&unified, "memory.swap.max"),
        pids_max: least(&unified, "pids.max"),
        cpuset: cpuset(&unified, ["cpuset.cpus.effective", "cpuset.cpus"]),
    }
}

/// The smallest number that a file of that name says in any of the groups; `max` is none.
fn least(folders: &[PathBuf], file: &str) -> Option<u64> {
    folders.iter().filter_map(|folder| files::number(&folder.join(file))).min()
}

/// What our own group may run on; where it does not say, the group above.
fn cpuset(folders: &[PathBuf], names: [&str; 2]) -> Option<String> {
    folders.iter().find_map(|folder| names.iter().find_map(|name| files::line(&folder.join(name))))
}

/// The folders of our group of a controller ("" is version 2) and of all groups above it.
fn folders(root: &Path, groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let Some(group) = groups.lines().find_map(|line| group_of(line, controller)) else {
        return Vec::new();
    };
    let Some(Mount { root: mounted, place }) = mounts.lines().find_map(|line| mount_of(line, controller))
    else {
        return Vec::new();
    };
    let top = files::below(root, place);
    // A container may see only its own branch of the hierarchy and be told the name of its group from the trunk on.
    let below = group.strip_prefix(mounted.trim_end_matches('/'));
    let group = below.filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(group);
    let own = match group.trim_matches('/') {
        "" => top.clone(),
        below => top.join(below),
    };
    // In a namespace the group may point above the mounted root; then only the root can be seen.
    let seen = if own.is_dir() && !group.contains("..") { own } else { top.clone() };
    seen.ancestors().take_while(|folder| folder.starts_with(&top)).map(Path::to_owned).collect()
}

/// `4:cpu,cpuacct:/a` is `/a` for `cpu`; `0::/b` is `/b` for "".
fn group_of<'l>(line: &'l str, controller: &str) -> Option<&'l str> {
    let mut fields = line.splitn(3, ':').skip(1);
    let controllers = fields.next()?;
    controllers.split(',').any(|name| name == controller).then(|| fields.next())?
}

/// A line of mountinfo (proc(5)).
struct Mount<'l> {
    /// Which folder of the hierarchy stands at the place.
    root: &'l str,
    place: &'l str,
}

/// Where the hierarchy of a controller is mounted.
fn mount_of<'l>(line: &'l str, controller: &str) -> Option<Mount<'l>> {
    let (mount, rest) = line.split_once(" - ")?;
    let mut rest = rest.split(' ');
    let (filesystem, options) = (rest.next()?, rest.nth(1).unwrap_or(""));
    let is_it = match controller {
        "" => filesystem == "cgroup2",
        name => filesystem == "cgroup" && options.split(',').any(|option| option == name),
    };
    let mut fields = mount.split(' ').skip(3);
    is_it.then(|| Some(Mount { root: fields.next()?, place: fields.next()? }))?
}

fn quota_v1(folder: &Path) -> Option<f64> {
    let quota: i64 = files::line(&folder.join("cpu.cfs_quota_us"))?.parse().ok()?;
    let period = files::number(&folder.join("cpu.cfs_period_us"))?;
    // A quota of -1 is none.
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

fn quota_v2(folder: &Path) -> Option<f64> {
    let line = files::line(&folder.join("cpu.max"))?;
    let (quota, period) = line.split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

fn tightest(quotas: impl Iterator<Item = f64>) -> Option<f64> {
    quotas.min_by(f64::total_cmp)
}
