//! The command as a user sees it, on copies of `/proc` that stand for hosts of several ages.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Writes the few files of `/proc` that the rules read.
fn host(files: &[(&str, &str)], nofile: &str, memlock: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let limits = format!(
        "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max open files            {nofile}             files     \n\
         Max locked memory         {memlock}            bytes     \n"
    );
    write(root.path(), "proc/self/limits", &limits);
    for (key, value) in files {
        write(root.path(), &format!("proc/sys/{}", key.replace('.', "/")), value);
    }
    root
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn tuner(root: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuner"));
    command.args(arguments).arg("--root").arg(root.path()).output().unwrap()
}

fn verdicts(output: &Output) -> Vec<(String, String)> {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let word = |finding: &serde_json::Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    findings.iter().map(|finding| (word(finding, "key"), word(finding, "verdict"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, verdict)| ((*key).to_owned(), (*verdict).to_owned())).collect()
}

#[test]
fn an_old_host_is_low_and_its_io_uring_unknown() {
    let old = host(
        &[("net.core.somaxconn", "128\n"), ("net.ipv4.ip_local_port_range", "32768\t60999\n")],
        "1024 4096",
        "65536 65536",
    );
    let output = tuner(&old, &["check", "--json", "-"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        verdicts(&output),
        pairs(&[
            ("RLIMIT_NOFILE", "low"),
            ("RLIMIT_MEMLOCK", "low"),
            ("net.core.somaxconn", "low"),
            ("net.ipv4.ip_local_port_range", "low"),
            ("io_uring", "unknown"),
        ])
    );
}

#[test]
fn a_better_host_is_kept_and_nothing_is_to_be_changed() {
    let better = host(
        &[
            ("net.core.somaxconn", "65535\n"),
            ("net.ipv4.ip_local_port_range", "1024\t65535\n"),
            ("kernel.io_uring_disabled", "0\n"),
        ],
        "1024 2097152",
        "unlimited unlimited",
    );
    let output = tuner(&better, &["--json", "-"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        verdicts(&output),
        pairs(&[
            ("RLIMIT_NOFILE", "kept"),
            ("RLIMIT_MEMLOCK", "kept"),
            ("net.core.somaxconn", "kept"),
            ("net.ipv4.ip_local_port_range", "kept"),
            ("io_uring", "ok"),
        ])
    );
}

#[test]
fn a_blocked_io_uring_gives_its_reason_and_asks_for_no_change() {
    let closed = host(
        &[
            ("net.core.somaxconn", "4096\n"),
            ("net.ipv4.ip_local_port_range", "10240\t65535\n"),
            ("kernel.io_uring_disabled", "1\n"),
            ("kernel.io_uring_group", "105\n"),
        ],
        "1048576 1048576",
        "67108864 67108864",
    );
    let output = tuner(&closed, &["check"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("only processes with CAP_SYS_ADMIN or of group id 105"), "{table}");
    assert!(table.contains("if you want it: "), "{table}");
}

#[test]
fn a_seccomp_filter_makes_io_uring_unknown() {
    let contained = host(&[("kernel.io_uring_disabled", "0\n")], "1 1", "1 1");
    write(contained.path(), "proc/self/status", "Name:\ttuner\nSeccomp:\t2\nSeccomp_filters:\t1\n");
    let output = tuner(&contained, &["explain", "io_uring"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("a seccomp filter is in force"), "{text}");
    assert!(text.contains("verdict: unknown"), "{text}");
}

#[test]
fn explain_tells_the_source_and_names_what_it_knows() {
    let host = host(&[("net.core.somaxconn", "4096\n")], "1 1", "1 1");
    let output = tuner(&host, &["explain", "net.core.somaxconn"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("source:  https://docs.kernel.org/"), "{text}");

    let output = tuner(&host, &["explain", "net.core.somaxcon"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("no rule is called `net.core.somaxcon`; there are: RLIMIT_NOFILE, "), "{text}");
}

#[test]
fn the_report_goes_to_a_file_beside_the_table() {
    let host = host(&[], "1 1", "1 1");
    let file = host.path().join("report.json");
    let output = tuner(&host, &["check", "--json", file.to_str().unwrap()]);
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("setting "));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["changes_needed"], true);

    let output = tuner(&host, &["check", "--json", "/proc/no-such-directory/report.json"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_root_without_proc_is_a_usage_error() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(tuner(&empty, &["check"]).status.code(), Some(2));
}
