//! The series of a suite's measurements, once under each limit.
//!
//! It owns the order of tiers, the groups of each, and what the record says about them. A tier that fails does not keep the
//! next one from being measured; the first failure is the suite's. Where the kernel ended a program for want of memory, that is the
//! sentence in the record, and not that a connection was lost.

use std::path::Path;

use reports::machine::Machine;
use reports::run::{Kind, Run, Skipped, TierSource};

use super::plan::{Host, Plan, Planned};
use super::wanted::Wanted;
use crate::cgroup::cores::Cores;
use crate::cgroup::enter::Seat;
use crate::cgroup::{Account, Limiter, Place, remove_leftovers};
use crate::error::{Error, Result};
use crate::placement::Placement;
use crate::suite::Lab;

/// The tiers to measure, and the way to limit a program.
#[derive(Debug)]
pub(crate) struct Tiers {
    plan: Plan,
    limiter: Limiter,
}

impl Tiers {
    /// Looks at this machine and what it can be cut into; `None` where no tier was asked for. Makes nothing.
    ///
    /// # Errors
    /// [`Error::Operator`] for a list that makes no sense, [`Error::Unable`] where no tier fits or nothing can be limited.
    pub(crate) fn prepare(wanted: &[Wanted]) -> Result<Option<Self>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let root = Path::new("/");
        let machine = Machine::probe_below(root, None);
        let cores = Cores::allowed()?;
        let cpus = machine.cpu.usable.unwrap_or_else(|| f64::from(cores.count()));
        let plan = Plan::of(wanted, &Host { cores, cpus, memory_bytes: machine.memory.usable_bytes }, root)?;
        if let Some(refusal) = plan.refusal() {
            return Err(refusal);
        }
        Ok(Some(Self { plan, limiter: Limiter::probe(root)? }))
    }

    /// How many are measured.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.plan.tiers.len()).unwrap_or(u32::MAX)
    }

    /// Measures one after the other.
    ///
    /// # Errors
    /// The first failure, after all tiers had their turn; [`Error::Interrupted`] at once.
    pub(crate) fn measure(&self, lab: &mut Lab<'_>) -> Result<()> {
        for remark in remove_leftovers(Path::new("/"), &self.limiter.parents()) {
            lab.remark(remark);
        }
        for Skipped { tier, reason } in &self.plan.skipped {
            let wanted = Wanted { cpus: tier.cpus, memory_gib: tier.memory_gib };
            lab.progress.remark(&format!("{wanted} is skipped: {reason}"));
        }
        lab.record.skipped.extend(self.plan.skipped.iter().cloned());
        let mut first = Ok(());
        for tier in &self.plan.tiers {
            match self.one(tier, lab) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    let error = told(lab, tier, error);
                    first = first.and(Err(error));
                }
                Ok(()) => {}
            }
        }
        first
    }

    fn one(&self, tier: &Planned, lab: &mut Lab<'_>) -> Result<()> {
        let (name, executable) = (tier.wanted.to_string(), &lab.programs.lab);
        let relay = self.limiter.prepare(&name, &tier.limits, executable)?;
        let floor = self.limiter.prepare(&format!("{name}-floor"), &tier.limits, executable)?;
        lab.record.notes.push(layout(tier, self.limiter.name()));
        lab.tier = tier.wanted.tier();
        lab.placement = placement(tier, &relay, &floor, executable);
        lab.account = relay.account();
        // The programs are gone when this returns, so the groups can go at the end of this function.
        let result = lab.measure_series();
        let result = result.map_err(|error| {
            let accounts = [("kumod", lab.account.take()), ("the floor's relay", floor.account())];
            killed(tier, &accounts).unwrap_or(error)
        });
        lab.remove_spool();
        result
    }
}

fn placement(tier: &Planned, relay: &Place, floor: &Place, lab: &Path) -> Placement {
    let seat = Seat::at(&[], Some(&tier.load));
    Placement {
        relay: relay.before.clone(),
        floor_relay: floor.before.clone(),
        load: seat.before(lab),
        load_cores: Some(tier.load.clone()),
        limits: Some(tier.limits.clone()),
        shared_cores: tier.shared_cores,
        tier_source: TierSource::Cgroup,
        series: tier.wanted.to_string(),
    }
}

