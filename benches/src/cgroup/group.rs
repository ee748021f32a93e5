//! One group with its limits, as folders of the kernel.
//!
//! It owns the files that are written, in the order that the kernel wants, and the removal. A group that cannot be made whole
//! is taken down again. What a removal fails with is told on standard error: there is nobody left to act on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::enter::Seat;
use super::{Account, GROUP_PREFIX, Limits, PERIOD_US};
use crate::error::{During, Result};
use crate::stop::Stop;

/// A process that has just ended may hold its group for a moment; after this many tries the group stays.
const REMOVE_TRIES_MAX: u32 = 200;
/// Between two tries.
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// A group that goes when this is dropped. Drop it after its processes.
#[derive(Debug)]
pub struct Group {
    folders: Vec<PathBuf>,
    account: Account,
}

impl Group {
    /// Makes a group of version 1 below one folder of each hierarchy.
    pub(super) fn version_1(
        cpu: &Path,
        cpuset: &Path,
        memory: &Path,
        name: &str,
        limits: &Limits,
    ) -> Result<Self> {
        let account = Account { version: 1, cpu: cpu.join(name), memory: memory.join(name) };
        let mut group = Self { folders: Vec::new(), account };
        let folder = group.make(cpuset, name)?;
        // A set without memory nodes takes no process.
        let nodes = fs::read_to_string(cpuset.join("cpuset.effective_mems"))
            .or_else(|_| fs::read_to_string(cpuset.join("cpuset.mems")));
        let nodes = nodes.during(|| format!("read the memory nodes of {}", cpuset.display()))?;
        set(&folder, "cpuset.mems", nodes.trim())?;
        set(&folder, "cpuset.cpus", &limits.cores.to_string())?;
        let folder = group.make(cpu, name)?;
        set(&folder, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
        set(&folder, "cpu.cfs_quota_us", &limits.quota_us().to_string())?;
        let folder = group.make(memory, name)?;
        let bytes = limits.memory_bytes.to_string();
        set(&folder, "memory.limit_in_bytes", &bytes)?;
        // Where swap is counted at all, it is counted together with memory: so none is left for it.
        if memory.join("memory.memsw.limit_in_bytes").exists() {
            set(&folder, "memory.memsw.limit_in_bytes", &bytes)?;
        }
        Ok(group)
    }

    /// Makes a group of version 2 below `parent`, which is told to hand out the controllers where it does not yet.
    pub(super) fn version_2(parent: &Path, name: &str, limits: &Limits) -> Result<Self> {
        let given = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in super::limiter::CONTROLLERS {
            if !given.split_ascii_whitespace().any(|word| word == controller) {
                set(parent, "cgroup.subtree_control", &format!("+{controller}"))?;
            }
        }
        let account = Account { version: 2, cpu: parent.join(name), memory: parent.join(name) };
        let mut group = Self { folders: Vec::new(), account };
        let folder = group.make(parent, name)?;
        set(&folder, "cpuset.cpus", &limits.cores.to_string())?;
        set(&folder, "cpu.max", &format!("{} {PERIOD_US}", limits.quota_us()))?;
        set(&folder, "memory.max", &limits.memory_bytes.to_string())?;
        if folder.join("memory.swap.max").exists() {
            set(&folder, "memory.swap.max", "0")?;
        }
        Ok(group)
    }

    fn make(&mut self, parent: &Path, name: &str) -> Result<PathBuf> {
        let folder = parent.join(name);
        fs::create_dir(&folder).during(|| format!("make the control group {}", folder.display()))?;
        self.folders.push(folder.clone());
        Ok(folder)
    }

    /// Where it is counted what happens to this group.
    pub fn account(&self) -> Account {
        self.account.clone()
    }

    /// A place in this group.
    pub fn seat(&self) -> Seat {
        Seat::at(&self.folders, None)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = remove(folder) {
                eprintln!("{} could not be removed: {error}", folder.display());
            }
        }
    }
}

fn set(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    fs::write(&path, value).during(|| format!("write {value} to {}", path.display()))
}

fn remove(folder: &Path) -> std::io::Result<()> {
    let unhurried = Stop::default();
    for _ in 1..REMOVE_TRIES_MAX {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                // Nobody can ask this flag to stop, so the pause always is one.
                let _ = unhurried.pause(REMOVE_PAUSE);
            }
            other => return other,
        }
    }
    fs::remove_dir(folder)
}

