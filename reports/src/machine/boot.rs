//! What the boot loader told the kernel, as far as it bears on speed.
//!
//! It owns the list of parameters that are kept. It refuses all others, because a command line also names disks, hosts,
//! keys and addresses, and a record can be published.

/// Parameters of the kernel that change what a measurement finds. A name with a star stands for all that begin so.
const KEPT: &[&str] = &[
    "amd_iommu",
    "amd_pstate",
    "audit",
    "cgroup*",
    "clocksource",
    "cpufreq*",
    "cpuidle*",
    "default_hugepagesz",
    "elevator",
    "haltpoll*",
    "hugepages",
    "hugepagesz",
    "idle",
    "intel_idle*",
    "intel_iommu",
    "intel_pstate",
    "iommu*",
    "irqaffinity",
    "isolcpus",
    "kvm*",
    "lsm",
    "maxcpus",
    "mce",
    "mem",
    "mitigations",
    "nohz*",
    "nosmt",
    "notsc",
    "nr_cpus",
    "numa*",
    "nvme*",
    "pci",
    "pcie_aspm*",
    "preempt",
    "processor.*",
    "psi",
    "random.trust_cpu",
    "rcu*",
    "retbleed",
    "security",
    "skew_tick",
    "spec*",
    "swapaccount",
    "swiotlb",
    "systemd.unified_cgroup_hierarchy",
    "transparent_hugepage",
    "tsc",
    "virtio*",
    "workqueue*",
    "zswap*",
];

/// The parameters that are kept, as they stood, one space between them. What follows ` -- ` is for the first process.
pub(super) fn about_speed(command_line: &str) -> String {
    let words = command_line.split_ascii_whitespace().take_while(|word| *word != "--");
    let kept = words.filter(|word| {
        let name = word.split_once('=').map_or(*word, |(name, _)| name);
        KEPT.iter().any(|kept| kept.strip_suffix('*').map_or(name == *kept, |start| name.starts_with(start)))
    });
    kept.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::about_speed;

    #[test]
    fn names_of_machines_and_disks_are_left_out() {
        let line = "BOOT_IMAGE=/vmlinuz root=UUID=6a1 mitigations=off ip=192.0.2.1::host.example isolcpus=2,3 \
                    intel_idle.max_cstate=1 quiet memtest=4 -- --token mitigations=auto\n";
        assert_eq!(about_speed(line), "mitigations=off isolcpus=2,3 intel_idle.max_cstate=1");
        assert_eq!(about_speed(""), "");
    }
}
