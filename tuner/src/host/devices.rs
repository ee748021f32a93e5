//! What is not one file with one value: pages, processors, disks, control groups, io_uring.
//!
//! Most of it is what [`reports::machine`] records of every run, so that the advice and the record of a measurement never
//! tell different stories.

use std::fs;
use std::path::Path;

use reports::machine::Machine;
use rustix::fs::Access;

use super::Host;
use crate::facts::{Observed, Reading};
use crate::rule::Fact;

/// Where io_uring is tried when no spool is named: memory, so that looking does not wait for a disk.
const TRIAL_DIRECTORY: &str = "/dev/shm";

pub(super) fn observe(host: &Host, fact: Fact, machine: &Machine) -> Observed {
    let disk = machine.disk.as_ref();
    match fact {
        Fact::IoUring => io_uring(host),
        Fact::TransparentHugepage => word(machine.memory.transparent_huge_pages.clone()),
        Fact::CpuGovernor => word(machine.cpu.governor.clone()),
        Fact::Clocksource => word(machine.system.clocksource.clone()),
        Fact::ReceiveQueues => word(receive_queues(host)),
        Fact::IoScheduler => disk.map_or(Observed::Absent, |disk| match (&disk.scheduler, &disk.device) {
            (Some(scheduler), Some(device)) => {
                shown(scheduler, format!("{scheduler} ({device}{})", kind(disk.rotational)))
            }
            _ => Observed::Absent,
        }),
        Fact::SpoolFileSystem => word(disk.and_then(|disk| disk.filesystem.clone())),
        Fact::SpoolMount => word(disk.and_then(|disk| disk.mount_options.clone())),
        Fact::CgroupCpuQuota => word(machine.cgroup.cpu_quota.map(|quota| format!("{quota:.2}"))),
        Fact::CgroupMemoryMax => word(machine.cgroup.memory_max_bytes.map(|bytes| bytes.to_string())),
        Fact::Container => word(machine.system.container.clone()),
        Fact::Program => shown("program", "set by programs".into()),
    }
}

fn word(value: Option<String>) -> Observed {
    value.map_or(Observed::Absent, |value| Observed::Value(Reading::plain(value)))
}

fn shown(value: &str, shown: String) -> Observed {
    Observed::Value(Reading { value: value.to_owned(), shown, writable: false })
}

fn kind(rotational: Option<bool>) -> &'static str {
    match rotational {
        Some(true) => ", calls itself rotating",
        Some(false) => ", solid state",
        None => "",
    }
}

/// `eth0 4, eth1 1 (steered)`; the loopback has none worth naming.
fn receive_queues(host: &Host) -> Option<String> {
    let interfaces = fs::read_dir(host.root().join("sys/class/net")).ok()?;
    let mut told: Vec<String> = interfaces
        .flatten()
        .filter(|entry| entry.file_name() != "lo" && entry.path().join("device").exists())
        .filter_map(|entry| {
            let queues: Vec<_> = fs::read_dir(entry.path().join("queues")).ok()?.flatten().collect();
            let receiving =
                queues.iter().filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-"));
            let steered = receiving.clone().any(|queue| {
                let mask = fs::read_to_string(queue.path().join("rps_cpus")).unwrap_or_default();
                mask.chars().any(|digit| digit.is_ascii_hexdigit() && digit != '0')
            });
            let how = if steered { " (steered)" } else { "" };
            Some(format!("{} {}{how}", entry.file_name().to_string_lossy(), receiving.count()))
        })
        .collect();
    told.sort();
    (!told.is_empty()).then(|| told.join(", "))
}

/// Tried on the running host, judged from files elsewhere.
fn io_uring(host: &Host) -> Observed {
    if !host.is_running_host() {
        return io_uring_by_files(host);
    }
    let shared = Path::new(TRIAL_DIRECTORY);
    match host.named_spool() {
        Some(spool) => io_uring_tried(spool),
        None if rustix::fs::access(shared, Access::WRITE_OK).is_ok() => io_uring_tried(shared),
        None => io_uring_tried(&std::env::temp_dir()),
    }
}

/// A ring, its operations, and one durable write, as the spool will do them.
fn io_uring_tried(directory: &Path) -> Observed {
    let probe = spool::probe(directory);
    if let Some(reason) = probe.uring_refused {
        return Observed::Blocked(format!("{reason} (tried in {})", directory.display()));
    }
    let buffers = probe.buffers_refused.map(|reason| format!("; {reason}")).unwrap_or_default();
    let told = format!("available: tried in {} ({}){buffers}", directory.display(), probe.file_system);
    shown("available", told)
}

/// As far as the kernel's switch and the seccomp filter tell. What a filter would answer cannot be read, so a filter makes
/// the answer unknown.
fn io_uring_by_files(host: &Host) -> Observed {
    let switch = match host.read("proc/sys/kernel/io_uring_disabled") {
        Ok(switch) => switch,
        Err(reason) => return Observed::Unknown(format!("{reason} (the switch came with Linux 6.6)")),
    };
    match switch.as_str() {
        "0" if has_seccomp_filter(host) => Observed::Unknown(
            "kernel.io_uring_disabled is 0, but a seccomp filter is in force; those of containers refuse io_uring".into(),
        ),
        "0" => shown("available", "available: kernel.io_uring_disabled is 0".into()),
        "1" => {
            let group = host.read("proc/sys/kernel/io_uring_group").unwrap_or_else(|_| "unknown".into());
            Observed::Blocked(format!(
                "kernel.io_uring_disabled is 1: only processes with CAP_SYS_ADMIN or of group id {group}"
            ))
        }
        value => Observed::Blocked(format!("kernel.io_uring_disabled is {value}")),
    }
}

/// Mode 2 of `Seccomp` in `/proc/self/status` is a filter.
fn has_seccomp_filter(host: &Host) -> bool {
    let status = host.read("proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}
