//! Where it ran: processors, memory, disk, system and limits.
//!
//! It owns that part of `run.json` and the probing of it from `/proc` and `/sys`. It refuses to guess:
//! what a file does not say is `null`. Flags are recorded as the kernel states them, although disks are
//! known to lie about themselves; the floor beside each number is what tells how the disk really behaves.

mod cgroup;
mod cloud;
mod disk;
mod key;
mod measured;
mod network;
mod probe;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use measured::{DiskMeasured, MEASURED_SYNCS_MAX};

use crate::run::Tier;

/// Everything recorded about the machine. `None` means unknown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Where the spool lies; `None` where no path was given or its mount is unknown.
    pub disk: Option<Disk>,
    /// Kernel, distribution, virtualisation.
    pub system: System,
    /// A hash that tells hosts apart without naming them.
    pub host: Option<String>,
    /// Whose machine it is, and what it costs.
    pub cloud: Cloud,
    /// The way out.
    pub network: Network,
    /// Limits of the control groups that hold this process.
    pub cgroup: Cgroup,
    /// Resource limits of this process.
    pub limits: Limits,
    /// What can be observed about disturbance by others.
    pub disturbance: Disturbance,
}

/// Processors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// As the kernel names it.
    pub model: Option<String>,
    /// `x86_64`, `aarch64`.
    pub architecture: Option<String>,
    /// Logical processors that are online.
    pub online: Option<u32>,
    /// Processors that this process may use: affinity and cgroup quota included, so it may be a fraction.
    pub usable: Option<f64>,
    /// Frequency governor of the first processor.
    pub governor: Option<String>,
    /// Highest frequency of the first processor, MHz.
    pub mhz_max: Option<u64>,
    /// Whether two threads share a core.
    pub smt: Option<bool>,
    /// Family, as the kernel states it (x86).
    pub family: Option<u64>,
    /// Stepping, as the kernel states it (x86).
    pub stepping: Option<u64>,
    /// Version of the microcode.
    pub microcode: Option<String>,
    /// Nodes of memory.
    pub numa_nodes: Option<u32>,
    /// Vulnerabilities that cost something to guard against: `name: guard`, separated by semicolons.
    pub mitigations: Option<String>,
    /// Processors kept free of other work at boot; empty is none.
    pub isolated: Option<String>,
    /// Of the features that matter to mail (checksums, hashes, wide registers), those that it has.
    pub features: Vec<String>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Of the machine, bytes.
    pub total_bytes: Option<u64>,
    /// Free for use when the run began, bytes.
    pub available_bytes: Option<u64>,
    /// The smaller of the total and the cgroup limit, bytes.
    pub usable_bytes: Option<u64>,
    /// Swap space, bytes; 0 is none.
    pub swap_bytes: Option<u64>,
    /// Mode of transparent huge pages (`always`, `madvise`, `never`).
    pub transparent_huge_pages: Option<String>,
    /// Huge pages set aside.
    pub huge_pages: Option<u64>,
}

/// The file system and the device below a path.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Source of the mount, such as `/dev/vda1`.
    pub source: Option<String>,
    /// Block device with its own queue, such as `vda`.
    pub device: Option<String>,
    /// Model of the device.
    pub model: Option<String>,
    /// Devices below it (device mapper, RAID).
    pub below: Vec<String>,
    /// `ext4`, `xfs`, `tmpfs`.
    pub filesystem: Option<String>,
    /// Options of the mount and of the file system, comma separated.
    pub mount_options: Option<String>,
    /// Whether the device calls itself rotational. Virtual disks often do.
    pub rotational: Option<bool>,
    /// `write back` or `write through`.
    pub write_cache: Option<String>,
    /// Whether the device offers forced unit access.
    pub fua: Option<bool>,
    /// The scheduler in use.
    pub scheduler: Option<String>,
    /// Logical block size, bytes.
    pub logical_block_bytes: Option<u64>,
    /// Size of the device, bytes.
    pub size_bytes: Option<u64>,
    /// Free space for us, bytes.
    pub free_bytes: Option<u64>,
    /// Physical block size, bytes.
    pub physical_block_bytes: Option<u64>,
    /// Requests that its queue holds.
    pub requests_max: Option<u64>,
    /// Whether completions can be polled for.
    pub io_poll: Option<bool>,
    /// The largest range that it zeroes by itself, bytes; 0 is none.
    pub write_zeroes_bytes_max: Option<u64>,
    /// What it does, in place of what it says.
    pub measured: Option<DiskMeasured>,
}

