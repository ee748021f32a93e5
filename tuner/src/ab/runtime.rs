//! Which settings the kernel takes while it runs, and in which files.
//!
//! Refuses limits of processes and units, mounts, file systems and whatever needs a restart, with the reason: a comparison
//! switches to and fro within seconds.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::apply::kernel::choices;
use crate::apply::trial::Setting;
use crate::facts::Facts;
use crate::finding::Finding;
use crate::rule::{Fact, Read, Rule, Wanted};

const HUGE_PAGES: &str = "sys/kernel/mm/transparent_hugepage/enabled";
const PROCESSORS: &str = "sys/devices/system/cpu";
/// Where a disk is found by its name, and by its number.
const DISKS: [&str; 2] = ["sys/class/block", "sys/dev/block"];
/// What a rotating disk wants of the words that the rule knows.
const FOR_ROTATING: [&str; 2] = ["mq-deadline", "deadline"];

/// The files that give a setting its wanted value.
///
/// # Errors
/// Why it cannot be changed while the host runs, in words.
pub fn settings(root: &Path, rule: &Rule, finding: &Finding, facts: &Facts) -> Result<Vec<Setting>, String> {
    let setting =
        |path: PathBuf, wanted: &str| Setting { key: rule.key.clone(), path, wanted: wanted.to_owned() };
    let target = finding.target.as_deref().unwrap_or_default();
    match &rule.read {
        Read::Sysctl => {
            Ok(vec![setting(PathBuf::from(format!("proc/sys/{}", rule.key.replace('.', "/"))), target)])
        }
        Read::Fact(Fact::TransparentHugepage) => Ok(vec![setting(HUGE_PAGES.into(), target)]),
        Read::Fact(Fact::CpuGovernor) => {
            Ok(governors(root).into_iter().map(|path| setting(path, target)).collect())
        }
        Read::Fact(Fact::IoScheduler) => {
            let (path, word) = scheduler(root, rule, facts)?;
            Ok(vec![setting(path, &word)])
        }
        read => Err(why_not(read).to_owned()),
    }
}

/// Whether this process may write all of them.
pub fn are_writable(root: &Path, settings: &[Setting]) -> bool {
    settings.iter().all(|setting| rustix::fs::access(root.join(&setting.path), Access::WRITE_OK).is_ok())
}

fn why_not(read: &Read) -> &'static str {
    match read {
        Read::Limits { .. } => "a process gets its limits when it starts; change them where it is started",
        Read::Unit(_) => "a limit of a unit holds from the next start of the service",
        Read::Fact(Fact::SpoolFileSystem | Fact::SpoolMount) => {
            "a file system is not changed below a spool in use"
        }
        Read::Fact(Fact::Clocksource) => {
            "the clock is what measures; changing it between runs proves nothing"
        }
        _ => "it is not a setting that the running kernel takes",
    }
}

/// One file for each processor.
fn governors(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(PROCESSORS)).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("cpu"))
        .map(|entry| Path::new(PROCESSORS).join(entry.file_name()).join("cpufreq/scaling_governor"))
        .filter(|path| root.join(path).is_file())
        .collect();
    found.sort();
    found
}

/// The file of the spool's disk, and the first of the rule's words that it offers.
fn scheduler(root: &Path, rule: &Rule, facts: &Facts) -> Result<(PathBuf, String), String> {
    let disk = facts.machine.disk.as_ref();
    let device =
        disk.and_then(|disk| disk.device.as_deref()).ok_or("the disk below the spool is not known")?;
    let paths = DISKS.map(|folder| Path::new(folder).join(device).join("queue/scheduler"));
    let path = paths.into_iter().find(|path| root.join(path).is_file());
    let path = path.ok_or_else(|| format!("{device} has no file that names its scheduler"))?;
    let text =
        fs::read_to_string(root.join(&path)).map_err(|error| format!("{}: {error}", path.display()))?;
    let offered = choices(&text);
    let Wanted::OneOf(words) = &rule.wanted else { return Err("the rule names no scheduler".into()) };
    let rotates = disk.and_then(|disk| disk.rotational) == Some(true);
    let fits = |word: &&String| {
        offered.contains(&word.as_str()) && (!rotates || FOR_ROTATING.contains(&word.as_str()))
    };
    let word = words.iter().find(fits);
    word.map(|word| (path, word.clone()))
        .ok_or_else(|| format!("{device} offers none of {}", words.join(", ")))
}
