//! The units, as systemd itself reads them.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::{folder, have, run, said, source};

/// Units, and what they start.
const UNITS: [(&str, &str); 2] = [
    ("kumod.service", "/usr/bin/kumod --policy /etc/kumod/init.lua"),
    ("kumo-proxy.service", "/usr/bin/kumo-proxy $KUMO_PROXY_FLAGS"),
];
/// Above this `systemd-analyze security` would be asked why. It counts from 0, which is best, to 100.
const EXPOSURE_MAX: &str = "20";

/// Writes a unit with a program that is there into a folder of its own, so that nothing but the unit is judged.
fn write(folder: &Path, name: &str, starts: &str) -> String {
    let unit = fs::read_to_string(source().join("packaging/systemd").join(name)).unwrap();
    let line = format!("\nExecStart={starts}\n");
    assert!(unit.contains(&line), "{name} does not start {starts}");
    let path = folder.join(name);
    fs::write(&path, unit.replace(&line, "\nExecStart=/bin/true\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn systemd_finds_no_fault_with_them() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let folder = folder();
    for (name, starts) in UNITS {
        let path = write(folder.path(), name, starts);
        let verify = || said(&run("systemd-analyze", &["verify", "--man=no", &path]));
        let found = verify();
        // Other units of the host may have faults of their own.
        assert!(!found.contains(name), "{found}");
        fs::write(&path, "[Service]\nExecStart=/bin/true\nNoNewPriviliges=yes\n").unwrap();
        let wrong = verify();
        assert!(wrong.contains(name), "a misspelt line goes unseen here: {wrong}");
    }
}

#[test]
fn little_is_left_that_they_may_do() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let folder = folder();
    for (name, starts) in UNITS {
        let path = write(folder.path(), name, starts);
        let arguments = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX, &path];
        let output = run("systemd-analyze", &arguments);
        let said = said(&output);
        if !output.status.success() && said.contains("--offline") {
            eprintln!("skipped: this systemd-analyze does not judge a unit that is not loaded");
            return;
        }
        let verdict = said.lines().rev().find(|line| line.contains("exposure level"));
        eprintln!("{}", verdict.unwrap_or("no verdict"));
        assert!(output.status.success(), "{said}");
    }
}
