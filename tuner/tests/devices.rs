//! What is not a sysctl: units, processes, pages, processors, disks, control groups, on trees that look like hosts.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod trees;

use std::fs;

use tempfile::TempDir;
use trees::{KERNELS, finding, host, report, set, told, tuner, verdict, write};

/// A host whose spool lies on a disk of its own, with these mount options, file system and scheduler.
fn with_spool(options: &str, file_system: &str, scheduler: &str) -> TempDir {
    let root = host(KERNELS[3]);
    fs::create_dir_all(root.path().join("var/spool/kumod")).unwrap();
    let mounts = format!(
        "1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
         2 1 8:16 / /var/spool/kumod {options} - {file_system} /dev/sdb {options}\n"
    );
    write(&root, "proc/self/mountinfo", &mounts);
    write(&root, "sys/dev/block/8:16/queue/scheduler", scheduler);
    write(&root, "sys/dev/block/8:16/queue/rotational", "0\n");
    root
}

#[test]
fn a_spool_that_may_lose_mail_is_told() {
    let verdicts = |root: &TempDir| {
        let report = report(&tuner(root, &["--json", "-"]));
        let keys = ["spool_file_system", "spool_mount_safety", "io_scheduler", "spool_mount_noatime"];
        keys.map(|key| verdict(&report, key).to_owned())
    };
    let good = with_spool("rw,noatime", "ext4", "[none] mq-deadline bfq\n");
    assert_eq!(verdicts(&good), ["ok", "ok", "ok", "info"]);
    let bad = with_spool("rw,nobarrier", "btrfs", "none mq-deadline [bfq]\n");
    assert_eq!(verdicts(&bad), ["differs", "differs", "differs", "info"]);
    let overlay = with_spool("rw,volatile", "overlay", "[none]\n");
    assert_eq!(verdicts(&overlay)[..2], ["differs", "differs"]);
    let text = told(&tuner(&bad, &["check", "--only", "spool_mount_safety"]));
    assert!(text.contains("Take the option out of /etc/fstab"), "{text}");
}

