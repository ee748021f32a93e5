//! The limits that a service gets from its unit.
//!
//! Owns the search of systemd's directories: the unit's file, its drop-ins in the order of their names, and the manager's
//! defaults for what no line says. Not asked of systemd itself, which would be a process more and not there in an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Host;
use crate::facts::{Observed, Reading};

/// Later directories give way to earlier ones with a file of the same name.
pub(crate) const DIRECTORIES: [&str; 5] =
    ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd", "lib/systemd"];

/// What systemd 250 and later gives a service that says nothing.
const BUILT_IN: [(&str, &str); 2] = [("LimitNOFILE", "1024:524288"), ("LimitMEMLOCK", "8M")];
/// Share of all tasks that a service gets that says nothing, percent.
const TASKS_PERCENT: u64 = 15;

/// Threads that the kernel allows, where that cannot be read.
const THREADS_UNKNOWN: u64 = 32_768;

pub(super) fn observe(host: &Host, line: &str) -> Observed {
    let Some(unit) = find(host.root(), &format!("system/{}", host.unit())) else { return Observed::Absent };
    let drop_ins = sorted_drop_ins(host.root(), &format!("system/{}.d", host.unit()));
    let files = [unit].into_iter().chain(drop_ins);
    let (written, origin) = match last_value(files, "Service", line) {
        Some(found) => found,
        None => manager_default(host, line),
    };
    let Some(value) = meant(&written) else {
        return Observed::Unknown(format!("{line}={written} in {origin} is not understood"));
    };
    let value = if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() };
    Observed::Value(Reading { shown: format!("{value} ({origin})"), value, writable: true })
}

fn manager_default(host: &Host, line: &str) -> (String, String) {
    let main = find(host.root(), "system.conf");
    let files = main.into_iter().chain(sorted_drop_ins(host.root(), "system.conf.d"));
    if let Some(found) = last_value(files, "Manager", &format!("Default{line}")) {
        return found;
    }
    if line == "LimitNPROC" {
        // systemd passes on what the kernel gave it.
        let threads = number(host, "proc/sys/kernel/threads-max").unwrap_or(THREADS_UNKNOWN);
        return ((threads / 2).to_string(), "the kernel's default".into());
    }
    let built_in = BUILT_IN.iter().find(|(name, _)| *name == line).map(|(_, value)| (*value).to_owned());
    (built_in.unwrap_or_else(|| tasks_default(host)), "systemd's default".into())
}

fn number(host: &Host, path: &str) -> Option<u64> {
    host.read(path).ok()?.parse().ok()
}

fn tasks_default(host: &Host) -> String {
    let number = |path| number(host, path);
    let all = [number("proc/sys/kernel/pid_max"), number("proc/sys/kernel/threads-max")];
    let all = all.into_iter().flatten().min().unwrap_or(THREADS_UNKNOWN);
    (all * TASKS_PERCENT / 100).to_string()
}

fn find(root: &Path, name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| root.join(directory).join(name)).find(|path| path.is_file())
}

/// `*.conf` of the directories called `name`, each name once, sorted by name.
fn sorted_drop_ins(root: &Path, name: &str) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    for directory in DIRECTORIES.iter().rev() {
        for entry in fs::read_dir(root.join(directory).join(name)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                by_name.insert(entry.file_name(), entry.path());
            }
        }
    }
    by_name.into_values().collect()
}

/// The last `key=` of a section, and the file it stands in; an empty one takes back what stood before.
fn last_value(
    files: impl IntoIterator<Item = PathBuf>,
    section: &str,
    key: &str,
) -> Option<(String, String)> {
    let mut found = None;
    for path in files {
        let Ok(text) = super::read_bounded(&path, super::FILE_BYTES_MAX) else { continue };
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                inside = name == section;
            } else if let Some((name, value)) = line.split_once('=')
                && inside
                && name.trim() == key
            {
                let value = value.trim().to_owned();
                found = (!value.is_empty()).then(|| (value, path.display().to_string()));
            }
        }
    }
    found
}

/// `soft:hard`, a suffix of base 1024, or `infinity`; the hard one is meant.
fn meant(written: &str) -> Option<u64> {
    let hard = written.rsplit(':').next()?;
    if hard == "infinity" {
        return Some(u64::MAX);
    }
    let digits = hard.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &hard[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_systemd_reads_them() {
        assert_eq!(meant("1024:524288"), Some(524_288));
        assert_eq!(meant("64M"), Some(64 << 20));
        assert_eq!(meant("infinity"), Some(u64::MAX));
        assert_eq!(meant("15%"), None);
    }

    #[test]
    fn the_last_drop_in_wins_and_an_empty_line_takes_back() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(root.path().join("proc")).unwrap();
        let limit = || match observe(&Host::at(root.path()).unwrap(), "LimitNOFILE") {
            Observed::Value(reading) => reading.value,
            other => format!("{other:?}"),
        };
        assert_eq!(limit(), "Absent");
        write("lib/systemd/system/kumod.service", "[Unit]\nLimitNOFILE=1\n[Service]\nLimitNOFILE=4096\n");
        assert_eq!(limit(), "4096");
        write("usr/lib/systemd/system/kumod.service.d/50-a.conf", "[Service]\nLimitNOFILE=7000:8000\n");
        assert_eq!(limit(), "8000");
        write("etc/systemd/system/kumod.service.d/60-b.conf", "[Service]\nLimitNOFILE=\n");
        assert_eq!(limit(), "524288");
        write("etc/systemd/system.conf", "[Manager]\nDefaultLimitNOFILE=infinity\n");
        assert_eq!(limit(), "unlimited");
    }
}
