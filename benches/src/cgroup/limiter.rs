//! The way to limit a program on this machine: found by looking, not by trying.
//!
//! It owns the order of preference: controllers of version 1 where the host has them, since nobody else manages those; else
//! systemd's manager where it runs, because groups of version 2 are its to hand out; else a group of version 2 of our own. It
//! refuses hosts where none of the three can be had, with what is missing and what to do, and it never leaves a group that
//! somebody limited.

use std::fs;
use std::path::{Path, PathBuf};

use reports::machine::Cgroup;
use rustix::fs::{Access, access};

use super::group::Group;
use super::systemd::{Manager, scope};
use super::{Account, GROUP_PREFIX, Limits};
use crate::arguments;
use crate::cgroup::enter::Seat;
use crate::error::{Error, Result};

/// What a tier needs of the kernel.
pub(super) const CONTROLLERS: [&str; 3] = ["cpu", "cpuset", "memory"];

/// What would help, whatever is missing.
const REMEDY: &str = "run lab as root, on a host with systemd or with control groups that may be written; in a container, \
                      start that with --privileged and --cgroupns=host";

/// A way to limit a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limiter {
    /// Version 1: a folder below each of these.
    Version1 {
        /// Where our groups of `cpu` go.
        cpu: PathBuf,
        /// Where our groups of `cpuset` go.
        cpuset: PathBuf,
        /// Where our groups of `memory` go.
        memory: PathBuf,
    },
    /// Version 2: a folder below this one.
    Version2 {
        /// Where our groups go.
        parent: PathBuf,
    },
    /// A scope that systemd's manager makes.
    Systemd(Manager),
}

impl Limiter {
    /// Looks for a way. `root` is `/` but in tests.
    ///
    /// # Errors
    /// [`Error::Unable`] with what is missing and the remedy.
    pub fn probe(root: &Path) -> Result<Self> {
        let missing_1 = match version_1(root) {
            Ok(way) => return Ok(way),
            Err(missing) => missing,
        };
        if let Some(manager) = Manager::probe(root) {
            return Ok(Self::Systemd(manager));
        }
        version_2(root).map_err(|missing_2| {
            Error::Unable(format!(
                "kumod cannot be put under a limit here: version 1 of the control groups: {missing_1}; systemd: no manager \
                 that this user may ask; version 2: {missing_2}. Remedy: {REMEDY}"
            ))
        })
    }

    /// What the record calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Version1 { .. } => "control groups, version 1",
            Self::Version2 { .. } => "control groups, version 2",
            Self::Systemd(_) => "systemd-run --scope",
        }
    }

    /// The folders in which groups of an earlier laboratory may be left; systemd removes its own.
    pub fn parents(&self) -> Vec<PathBuf> {
        match self {
            Self::Version1 { cpu, cpuset, memory } => vec![cpu.clone(), cpuset.clone(), memory.clone()],
            Self::Version2 { parent } => vec![parent.clone()],
            Self::Systemd(_) => Vec::new(),
        }
    }

    /// Prepares a place under `limits` and tells what stands in front of a command line to start it there. `purpose` makes the
    /// name of the group unique in this process; `lab` is the laboratory's executable. The place lasts as long as the group.
    ///
    /// # Errors
    /// [`Error::Host`] when the kernel refuses the group or a limit.
    pub fn prepare(&self, purpose: &str, limits: &Limits, lab: &Path) -> Result<Place> {
        let name = format!("{GROUP_PREFIX}{}-{purpose}", std::process::id());
        let group = match self {
            Self::Version1 { cpu, cpuset, memory } => Group::version_1(cpu, cpuset, memory, &name, limits)?,
            Self::Version2 { parent } => Group::version_2(parent, &name, limits)?,
            Self::Systemd(manager) => {
                let mut before = arguments!["systemd-run"];
                before.extend(scope(*manager, &name, limits));
                before.extend(Seat::at(&[], None).before(lab));
                return Ok(Place { before, group: None });
            }
        };
        Ok(Place { before: group.seat().before(lab), group: Some(group) })
    }
}

/// Where a program is started under limits.
#[derive(Debug)]
pub struct Place {
    /// Stands in front of its command line.
    pub before: Vec<std::ffi::OsString>,
    /// The group that we made; `None` where systemd makes it.
    pub group: Option<Group>,
}

impl Place {
    /// Where it is counted what happens here; `None` where the group is not ours and a process has to be asked.
    pub fn account(&self) -> Option<Account> {
        self.group.as_ref().map(Group::account)
    }
}

/// Version 1, below the groups that hold this process, so that every limit on us holds for what we start.
fn version_1(root: &Path) -> std::result::Result<Limiter, String> {
    let find = |controller: &str| {
        let found = Cgroup::folders(root, "self", controller);
        let folder = found.into_iter().next().ok_or_else(|| format!("no controller {controller}"))?;
        writable(&folder).map(|()| folder)
    };
    Ok(Limiter::Version1 { cpu: find("cpu")?, cpuset: find("cpuset")?, memory: find("memory")? })
}

/// Version 2, below the innermost group around us that can hand out the controllers.
fn version_2(root: &Path) -> std::result::Result<Limiter, String> {
    let folders = Cgroup::folders(root, "self", "");
    let mut missing = "not mounted".to_owned();
    for folder in folders {
        missing = match hands_out(&folder).and_then(|()| writable(&folder)) {
            Ok(()) => return Ok(Limiter::Version2 { parent: folder }),
            Err(missing) => missing,
        };
        if let Some(limit) = limit_of(&folder) {
            return Err(format!(
                "{missing}, and {} must not be left, since {limit} limits it",
                folder.display()
            ));
        }
    }
    Err(missing)
}

