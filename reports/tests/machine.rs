//! The machine record from made-up `/proc` and `/sys` trees, and from this machine.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use reports::machine::{Cgroup, Cpu, Machine};
use reports::run::TierSource;

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A small virtual machine with its spool on a partition.
fn virtual_machine(root: &Path) {
    let processors = "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Made Up 9000\ncpu MHz\t\t: 2100.5\nflags\t\t: fpu hypervisor\n\n\
                      processor\t: 1\ncpu MHz\t\t: 3400.0\n";
    write(root, "proc/cpuinfo", processors);
    write(root, "proc/self/status", "Cpus_allowed_list:\t0-3\nSeccomp:\t2\n");
    write(root, "sys/devices/system/cpu/online", "0-7\n");
    write(root, "proc/meminfo", "MemTotal:       8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 0 kB\n");
    write(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    write(root, "proc/sys/kernel/osrelease", "6.1.0\n");
    write(root, "etc/os-release", "NAME=x\nPRETTY_NAME=\"Made Up 1\"\n");
    write(root, "proc/stat", "cpu  1 2 3 4 5 6 7 800 0 0\n");
    let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                  Max open files            1024                 524288               files\n\
                  Max processes             4096                 unlimited            processes\n\
                  Max locked memory         unlimited            unlimited            bytes\n";
    write(root, "proc/self/limits", limits);
    let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard\n\
                  23 22 8:17 / /srv/sp\\040ool rw,noatime shared:1 - xfs /dev/sdb1 rw,noatime,logbufs=8\n";
    write(root, "proc/self/mountinfo", mounts);
    write(root, "srv/sp ool/data/file", "");
    write(root, "sys/devices/sdb/queue/rotational", "0\n");
    write(root, "sys/devices/sdb/queue/write_cache", "write back\n");
    write(root, "sys/devices/sdb/queue/fua", "1\n");
    write(root, "sys/devices/sdb/queue/scheduler", "none [mq-deadline]\n");
    write(root, "sys/devices/sdb/size", "2048\n");
    write(root, "sys/devices/sdb/device/model", "FAST DISK\n");
    write(root, "sys/devices/sdb/sdb1/partition", "1\n");
    fs::create_dir_all(root.join("sys/dev/block")).unwrap();
    symlink("../../devices/sdb/sdb1", root.join("sys/dev/block/8:17")).unwrap();
}

#[test]
fn a_virtual_machine_is_described() {
    let root = tempfile::tempdir().unwrap();
    virtual_machine(root.path());
    let machine = Machine::probe_below(root.path(), Some(&root.path().join("srv/sp ool/data")));
    assert_eq!(machine.cpu.model.as_deref(), Some("Made Up 9000"));
    assert_eq!((machine.cpu.online, machine.cpu.usable), (Some(8), Some(4.0)));
    assert_eq!(machine.memory.usable_bytes, Some(8 << 30));
    assert_eq!(machine.memory.transparent_huge_pages.as_deref(), Some("madvise"));
    assert_eq!(machine.system.hypervisor, Some(true));
    assert_eq!(machine.system.distribution.as_deref(), Some("Made Up 1"));
    assert_eq!((machine.limits.nofile_soft, machine.limits.nofile_hard), (Some(1024), Some(524_288)));
    assert_eq!(machine.limits.memlock_bytes, Some(u64::MAX));
    assert_eq!(machine.disturbance.pressure_readable, Some(false));
    assert!(machine.disturbance.steal_s.unwrap() > 0.0);
    let disk = machine.disk.unwrap();
    assert_eq!(disk.filesystem.as_deref(), Some("xfs"));
    assert_eq!(disk.mount_options.as_deref(), Some("rw,noatime,logbufs=8"));
    assert_eq!((disk.device.as_deref(), disk.model.as_deref()), (Some("sdb"), Some("FAST DISK")));
    assert_eq!((disk.rotational, disk.fua), (Some(false), Some(true)));
    assert_eq!(disk.scheduler.as_deref(), Some("mq-deadline"));
    assert_eq!(disk.size_bytes, Some(1 << 20));
}

/// Two packages of two cores of two threads, in two nodes.
#[test]
fn packages_cores_threads_caches_and_nodes_are_counted() {
    let root = tempfile::tempdir().unwrap();
    virtual_machine(root.path());
    for cpu in 0..8_u32 {
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        write(root.path(), &format!("{topology}/physical_package_id"), &(cpu / 4).to_string());
        // Both packages number their cores from 0.
        write(root.path(), &format!("{topology}/core_id"), &(cpu / 2 % 2).to_string());
    }
    for (index, level, kind, size, shared) in [
        (0, 1, "Data", "48K", "0-1"),
        (1, 1, "Instruction", "32K", "0-1"),
        (2, 3, "Unified", "33792K", "0-3"),
    ] {
        let cache = format!("sys/devices/system/cpu/cpu0/cache/index{index}");
        for (name, content) in [
            ("level", level.to_string()),
            ("type", kind.into()),
            ("size", size.into()),
            ("shared_cpu_list", shared.into()),
        ] {
            write(root.path(), &format!("{cache}/{name}"), &content);
        }
    }
    write(root.path(), "sys/devices/system/node/online", "0-1\n");
    for (node, cpus) in [(0, "0-3\n"), (1, "4-7\n")] {
        write(root.path(), &format!("sys/devices/system/node/node{node}/cpulist"), cpus);
        let info = format!("Node {node} MemTotal:  4194304 kB\nNode {node} MemFree: 1 kB\n");
        write(root.path(), &format!("sys/devices/system/node/node{node}/meminfo"), &info);
    }
    let cpu = Machine::probe_below(root.path(), None).cpu;
    assert_eq!((cpu.sockets, cpu.cores, cpu.threads_per_core), (Some(2), Some(4), Some(2)));
    assert_eq!(cpu.caches.len(), 3);
    let last = &cpu.caches[2];
    assert_eq!((last.level, last.kind.as_deref()), (Some(3), Some("unified")));
    assert_eq!((last.bytes, last.shared_by), (Some(33 << 20), Some(4)));
    assert_eq!((cpu.numa_nodes, cpu.numa.len()), (Some(2), 2));
    assert_eq!((cpu.numa[1].cpus.as_deref(), cpu.numa[1].memory_bytes), (Some("4-7"), Some(4 << 30)));
    assert_eq!(
        (cpu.mhz_seen_min, cpu.mhz_seen_max, cpu.model_number),
        (Some(2100.5), Some(3400.0), Some(143))
    );
    assert_eq!(cpu.allowed.as_deref(), Some("0-3"));
}

#[test]
fn limits_filters_and_containers_are_seen() {
    let root = tempfile::tempdir().unwrap();
    virtual_machine(root.path());
    write(
        root.path(),
        "sys/kernel/mm/transparent_hugepage/defrag",
        "always defer defer+madvise [madvise] never\n",
    );
    write(root.path(), "proc/self/cgroup", "0::/kubepods.slice/kubepods-pod7.slice/a\n");
    write(root.path(), "proc/self/attr/current", "docker-default (enforce)\n");
    write(root.path(), "proc/cmdline", "root=/dev/sda1 mitigations=off quiet\n");
    let machine = Machine::probe_below(root.path(), None);
    assert_eq!(machine.memory.transparent_huge_pages_defrag.as_deref(), Some("madvise"));
    assert_eq!((machine.limits.nproc_soft, machine.limits.nproc_hard), (Some(4096), Some(u64::MAX)));
    assert_eq!(machine.system.container.as_deref(), Some("kubepods"));
    assert_eq!(machine.system.seccomp.as_deref(), Some("filter"));
    assert_eq!(machine.system.security_label.as_deref(), Some("docker-default (enforce)"));
    assert_eq!(machine.system.boot_command_line.as_deref(), Some("mitigations=off"));
}

#[test]
fn the_interface_tells_its_queues() {
    let root = tempfile::tempdir().unwrap();
    let line = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\neth0 00000000 0 3 0 0 0 00000000 0 0 0\n";
    write(root.path(), "proc/net/route", line);
    write(root.path(), "proc/sys/net/core/rps_sock_flow_entries", "32768\n");
    write(root.path(), "sys/class/net/eth0/tx_queue_len", "1000\n");
    write(root.path(), "sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000002\n");
    write(root.path(), "sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000,00000000\n");
    fs::create_dir_all(root.path().join("sys/class/net/eth0/queues/tx-0")).unwrap();
    let network = Machine::probe_below(root.path(), None).network;
    assert_eq!((network.queues, network.steered_queues), (Some(2), Some(1)));
    assert_eq!((network.send_queues, network.pinned_send_queues), (Some(1), None));
    assert_eq!((network.flow_entries, network.send_queue_packets), (Some(32_768), Some(1000)));
    assert_eq!(network.offloads, None, "nobody was asked about another machine");
}

#[test]
fn clouds_are_known_by_their_firmware() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    write(root.path(), "sys/class/dmi/id/product_name", "c7i.2xlarge\n");
    let cloud = Machine::probe_below(root.path(), None).cloud;
    assert_eq!(
        (cloud.provider.as_deref(), cloud.instance_type.as_deref()),
        (Some("aws"), Some("c7i.2xlarge"))
    );
    write(root.path(), "sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n");
    assert_eq!(Machine::probe_below(root.path(), None).cloud.provider, None, "a laptop");
    write(root.path(), "sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    assert_eq!(Machine::probe_below(root.path(), None).cloud.provider.as_deref(), Some("azure"));
}

#[test]
fn version_2_groups_limit_the_tier() {
    let root = tempfile::tempdir().unwrap();
    virtual_machine(root.path());
    write(root.path(), "proc/self/cgroup", "0::/lab/kumod\n");
    let mounts = "30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    write(root.path(), "proc/self/mountinfo", mounts);
    write(root.path(), "sys/fs/cgroup/lab/kumod/cpu.max", "max 100000\n");
    write(root.path(), "sys/fs/cgroup/lab/cpu.max", "150000 100000\n");
    write(root.path(), "sys/fs/cgroup/lab/kumod/memory.max", "max\n");
    write(root.path(), "sys/fs/cgroup/lab/memory.max", "2147483648\n");
    write(root.path(), "sys/fs/cgroup/lab/pids.max", "512\n");
    write(root.path(), "sys/fs/cgroup/lab/cpuset.cpus.effective", "1-2\n");
    let machine = Machine::probe_below(root.path(), None);
    assert_eq!(machine.cgroup.version, Some(2));
    assert_eq!((machine.tier().cpus, machine.tier().memory_gib), (1.5, 2.0));
    assert_eq!((machine.cgroup.pids_max, machine.cgroup.cpuset.as_deref()), (Some(512), Some("1-2")));
    assert_eq!(machine.disk, None);
}

#[test]
fn version_1_groups_limit_the_tier() {
    let root = tempfile::tempdir().unwrap();
    virtual_machine(root.path());
    write(root.path(), "proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a\n0::/\n");
    let mounts = "30 1 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  31 1 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  32 1 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    write(root.path(), "proc/self/mountinfo", mounts);
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n");
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    write(root.path(), "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    write(root.path(), "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
    write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    let machine = Machine::probe_below(root.path(), None);
    assert_eq!(machine.cgroup.version, Some(1));
    assert_eq!((machine.tier().cpus, machine.tier().memory_gib), (0.5, 1.0));
    assert_eq!(machine.tier_source(), TierSource::Cgroup);
}

#[test]
fn another_process_and_a_branch_of_the_hierarchy_are_found() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/7/cgroup", "5:cpu:/docker/id/tier\n");
    // Of the whole hierarchy only the branch /docker/id is mounted here.
    let mounts = "30 1 0:30 /docker/id /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    write(root.path(), "proc/self/mountinfo", mounts);
    write(root.path(), "sys/fs/cgroup/cpu/tier/cpu.cfs_quota_us", "150000\n");
    write(root.path(), "sys/fs/cgroup/cpu/tier/cpu.cfs_period_us", "100000\n");
    let found = Cgroup::of_process(root.path(), "7");
    assert_eq!((found.version, found.cpu_quota, found.memory_max_bytes), (Some(1), Some(1.5), None));
    let folders = ["sys/fs/cgroup/cpu/tier", "sys/fs/cgroup/cpu"].map(|folder| root.path().join(folder));
    assert_eq!(Cgroup::folders(root.path(), "7", "cpu"), folders);
    assert!(Cgroup::folders(root.path(), "7", "").is_empty());
    assert_eq!(Cgroup::of_process(root.path(), "8"), Cgroup::default());
}

#[test]
fn an_empty_machine_is_unknown_throughout() {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::probe_below(root.path(), Some(root.path()));
    assert_eq!(machine, Machine::default());
    assert_eq!(machine.tier_source(), TierSource::Unknown);
    let cpu = Cpu { online: Some(2), usable: Some(2.0), ..Cpu::default() };
    assert_eq!(Machine { cpu, ..machine.clone() }.tier_source(), TierSource::Machine);
    let text = serde_json::to_string(&machine).unwrap();
    assert!(text.contains("\"model\":null"), "{text}");
}

#[test]
fn this_machine_has_processors_memory_and_a_kernel() {
    let machine = Machine::probe(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(machine.cpu.usable.unwrap() > 0.0);
    assert!(machine.memory.usable_bytes.unwrap() > 0);
    assert!(machine.system.kernel.is_some());
    assert!(machine.disk.unwrap().filesystem.is_some());
    assert!(machine.limits.nofile_soft.is_some());
}
