//! Where it ran: processors, memory, disk, system and limits.
//!
//! It owns that part of `run.json` and the probing of it from `/proc` and `/sys`; two small programs are asked what those
//! do not say about the network. It refuses to guess: what nobody says is `null`. Flags are recorded as the kernel states them, although disks are
//! known to lie about themselves; the floor beside each number is what tells how the disk really behaves.

mod boot;
mod ceiling;
mod cgroup;
mod cloud;
mod disk;
mod key;
mod limits;
mod measured;
mod memory;
mod network;
pub(crate) mod numbers;
mod probe;
mod system;
mod topology;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use ceiling::{Ceiling, Resource};
pub use measured::{DiskMeasured, MEASURED_BYTES_MAX, MEASURED_SYNCS_MAX};

use crate::run::{Tier, TierSource};

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
    /// What it can do at most, for each size of message that was tried; empty is unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
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
    /// Lowest frequency of the first processor, MHz.
    pub mhz_min: Option<u64>,
    /// Frequency that the slowest processor ran at when it was looked at, MHz.
    pub mhz_seen_min: Option<f64>,
    /// Frequency that the fastest processor ran at when it was looked at, MHz.
    pub mhz_seen_max: Option<f64>,
    /// Whether frequencies above the nominal one are allowed.
    pub boost: Option<bool>,
    /// Whether two threads share a core.
    pub smt: Option<bool>,
    /// Family, as the kernel states it (x86).
    pub family: Option<u64>,
    /// Number of the model within the family (x86).
    pub model_number: Option<u64>,
    /// Stepping, as the kernel states it (x86).
    pub stepping: Option<u64>,
    /// Version of the microcode.
    pub microcode: Option<String>,
    /// Packages with an online processor.
    pub sockets: Option<u32>,
    /// Cores with an online processor, of all packages.
    pub cores: Option<u32>,
    /// Online processors that the first core makes.
    pub threads_per_core: Option<u32>,
    /// Caches that the first processor uses, the nearest first; empty is unknown.
    pub caches: Vec<Cache>,
    /// Nodes of memory.
    pub numa_nodes: Option<u32>,
    /// Each of those nodes; empty is unknown.
    pub numa: Vec<NumaNode>,
    /// Processors that this process may run on, as the kernel lists them (`0-3,8`).
    pub allowed: Option<String>,
    /// Vulnerabilities that cost something to guard against: `name: guard`, separated by semicolons.
    pub mitigations: Option<String>,
    /// Processors kept free of other work at boot; empty is none.
    pub isolated: Option<String>,
    /// Of the features that matter to mail (checksums, hashes, wide registers), those that it has.
    pub features: Vec<String>,
}

/// One cache of a processor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: Option<u32>,
    /// `data`, `instruction`, `unified`.
    pub kind: Option<String>,
    /// Its size, bytes.
    pub bytes: Option<u64>,
    /// Online processors that share it.
    pub shared_by: Option<u32>,
}

/// A node of memory and the processors near it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// Its processors, as the kernel lists them; empty is none.
    pub cpus: Option<String>,
    /// Its memory, bytes.
    pub memory_bytes: Option<u64>,
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
    /// How hard the kernel tries to make one on a fault (`always`, `defer`, `defer+madvise`, `madvise`, `never`).
    pub transparent_huge_pages_defrag: Option<String>,
    /// Size of a huge page set aside, bytes.
    pub huge_page_bytes: Option<u64>,
    /// Whether swap lies in compressed memory, in part at least; `None` without swap, too.
    pub swap_compressed: Option<bool>,
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
    /// What the boot loader told the kernel, as far as it bears on speed; the rest may name the machine and is left out.
    pub boot_command_line: Option<String>,
    /// Security modules in use, comma separated.
    pub security_modules: Option<String>,
    /// The label that a security module put on this process (`unconfined`, `docker-default (enforce)`).
    pub security_label: Option<String>,
    /// How this process's system calls are filtered: `none`, `strict`, `filter`.
    pub seccomp: Option<String>,
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
    /// Queues for sending.
    pub send_queues: Option<u32>,
    /// Receiving queues whose packets are passed on to other processors (RPS).
    pub steered_queues: Option<u32>,
    /// Sending queues with processors of their own (XPS).
    pub pinned_send_queues: Option<u32>,
    /// Entries of the table that steers a connection to the processor that reads it (RFS); 0 is off.
    pub flow_entries: Option<u64>,
    /// Packets that wait for the interface.
    pub send_queue_packets: Option<u64>,
    /// Nanoseconds for which received packets may be put together before they are passed on; 0 is not at all.
    pub receive_flush_ns: Option<u64>,
    /// What the interface does in the kernel's place, by ethtool's names; `None` where ethtool could not be asked.
    pub offloads: Option<Vec<String>>,
    /// Largest packet, bytes.
    pub mtu_bytes: Option<u64>,
    /// `cubic`, `bbr`.
    pub congestion_control: Option<String>,
    /// The default discipline of queues, such as `fq_codel`.
    pub queue_discipline: Option<String>,
    /// The discipline that the interface has; `None` where `tc` could not be asked.
    pub queue_discipline_used: Option<String>,
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
    /// Memory from which on it is taken back, bytes (version 2).
    pub memory_high_bytes: Option<u64>,
    /// Swap limit, bytes; in version 1 it includes the memory.
    pub swap_max_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
    /// Processors of the group, as the kernel lists them.
    pub cpuset: Option<String>,
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
    /// Locked memory, hard, bytes.
    pub memlock_hard_bytes: Option<u64>,
    /// Processes and threads of the user, soft.
    pub nproc_soft: Option<u64>,
    /// Processes and threads of the user, hard.
    pub nproc_hard: Option<u64>,
    /// Stack, soft, bytes.
    pub stack_bytes: Option<u64>,
    /// Address space, soft, bytes.
    pub address_space_bytes: Option<u64>,
    /// A file, soft, bytes.
    pub file_bytes: Option<u64>,
    /// A core dump, soft, bytes.
    pub core_bytes: Option<u64>,
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
        let mut machine = Self::probe_below(Path::new("/"), Some(spool));
        network::ask(&mut machine.network);
        machine
    }

    /// The same with another root for `/proc` and `/sys`, and without asking other programs.
    pub fn probe_below(root: &Path, spool: Option<&Path>) -> Self {
        let cgroup = cgroup::probe(root, "self");
        let mut memory = memory::probe(root);
        memory.usable_bytes = match (memory.total_bytes, cgroup.memory_max_bytes) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        };
        Self {
            cpu: probe::cpu(root, cgroup.cpu_quota),
            memory,
            disk: spool.and_then(|spool| disk::probe(root, spool)),
            system: system::probe(root),
            host: probe::host(root),
            cloud: cloud::probe(root),
            network: network::probe(root),
            limits: limits::probe(root),
            disturbance: probe::disturbance(root),
            cgroup,
            ceilings: Vec::new(),
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

    /// Whether that tier is the machine, or a part of it that this process was given.
    pub fn tier_source(&self) -> TierSource {
        let (Some(usable), Some(online)) = (self.cpu.usable, self.cpu.online) else {
            return TierSource::Unknown;
        };
        let is_part = usable < f64::from(online) || self.memory.usable_bytes < self.memory.total_bytes;
        if is_part { TierSource::Cgroup } else { TierSource::Machine }
    }
}
