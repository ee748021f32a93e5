//! The machine, the software and tuner's findings as rows of words.
//!
//! It owns their wording. It refuses to hide what is unknown: it says so.

use serde_json::Value;

use super::format;
use crate::machine::{Cpu, Disk, Machine};
use crate::run::Record;

const UNKNOWN: &str = "unknown";

/// Facts under one heading.
pub(super) struct Facts {
    pub(super) title: &'static str,
    pub(super) rows: Vec<(&'static str, String)>,
}

/// One finding of tuner.
pub(super) struct Finding {
    pub(super) key: String,
    pub(super) current: String,
    pub(super) wanted: String,
    pub(super) verdict: String,
    /// What the setting does for mail.
    pub(super) why: String,
    /// What to change, where something should be changed.
    pub(super) remedy: Option<String>,
    /// Whether it asks for a change; a class of the style sheet.
    pub(super) class: &'static str,
}

fn known(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned())
}

fn yes_no(flag: Option<bool>) -> String {
    known(flag.map(|flag| if flag { "yes" } else { "no" }.to_owned()))
}

fn limit(limit: Option<u64>, shown: fn(u64) -> String) -> String {
    known(limit.map(|limit| if limit == u64::MAX { "unlimited".to_owned() } else { shown(limit) }))
}

/// Everything about the place and the programs.
pub(super) fn all(record: &Record) -> Vec<Facts> {
    let machine = &record.machine;
    let mut facts = vec![processor(&machine.cpu), memory(machine)];
    facts.push(
        machine
            .disk
            .as_ref()
            .map_or_else(|| Facts { title: "Spool disk", rows: vec![("Device", UNKNOWN.to_owned())] }, disk),
    );
    facts.extend([network(machine), system(machine), limits(machine), software(record)]);
    facts
}

fn processor(cpu: &Cpu) -> Facts {
    let rows = vec![
        ("Model", known(cpu.model.clone())),
        ("Architecture", known(cpu.architecture.clone())),
        ("Online", known(cpu.online.map(|cpus| format!("{cpus} logical")))),
        ("Usable here", known(cpu.usable.map(format::short))),
        ("Made of", known(made_of(cpu))),
        ("Caches", known(Some(caches(cpu)))),
        ("Memory nodes", known(cpu.numa_nodes.map(|nodes| nodes.to_string()))),
        ("SMT", yes_no(cpu.smt)),
        ("Frequency", known(frequency(cpu))),
        ("Governor", known(cpu.governor.clone())),
        ("Boost", yes_no(cpu.boost)),
    ];
    Facts { title: "Processor", rows }
}

/// `1 socket, 4 cores, 2 threads each`.
fn made_of(cpu: &Cpu) -> Option<String> {
    let count = |number: u32, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let (sockets, cores, threads) = (cpu.sockets?, cpu.cores?, cpu.threads_per_core?);
    Some(format!("{}, {}, {} each", count(sockets, "socket"), count(cores, "core"), count(threads, "thread")))
}