/// Who runs where, in one sentence.
fn layout(tier: &Planned, way: &str) -> String {
    let Planned { wanted, limits, load, shared_cores, split_core } = tier;
    let relay = &limits.cores;
    let beside = if *shared_cores {
        "shared with generator and sink".to_owned()
    } else if *split_core {
        format!("generator and sink on {load}, of which some are threads of the same core")
    } else {
        format!("generator and sink on {load}")
    };
    format!("Tier {wanted}: kumod on processors {relay} by {way}, {beside}.")
}

/// The error for a program that the kernel ended because its memory was used up; `None` where it ended none.
fn killed(tier: &Planned, accounts: &[(&str, Option<Account>)]) -> Option<Error> {
    let usages = accounts.iter().filter_map(|(name, account)| Some((*name, account.as_ref()?.usage())));
    let (name, usage) = usages.into_iter().find(|(_, usage)| usage.killed.is_some_and(|count| count > 0))?;
    let hits = usage
        .memory_limit_hits
        .filter(|hits| *hits > 0)
        .map_or_else(String::new, |hits| format!("; it was at its limit {hits} times"));
    let gib = tier.wanted.memory_gib;
    Some(Error::Unable(format!("the kernel ended {name}, because {gib} GiB of memory were not enough{hits}")))
}

/// Writes a failure into the record: beside the numbers of a tier, or in their place.
fn told(lab: &mut Lab<'_>, tier: &Planned, error: Error) -> Error {
    let wanted = tier.wanted;
    let reason = first_line(&error);
    lab.remark(format!("Tier {wanted} ended early: {reason}."));
    let is_measured = |run: &Run| run.kind == Kind::Kumod && run.tier == wanted.tier();
    if !lab.record.runs.iter().any(is_measured) {
        lab.record.skipped.push(Skipped { tier: wanted.tier(), reason });
    }
    error
}

/// An error without the last words of a program, which are in its log beside the record, and without who is to blame.
fn first_line(error: &Error) -> String {
    let text = match error {
        Error::Unable(text) | Error::Peer(text) | Error::Operator(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn planned(tier: &str, cores: &str) -> Planned {
        let host = Host { cores: cores.parse().unwrap(), cpus: 2.0, memory_bytes: None };
        let plan = Plan::of(&[tier.parse().unwrap()], &host, Path::new("/nowhere")).unwrap();
        plan.tiers[0].clone()
    }

    #[test]
    fn the_record_says_who_ran_where() {
        let expected = "Tier 0.5x1: kumod on processors 0 by a test, generator and sink on 1.";
        assert_eq!(layout(&planned("0.5x1", "0-1"), "a test"), expected);
        let expected = "Tier 2x4: kumod on processors 0-1 by a test, shared with generator and sink.";
        assert_eq!(layout(&planned("2x4", "0-1"), "a test"), expected);
        let split = Planned { split_core: true, ..planned("1x1", "0-1") };
        assert!(layout(&split, "a test").contains("threads of the same core"));
    }

    #[test]
    fn each_program_gets_its_place() {
        let place = |word: &str| Place { before: vec![word.into()], group: None };
        let found = placement(&planned("0.5x1", "2-3"), &place("a"), &place("b"), Path::new("/bin/lab"));
        assert_eq!((found.relay[0].to_str(), found.floor_relay[0].to_str()), (Some("a"), Some("b")));
        assert_eq!(found.load, crate::arguments!["/bin/lab", "enter", "--cores", "3", "--"]);
        assert_eq!((found.series.as_str(), found.shared_cores), ("0.5x1", false));
    }

    #[test]
    fn a_reason_is_one_line_without_blame() {
        let error = Error::Peer("kumod ended before it was ready; the end of its log:\nline\nline".into());
        assert_eq!(first_line(&error), "kumod ended before it was ready; the end of its log:");
    }
}
