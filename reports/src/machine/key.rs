//! A tier in one word.
//!
//! It owns the parts and their order. It refuses to guess: an unknown part says `unknown`.

use super::{Disk, Machine};
use crate::run::Tier;

const UNKNOWN: &str = "unknown";

pub(super) fn of(machine: &Machine, tier: &Tier) -> String {
    let cpus = size('c', tier.cpus);
    let memory = size('m', tier.memory_gib);
    let disk = machine.disk.as_ref().map_or(UNKNOWN, disk_class);
    let kind = match machine.system.hypervisor {
        _ if machine.system.container.is_some() => "container",
        Some(true) => "vm",
        Some(false) => "metal",
        None => UNKNOWN,
    };
    let architecture = machine.cpu.architecture.as_deref().unwrap_or(UNKNOWN);
    format!("{cpus}-{memory}-{disk}-{kind}-{architecture}")
}

/// `c8`, `c0.5`; 0 is unknown. Memory is never a whole number of GiB, because firmware keeps some of it.
fn size(letter: char, amount: f64) -> String {
    if amount <= 0.0 {
        return format!("{letter}-{UNKNOWN}");
    }
    let rounded = if amount < 4.0 { (amount * 10.0).round() / 10.0 } else { amount.round() };
    format!("{letter}{rounded}")
}

/// By the driver's name, because flags such as `rotational` lie.
fn disk_class(disk: &Disk) -> &'static str {
    if disk.filesystem.as_deref() == Some("tmpfs") {
        return "memory";
    }
    let device = disk.device.as_deref().unwrap_or("");
    let classes = [
        ("nvme", "nvme"),
        ("vd", "virtio"),
        ("xvd", "xen"),
        ("sd", "scsi"),
        ("dm-", "mapped"),
        ("md", "raid"),
    ];
    classes.iter().find(|(prefix, _)| device.starts_with(prefix)).map_or(UNKNOWN, |(_, class)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown_parts() {
        let tier = Tier { cpus: 0.5, memory_gib: 1.0 };
        assert_eq!(of(&Machine::default(), &tier), "c0.5-m1-unknown-unknown-unknown");
        let mut machine = Machine { disk: Some(Disk::default()), ..Machine::default() };
        machine.system.hypervisor = Some(true);
        machine.cpu.architecture = Some("x86_64".into());
        machine.disk = Some(Disk { device: Some("nvme0n1".into()), ..Disk::default() });
        let tier = Tier { cpus: 8.0, memory_gib: 31.4 };
        assert_eq!(of(&machine, &tier), "c8-m31-nvme-vm-x86_64");
        assert!(of(&machine, &Tier::default()).starts_with("c-unknown-m-unknown-nvme"));
    }
}