#[test]
fn a_slow_clock_a_lazy_governor_and_eager_pages_are_told() {
    let root = host(KERNELS[3]);
    write(&root, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
    write(&root, "sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    write(&root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    let report = report(&tuner(&root, &["--json", "-"]));
    for key in ["transparent_hugepage", "clocksource", "cpu_governor"] {
        assert_eq!(verdict(&report, key), "differs");
        assert_eq!(finding(&report, key)["reach"], "hand");
    }
    // A person has to do it: apply says so, and leaves it.
    let text = told(&tuner(&root, &["apply"]));
    assert!(text.contains("left to you: transparent_hugepage: Now: echo madvise"), "{text}");
    let pages = fs::read_to_string(root.path().join("sys/kernel/mm/transparent_hugepage/enabled")).unwrap();
    assert_eq!(pages, "[always] madvise never\n");
}

#[test]
fn a_running_process_and_a_unit_have_limits_of_their_own() {
    let root = host(KERNELS[3]);
    let limits = fs::read_to_string(root.path().join("proc/self/limits")).unwrap();
    write(&root, "proc/4711/limits", &limits.replace("524288 ", "2000000"));
    write(
        &root,
        "usr/lib/systemd/system/mta.service",
        "[Service]\nLimitNOFILE=4096\nLimitMEMLOCK=infinity\n",
    );
    let report = report(&tuner(&root, &["--json", "-", "--pid", "4711", "--unit", "mta"]));
    assert_eq!(verdict(&report, "RLIMIT_NOFILE"), "kept");
    assert!(finding(&report, "RLIMIT_NOFILE")["current"].as_str().unwrap().contains("(process 4711)"));
    assert_eq!(verdict(&report, "unit.LimitNOFILE"), "low");
    assert_eq!(verdict(&report, "unit.LimitMEMLOCK"), "kept");
    assert_eq!(tuner(&root, &["--pid", "4712"]).status.code(), Some(2));
    assert_eq!(tuner(&root, &["apply", "--unit", "mta"]).status.code(), Some(0));
    let drop_in = root.path().join("etc/systemd/system/mta.service.d/60-kumod.conf");
    let text = fs::read_to_string(drop_in).unwrap();
    assert!(text.contains("LimitNOFILE=1048576\n") && !text.contains("MEMLOCK"), "{text}");
}

#[test]
fn connection_tracking_and_swap_are_judged_by_what_they_hold() {
    let root = host(KERNELS[3]);
    let verdicts = || {
        let report = report(&tuner(&root, &["--json", "-"]));
        ["net.netfilter.nf_conntrack_max", "vm.swappiness"].map(|key| verdict(&report, key).to_owned())
    };
    assert_eq!(verdicts(), ["not_needed", "not_needed"]);
    set(&root, "net.netfilter.nf_conntrack_count", "60000");
    write(&root, "proc/swaps", "Filename Type Size Used Priority\n/dev/zram0 partition 4000 0 100\n");
    assert_eq!(verdicts(), ["low", "not_needed"]);
    write(&root, "proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 4000 0 -2\n");
    assert_eq!(verdicts(), ["low", "high"]);
    fs::remove_file(root.path().join("proc/sys/net/netfilter/nf_conntrack_max")).unwrap();
    let text = told(&tuner(&root, &["explain", "net.netfilter.nf_conntrack_max"]));
    assert!(text.contains("connection tracking is not loaded"), "{text}");
}

#[test]
fn a_control_group_sizes_the_host() {
    let root = host(KERNELS[3]);
    write(&root, "proc/self/cgroup", "0::/\n");
    write(&root, "proc/self/mountinfo", "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    write(&root, "sys/fs/cgroup/memory.max", "1073741824\n");
    write(&root, "sys/fs/cgroup/cpu.max", "100000 100000\n");
    let report = report(&tuner(&root, &["--json", "-"]));
    assert_eq!(report["sizing"]["cores"], 1);
    assert_eq!(report["sizing"]["ram_bytes"], 1_073_741_824_u64);
    assert_eq!(finding(&report, "cgroup.memory_max")["current"], "1073741824");
}

#[test]
fn what_apply_does_not_write_is_left_to_a_person_with_the_command() {
    let root = host(KERNELS[3]);
    let limits = fs::read_to_string(root.path().join("proc/self/limits")).unwrap();
    let memlock = "Max locked memory         65536                unlimited            bytes     \n";
    let limits: String =
        limits.lines().filter(|line| !line.contains("locked")).map(|line| format!("{line}\n")).collect();
    write(&root, "proc/4711/limits", &(limits.replace("31204  ", "100    ") + memlock));
    let plan = told(&tuner(&root, &["plan", "--pid", "4711", "--only", "RLIMIT_NOFILE"]));
    assert!(plan.contains("  reaches:  the process; to be changed by hand\n"), "{plan}");
    let output =
        tuner(&root, &["apply", "--pid", "4711", "--only", "RLIMIT_NOFILE,RLIMIT_NPROC,RLIMIT_MEMLOCK"]);
    assert_eq!(output.status.code(), Some(0));
    let text = told(&output);
    assert!(text.starts_with("0 changed\n"), "{text}");
    for (key, option) in
        [("RLIMIT_NOFILE", "nofile=1048576:1048576"), ("RLIMIT_MEMLOCK", "memlock=67108864:67108864")]
    {
        let line =
            format!("left to you: {key}: Now, as root: prlimit --pid 4711 --{option}. For its next start: ");
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn a_unit_without_a_line_has_the_kernels_limit_of_threads() {
    let root = host(KERNELS[3]);
    write(&root, "lib/systemd/system/kumod.service", "[Service]\nExecStart=/bin/true\n");
    let threads = |root: &TempDir| {
        let report = report(&tuner(root, &["--json", "-"]));
        let finding = finding(&report, "unit.LimitNPROC");
        [finding["current"].as_str().unwrap(), finding["verdict"].as_str().unwrap()].map(str::to_owned)
    };
    assert_eq!(threads(&root), ["31384 (the kernel's default)", "kept"]);
    set(&root, "kernel.threads-max", "4000");
    assert_eq!(threads(&root), ["2000 (the kernel's default)", "low"]);
    assert_eq!(tuner(&root, &["apply", "--only", "unit.LimitNPROC"]).status.code(), Some(0));
    assert_eq!(threads(&root)[1], "ok");
}
