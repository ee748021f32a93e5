//! Every measured number of a machine's record with the path of its field, for the check that none is negative.
//!
//! It owns that list. Counts are unsigned by type and need no check. It refuses nothing itself; who reads a record does.

use super::Machine;

/// Paths as they stand below `machine`.
pub(crate) fn of(machine: &Machine) -> Vec<(String, f64)> {
    let single = [
        ("cpu.usable", machine.cpu.usable),
        ("cpu.mhz_seen_min", machine.cpu.mhz_seen_min),
        ("cpu.mhz_seen_max", machine.cpu.mhz_seen_max),
        ("cloud.price_per_hour", machine.cloud.price_per_hour),
        ("network.round_trip_us", machine.network.round_trip_us),
        ("cgroup.cpu_quota", machine.cgroup.cpu_quota),
        ("disturbance.steal_s", machine.disturbance.steal_s),
    ];
    let mut numbers: Vec<(String, f64)> =
        single.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if let Some(disk) = machine.disk.as_ref().and_then(|disk| disk.measured) {
        let measured = [
            ("syncs_per_s", Some(disk.syncs_per_s)),
            ("sync_p50_us", Some(disk.sync_p50_us)),
            ("sync_p99_us", Some(disk.sync_p99_us)),
            ("sequential_bytes_per_s", disk.sequential_bytes_per_s),
        ];
        let named = |(name, value): (&str, Option<f64>)| Some((format!("disk.measured.{name}"), value?));
        numbers.extend(measured.into_iter().filter_map(named));
    }
    for (index, ceiling) in machine.ceilings.iter().enumerate() {
        let each = ceiling.by_resource().map(|(resource, mmh)| (format!("{}_mmh", resource.name()), mmh));
        let all = each.into_iter().chain([("mmh".to_owned(), ceiling.mmh)]);
        numbers.extend(all.map(|(name, mmh)| (format!("ceilings[{index}].{name}"), mmh)));
    }
    numbers
}