/// Kernel, distribution, virtualisation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// `PRETTY_NAME` of os-release.
    pub distribution: Option<String>,
    /// Whether the processor reports a hypervisor.
    pub hypervisor: Option<bool>,
    /// Vendor and product of the machine by its firmware tables; tells virtual machines and clouds.
    pub product: Option<String>,
    /// Container runtime, where a mark of one was found.
    pub container: Option<String>,
    /// Clock source in use.
    pub clocksource: Option<String>,
    /// `kernel.io_uring_disabled`; 0 is allowed.
    pub io_uring_disabled: Option<u64>,
    /// What the boot loader told the kernel.
    pub boot_command_line: Option<String>,
    /// Security modules in use, comma separated.
    pub security_modules: Option<String>,
}

/// Whose machine it is; from its firmware tables, without asking the network.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cloud {
    /// `aws`, `gcp`, `azure`, `hetzner`; `None` on other machines and where nobody knows.
    pub provider: Option<String>,
    /// Such as `c5.2xlarge`.
    pub instance_type: Option<String>,
    /// US dollars, as given by the operator.
    pub price_per_hour: Option<f64>,
}

/// The interface of the default route and how it sends.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name.
    pub interface: Option<String>,
    /// Its driver.
    pub driver: Option<String>,
    /// Speed of the link.
    pub megabits_per_s: Option<u64>,
    /// Queues for receiving.
    pub queues: Option<u32>,
    /// Largest packet, bytes.
    pub mtu_bytes: Option<u64>,
    /// `cubic`, `bbr`.
    pub congestion_control: Option<String>,
    /// The default discipline of queues, such as `fq_codel`.
    pub queue_discipline: Option<String>,
    /// Microseconds from the generator to the relay and back, where it was measured.
    pub round_trip_us: Option<f64>,
}

/// Limits of the control groups; `None` is unlimited or unknown, [`Cgroup::version`] tells which.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroup {
    /// 1 or 2 (hybrid counts as 1); `None` when this process is in no known group.
    pub version: Option<u32>,
    /// Processors by quota.
    pub cpu_quota: Option<f64>,
    /// Memory limit, bytes.
    pub memory_max_bytes: Option<u64>,
}

/// Resource limits of this process; `None` is unknown, [`u64::MAX`] is unlimited.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Open files, soft.
    pub nofile_soft: Option<u64>,
    /// Open files, hard.
    pub nofile_hard: Option<u64>,
    /// Locked memory, soft, bytes.
    pub memlock_bytes: Option<u64>,
}

/// Whether time stolen by the host and pressure can be seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disturbance {
    /// Seconds that the host took from all processors since boot; `None` when not counted.
    pub steal_s: Option<f64>,
    /// Whether pressure stall information can be read.
    pub pressure_readable: Option<bool>,
}

impl Machine {
    /// Looks at this machine; `spool` is a path that exists, on the disk that the run writes to.
    pub fn probe(spool: &Path) -> Self {
        Self::probe_below(Path::new("/"), Some(spool))
    }

    /// The same with another root for `/proc` and `/sys`.
    pub fn probe_below(root: &Path, spool: Option<&Path>) -> Self {
        let cgroup = cgroup::probe(root);
        let mut memory = probe::memory(root);
        memory.usable_bytes = match (memory.total_bytes, cgroup.memory_max_bytes) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        };
        Self {
            cpu: probe::cpu(root, cgroup.cpu_quota),
            memory,
            disk: spool.and_then(|spool| disk::probe(root, spool)),
            system: probe::system(root),
            host: probe::host(root),
            cloud: cloud::probe(root),
            network: network::probe(root),
            limits: probe::limits(root),
            disturbance: probe::disturbance(root),
            cgroup,
        }
    }

    /// The tier in one word, such as `c8-m32-nvme-kvm-x86_64`: processors, GiB, kind of disk, kind of machine,
    /// architecture. What is unknown says so. Numbers are compared across machines by it, never across it.
    pub fn tier_key(&self, tier: &Tier) -> String {
        key::of(self, tier)
    }

    /// The tier of a program that is given the whole machine; 0 where unknown.
    pub fn tier(&self) -> Tier {
        let memory_bytes = self.memory.usable_bytes.unwrap_or(0);
        let memory_gib = memory_bytes as f64 / f64::from(1 << 30);
        Tier { cpus: self.cpu.usable.unwrap_or(0.0), memory_gib: (memory_gib * 10.0).round() / 10.0 }
    }
}
