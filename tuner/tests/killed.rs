//! A process that is really killed, by SIGKILL at one system call after the other, and what the next run makes of it.
//!
//! strace delivers the signal as the call begins, so the call itself is not made. Every call that changes a file, a name or a
//! directory of the tree is such a step. Where strace is missing, or may not trace, the tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use trees::{KERNELS, host, told, tuner, write};

/// Calls that change something, or make it durable; the ones with `?` are not known to every host.
const CALLS: [&str; 9] =
    ["openat", "write", "fsync", "rename", "mkdir", "unlink", "rmdir", "?renameat", "?unlinkat"];
/// More steps than a change has: a run that is still killed after so many is one without an end.
const STEPS_MAX: u32 = 400;

/// A small host with three sysctls and a unit to change, and a drop-in that an earlier run wrote.
fn changed_host() -> TempDir {
    let root = host(KERNELS[0]);
    write(&root, "lib/systemd/system/kumod.service", "[Service]\nExecStart=/usr/bin/kumod\n");
    let earlier = tuner(&root, &["apply", "--only", "vm.max_map_count"]);
    assert_eq!(earlier.status.code(), Some(0), "{}", told(&earlier));
    root
}

/// What is changed after that.
const CHANGE: [&str; 3] = ["apply", "--only", "net.core.somaxconn,net.ipv4.ip_local_port_range,unit"];

/// Every file and directory but the journal.
fn everything(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                found.insert(path, Vec::new());
            } else if !path.starts_with(root.join("var/lib")) {
                found.insert(path.clone(), fs::read(&path).unwrap());
            } else {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(!name.ends_with(".new"), "{} is half-written", path.display());
            }
        }
    }
    found.into_iter().map(|(path, bytes)| (path.strip_prefix(root).unwrap().to_owned(), bytes)).collect()
}

fn traced(root: &TempDir, log: &Path, rule: &str) -> Output {
    let mut command = Command::new("strace");
    command.args(["-qq", "-y", "-s", "0", "-o"]).arg(log).args(["-e", rule]);
    command.arg(env!("CARGO_BIN_EXE_tuner")).args(CHANGE).arg("--root").arg(root.path()).output().unwrap()
}

/// For each call, which of its occurrences belong to the change: those from the first write on.
fn steps(log: &Path) -> Vec<(&'static str, u32)> {
    let text = fs::read_to_string(log).unwrap();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut found = Vec::new();
    let mut changing = false;
    for line in text.lines() {
        let Some(call) =
            CALLS.iter().find(|call| line.starts_with(&format!("{}(", call.trim_start_matches('?'))))
        else {
            continue;
        };
        let count = counts.entry(call).or_default();
        *count += 1;
        changing |= line.contains("O_WRONLY");
        // Reading back and what is printed at the end change nothing.
        let reads = call == &"openat" && !line.contains("O_WRONLY");
        if changing && !reads && !line.starts_with("write(1<") {
            found.push((*call, *count));
        }
    }
    found
}

/// None, with the reason on standard error, where strace cannot trace.
fn steps_of_the_change() -> Option<Vec<(&'static str, u32)>> {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("log");
    let may = Command::new("strace").args(["-o"]).arg(&log).args(["-e", "trace=execve", "true"]).output();
    if !may.is_ok_and(|output| output.status.success())
        || !fs::read_to_string(&log).unwrap_or_default().contains("execve")
    {
        eprintln!("skipped: strace is missing or may not trace here");
        return None;
    }
    let output = traced(&changed_host(), &log, &format!("trace={}", CALLS.join(",")));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    Some(steps(&log))
}

/// Kills the change at each of its steps and hands over what is left, with the host as it was before and as it should be.
fn at_each_step(next: impl Fn(&TempDir, &BTreeMap<PathBuf, Vec<u8>>, &str)) {
    let Some(steps) = steps_of_the_change() else { return };
    let mut killed = 0;
    assert!(steps.len() < STEPS_MAX as usize);
    for (call, number) in &steps {
        let root = changed_host();
        let before = everything(root.path());
        let scratch = tempfile::tempdir().unwrap();
        let rule = format!("inject={call}:signal=SIGKILL:when={number}");
        let output = traced(&root, &scratch.path().join("log"), &rule);
        assert_eq!(output.status.signal(), Some(9), "{call} {number}: {}", told(&output));
        killed += 1;
        next(&root, &before, &format!("{call} {number}"));
    }
    assert!(killed >= 25, "only {killed} steps: {steps:?}");
}

#[test]
fn a_process_killed_at_any_step_is_taken_back_by_revert_to_the_byte() {
    at_each_step(|root, before, step| {
        let output = tuner(root, &["revert"]);
        assert_eq!(output.status.code(), Some(0), "{step}: {}", told(&output));
        let after = everything(root.path());
        // The earlier run is taken back as well: its drop-in, its directory and its value.
        let earlier = |path: &Path| path.starts_with("etc/sysctl.d") || path.ends_with("vm/max_map_count");
        for (path, bytes) in before.iter().filter(|(path, _)| !earlier(path)) {
            assert_eq!(after.get(path), Some(bytes), "{step}: {}", path.display());
        }
        assert!(after.keys().all(|path| before.contains_key(path)), "{step}: something was left");
        let value = fs::read_to_string(root.path().join("proc/sys/vm/max_map_count")).unwrap();
        assert_eq!(value, "65530\n", "{step}");
    });
}

#[test]
fn a_process_killed_at_any_step_is_completed_by_the_next_apply() {
    let whole = changed_host();
    tuner(&whole, &CHANGE);
    let wanted = everything(whole.path());
    at_each_step(|root, _, step| {
        let output = tuner(root, &CHANGE);
        assert_eq!(output.status.code(), Some(0), "{step}: {}", told(&output));
        assert!(everything(root.path()) == wanted, "{step}: {}", told(&output));
        let verified = tuner(root, &["verify"]);
        assert_eq!(verified.status.code(), Some(0), "{step}: {}", told(&verified));
    });
}
