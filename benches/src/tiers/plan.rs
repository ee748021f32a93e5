//! Which tiers this machine can be cut into, and who gets which processors.
//!
//! It owns that arithmetic alone: it knows a machine by its processors and memory and makes nothing. The relay gets as many
//! processors as it takes to have its share, threads of one core together; generator and sink get the others. Where there are none
//! they share all with the relay, and the tier says so. It refuses a tier twice in one list.

use std::path::Path;

use reports::run::Skipped;

use super::wanted::Wanted;
use crate::cgroup::Limits;
use crate::cgroup::cores::Cores;
use crate::error::{Error, Result};

/// What the machine has for the laboratory.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// The processors that may be used.
    pub cores: Cores,
    /// Processors' worth of time: fewer than `cores` where a quota holds for the laboratory itself.
    pub cpus: f64,
    /// Memory, a limit on the laboratory included; `None` where the kernel does not say.
    pub memory_bytes: Option<u64>,
}

/// A tier that can be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What was asked for.
    pub wanted: Wanted,
    /// What the relay gets.
    pub limits: Limits,
    /// What generator and sink get; all that the machine has where they share.
    pub load: Cores,
    /// Whether relay, generator and sink share their processors.
    pub shared_cores: bool,
    /// Whether a core runs the relay on one of its threads and the load on another.
    pub split_core: bool,
}

/// The tiers of a list that can be measured, in its order, and those that cannot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To be measured.
    pub tiers: Vec<Planned>,
    /// Too large for this machine.
    pub skipped: Vec<Skipped>,
}

impl Plan {
    /// Divides `host` for each tier. `root` is where the kernel tells which processors are one core: `/` but in tests.
    ///
    /// # Errors
    /// [`Error::Operator`] where a tier is given twice.
    pub fn of(wanted: &[Wanted], host: &Host, root: &Path) -> Result<Self> {
        let mut plan = Self::default();
        for (at, tier) in wanted.iter().enumerate() {
            if wanted[..at].contains(tier) {
                return Err(Error::Operator(format!(
                    "tier {tier} is given twice; leave one of them out of --tiers"
                )));
            }
            match too_small(host, *tier) {
                Some(reason) => plan.skipped.push(Skipped { tier: tier.tier(), reason }),
                None => plan.tiers.push(divide(host, *tier, root)),
            }
        }
        Ok(plan)
    }

    /// Why nothing can be measured at all, if so.
    pub fn refusal(&self) -> Option<Error> {
        let reason = |skipped: &Skipped| {
            let tier = Wanted { cpus: skipped.tier.cpus, memory_gib: skipped.tier.memory_gib };
            format!("{tier} {}", skipped.reason)
        };
        let reasons: Vec<String> = self.skipped.iter().map(reason).collect();
        self.tiers
            .is_empty()
            .then(|| Error::Unable(format!("no tier of the list fits this machine: {}", reasons.join("; "))))
    }
}

/// `needs 16 CPUs, 2 here`.
fn too_small(host: &Host, tier: Wanted) -> Option<String> {
    // A quota read from the kernel may be a rounding below the number that was meant.
    let enough_cpus = tier.cpus <= host.cpus + 1e-6 && tier.cores() <= host.cores.count() as usize;
    let memory = host.memory_bytes.filter(|bytes| tier.memory_bytes() > *bytes);
    let cpus = || {
        let word = if tier.cpus == 1.0 { "CPU" } else { "CPUs" };
        format!("{} {word}, {} here", tier.cpus, rounded(host.cpus.min(f64::from(host.cores.count()))))
    };
    let gib = |bytes: u64| rounded(bytes as f64 / f64::from(1 << 30));
    let memory = || memory.map(|bytes| format!("{} GiB of memory, {} here", tier.memory_gib, gib(bytes)));
    let missing: Vec<String> = (!enough_cpus).then(cpus).into_iter().chain(memory()).collect();
    (!missing.is_empty()).then(|| format!("needs {}", missing.join(", and ")))
}

/// Downwards to a tenth, so that what is missing is not rounded away.
fn rounded(value: f64) -> f64 {
    (value * 10.0 + 1e-6).floor() / 10.0
}

fn divide(host: &Host, wanted: Wanted, root: &Path) -> Planned {
    let all = host.cores.by_core(root);
    let (relay, rest) = all.split_at(wanted.cores().min(all.len()));
    let relay: Cores = relay.iter().copied().collect();
    // Under a quota of the laboratory's own, processors without time on them are no processors.
    let spare = (host.cpus - wanted.cpus).max(0.0);
    let rest: Cores = rest.iter().copied().take_while(with_time(spare)).collect();
    let shared_cores = rest.count() == 0;
    let load = if shared_cores { host.cores.clone() } else { rest };
    let split_core = !shared_cores && relay.share_a_core_with(&load, root);
    let limits = Limits { cpus: wanted.cpus, cores: relay, memory_bytes: wanted.memory_bytes() };
    Planned { wanted, limits, load, shared_cores, split_core }
}