/// `L1 data 48.0 KiB, L3 33.0 MiB for 8`.
fn caches(cpu: &Cpu) -> String {
    let words = cpu.caches.iter().filter_map(|cache| {
        let kind = cache.kind.as_deref().filter(|kind| *kind != "unified").map(|kind| format!(" {kind}"));
        let shared = cache.shared_by.filter(|cpus| *cpus > 1).map(|cpus| format!(" for {cpus}"));
        let (kind, shared) = (kind.unwrap_or_default(), shared.unwrap_or_default());
        Some(format!("L{}{kind} {}{shared}", cache.level?, format::bytes(cache.bytes?)))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What was seen, and the bounds.
fn frequency(cpu: &Cpu) -> Option<String> {
    let seen = cpu.mhz_seen_min.zip(cpu.mhz_seen_max).map(|(least, most)| {
        let (least, most) = (format::whole(least), format::whole(most));
        if least == most { format!("{least} MHz") } else { format!("{least} to {most} MHz") }
    });
    let bounds = cpu.mhz_min.zip(cpu.mhz_max).map(|(least, most)| format!("{least} to {most} MHz allowed"));
    let words: Vec<String> = [seen, bounds].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn memory(machine: &Machine) -> Facts {
    let memory = &machine.memory;
    let rows = vec![
        ("Total", known(memory.total_bytes.map(format::bytes))),
        ("Usable here", known(memory.usable_bytes.map(format::bytes))),
        ("Available at start", known(memory.available_bytes.map(format::bytes))),
        (
            "Swap",
            known(memory.swap_bytes.map(
                |bytes| {
                    if bytes == 0 { "none".into() } else { format::bytes(bytes) }
                },
            )),
        ),
        ("Huge pages", known(memory.transparent_huge_pages.clone())),
        ("Made on a fault", known(memory.transparent_huge_pages_defrag.clone())),
    ];
    Facts { title: "Memory", rows }
}

fn disk(disk: &Disk) -> Facts {
    let device = disk.device.clone().map(|device| {
        let size = disk.size_bytes.map(|bytes| format!(", {}", format::bytes(bytes)));
        let model = disk.model.as_ref().map(|model| format!(", {model}"));
        format!("{device}{}{}", model.unwrap_or_default(), size.unwrap_or_default())
    });
    let cache = disk.write_cache.clone().map(|cache| {
        let fua = disk.fua.map(|fua| if fua { ", FUA" } else { ", no FUA" });
        format!("{cache}{}", fua.unwrap_or_default())
    });
    let mut rows = vec![
        ("Device", known(device)),
        ("File system", known(disk.filesystem.clone())),
        ("Mounted with", known(disk.mount_options.clone().map(|options| options.replace(',', ", ")))),
        ("Write cache", known(cache)),
        ("Rotational, it says", yes_no(disk.rotational)),
        ("Scheduler", known(disk.scheduler.clone())),
    ];
    rows.extend(disk.measured.map(|measured| {
        let rate = format::count(format::whole(measured.syncs_per_s));
        let (p50, p99) = (format::latency(measured.sync_p50_us), format::latency(measured.sync_p99_us));
        ("4 KiB synced", format!("{rate} a second, p50 {p50}, p99 {p99}, measured"))
    }));
    let in_order = disk.measured.and_then(|measured| measured.sequential_bytes_per_s);
    rows.extend(
        in_order
            .map(|bytes| ("In order", format!("{} a second, measured", format::bytes(format::whole(bytes))))),
    );
    if !disk.below.is_empty() {
        rows.insert(1, ("Made of", disk.below.join(", ")));
    }
    Facts { title: "Spool disk", rows }
}

fn system(machine: &Machine) -> Facts {
    let system = &machine.system;
    let boot = system.boot_command_line.clone();
    let mut rows = vec![
        ("Distribution", known(system.distribution.clone())),
        ("Kernel", known(system.kernel.clone())),
        (
            "Booted with",
            known(boot.map(|line| if line.is_empty() { "nothing about speed".into() } else { line })),
        ),
        ("Virtual machine", yes_no(system.hypervisor)),
        ("Product", known(system.product.clone())),
        ("Clock source", known(system.clocksource.clone())),
        ("Security modules", known(system.security_modules.clone())),
        ("System call filter", known(system.seccomp.clone())),
    ];
    let cloud = &machine.cloud;
    let cloud_words = [cloud.provider.clone(), cloud.instance_type.clone()];
    let cloud_words: Vec<String> = cloud_words.into_iter().flatten().collect();
    rows.push(("Cloud", known(Some(cloud_words.join(" ")))));
    rows.push((
        "Price",
        known(cloud.price_per_hour.map(|price| format!("${} an hour", format::short(price)))),
    ));
    rows.extend(system.container.clone().map(|container| ("Container", container)));
    Facts { title: "System", rows }
}

fn network(machine: &Machine) -> Facts {
    let network = &machine.network;
    let speed = network.megabits_per_s.map(|speed| format!("{} Mbit/s", format::count(speed)));
    let mtu = network.mtu_bytes.map(|bytes| format!("MTU {bytes}"));
    let parts = [network.interface.clone(), network.driver.clone(), speed, mtu];
    let queues = network.queues.map(|receiving| {
        let steered = network.steered_queues.filter(|queues| *queues > 0);
        let steered = steered.map(|queues| format!(" ({queues} steered)")).unwrap_or_default();
        let sending = network.send_queues.map(|queues| format!(", {queues} sending")).unwrap_or_default();
        format!("{receiving} receiving{steered}{sending}")
    });
    let offloads = network.offloads.as_ref().map(|names| match names.len() {
        0 => "none".to_owned(),
        _ => names.join(", "),
    });
    let discipline = network.queue_discipline_used.clone().or_else(|| network.queue_discipline.clone());
    let rows = vec![
        ("Way out", known(Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", ")))),
        ("Queues", known(queues)),
        ("Queue discipline", known(discipline)),
        ("Congestion control", known(network.congestion_control.clone())),
        ("Offloads", known(offloads)),
        (
            "Round trip",
            known(
                network
                    .round_trip_us
                    .map(|us| format!("{} between generator and relay", format::latency(us))),
            ),
        ),
    ];
    Facts { title: "Network", rows }
}

fn limits(machine: &Machine) -> Facts {
    let (limits, cgroup) = (&machine.limits, &machine.cgroup);
    // Without a version nobody knows whether there is a limit.
    let group = |limit: Option<String>| match cgroup.version {
        None => UNKNOWN.to_owned(),
        Some(_) => limit.unwrap_or_else(|| "unlimited".to_owned()),
    };
    let rows = vec![
        ("Open files, soft", limit(limits.nofile_soft, format::count)),
        ("Open files, hard", limit(limits.nofile_hard, format::count)),
        ("Processes", limit(limits.nproc_soft, format::count)),
        ("Locked memory", limit(limits.memlock_bytes, format::bytes)),
        ("Control groups", known(cgroup.version.map(|version| format!("version {version}")))),
        ("CPU quota", group(cgroup.cpu_quota.map(format::short))),
        ("Memory limit", group(cgroup.memory_max_bytes.map(format::bytes))),
        ("Tasks limit", group(cgroup.pids_max.map(format::count))),
        ("Allowed CPUs", known(cgroup.cpuset.clone().or_else(|| machine.cpu.allowed.clone()))),
        ("Stolen since boot", known(machine.disturbance.steal_s.map(format::seconds))),
    ];
    Facts { title: "Limits and disturbance", rows }
}

fn software(record: &Record) -> Facts {
    let software = &record.software;
    let commit = software.git_commit.as_ref().map(|commit| {
        let short: String = commit.chars().take(12).collect();
        let dirty = if software.git_dirty == Some(true) { ", with changes" } else { "" };
        format!("{short}{dirty}")
    });
    let crates: Vec<String> =
        software.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let rows = vec![
        ("Commit", known(commit)),
        ("Compiler", known(software.rustc.clone())),
        ("Profile", known(software.profile.clone())),
        ("Target CPU", known(software.target_cpu.clone())),
        ("Link-time optimisation", known(software.link_time_optimization.clone())),
        ("Allocator", known(software.allocator.clone())),
        ("TLS", known(software.tls.clone())),
        ("Configuration", known(software.config_hash.clone())),
        ("Crates", known(Some(crates.join(", ")))),
    ];
    Facts { title: "Software", rows }
}

/// tuner's findings, those that ask for a change first. Objects of an unknown shape are shown as they are.
pub(super) fn findings(record: &Record) -> Vec<Finding> {
    let mut findings: Vec<Finding> = record.tuner.iter().map(finding).collect();
    findings.sort_by_key(|finding| finding.class.is_empty());
    findings
}

fn finding(value: &Value) -> Finding {
    let text = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        None | Some(Value::Null) => None,
        Some(other) => Some(other.to_string()),
    };
    let Some(key) = text("key").or_else(|| text("name")) else {
        let current = value.to_string();
        return Finding {
            key: format::NOTHING.into(),
            current,
            wanted: String::new(),
            verdict: String::new(),
            why: String::new(),
            remedy: None,
            class: "",
        };
    };
    let verdict = text("verdict").or_else(|| text("status")).unwrap_or_default();
    let class = if ["low", "high", "differs", "blocked"].contains(&verdict.as_str()) { "change" } else { "" };
    let remedy = text("remedy").filter(|_| !class.is_empty());

    Finding {
        key,
        current: text("current").unwrap_or_default(),
        wanted: text("wanted").unwrap_or_default(),
        verdict,
        why: text("why").unwrap_or_default(),
        remedy,
        class,
    }
}
