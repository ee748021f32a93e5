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
    facts.extend([system(machine), limits(machine), software(record)]);
    facts
}

fn processor(cpu: &Cpu) -> Facts {
    let rows = vec![
        ("Model", known(cpu.model.clone())),
        ("Architecture", known(cpu.architecture.clone())),
        ("Online", known(cpu.online.map(|cpus| format!("{cpus} logical")))),
        ("Usable here", known(cpu.usable.map(format::short))),
        ("SMT", yes_no(cpu.smt)),
        ("Governor", known(cpu.governor.clone())),
    ];
    Facts { title: "Processor", rows }
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
    if !disk.below.is_empty() {
        rows.insert(1, ("Made of", disk.below.join(", ")));
    }
    Facts { title: "Spool disk", rows }
}

fn system(machine: &Machine) -> Facts {
    let system = &machine.system;
    let mut rows = vec![
        ("Distribution", known(system.distribution.clone())),
        ("Kernel", known(system.kernel.clone())),
        ("Virtual machine", yes_no(system.hypervisor)),
        ("Product", known(system.product.clone())),
        ("Clock source", known(system.clocksource.clone())),
    ];
    let cloud = &machine.cloud;
    let cloud_words = [cloud.provider.clone(), cloud.instance_type.clone()];
    let cloud_words: Vec<String> = cloud_words.into_iter().flatten().collect();
    rows.push(("Cloud", known(Some(cloud_words.join(" ")))));
    rows.extend(cloud.price_per_hour.map(|price| ("Price", format!("${} an hour", format::short(price)))));
    rows.push(("Network", known(machine.network.interface.clone().map(|name| network(&name, machine)))));
    rows.extend(system.container.clone().map(|container| ("Container", container)));
    Facts { title: "System", rows }
}

fn network(name: &str, machine: &Machine) -> String {
    let network = &machine.network;
    let speed = network.megabits_per_s.map(|speed| format!("{} Mbit/s", format::count(speed)));
    let mtu = network.mtu_bytes.map(|bytes| format!("MTU {bytes}"));
    let parts =
        [Some(name.to_owned()), network.driver.clone(), speed, mtu, network.congestion_control.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
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
        ("Locked memory", limit(limits.memlock_bytes, format::bytes)),
        ("Control groups", known(cgroup.version.map(|version| format!("version {version}")))),
        ("CPU quota", group(cgroup.cpu_quota.map(format::short))),
        ("Memory limit", group(cgroup.memory_max_bytes.map(format::bytes))),
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
        ("Allocator", known(software.allocator.clone())),
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
