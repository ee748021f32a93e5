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
        .map_or_else(String::new, |hits| format!("; it was at its limit {hits} times"));
    let gib = tier.wanted.memory_gib;
    Some(Error::Peer(format!("the kernel ended {name}, because {gib} GiB of memory were not enough{hits}")))
}

/// Writes a failure into the record: beside the numbers of a tier, or in their place.
fn told(lab: &mut Lab<'_>, tier: &Planned, error: Error) -> Error {
    let wanted = tier.wanted;
    lab.remark(format!("Tier {wanted} ended early: {error}."));
    let is_measured = |run: &Run| run.kind == Kind::Kumod && run.tier == wanted.tier();
    if !lab.record.runs.iter().any(is_measured) {
        lab.record.skipped.push(Skipped { tier: wanted.tier(), reason: error.to_string() });
    }
    error
}
