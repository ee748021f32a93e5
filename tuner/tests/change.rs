//! The verbs that change, as a user sees them: on trees that look like hosts, and on the real kernel within a network
//! namespace of its own.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use trees::{KERNELS, host, report, set, told, tuner, verdict, write};

const DROP_IN: &str = "etc/sysctl.d/60-kumod.conf";
const UNIT_DROP_IN: &str = "etc/systemd/system/kumod.service.d/60-kumod.conf";

/// Every file and directory but the journal and what leads to it.
fn everything(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.join("etc"), root.join("proc"), root.join("sys")];
    while let Some(directory) = open.pop() {
        found.insert(directory.clone(), Vec::new());
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

#[test]
fn apply_verify_revert_returns_every_byte_on_every_kernel() {
    for kernel in KERNELS {
        let root = host(kernel);
        write(&root, "lib/systemd/system/kumod.service", "[Service]\nExecStart=/usr/bin/kumod\n");
        let before = everything(root.path());
        let applied = tuner(&root, &["apply"]);
        assert_eq!(applied.status.code(), Some(0), "{}", told(&applied));
        assert!(told(&applied).contains("systemctl daemon-reload"), "{}", told(&applied));
        let after = everything(root.path());
        assert!(after.contains_key(&root.path().join(DROP_IN)));
        assert!(after.contains_key(&root.path().join(UNIT_DROP_IN)));
        let check = report(&tuner(&root, &["--json", "-"]));
        for key in
            ["net.core.somaxconn", "net.ipv4.ip_local_port_range", "unit.LimitNOFILE", "unit.LimitMEMLOCK"]
        {
            assert!(["ok", "kept"].contains(&verdict(&check, key)), "{kernel}: {key}");
        }
        let verified = tuner(&root, &["verify"]);
        assert_eq!(verified.status.code(), Some(0), "{}", told(&verified));
        let again = tuner(&root, &["apply"]);
        assert!(told(&again).starts_with("0 changed\n"), "{}", told(&again));
        assert_eq!(everything(root.path()), after, "a second apply changed something");
        let reverted = tuner(&root, &["revert"]);
        assert_eq!(reverted.status.code(), Some(0), "{}", told(&reverted));
        assert_eq!(everything(root.path()), before, "{kernel}");
        assert_eq!(tuner(&root, &["revert"]).status.code(), Some(1), "there is nothing left to take back");
    }
}

#[test]
fn two_applies_are_taken_back_together_and_the_drop_in_holds_both() {
    let root = host(KERNELS[0]);
    let before = everything(root.path());
    tuner(&root, &["apply", "--only", "net.core.somaxconn"]);
    tuner(&root, &["apply", "--only", "vm.max_map_count"]);
    let text = fs::read_to_string(root.path().join(DROP_IN)).unwrap();
    assert!(
        text.contains("net.core.somaxconn = 4096\n") && text.contains("vm.max_map_count = 262144\n"),
        "{text}"
    );
    assert_eq!(tuner(&root, &["verify"]).status.code(), Some(0));
    assert_eq!(tuner(&root, &["revert"]).status.code(), Some(0));
    assert_eq!(everything(root.path()), before);
}

#[test]
fn verify_sees_a_value_and_a_file_that_changed() {
    let root = host(KERNELS[3]);
    assert_eq!(tuner(&root, &["verify"]).status.code(), Some(1), "nothing was applied");
    tuner(&root, &["apply"]);
    set(&root, "net.ipv4.tcp_mtu_probing", "0");
    let output = tuner(&root, &["verify"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        told(&output).contains("net.ipv4.tcp_mtu_probing is 0, not 1 as tuner set it"),
        "{}",
        told(&output)
    );
    set(&root, "net.ipv4.tcp_mtu_probing", "2");
    assert_eq!(tuner(&root, &["verify"]).status.code(), Some(0), "further in the same direction is fine");
    fs::remove_file(root.path().join(DROP_IN)).unwrap();
    assert_eq!(tuner(&root, &["verify"]).status.code(), Some(4));
}

#[test]
fn a_value_that_somebody_changed_is_not_taken_back() {
    let root = host(KERNELS[3]);
    tuner(&root, &["apply"]);
    set(&root, "net.ipv4.tcp_mtu_probing", "2");
    let before = everything(root.path());
    let output = tuner(&root, &["revert"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(told(&output).contains("net.ipv4.tcp_mtu_probing was changed since"), "{}", told(&output));
    assert_eq!(everything(root.path()), before);
    assert_eq!(tuner(&root, &["revert", "--force"]).status.code(), Some(0));
}

#[test]
fn a_file_that_would_win_at_boot_is_named_and_nothing_is_changed() {
    let root = host(KERNELS[3]);
    write(&root, "usr/lib/sysctl.d/99-vendor.conf", "# vendor\nnet.ipv4.tcp_mtu_probing = 0\n");
    let before = everything(root.path());
    let plan = tuner(&root, &["plan"]);
    assert_eq!(plan.status.code(), Some(5));
    let output = tuner(&root, &["apply"]);
    assert_eq!(output.status.code(), Some(5));
    for text in [told(&plan), told(&output)] {
        assert!(
            text.contains("usr/lib/sysctl.d/99-vendor.conf:2 sets net.ipv4.tcp_mtu_probing = 0"),
            "{text}"
        );
    }
    assert_eq!(everything(root.path()), before);
    assert_eq!(tuner(&root, &["apply", "--force"]).status.code(), Some(0));
}

#[test]
fn a_drop_in_that_is_not_ours_stays() {
    let root = host(KERNELS[3]);
    write(&root, DROP_IN, "kernel.sysrq = 1\n");
    let output = tuner(&root, &["apply"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(told(&output).contains("was not written by tuner"), "{}", told(&output));
    assert_eq!(fs::read_to_string(root.path().join(DROP_IN)).unwrap(), "kernel.sysrq = 1\n");
}

#[test]
fn a_link_at_the_place_of_the_drop_in_is_refused() {
    let root = host(KERNELS[3]);
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, root.path().join(DROP_IN)).unwrap();
    let output = tuner(&root, &["apply"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(told(&output).contains("is a symbolic link to"), "{}", told(&output));
    // A directory that leads out of the tree is no better.
    fs::remove_dir_all(root.path().join("etc/sysctl.d")).unwrap();
    symlink(elsewhere.path(), root.path().join("etc/sysctl.d")).unwrap();
    let output = tuner(&root, &["apply"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(told(&output).contains("leads out of"), "{}", told(&output));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_tree_that_shows_the_kernel_of_this_host_is_not_written() {
    // A link in an image that leads to the directory of another host.
    let root = host(KERNELS[3]);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(root.path().join("proc/sys"), elsewhere.path().join("sys")).unwrap();
    symlink(elsewhere.path().join("sys"), root.path().join("proc/sys")).unwrap();
    let before = everything(root.path());
    let output = tuner(&root, &["apply", "--only", "net.ipv4.tcp_mtu_probing"]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("leads out of"), "{}", told(&output));
    assert_eq!(everything(root.path()), before);
    // The real /proc, mounted in an image to work in it.
    if !can_unshare("--mount") {
        return;
    }
    let root = host(KERNELS[3]);
    let (tree, program) = (root.path().display(), env!("CARGO_BIN_EXE_tuner"));
    let script = format!(
        "mount --bind /proc {tree}/proc || exit 77
        echo 0 > {tree}/proc/sys/net/ipv4/tcp_mtu_probing || exit 77
        {program} apply --only net.ipv4.tcp_mtu_probing --root {tree}; code=$?
        test \"$(cat /proc/sys/net/ipv4/tcp_mtu_probing)\" = 0 || exit 1; exit $code"
    );
    let output = Command::new("unshare").args(["--net", "--mount", "sh", "-c", &script]).output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: {}", told(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("is a setting of the kernel that runs here"), "{}", told(&output));
}

#[test]
fn a_corrupt_journal_stops_everything() {
    let root = host(KERNELS[3]);
    tuner(&root, &["apply"]);
    let journal = root.path().join("var/lib/kumod/tuner");
    let entry = fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&entry).unwrap();
    for damaged in [&text[..text.len() / 2], &text.replace("proc/sys", "../../etc"), ""] {
        fs::write(&entry, damaged).unwrap();
        let before = everything(root.path());
        for verb in ["apply", "revert", "verify"] {
            let output = tuner(&root, &[verb]);
            assert_eq!(output.status.code(), Some(1), "{verb}");
            assert!(told(&output).contains("the journal cannot be read"), "{}", told(&output));
        }
        assert_eq!(everything(root.path()), before);
    }
}

#[test]
fn keys_that_are_not_there_are_left_out_and_tabs_do_not_matter() {
    let root = host(KERNELS[4]);
    fs::remove_file(root.path().join("proc/sys/net/ipv4/tcp_mtu_probing")).unwrap();
    set(&root, "net.ipv4.ip_local_port_range", "10240\t65535");
    let output = tuner(&root, &["apply"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = fs::read_to_string(root.path().join(DROP_IN)).unwrap();
    assert!(!text.contains("tcp_mtu_probing") && !text.contains("ip_local_port_range"), "{text}");
}

#[test]
fn dry_run_and_runtime_only_do_what_they_say() {
    let root = host(KERNELS[3]);
    let before = everything(root.path());
    assert_eq!(tuner(&root, &["apply", "--dry-run"]).status.code(), Some(3));
    assert_eq!(everything(root.path()), before);
    assert_eq!(tuner(&root, &["apply", "--runtime-only"]).status.code(), Some(0));
    assert!(!root.path().join(DROP_IN).exists());
    assert_eq!(fs::read_to_string(root.path().join("proc/sys/net/ipv4/tcp_mtu_probing")).unwrap(), "1\n");
    tuner(&root, &["revert"]);
    assert_eq!(everything(root.path()), before);
}

#[test]
fn a_refused_wish_stops_apply() {
    let root = host(KERNELS[3]);
    let before = everything(root.path());
    let output = tuner(&root, &["apply", "--set", "fs.file-max=250000"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(told(&output).contains("fs.file-max = 250000 is refused"), "{}", told(&output));
    assert_eq!(everything(root.path()), before);
}

/// Whether `unshare` can make a namespace here.
fn can_unshare(flags: &str) -> bool {
    let tried = Command::new("unshare").args([flags, "true"]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: unshare {flags} is not possible here");
    }
    can
}

#[test]
fn a_file_system_that_cannot_be_written_is_told_and_nothing_is_changed() {
    if !can_unshare("--mount") {
        return;
    }
    let root = host(KERNELS[3]);
    let before = everything(root.path());
    let (tree, program) = (root.path().display(), env!("CARGO_BIN_EXE_tuner"));
    let script = format!(
        "mount --bind {tree}/etc {tree}/etc && mount -o remount,ro,bind {tree}/etc && {program} apply --root {tree}"
    );
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    if told(&output).contains("mount:") {
        eprintln!("skipped: {}", told(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(6), "{}", told(&output));
    assert!(told(&output).contains("60-kumod.conf: Read-only file system"), "{}", told(&output));
    assert!(told(&output).contains("everything was put back"), "{}", told(&output));
    assert_eq!(everything(root.path()), before);
}

#[test]
fn the_kernel_itself_takes_the_values_and_gives_them_back() {
    if !can_unshare("--net") {
        return;
    }
    // The network namespace keeps the values, the mount namespace the journal: this host sees neither.
    let program = env!("CARGO_BIN_EXE_tuner");
    let script = format!(
        "mount -t tmpfs none /var/lib && mount -t tmpfs none /etc || exit 77
        values() {{ cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/tcp_mtu_probing /proc/sys/net/core/somaxconn; }}
        echo 128 > /proc/sys/net/core/somaxconn || exit 77
        before=$(values)
        {program} apply --only net.ipv4,net.core.somaxconn || exit 1
        test \"$(cat /proc/sys/net/core/somaxconn)\" = 4096 || exit 2
        test -f /etc/sysctl.d/60-kumod.conf || exit 3
        {program} verify || exit 4
        {program} apply --only net.ipv4,net.core.somaxconn | grep -q '^0 changed' || exit 5
        {program} revert || exit 6
        test \"$(values)\" = \"$before\" || exit 7
        test ! -e /etc/sysctl.d || exit 8"
    );
    let output = Command::new("unshare").args(["--net", "--mount", "sh", "-c", &script]).output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: {}", told(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("net.core.somaxconn: 128 -> 4096"), "{}", told(&output));
}

#[test]
fn without_rights_nothing_is_changed_and_the_way_is_told() {
    let can = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "true"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: setpriv cannot become another user here");
        return;
    }
    // The tree belongs to root and may be read by all.
    let root = host(KERNELS[3]);
    let program = tempfile::tempdir().unwrap();
    let tuner = program.path().join("tuner");
    fs::copy(env!("CARGO_BIN_EXE_tuner"), &tuner).unwrap();
    for path in [root.path(), program.path()] {
        Command::new("chmod").args(["-R", "a+rX"]).arg(path).status().unwrap();
    }
    let before = everything(root.path());
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(tuner)
        .args(["apply", "--root"])
        .arg(root.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", told(&output));
    let text = told(&output);
    assert!(text.contains("nothing was changed") && text.contains("tuner apply --skip "), "{text}");
    assert!(text.contains("sysctl -w net.ipv4.tcp_mtu_probing='1'"), "{text}");
    assert_eq!(everything(root.path()), before);
}
