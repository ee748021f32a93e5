//! The unit, as systemd itself reads it.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{folder, have, run, said, source};

/// Above this `systemd-analyze security` would be asked why. It counts from 0, which is best, to 10.
const EXPOSURE_MAX: &str = "20";

/// The unit with a program that is there, in a folder of its own, so that nothing but the unit is judged.
fn unit() -> tempfile::TempDir {
    let unit = fs::read_to_string(source().join("packaging/systemd/kumod.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/kumod --policy /etc/kumod/init.lua\n"));
    let folder = folder();
    fs::write(folder.path().join("kumod.service"), unit.replace("/usr/bin/kumod ", "/bin/true ")).unwrap();
    folder
}

#[test]
fn systemd_finds_no_fault_with_it() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let folder = unit();
    let path = folder.path().join("kumod.service");
    let output = run("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]);
    let said = said(&output);
    // Other units of the host may have faults of their own.
    assert!(!said.contains("kumod.service"), "{said}");
    fs::write(&path, "[Service]\nExecStart=/bin/true\nNoNewPriviliges=yes\n").unwrap();
    let wrong = support::said(&run("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]));
    assert!(wrong.contains("kumod.service"), "a misspelt line goes unseen here: {wrong}");
}

#[test]
fn little_is_left_that_it_may_do() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let folder = unit();
    let path = folder.path().join("kumod.service");
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX];
    let output = run("systemd-analyze", &[&arguments[..], &[path.to_str().unwrap()]].concat());
    let said = said(&output);
    if !output.status.success() && said.contains("--offline") {
        eprintln!("skipped: this systemd-analyze does not judge a unit that is not loaded");
        return;
    }
    let verdict = said.lines().rev().find(|line| line.contains("exposure level"));
    eprintln!("{}", verdict.unwrap_or("no verdict"));
    assert!(output.status.success(), "{said}");
}