/// Removes the groups below `parents` that a laboratory left which is not there any more. Returns a sentence for each that
/// is not empty and so stays. `root` is `/` but in tests.
pub fn remove_leftovers(root: &Path, parents: &[PathBuf]) -> Vec<String> {
    let entries = parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten();
    let mut remarks = Vec::new();
    for entry in entries {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(maker) else { continue };
        if root.join("proc").join(process.to_string()).exists() {
            continue;
        }
        if let Err(error) = fs::remove_dir(entry.path()) {
            let shown = entry.path();
            remarks.push(format!(
                "{} is left of an earlier laboratory and could not be removed: {error}.",
                shown.display()
            ));
        }
    }
    remarks
}

/// The process that made a group of this name, if it is one of ours.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(GROUP_PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cgroup::fake;

    fn limits() -> Limits {
        Limits { cpus: 0.5, cores: "1".parse().unwrap(), memory_bytes: 1 << 30 }
    }

    fn files(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let content = |path: PathBuf| fs::read_to_string(path).unwrap();
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), content(entry.path()))).collect();
        files.sort();
        files
    }

    /// In the kernel's folders the files go with the folder; here somebody has to take them away.
    fn empty(folder: &Path) {
        fs::read_dir(folder).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    #[test]
    fn version_1_has_a_folder_in_each_hierarchy_and_all_go() {
        let root = tempfile::tempdir().unwrap();
        fake::version_1(root.path());
        fake::write(root.path(), "sys/fs/cgroup/memory/own/memory.memsw.limit_in_bytes", "1\n");
        let parents =
            ["cpu/own", "cpuset", "memory/own"].map(|at| root.path().join("sys/fs/cgroup").join(at));
        let [cpu, cpuset, memory] = &parents;
        let group = Group::version_1(cpu, cpuset, memory, "kumod-lab-7-x", &limits()).unwrap();
        let folders = parents.each_ref().map(|parent| parent.join("kumod-lab-7-x"));
        let quota = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")];
        assert_eq!(files(&folders[0]), pairs(quota));
        assert_eq!(files(&folders[1]), pairs([("cpuset.cpus", "1"), ("cpuset.mems", "0-1")]));
        let memory = [("memory.limit_in_bytes", "1073741824"), ("memory.memsw.limit_in_bytes", "1073741824")];
        assert_eq!(files(&folders[2]), pairs(memory));
        assert_eq!(group.seat().groups.len(), 3);
        folders.iter().for_each(|folder| empty(folder));
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    #[test]
    fn version_2_has_one_folder_and_asks_for_the_controllers() {
        let root = tempfile::tempdir().unwrap();
        fake::version_2(root.path(), "cpu memory");
        let parent = root.path().join("sys/fs/cgroup/own");
        let group = Group::version_2(&parent, "kumod-lab-7-x", &limits()).unwrap();
        let folder = parent.join("kumod-lab-7-x");
        let expected = [("cpu.max", "50000 100000"), ("cpuset.cpus", "1"), ("memory.max", "1073741824")];
        assert_eq!(files(&folder), pairs(expected));
        // Only what was missing is asked for; what a file of the kernel adds to, a plain file replaces.
        assert_eq!(fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap(), "+cpuset");
        empty(&folder);
        drop(group);
        assert!(!folder.exists());
    }

    #[test]
    fn a_group_that_cannot_be_made_whole_is_taken_down() {
        let root = tempfile::tempdir().unwrap();
        fake::version_1(root.path());
        let at = |path: &str| root.path().join("sys/fs/cgroup").join(path);
        fs::create_dir(at("cpu/own/kumod-lab-7-x")).unwrap();
        let made =
            Group::version_1(&at("cpu/own"), &at("cpuset"), &at("memory/own"), "kumod-lab-7-x", &limits());
        let error = made.unwrap_err().to_string();
        assert!(error.contains("make the control group") && error.contains("cpu/own"), "{error}");
        assert!(!at("memory/own/kumod-lab-7-x").exists());
    }

    #[test]
    fn what_a_dead_laboratory_left_goes_and_what_a_living_one_has_stays() {
        let root = tempfile::tempdir().unwrap();
        let parent = root.path().join("cpu");
        for name in ["kumod-lab-7-0.5x1", "kumod-lab-8-0.5x1", "kumod-lab-9-1x2", "kumod-lab-x", "other"] {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        fake::write(root.path(), "proc/8/stat", "8");
        fs::create_dir(parent.join("kumod-lab-9-1x2/below")).unwrap();
        let remarks = remove_leftovers(root.path(), std::slice::from_ref(&parent));
        let mut left: Vec<_> =
            fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["kumod-lab-8-0.5x1", "kumod-lab-9-1x2", "kumod-lab-x", "other"]);
        assert!(remarks.len() == 1 && remarks[0].contains("kumod-lab-9-1x2"), "{remarks:?}");
    }
}
