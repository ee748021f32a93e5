//! kumod under a CPU quota: it sizes itself to what it may use, not to the processors of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use crate::support::home::{Home, Kumod};

/// A control group with a quota, gone when dropped.
struct Quota {
    folder: PathBuf,
}

impl Quota {
    /// `None`, with the reason on standard error, where this user cannot make one here.
    fn of(thousandths: u32) -> Option<Self> {
        let (file, line) = ("cpu.cfs_quota_us", format!("{}", thousandths * 100));
        let old =
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"].map(|parent| (parent, file, line.clone()));
        let new = ("/sys/fs/cgroup", "cpu.max", format!("{line} 100000"));
        let made =
            old.into_iter().chain([new]).find_map(|(parent, file, line)| Self::make(parent, file, &line));
        if made.is_none() {
            eprintln!("skipped: this user cannot make a control group with a CPU quota here");
        }
        made
    }

    fn make(parent: &str, file: &str, line: &str) -> Option<Self> {
        if !Path::new(parent).join("cgroup.procs").exists() {
            return None;
        }
        let folder = Path::new(parent).join(format!("kumod-test-{}-{}", std::process::id(), line.len()));
        fs::create_dir(&folder).ok()?;
        let quota = Self { folder };
        fs::write(quota.folder.join(file), line).ok().map(|()| quota)
    }

    fn start(&self, home: &Home) -> Kumod {
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", self.folder.display());
        home.start_behind(&["/bin/sh".into(), "-c".into(), join], &[]).unwrap()
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // A process that has just ended may hold its group for a moment; a group that stays is told by the next line.
        let mut tries = 0..1_000_000;
        while fs::remove_dir(&self.folder).is_err() && tries.next().is_some() {
            std::thread::yield_now();
        }
        if self.folder.exists() {
            eprintln!("{} could not be removed", self.folder.display());
        }
    }
}

fn processors(said: &str) -> usize {
    let (_, rest) = said.split_once("sized to the processors given processors=").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_quota_counts_and_half_a_processor_is_one() {
    let all = available_parallelism().unwrap().get();
    assert_eq!(processors(&Home::new().start(&[]).stop()), all);
    for (thousandths, expected) in [(500, 1), (1000, 1), (2000, all.min(2))] {
        let Some(quota) = Quota::of(thousandths) else { return };
        let kumod = quota.start(&Home::new());
        assert_eq!(processors(&kumod.stop()), expected, "{thousandths} thousandths");
    }
}
