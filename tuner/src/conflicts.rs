//! Who else sets what tuner would set, and who would win at boot.
//!
//! Reads the files of sysctl.d in the precedence that systemd-sysctl and `sysctl --system` give them, and the other
//! programs that set kernel parameters. Names file and line. What cannot be read sets nothing, as it would at boot.

mod others;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::apply::SYSCTL_FILE;
use crate::facts::Facts;
use crate::finding::compare::{compare, with_values};
use crate::finding::{Finding, Question, Verdict, context};
use crate::rule::{Rule, built_in};

/// Later directories give way to earlier ones with a file of the same name.
const DIRECTORIES: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// The most that is read of one file, bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A line that would undo a setting at boot, or later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The setting.
    pub key: String,
    /// File and line, or the program.
    pub place: String,
    /// The value that it gives.
    pub value: String,
    /// The value that is wanted.
    pub wanted: String,
    /// Why it would win.
    pub reason: String,
}

/// One assignment found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) place: String,
    pub(crate) reason: &'static str,
}

/// Lines that would undo, at boot or later, what the findings ask for or find right.
pub fn of(root: &Path, findings: &[Finding], facts: &Facts, question: &Question) -> Vec<Conflict> {
    let mut rules: BTreeMap<&str, (&Rule, Option<&str>)> = BTreeMap::new();
    let mut wanted = BTreeMap::new();
    for finding in findings {
        let Some(rule) = built_in().iter().find(|rule| rule.key == finding.key && rule.is_sysctl()) else {
            continue;
        };
        let right = matches!(finding.verdict, Verdict::Ok | Verdict::Kept) && rule.evidence.is_empty();
        if finding.verdict.asks_for_change() || right {
            rules.insert(&rule.key, (rule, finding.target.as_deref()));
            let value = finding.target.as_ref().unwrap_or(&finding.wanted);
            wanted.insert(rule.key.clone(), value.clone());
        }
    }
    scan(root, &wanted, |key, value| {
        let Some((rule, target)) = rules.get(key) else { return false };
        let parts: Vec<String> = target.unwrap_or_default().split(' ').map(str::to_owned).collect();
        let exact = target.and_then(|_| with_values(&rule.wanted, &parts));
        let found = compare(exact.as_ref().unwrap_or(&rule.wanted), value, context(facts, question));
        // A value that is not understood is somebody's, and may be anything.
        found.is_none_or(|found| found.order == Ordering::Less)
    })
}

/// Lines that give one of `wanted` a value for which `is_worse` holds, and come after tuner's own file.
fn scan(
    root: &Path,
    wanted: &BTreeMap<String, String>,
    is_worse: impl Fn(&str, &str) -> bool,
) -> Vec<Conflict> {
    let mut later = after_ours(root);
    later.extend(others::assignments(root, wanted));
    let mut conflicts = Vec::new();
    for (key, value) in wanted {
        // Of several later lines the last one counts; another program comes after all files.
        let last = later.iter().rev().find(|line| matches(&line.key, key));
        if let Some(line) = last.filter(|line| is_worse(key, &line.value)) {
            conflicts.push(Conflict {
                key: key.clone(),
                place: line.place.clone(),
                value: line.value.clone(),
                wanted: value.clone(),
                reason: line.reason.to_owned(),
            });
        }
    }
    conflicts
}

/// Programs that set kernel parameters while they run, as sentences.
pub fn programs(root: &Path) -> Vec<String> {
    others::programs(root)
}

fn after_ours(root: &Path) -> Vec<Assignment> {
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in DIRECTORIES.iter().rev() {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".conf") {
                by_name.insert(name, entry.path());
            }
        }
    }
    let ours = SYSCTL_FILE.rsplit('/').next().unwrap_or_default();
    let later = by_name.iter().filter(|(name, _)| name.as_str() > ours);
    let mut found: Vec<Assignment> =
        later.flat_map(|(_, path)| lines(root, path, "its name sorts after tuner's file")).collect();
    let main = root.join("etc/sysctl.conf");
    let linked =
        by_name.values().any(|path| fs::read_link(path).is_ok_and(|link| link.ends_with("sysctl.conf")));
    if !linked {
        found.extend(lines(root, &main, "`sysctl --system` reads it last; systemd-sysctl does not read it"));
    }
    found
}

/// `key = value`, a dash before a key that may fail, comments with # and ;.
fn lines(root: &Path, path: &Path, reason: &'static str) -> Vec<Assignment> {
    let text = text_of(root, path);
    let numbered = (1..).zip(text.lines().map(str::trim));
    let assignments =
        numbered.filter(|(_, line)| !line.starts_with(['#', ';'])).filter_map(|(number, line)| {
            let (key, value) = line.split_once('=')?;
            Some(Assignment {
                key: key.trim().trim_start_matches('-').replace('/', "."),
                value: crate::facts::normal(value),
                place: format!("{}:{number}", path.display()),
                reason,
            })
        });
    assignments.collect()
}

