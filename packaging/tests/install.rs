//! The package as dpkg takes it: looked into, made twice, installed, used, removed and purged.
//!
//! It is installed into a picture of this host: a root file system of which only the differences are written, in memory, with a network and
//! processes of its own. Nothing of it is left when the test ends.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use packaging::package;
use support::{binaries, folder, have, order, package, run, said, source};

#[test]
fn it_holds_what_it_should_and_needs_what_its_programs_link_to() {
    let folder = folder();
    let Some(package) = package(folder.path()) else { return };
    let path = package.to_str().unwrap();
    let fields = said(&run("dpkg-deb", &["-f", path]));
    let version = env!("CARGO_PKG_VERSION");
    for field in
        ["Package: kumod\n", &format!("Version: {version}-1\n"), "Section: mail\n", "Depends: libc6 "]
    {
        assert!(fields.contains(field), "{field:?} is missing: {fields}");
    }
    let list = said(&run("dpkg-deb", &["-c", path]));
    assert!(list.lines().all(|line| line.contains(" root/root ")), "{list}");
    for file in [
        "-rwxr-xr-x|./usr/bin/kumod",
        "-rwxr-xr-x|./usr/bin/kumo-proxy",
        "-rwxr-xr-x|./usr/bin/traffic-gen",
        "-rw-r--r--|./etc/kumod/init.lua",
        "-rw-r--r--|./usr/lib/systemd/system/kumod.service",
        "-rw-r--r--|./usr/share/man/man8/kumod.8.gz",
        "-rw-r--r--|./usr/share/man/man5/kumod.lua.5.gz",
        "-rw-r--r--|./usr/share/bash-completion/completions/tuner",
        "-rw-r--r--|./usr/share/doc/kumod/copyright",
        "-rw-r--r--|./usr/share/doc/kumod/changelog.Debian.gz",
        "-rw-r--r--|./usr/share/doc/kumod/policy.md",
    ] {
        let (mode, path) = file.split_once('|').unwrap();
        let line = list.lines().find(|line| line.ends_with(&format!(" {path}")));
        assert!(line.is_some_and(|line| line.starts_with(mode)), "{file} is missing: {list}");
    }
    assert_eq!(
        said(&run("dpkg-deb", &["--info", path, "conffiles"])),
        "/etc/default/kumo-proxy\n/etc/kumod/init.lua\n"
    );
    if have(&["lintian"]) {
        let found = run("lintian", &["--fail-on", "error", path]);
        assert!(found.status.success(), "{}", said(&found));
    }
}

#[test]
fn the_same_programs_give_the_same_package() {
    let folder = folder();
    let Some(first) = package(&folder.path().join("one")) else { return };
    let second = package(&folder.path().join("two")).unwrap();
    assert_eq!(first.file_name(), second.file_name());
    assert!(
        fs::read(first).unwrap() == fs::read(second).unwrap(),
        "two packages of the same programs differ"
    );
}

#[test]
fn programs_that_are_missing_or_of_different_versions_are_refused() {
    let Some(binaries) = binaries() else { return };
    let folder = folder();
    let empty = order(&folder.path().join("none"), folder.path());
    let refused = package::build(&empty).unwrap_err().to_string();
    assert!(refused.contains("none/kumod is missing"), "{refused}");
    let mixed = folder.path().join("mixed");
    fs::create_dir(&mixed).unwrap();
    for program in packaging::programs::PROGRAMS {
        std::os::unix::fs::symlink(binaries.join(program.name), mixed.join(program.name)).unwrap();
    }
    fs::remove_file(mixed.join("lab")).unwrap();
    fs::write(mixed.join("lab"), "#!/bin/sh\necho lab 99.0.0\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(mixed.join("lab"), mode).unwrap();
    let refused = package::build(&order(&mixed, folder.path())).unwrap_err().to_string();
    assert!(refused.contains("99.0.0"), "{refused}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mixed"], "a package that was not made leaves nothing behind");
}

/// Runs a script in a picture of this host; `None`, said aloud, where none can be made.
fn in_picture(share: &Path) -> Option<String> {
    let tools =
        ["unshare", "setpriv", "ip", "chroot", "systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"];
    if !have(&tools) {
        return None;
    }
    let scripts = source().join("packaging/tests/install");
    for script in ["picture.sh", "inside.sh"] {
        fs::copy(scripts.join(script), share.join(script)).unwrap();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--", "sh"]);
    let output = unshare.arg(share.join("picture.sh")).arg(share).stdin(Stdio::null()).output().unwrap();
    let said = said(&output);
    if said.contains("unshare failed") || said.contains("no picture of this host") {
        eprintln!("skipped: {}", said.trim());
        return None;
    }
    assert!(output.status.success(), "{}: {said}", output.status);
    Some(said)
}

#[test]
fn it_is_installed_relays_a_message_and_goes_without_taking_mail_with_it() {
    let folder = folder();
    let Some(package) = package(folder.path()) else { return };
    fs::rename(package, folder.path().join("kumod.deb")).unwrap();
    let Some(said) = in_picture(folder.path()) else { return };
    assert!(said.ends_with("all steps done\n"), "{said}");
    check_calls(folder.path());
}

/// Every system call of the installed service is one that its unit allows.
fn check_calls(share: &Path) {
    let Ok(trace) = fs::read_to_string(share.join("calls")) else {
        eprintln!("skipped: system calls were not looked at, because strace is not installed");
        return;
    };
    let unit = fs::read_to_string(source().join("packaging/systemd/kumod.service")).unwrap();
    let filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let mut allowed = BTreeSet::new();
    for filter in filters {
        match filter.strip_prefix('~') {
            None => filter.split(' ').for_each(|name| allowed.extend(expanded(name))),
            Some(refused) => {
                let refused: BTreeSet<String> = refused.split(' ').flat_map(expanded).collect();
                allowed.retain(|name| !refused.contains(name));
            }
        }
    }
    // What came before the program itself was the way there.
    let (_, own) = trace.rsplit_once("execve(\"/usr/bin/kumod\"").unwrap();
    let calls: BTreeSet<&str> = own.lines().skip(1).filter_map(call).collect();
    assert!(calls.contains("sendto") && calls.len() > 30, "{calls:?}");
    let refused: Vec<&&str> = calls.iter().filter(|name| !allowed.contains(**name)).collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}

/// `PID name(...` of strace.
fn call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// The system calls of a group, and of the groups in it; a name that is no group is itself.
fn expanded(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let said = said(&run("systemd-analyze", &["syscall-filter", name]));
    let names = said.lines().map(str::trim).skip(1).filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(expanded).collect()
}
