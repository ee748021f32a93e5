//! Trees that look like hosts of several ages, each with the defaults of its kernel on 8 GB and two processors.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The kernels, as they name themselves.
pub(crate) const KERNELS: [&str; 5] =
    ["3.10.0-1160.el7.x86_64", "4.18.0-553.el8.x86_64", "5.4.0-200-generic", "6.1.0-30-amd64", "6.18.2"];

/// What is the same on all of them.
const EVERYWHERE: [(&str, &str); 30] = [
    ("fs.nr_open", "1048576"),
    ("kernel.pid_max", "32768"),
    ("kernel.shmmni", "4096"),
    ("kernel.threads-max", "62768"),
    ("net.core.default_qdisc", "pfifo_fast"),
    ("net.core.netdev_max_backlog", "1000"),
    ("net.core.rmem_default", "212992"),
    ("net.core.wmem_default", "212992"),
    ("net.ipv4.ip_local_port_range", "32768\t60999"),
    ("net.ipv4.ip_local_reserved_ports", ""),
    ("net.ipv4.neigh.default.gc_thresh3", "1024"),
    ("net.ipv4.tcp_congestion_control", "cubic"),
    ("net.ipv4.tcp_fin_timeout", "60"),
    ("net.ipv4.tcp_max_orphans", "32768"),
    ("net.ipv4.tcp_max_syn_backlog", "512"),
    ("net.ipv4.tcp_max_tw_buckets", "32768"),
    ("net.ipv4.tcp_mem", "92121\t122831\t184242"),
    ("net.ipv4.tcp_mtu_probing", "0"),
    ("net.ipv4.tcp_slow_start_after_idle", "1"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv4.tcp_timestamps", "1"),
    ("net.ipv4.tcp_wmem", "4096\t16384\t4194304"),
    ("vm.dirty_background_bytes", "0"),
    ("vm.dirty_bytes", "0"),
    ("vm.max_map_count", "65530"),
    ("vm.min_free_kbytes", "67584"),
    ("vm.nr_hugepages", "0"),
    ("vm.overcommit_memory", "0"),
    ("vm.swappiness", "60"),
    ("net.netfilter.nf_conntrack_max", "65536"),
];

/// What a kernel sets by itself, beside [`EVERYWHERE`].
fn defaults(kernel: &str) -> Vec<(&'static str, &'static str)> {
    let old = kernel < "4" || kernel.starts_with("4.18");
    let newest = kernel.starts_with("6.18");
    let pick = |choose_old: bool, old: &'static str, new: &'static str| if choose_old { old } else { new };
    let mut defaults = vec![
        ("net.core.somaxconn", pick(old, "128", "4096")),
        ("net.ipv4.tcp_tw_reuse", pick(old, "0", "2")),
        ("kernel.shmmax", pick(kernel < "4", "33554432", "18446744073692774399")),
        ("fs.file-max", pick(kernel < "6", "790000", "9223372036854775807")),
        ("net.core.rmem_max", pick(newest, "4194304", "212992")),
        ("net.core.wmem_max", pick(newest, "4194304", "212992")),
        ("net.ipv4.tcp_notsent_lowat", pick(kernel < "4", "-1", "4294967295")),
    ];
    let rmem = match (old, newest) {
        (true, _) => "4096\t87380\t6291456",
        (_, true) => "4096\t131072\t33554432",
        _ => "4096\t131072\t6291456",
    };
    defaults.push(("net.ipv4.tcp_rmem", rmem));
    if newest {
        defaults.push(("kernel.io_uring_disabled", "0"));
    }
    if kernel < "4" {
        defaults.retain(|(key, _)| *key != "net.ipv4.tcp_notsent_lowat");
    }
    defaults
}

/// A host with this kernel's defaults.
pub(crate) fn host(kernel: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (key, value) in EVERYWHERE.into_iter().chain(defaults(kernel)) {
        set(&root, key, value);
    }
    set(&root, "kernel.osrelease", kernel);
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max processes             31204                31204                processes \n\
                  Max open files            1024                 524288               files     \n\
                  Max locked memory         65536                65536                bytes     \n";
    write(&root, "proc/self/limits", limits);
    write(&root, "proc/self/status", "Name:\ttuner\nCpus_allowed_list:\t0-1\nSeccomp:\t0\n");
    write(&root, "proc/meminfo", "MemTotal:        8000000 kB\nSwapTotal:             0 kB\n");
    write(&root, "proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    write(
        &root,
        "proc/net/netstat",
        "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPTimeWaitOverflow\nTcpExt: 0 0 0 0\n",
    );
    write(&root, "proc/net/snmp", "Udp: RcvbufErrors SndbufErrors\nUdp: 0 0\n");
    write(&root, "proc/net/softnet_stat", "00000010 00000000 00000000\n");
    write(&root, "proc/net/sockstat", "TCP: inuse 1 orphan 0 tw 5 alloc 1 mem 1\n");
    write(
        &root,
        "proc/net/tcp",
        "  sl  local_address rem_address   st\n   0: 00000000:0019 00000000:0000 0A\n   1: 0100007F:2BCB 00000000:0000 0A\n",
    );
    set(&root, "net.netfilter.nf_conntrack_count", "10");
    write(&root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    write(&root, "sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    fs::create_dir_all(root.path().join("etc/sysctl.d")).unwrap();
    root
}

/// The values of KumoMTA's old tuning page.
pub(crate) const KUMOMTA: [(&str, &str); 12] = [
    ("vm.max_map_count", "768000"),
    ("net.core.rmem_default", "32768"),
    ("net.core.wmem_default", "32768"),
    ("net.core.rmem_max", "262144"),
    ("net.core.wmem_max", "262144"),
    ("fs.file-max", "250000"),
    ("net.ipv4.ip_local_port_range", "5000 63000"),
    ("net.ipv4.tcp_tw_reuse", "1"),
    ("kernel.shmmax", "68719476736"),
    ("net.core.somaxconn", "1024"),
    ("vm.nr_hugepages", "20"),
    ("kernel.shmmni", "4096"),
];

/// Sets a sysctl of a tree.
pub(crate) fn set(root: &TempDir, key: &str, value: &str) {
    write(root, &format!("proc/sys/{}", key.replace('.', "/")), &format!("{value}\n"));
}

/// Writes a file of a tree.
pub(crate) fn write(root: &TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs the command on a tree.
pub(crate) fn tuner(root: &TempDir, arguments: &[&str]) -> Output {
    tuner_at(root.path(), arguments)
}

/// Runs the command on a tree.
pub(crate) fn tuner_at(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuner"));
    command.args(arguments).arg("--root").arg(root).output().unwrap()
}

/// The report of a run with `--json -`.
pub(crate) fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The finding of one setting.
pub(crate) fn finding<'r>(report: &'r serde_json::Value, key: &str) -> &'r serde_json::Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["key"] == key).unwrap_or_else(|| panic!("no finding of {key}"))
}

/// The verdict of one setting.
pub(crate) fn verdict<'r>(report: &'r serde_json::Value, key: &str) -> &'r str {
    finding(report, key)["verdict"].as_str().unwrap()
}

/// Standard output and standard error as text.
pub(crate) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
