//! Programs that set kernel parameters beside sysctl.d: tuned, saptune, bpftune, cloud-init.
//!
//! They are reported, not fought. tuned's profiles and saptune's notes are read for what they set; bpftune decides by itself
//! and stays away from what an administrator touches; cloud-init is searched for the key.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Assignment, text_of};

/// Profiles of tuned that include each other.
const INCLUDES_MAX: usize = 16;
/// Where tuned keeps its profiles; `/etc` goes before.
const TUNED: [&str; 4] = ["etc/tuned", "etc/tuned/profiles", "usr/lib/tuned", "usr/lib/tuned/profiles"];

pub(super) fn assignments(root: &Path, wanted: &BTreeMap<String, String>) -> Vec<Assignment> {
    let mut found = cloud_init(root, wanted);
    found.extend(saptune(root));
    found.extend(tuned(root));
    found
}

pub(super) fn programs(root: &Path) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(profile) = tuned_profile(root) {
        told.push(format!(
            "tuned is active with the profile {profile}; it applies its values after those of sysctl.d"
        ));
    }
    if !saptune_notes(root).is_empty() {
        told.push("saptune is active; `saptune note verify` says what it sets".into());
    }
    if is_running(root, "bpftune") {
        told.push("bpftune is running; it changes buffers and backlogs by itself and lets go of what is set by hand".into());
    }
    told
}

fn is_running(root: &Path, name: &str) -> bool {
    let processes = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let numbered = processes
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()));
    numbered
        .map(|entry| entry.path().join("comm"))
        .any(|path| fs::read_to_string(path).is_ok_and(|comm| comm.trim() == name))
}

fn tuned_profile(root: &Path) -> Option<String> {
    let name = text_of(root, &root.join("etc/tuned/active_profile")).trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// The profiles that are active, those that they include first.
fn tuned(root: &Path) -> Vec<Assignment> {
    let names = tuned_profile(root).unwrap_or_default();
    let mut open: Vec<String> = names.split_whitespace().rev().map(str::to_owned).collect();
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(name) = open.pop() {
        let file = TUNED.iter().map(|directory| root.join(directory).join(&name).join("tuned.conf"));
        let Some(file) = file.into_iter().find(|file| file.is_file()) else { continue };
        if files.len() < INCLUDES_MAX && !files.contains(&file) {
            let text = text_of(root, &file);
            let include = text.lines().find_map(|line| line.trim().strip_prefix("include"));
            let include = include.and_then(|rest| rest.trim_start().strip_prefix('='));
            open.extend(
                include.into_iter().flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()),
            );
            files.push(file);
        }
    }
    files
        .iter()
        .rev()
        .flat_map(|file| sectioned(root, file, "tuned applies its profile after sysctl.d"))
        .collect()
}

fn saptune_notes(root: &Path) -> Vec<String> {
    let text = text_of(root, &root.join("etc/sysconfig/saptune"));
    let value = text.lines().find_map(|line| line.strip_prefix("NOTE_APPLY_ORDER="));
    value.unwrap_or_default().trim_matches('"').split_whitespace().map(str::to_owned).collect()
}

fn saptune(root: &Path) -> Vec<Assignment> {
    let places = ["etc/saptune/extra", "var/lib/saptune/working/notes"];
    let file = |note: &String| {
        places
            .iter()
            .flat_map(|place| [root.join(place).join(note), root.join(place).join(format!("{note}.conf"))])
            .find(|file| file.is_file())
    };
    let files = saptune_notes(root).iter().filter_map(file).collect::<Vec<_>>();
    files.iter().flat_map(|file| sectioned(root, file, "saptune applies its notes after sysctl.d")).collect()
}

/// Lines of the section `[sysctl]`. The operators `=>` and `=<` of tuned act only in one direction and harm nobody.
fn sectioned(root: &Path, path: &Path, reason: &'static str) -> Vec<Assignment> {
    let text = text_of(root, path);
    let mut inside = false;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.starts_with('[') {
            inside = line.starts_with("[sysctl");
        } else if inside
            && !line.starts_with('#')
            && let Some((key, value)) = line.split_once('=')
            && !value.starts_with(['>', '<'])
        {
            found.push(Assignment {
                key: key.trim().into(),
                value: crate::facts::normal(value),
                place: format!("{}:{number}", path.display()),
                reason,
            });
        }
    }
    found
}

/// What is written for the first boot; a value is what follows the key and an equals sign.
fn cloud_init(root: &Path, wanted: &BTreeMap<String, String>) -> Vec<Assignment> {
    let mut files = vec![root.join("etc/cloud/cloud.cfg"), root.join("var/lib/cloud/instance/user-data.txt")];
    let more = fs::read_dir(root.join("etc/cloud/cloud.cfg.d")).into_iter().flatten().flatten();
    let mut more: Vec<PathBuf> = more.map(|entry| entry.path()).collect();
    more.sort();
    files.extend(more);
    let mut found = Vec::new();
    for path in files {
        for (number, line) in (1..).zip(text_of(root, &path).lines()) {
            let line = line.split('#').next().unwrap_or_default();
            for key in wanted.keys() {
                let Some((_, rest)) = line.split_once(key.as_str()) else { continue };
                let Some(value) = rest.trim_start().strip_prefix('=') else { continue };
                let value = value.trim().trim_matches(['"', '\'', ']', ' ']);
                found.push(Assignment {
                    key: key.clone(),
                    value: crate::facts::normal(value),
                    place: format!("{}:{number}", path.display()),
                    reason: "cloud-init writes it when an instance starts for the first time",
                });
            }
        }
    }
    found
}
