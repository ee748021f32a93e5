//! Processors, the host's hash and disturbance from `/proc` and `/sys`.
//!
//! It owns one function for each part of the record. It refuses nothing; what is missing stays unknown.

use std::path::Path;

use super::{Cpu, Disturbance, topology};
use crate::files;

/// Numbers of a kernel list that are looked at; Linux knows no machine with more processors.
const LIST_MAX: u32 = 8192;

pub(super) fn cpu(root: &Path, quota: Option<f64>) -> Cpu {
    let info = files::text(root, "/proc/cpuinfo").unwrap_or_default();
    let first = "/sys/devices/system/cpu/cpu0";
    let at = |path: &str| files::below(root, path);
    let status = files::text(root, "/proc/self/status").unwrap_or_default();
    let affinity = files::field(&status, "Cpus_allowed_list").and_then(list_count);
    let online = files::line(&at("/sys/devices/system/cpu/online")).and_then(|list| list_count(&list));
    let online =
        online.or_else(|| u32::try_from(info.matches("processor\t").count()).ok().filter(|n| *n > 0));
    let allowed = affinity.or(online).map(f64::from);
    let topology = topology::probe(root);
    Cpu {
        model: ["model name", "Model", "Hardware"].iter().find_map(|key| owned(files::field(&info, key))),
        architecture: architecture(root),
        online,
        usable: allowed.map(|cpus| quota.map_or(cpus, |quota| quota.min(cpus))),
        governor: files::line(&at(&format!("{first}/cpufreq/scaling_governor"))),
        mhz_max: files::number(&at(&format!("{first}/cpufreq/cpuinfo_max_freq"))).map(|khz| khz / 1000),
        mhz_min: files::number(&at(&format!("{first}/cpufreq/cpuinfo_min_freq"))).map(|khz| khz / 1000),
        mhz_seen_min: frequencies(&info).min_by(f64::total_cmp),
        mhz_seen_max: frequencies(&info).max_by(f64::total_cmp),
        boost: boost(root),
        smt: files::number(&at("/sys/devices/system/cpu/smt/active")).map(|active| active != 0),
        family: files::field(&info, "cpu family").and_then(|family| family.parse().ok()),
        model_number: files::field(&info, "model").and_then(|number| number.parse().ok()),
        stepping: files::field(&info, "stepping").and_then(|stepping| stepping.parse().ok()),
        microcode: owned(files::field(&info, "microcode")),
        sockets: topology.sockets,
        cores: topology.cores,
        threads_per_core: topology.threads_per_core,
        caches: topology::caches(root),
        numa_nodes: files::line(&at("/sys/devices/system/node/online")).and_then(|list| list_count(&list)),
        numa: topology::numa(root),
        allowed: owned(files::field(&status, "Cpus_allowed_list")),
        mitigations: mitigations(&at("/sys/devices/system/cpu/vulnerabilities")),
        isolated: files::text(root, "/sys/devices/system/cpu/isolated").map(|list| list.trim().to_owned()),
        features: features(&info),
    }
}

/// What each processor ran at just now (x86).
fn frequencies(info: &str) -> impl Iterator<Item = f64> {
    let of_line = |line: &str| line.strip_prefix("cpu MHz")?.split_once(':')?.1.trim().parse::<f64>().ok();
    info.lines().filter_map(of_line).filter(|mhz| mhz.is_finite() && *mhz >= 0.0)
}

/// By the switch of all drivers but one, and by the opposite switch of that one.
fn boost(root: &Path) -> Option<bool> {
    let number = |path: &str| files::number(&files::below(root, path));
    let of_most = number("/sys/devices/system/cpu/cpufreq/boost").map(|on| on != 0);
    of_most.or_else(|| number("/sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| off == 0))
}

/// What makes checksums, hashes and copies fast, by the kernel's names on x86 and ARM.
const FEATURES: [&str; 11] =
    ["sse4_2", "pclmulqdq", "avx2", "avx512f", "sha_ni", "vaes", "aes", "erms", "crc32", "pmull", "sha2"];

fn features(info: &str) -> Vec<String> {
    let all = files::field(info, "flags").or_else(|| files::field(info, "Features")).unwrap_or_default();
    all.split(' ').filter(|name| FEATURES.contains(name)).map(str::to_owned).collect()
}

/// What the kernel guards against; what does not concern this processor is left out.
fn mitigations(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut guards: Vec<String> = entries
        .filter_map(|entry| Some((entry.file_name(), files::line(&entry.path())?)))
        .filter(|(_, guard)| guard != "Not affected")
        .map(|(name, guard)| format!("{}: {guard}", name.to_string_lossy()))
        .collect();
    guards.sort_unstable();
    Some(guards.join("; "))
}

/// Sixty-four bits of a hash of the machine's id: equal on one host, and it does not give the id away.
pub(super) fn host(root: &Path) -> Option<String> {
    let id = files::line(&files::below(root, "/etc/machine-id"))?;
    // FNV-1a over the id and a word of ours, so that the id's other hashes do not match it.
    let bytes = b"kumod-lab:".iter().chain(id.as_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(format!("{hash:016x}"))
}

/// Of this program; another root shows another machine, whose architecture it need not be.
fn architecture(root: &Path) -> Option<String> {
    let own = || (root == Path::new("/")).then(|| std::env::consts::ARCH.to_owned());
    files::line(&files::below(root, "/proc/sys/kernel/arch")).or_else(own)
}

pub(super) fn disturbance(root: &Path) -> Disturbance {
    let stat = files::text(root, "/proc/stat");
    // proc(5): user nice system idle iowait irq softirq steal.
    let steal = stat.as_deref().and_then(|stat| {
        let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        all.split_ascii_whitespace().nth(7)?.parse::<u64>().ok()
    });
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    Disturbance {
        steal_s: steal.map(|ticks| ticks as f64 / ticks_per_second),
        pressure_readable: stat.map(|_| files::text(root, "/proc/pressure/cpu").is_some()),
    }
}

fn owned(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The word in brackets: `always [madvise] never` is `madvise`.
pub(super) fn chosen(choices: &str) -> Option<String> {
    let (_, rest) = choices.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// The numbers of a kernel list such as `0-3,8`; nothing when it is no list or names more than [`LIST_MAX`].
pub(super) fn list(list: &str) -> Vec<u32> {
    if list_count(list).is_none_or(|count| count > LIST_MAX) {
        return Vec::new();
    }
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// How many numbers a kernel list such as `0-3,8` names; `None` when it is no list.
pub(super) fn list_count(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        for (list, count) in [("0", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7\n", Some(5))] {
            assert_eq!(list_count(list), count, "{list}");
        }
        assert_eq!(list("0-1,4,6-7\n"), [0, 1, 4, 6, 7]);
        assert!(list("0-4294967294").is_empty());
        for list in ["", "a", "3-1", "0-4294967295", "1,,2"] {
            assert_eq!(list_count(list), None, "{list}");
        }
    }

    #[test]
    fn the_word_in_brackets_is_chosen() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("none"), None);
        assert_eq!(chosen("[none"), None);
    }
}