/// The content, following a link within the root: an absolute one starts at the root.
pub(crate) fn text_of(root: &Path, path: &Path) -> String {
    let target = fs::read_link(path).ok().map(|link| match link.strip_prefix("/") {
        Ok(rest) => root.join(rest),
        Err(_) => path.parent().unwrap_or(root).join(link),
    });
    let text = fs::read(target.as_deref().unwrap_or(path)).unwrap_or_default();
    String::from_utf8_lossy(&text[..text.len().min(FILE_BYTES_MAX)]).into_owned()
}

/// `*` stands for any text within a part of the key.
fn matches(pattern: &str, key: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), key.split('.').collect());
    patterns.len() == parts.len()
        && patterns.iter().zip(&parts).all(|(pattern, part)| part_matches(pattern, part))
}

fn part_matches(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((head, tail)) => {
            part.len() >= head.len() + tail.len() && part.starts_with(head) && part.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "net.core.somaxconn";

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Place and value of what would win, without the root.
    fn winner(root: &Path) -> Option<String> {
        let wanted = BTreeMap::from([(KEY.to_owned(), "4096".to_owned())]);
        let worse = |_: &str, value: &str| value.parse::<u64>().is_ok_and(|value| value < 4096);
        let found = scan(root, &wanted, worse);
        found.first().map(|conflict| {
            format!("{} {}", conflict.place.replace(&format!("{}/", root.display()), ""), conflict.value)
        })
    }

    #[test]
    fn the_file_that_wins_at_boot_is_named_with_its_line() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "etc/sysctl.d/10-early.conf", "net.core.somaxconn = 1\n");
        assert_eq!(winner(root), None);
        write(root, "usr/lib/sysctl.d/99-late.conf", "# x\n-net/core/somaxconn=128\n");
        assert_eq!(winner(root).unwrap(), "usr/lib/sysctl.d/99-late.conf:2 128");
        // The same name in /etc hides the one in /usr/lib, whatever it holds.
        write(root, "etc/sysctl.d/99-late.conf", "");
        assert_eq!(winner(root), None);
        write(root, "run/sysctl.d/98-mid.conf", "net.*.somaxconn = 200\n");
        assert_eq!(winner(root).unwrap(), "run/sysctl.d/98-mid.conf:1 200");
        write(root, "etc/sysctl.conf", "\nnet.core.somaxconn = 300\n");
        assert_eq!(winner(root).unwrap(), "etc/sysctl.conf:2 300");
        std::os::unix::fs::symlink("../sysctl.conf", root.join("etc/sysctl.d/99-sysctl.conf")).unwrap();
        assert_eq!(winner(root).unwrap(), "etc/sysctl.d/99-sysctl.conf:2 300");
        write(root, "etc/sysctl.conf", "net.core.somaxconn = 65535\n");
        assert_eq!(winner(root), None, "a better value harms nobody");
    }

    #[test]
    fn other_programs_are_known() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "etc/tuned/active_profile", "mail\n");
        write(root, "usr/lib/tuned/mail/tuned.conf", "[main]\ninclude=base\n[vm]\nnet.core.somaxconn=5\n");
        write(root, "usr/lib/tuned/base/tuned.conf", "[sysctl]\nnet.core.somaxconn=>2048\n");
        assert_eq!(winner(root), None, "=> only raises");
        write(root, "usr/lib/tuned/base/tuned.conf", "[sysctl]\nnet.core.somaxconn=2048\n");
        assert_eq!(winner(root).unwrap(), "usr/lib/tuned/base/tuned.conf:2 2048");
        write(root, "etc/tuned/active_profile", "");
        write(root, "etc/cloud/cloud.cfg.d/90.cfg", "runcmd:\n - sysctl -w net.core.somaxconn=99\n");
        assert_eq!(winner(root).unwrap(), "etc/cloud/cloud.cfg.d/90.cfg:2 99");
        write(root, "etc/cloud/cloud.cfg.d/90.cfg", "");
        write(root, "etc/sysconfig/saptune", "NOTE_APPLY_ORDER=\"1410736 mail\"\n");
        write(
            root,
            "var/lib/saptune/working/notes/mail",
            "[version]\n1\n[sysctl]\nnet.core.somaxconn = 64\n",
        );
        assert_eq!(winner(root).unwrap(), "var/lib/saptune/working/notes/mail:4 64");
        assert!(programs(root)[0].contains("saptune is active"));
        write(root, "etc/sysconfig/saptune", "NOTE_APPLY_ORDER=\"\"\n");
        write(root, "proc/77/comm", "bpftune\n");
        assert!(programs(root)[0].contains("bpftune"));
    }
}