/// Whether groups below this one have the controllers, or can get them.
fn hands_out(folder: &Path) -> std::result::Result<(), String> {
    let has_all = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        CONTROLLERS.iter().all(|name| text.split_ascii_whitespace().any(|word| word == *name))
    };
    let shown = folder.display();
    if has_all("cgroup.subtree_control") {
        return Ok(());
    }
    if !has_all("cgroup.controllers") {
        return Err(format!("{shown} was not given all of {}", CONTROLLERS.join(", ")));
    }
    // The kernel's root alone may have processes of its own beside groups with controllers; it has no type.
    let is_root = !folder.join("cgroup.type").exists();
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    if is_root || processes.trim().is_empty() {
        return Ok(());
    }
    Err(format!("{shown} has processes of its own, so groups below it get no controllers"))
}

/// The file that limits this group, if one does.
fn limit_of(folder: &Path) -> Option<&'static str> {
    let is_limit = |file: &&str| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        !(text.trim().is_empty() || text.trim().starts_with("max"))
    };
    ["cpu.max", "cpuset.cpus", "memory.max"].into_iter().find(|file| is_limit(file))
}

fn writable(folder: &Path) -> std::result::Result<(), String> {
    access(folder, Access::WRITE_OK)
        .map_err(|error| format!("{} cannot be written ({error})", folder.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cgroup::fake::{self, write};

    fn own(root: &Path) -> PathBuf {
        root.join("sys/fs/cgroup/own")
    }

    #[test]
    fn version_1_is_used_below_our_own_groups() {
        let root = tempfile::tempdir().unwrap();
        fake::version_1(root.path());
        let [cpu, cpuset, memory] =
            ["cpu/own", "cpuset", "memory/own"].map(|at| root.path().join("sys/fs/cgroup").join(at));
        let found = Limiter::probe(root.path()).unwrap();
        assert_eq!(found.parents(), [cpu.clone(), cpuset.clone(), memory.clone()]);
        assert_eq!(found, Limiter::Version1 { cpu, cpuset, memory });
    }

    #[test]
    fn version_2_is_used_where_controllers_are_handed_out() {
        let root = tempfile::tempdir().unwrap();
        fake::version_2(root.path(), "cpuset cpu memory");
        assert_eq!(Limiter::probe(root.path()).unwrap(), Limiter::Version2 { parent: own(root.path()) });
        // Not yet, but nothing is in the way.
        fake::version_2(root.path(), "");
        assert_eq!(Limiter::probe(root.path()).unwrap(), Limiter::Version2 { parent: own(root.path()) });
        // The root of the hierarchy is the last resort.
        write(root.path(), "sys/fs/cgroup/own/cgroup.procs", "3\n");
        let parent = root.path().join("sys/fs/cgroup");
        assert_eq!(Limiter::probe(root.path()).unwrap(), Limiter::Version2 { parent });
    }

    #[test]
    fn a_group_with_a_limit_is_not_left() {
        for (file, limit) in
            [("memory.max", "1073741824\n"), ("cpu.max", "50000 100000\n"), ("cpuset.cpus", "0\n")]
        {
            let root = tempfile::tempdir().unwrap();
            fake::version_2(root.path(), "cpuset cpu memory");
            write(root.path(), &format!("sys/fs/cgroup/own/lab/{file}"), limit);
            let error = Limiter::probe(root.path()).unwrap_err();
            assert_eq!(error.exit_code(), 1);
            let text = error.to_string();
            assert!(text.contains(&format!("since {file} limits it")), "{text}");
            assert!(
                text.contains("processes of its own") && text.contains("Remedy: run lab as root"),
                "{text}"
            );
        }
    }

    #[test]
    fn systemd_is_asked_where_it_runs() {
        let root = tempfile::tempdir().unwrap();
        fake::version_2(root.path(), "cpuset cpu memory");
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        // Who is not root asks the manager of his own.
        let user = rustix::process::geteuid().as_raw();
        write(root.path(), &format!("run/user/{user}/systemd/private"), "");
        assert_eq!(Manager::probe(root.path()), None);
        write(root.path(), "usr/bin/systemd-run", "");
        let found = Limiter::probe(root.path()).unwrap();
        assert!(found.parents().is_empty());
        assert_eq!(found.name(), "systemd-run --scope");
        let limits = Limits { cpus: 1.5, cores: "0-1".parse().unwrap(), memory_bytes: 1 << 31 };
        let place = found.prepare("1.5x2", &limits, Path::new("/bin/lab")).unwrap();
        assert_eq!(place.before.first().unwrap(), "systemd-run");
        assert_eq!(place.before[place.before.len() - 3..], arguments!["/bin/lab", "enter", "--"]);
        assert!(place.group.is_none());
    }

    #[test]
    fn a_machine_without_any_way_says_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let text = Limiter::probe(root.path()).unwrap_err().to_string();
        assert!(text.contains("no controller cpu") && text.contains("not mounted"), "{text}");
        fake::version_1(root.path());
        write(root.path(), "proc/self/cgroup", "3:cpu:/own\n1:memory:/own\n0::/\n");
        let text = Limiter::probe(root.path()).unwrap_err().to_string();
        assert!(text.contains("no controller cpuset"), "{text}");
    }
}