/// True for as many as can be busy for `cpus` processors' worth of time.
fn with_time(cpus: f64) -> impl FnMut(&usize) -> bool {
    let mut left = cpus + 1e-6;
    move |_| {
        left -= 1.0;
        left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn host(cores: &str, cpus: f64, gib: f64) -> Host {
        let memory = Wanted { cpus: 1.0, memory_gib: gib }.memory_bytes();
        Host { cores: cores.parse().unwrap(), cpus, memory_bytes: Some(memory) }
    }

    fn plan(list: &str, host: &Host) -> Plan {
        let wanted: Vec<Wanted> = list.split(',').map(|tier| tier.parse().unwrap()).collect();
        Plan::of(&wanted, host, Path::new("/nowhere")).unwrap()
    }

    proptest! {
        #[test]
        fn nobody_gets_what_is_not_there(
            cores in 1_usize..64, quota in 1_u32..700, gib in 1_u32..512,
            wanted in proptest::collection::vec((1_u32..900, 1_u32..600), 1..6),
        ) {
            let set: Cores = (0..cores).collect();
            let cpus = (f64::from(quota) / 10.0).min(cores as f64);
            let here = host(&set.to_string(), cpus, f64::from(gib));
            let mut wanted: Vec<Wanted> = wanted
                .into_iter()
                .map(|(tenths, gib)| Wanted { cpus: f64::from(tenths) / 10.0, memory_gib: f64::from(gib) })
                .collect();
            wanted.sort_by(|a, b| a.cpus.total_cmp(&b.cpus).then(a.memory_gib.total_cmp(&b.memory_gib)));
            wanted.dedup();
            let plan = Plan::of(&wanted, &here, Path::new("/nowhere")).unwrap();
            prop_assert_eq!(plan.tiers.len() + plan.skipped.len(), wanted.len());
            prop_assert!(plan.skipped.iter().all(|skipped| skipped.reason.contains(" here")));
            for tier in &plan.tiers {
                let Planned { wanted, limits, load, shared_cores, split_core } = tier;
                prop_assert!(wanted.cpus <= cpus + 1e-6 && limits.memory_bytes <= here.memory_bytes.unwrap());
                prop_assert!(f64::from(limits.cores.count()) >= wanted.cpus);
                prop_assert!(f64::from(limits.cores.count()) < wanted.cpus + 1.0);
                prop_assert!(!split_core && load.count() >= 1);
                let used: std::collections::BTreeSet<usize> =
                    limits.cores.by_core(Path::new("/nowhere")).into_iter().collect();
                let overlap = load.by_core(Path::new("/nowhere")).iter().any(|core| used.contains(core));
                prop_assert_eq!(overlap, *shared_cores);
                if !shared_cores {
                    prop_assert!(f64::from(load.count()) + wanted.cpus <= cpus + 1e-3);
                }
            }
        }
    }

    #[test]
    fn two_processors_leave_one_for_the_load_until_both_are_asked_for() {
        let plan = plan("0.5x1,1x2,2x4,16x64", &host("0-1", 2.0, 23.5));
        let told: Vec<_> = plan
            .tiers
            .iter()
            .map(|tier| (tier.limits.cores.to_string(), tier.load.to_string(), tier.shared_cores))
            .collect();
        let expected = [("0", "1", false), ("0", "1", false), ("0-1", "0-1", true)];
        assert_eq!(told, expected.map(|(relay, load, shared)| (relay.to_owned(), load.to_owned(), shared)));
        assert_eq!(plan.tiers[0].limits.cpus, 0.5);
        assert_eq!(plan.skipped[0].reason, "needs 16 CPUs, 2 here, and 64 GiB of memory, 23.5 here");
        assert!(plan.refusal().is_none());
    }

    #[test]
    fn a_list_of_giants_is_refused_with_every_reason() {
        let plan = plan("4x1,1x64", &host("0-1", 2.0, 23.5));
        let error = plan.refusal().unwrap();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.contains("4x1 needs 4 CPUs, 2 here; 1x64 needs 64 GiB of memory, 23.5 here"), "{text}");
    }

    #[test]
    fn a_quota_on_the_laboratory_counts() {
        // Eight processors to run on, and the time of one and a half.
        let plan = plan("1x1,0.5x1,2x1", &host("0-7", 1.5, 8.0));
        assert!(plan.tiers[0].shared_cores);
        assert_eq!((plan.tiers[1].shared_cores, plan.tiers[1].load.to_string()), (false, "1".to_owned()));
        assert_eq!(plan.skipped[0].reason, "needs 2 CPUs, 1.5 here");
    }

    #[test]
    fn threads_of_a_core_are_not_divided_without_a_word() {
        let root = tempfile::tempdir().unwrap();
        for cpu in 0..2 {
            let file = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            crate::cgroup::fake::write(root.path(), &file, "0-1\n");
        }
        let wanted = ["1x1".parse().unwrap()];
        let plan = Plan::of(&wanted, &host("0-1", 2.0, 8.0), root.path()).unwrap();
        assert!(plan.tiers[0].split_core && !plan.tiers[0].shared_cores);
    }

    #[test]
    fn a_tier_twice_is_an_error() {
        let wanted = ["1x1".parse().unwrap(), "1.0x1".parse().unwrap()];
        let error = Plan::of(&wanted, &host("0-1", 2.0, 8.0), Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("tier 1x1 is given twice"), "{error}");
    }
}
