//! Queue and dispatchers in simulated time: many queues, random servers, crashes, and a clock that is set.
//!
//! The schedule, the ready queues with their turns, the rates, the slots and the retry rule are kumod's own; what stands around them in
//! `outbound` and `store` with tasks, timers and a disk is played here by one loop over events, so that a seed gives the same run each
//! time. After every event the world is looked at (`checks`), and what was granted is compared with a second way of counting
//! (`reference`). Each rule is also broken on purpose, one at a time, to see that the look would have found it.
//!
//! `KUMOD_SIMULATION_SEED=n` runs one seed and tells what happened in it; `KUMOD_SIMULATION_SEEDS=n` runs so many.

#![allow(clippy::unwrap_used)]

mod checks;
mod dispatchers;
mod plan;
mod process;
mod random;
mod reference;
mod suspensions;
mod world;

use plan::Plan;
use world::{Report, World};

/// Seeds of an ordinary run, and those in which a broken rule has to show.
const SEEDS: u64 = 150;
const SEEDS_OF_BROKEN_RULES: u64 = 60;

/// What the simulated kumod does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A message that finds no place is put into the schedule and into the ready queue.
    KeepsBoth,
    /// The deletion is written before the attempt.
    DeletesFirst,
    /// Rates of messages are not asked for.
    IgnoresRates,
    /// Connections are opened without a slot.
    IgnoresSlots,
    /// A dispatcher that ends keeps its slots.
    KeepsSlots,
    /// A queue that was paused is not resumed.
    ForgetsPauses,
    /// A flow that runs low is not filled.
    ForgetsTheStore,
    /// Mail that is due earlier than any other does not wake the feeder.
    Oversleeps,
    /// A dispatcher that ends is not taken off.
    ForgetsTheDead,
    /// A retry is not scheduled.
    ForgetsRetries,
    /// Nobody looks for mail that is too old.
    ForgetsAges,
    /// What waited for a source is not looked after when the source is back.
    ForgetsTheSuspended,
    /// Mail leaves by a source that is suspended.
    SendsAllTheSame,
    /// A reply that never comes is waited for.
    WaitsForEver,
    /// A connection that was lost before the reply counts as a delivery.
    TakesSilenceForConsent,
}

fn run(seed: u64, broken: Broken) -> Report {
    World::new(Plan::of(seed), broken).run()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")))
}

#[test]
fn nothing_is_lost_no_limit_is_exceeded_and_nothing_waits_in_vain() {
    let one = number("KUMOD_SIMULATION_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("KUMOD_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut sum = Report::default();
    for seed in seeds {
        let report = run(seed, Broken::Nothing);
        if let Some(violation) = &report.violation {
            panic!(
                "seed {seed}: {violation}\nto see it again: KUMOD_SIMULATION_SEED={seed}\n{}",
                report.story()
            );
        }
        sum.add(&report);
    }
    eprintln!("{sum:?}");
    // What never happens is not tested.
    if one.is_none() {
        assert!(sum.crashes > 0 && sum.clock_steps > 0 && sum.expired > 0 && sum.pauses > 0, "{sum:?}");
        assert!(sum.suspensions > 0 && sum.stalls > 0 && sum.doubts > 0, "{sum:?}");
        assert!(sum.delivered > 10 * sum.delivered_twice && sum.delivered_twice > 0, "{sum:?}");
    }
}

/// A check that finds nothing in a kumod that does these things would find nothing in the real one.
#[test]
fn each_broken_rule_is_found() {
    for (broken, expected) in [
        (Broken::KeepsBoth, "two places"),
        (Broken::DeletesFirst, "lost"),
        (Broken::IgnoresRates, "rate"),
        (Broken::IgnoresSlots, "connections"),
        (Broken::KeepsSlots, "in vain"),
        (Broken::ForgetsPauses, "in vain"),
        (Broken::ForgetsTheStore, "in vain"),
        (Broken::Oversleeps, "in vain"),
        (Broken::ForgetsTheDead, "in vain"),
        (Broken::ForgetsRetries, "lost"),
        (Broken::ForgetsAges, "max_age"),
        (Broken::ForgetsTheSuspended, "in vain"),
        (Broken::SendsAllTheSame, "suspended"),
        (Broken::WaitsForEver, "in vain"),
        (Broken::TakesSilenceForConsent, "no server has it"),
    ] {
        let found = (0..SEEDS_OF_BROKEN_RULES).find_map(|seed| run(seed, broken).violation);
        let found =
            found.unwrap_or_else(|| panic!("{broken:?} was not noticed in {SEEDS_OF_BROKEN_RULES} seeds"));
        assert!(found.contains(expected), "{broken:?} was noticed as: {found}");
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let story = || run(7, Broken::Nothing).story();
    assert_eq!(story(), story());
}
