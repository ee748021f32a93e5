//! Comparisons drawn from the pools, and how many of them were wrong.
//!
//! It owns which runs are drawn and what counts as wrong. Drawing is seeded: the same pools and seed give the same shares. Pairs are
//! drawn in two ways: `neighbours` were measured one right after the other, as in a real comparison; `any` two runs may lie an hour
//! apart, which a comparison never does and which is harder.

use reports::compare::{Options, Verdict, compare};
use reports::results::Entry;
use reports::run::{Record, SCHEMA_VERSION};
use reports::stats::{Bootstrap, Random};
use serde::Serialize;

use super::pool::{Cost, Pools};
use crate::compare::{PAIRS_MAX, PAIRS_MORE};
use crate::error::{Error, Result};

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Comparisons of each kind.
    pub draws: u32,
    /// Pairs of the first verdict.
    pub pairs: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// How the intervals are drawn; the rules' own unless something else is studied.
    pub bootstrap: Bootstrap,
}

/// Which runs make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Partners {
    /// Measured one after the other.
    Neighbours,
    /// Any two.
    Any,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// The program with itself: a regression is a false alarm.
    Same,
    /// The program with the slower one: a regression is right.
    Planted,
}

/// How the comparisons of one kind ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shares {
    /// What was compared.
    pub question: Question,
    /// Which runs made a pair.
    pub partners: Partners,
    /// Comparisons.
    pub draws: u32,
    /// Part that ended as a regression.
    pub regression: f64,
    /// Part that ended as ok.
    pub ok: f64,
    /// Part that was given up, and so passed with a warning.
    pub undecided: f64,
    /// Part that was decided without more pairs.
    pub at_once: f64,
    /// Pairs that a comparison took on average.
    pub pairs_mean: f64,
}

/// Draws comparisons of every kind.
///
/// # Errors
/// [`Error::Operator`] when the pools have too few runs.
pub fn all(pools: &Pools, plan: &Plan) -> Result<Vec<Shares>> {
    let needed = 2 * PAIRS_MAX as usize;
    if pools.base.len() < needed || plan.pairs == 0 || plan.pairs > PAIRS_MAX as usize {
        return Err(Error::Operator(format!(
            "{} pairs in the pools and {} asked for at first; {needed} are needed in the pools, and 1 to {PAIRS_MAX} can be asked for",
            pools.base.len(),
            plan.pairs
        )));
    }
    let kinds = [Question::Same, Question::Planted].into_iter();
    let kinds = kinds.flat_map(|question| [(question, Partners::Neighbours), (question, Partners::Any)]);
    Ok(kinds.map(|(question, partners)| shares(pools, plan, question, partners)).collect())
}

fn shares(pools: &Pools, plan: &Plan, question: Question, partners: Partners) -> Shares {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let draw = |draw: u32| one(pools, plan, question, partners, draw);
    let outcomes: Vec<(Verdict, usize)> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || (0..plan.draws).skip(part).step_by(threads).map(draw).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    });
    let part = |is: &dyn Fn(&(Verdict, usize)) -> bool| {
        outcomes.iter().filter(|outcome| is(outcome)).count() as f64 / f64::from(plan.draws)
    };
    Shares {
        question,
        partners,
        draws: plan.draws,
        regression: part(&|(verdict, _)| *verdict == Verdict::Regression),
        ok: part(&|(verdict, _)| *verdict == Verdict::Ok),
        undecided: part(&|(verdict, _)| *verdict == Verdict::Undecided),
        at_once: part(&|(verdict, pairs)| *verdict != Verdict::Undecided && *pairs == plan.pairs),
        pairs_mean: outcomes.iter().map(|(_, pairs)| *pairs as f64).sum::<f64>() / f64::from(plan.draws),
    }
}

/// One comparison, with more pairs while it is undecided: its end, and the pairs that it took.
fn one(pools: &Pools, plan: &Plan, question: Question, partners: Partners, draw: u32) -> (Verdict, usize) {
    let seed = plan.seed ^ (u64::from(draw) << 20) ^ ((question as u64) << 60) ^ ((partners as u64) << 61);
    let pairs = drawn(pools, question, partners, &mut Random::new(seed));
    let template = template(pools);
    let entries = |side: fn(&(&Cost, &Cost)) -> Cost, count: usize| -> Vec<Entry> {
        let chosen = pairs.iter().take(count).enumerate();
        chosen.map(|(at, pair)| side(pair).entry(&template, at)).collect()
    };
    let options = Options { only_gates: true, bootstrap: plan.bootstrap, ..Options::default() };
    let mut count = plan.pairs;
    loop {
        let (base, head) = (entries(|pair| pair.0.clone(), count), entries(|pair| pair.1.clone(), count));
        let verdict = compare(&base, &head, &options).map_or(Verdict::Undecided, |found| found.verdict);
        if verdict != Verdict::Undecided || count >= PAIRS_MAX as usize {
            return (verdict, count);
        }
        count = (count + PAIRS_MORE as usize).min(PAIRS_MAX as usize);
    }
}

/// As many pairs as a comparison may take, none of the runs twice.
fn drawn<'p>(
    pools: &'p Pools,
    question: Question,
    partners: Partners,
    random: &mut Random,
) -> Vec<(&'p Cost, &'p Cost)> {
    let (base, planted) = (&pools.base, &pools.planted);
    let mut base_order: Vec<usize> = (0..base.len()).collect();
    let mut pairs: Vec<(&Cost, &Cost)> = match (question, partners) {
        (Question::Same, Partners::Neighbours) => base
            .as_chunks::<2>()
            .0
            .iter()
            // Which of the two came first must not matter.
            .map(|[one, other]| if random.below(2) == 0 { (one, other) } else { (other, one) })
            .collect(),
        (Question::Planted, Partners::Neighbours) => base.iter().zip(planted).collect(),
        (Question::Same, Partners::Any) => {
            random.shuffle(&mut base_order);
            base_order.as_chunks::<2>().0.iter().map(|[one, other]| (&base[*one], &base[*other])).collect()
        }
        (Question::Planted, Partners::Any) => {
            random.shuffle(&mut base_order);
            base_order.iter().map(|at| &base[*at]).zip(planted).collect()
        }
    };
    random.shuffle(&mut pairs);
    pairs.truncate(PAIRS_MAX as usize);
    pairs
}

fn template(pools: &Pools) -> Record {
    Record {
        schema_version: SCHEMA_VERSION,
        run_id: String::new(),
        suite: "gate".into(),
        started_utc: String::new(),
        finished_utc: None,
        command: String::new(),
        machine: pools.machine.clone(),
        software: pools.software.clone(),
        tuner: Vec::new(),
        runs: Vec::new(),
        skipped: Vec::new(),
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn pools(slowdown: f64, noise: f64) -> Pools {
        let mut random = Random::new(7);
        let mut cost = |pair: u32, factor: f64| {
            let noisy = |random: &mut Random| 1.0 + noise * (random.unit() + random.unit() - 1.0);
            Cost {
                pair,
                delivered: 100_000,
                elapsed_s: 10.0,
                body_bytes: 1000,
                kumod_cpu_s: 5.0 * factor * noisy(&mut random),
                sink_cpu_s: 1.0,
                traffic_gen_cpu_s: 1.0,
                counters: Default::default(),
            }
        };
        let base = (0..70).map(|pair| cost(pair, 1.0)).collect();
        let planted = (0..70).map(|pair| cost(pair, 1.0 + slowdown)).collect();
        let (machine, software) = (Machine::probe_below(Path::new("/nowhere"), None), Software::default());
        Pools {
            command: "lab".into(),
            machine,
            software,
            load_pairs: ["one".to_owned()].into(),
            disturbed_pairs: 0,
            base,
            planted,
        }
    }

    use std::path::Path;

    use reports::machine::Machine;
    use reports::software::Software;
    use reports::stats::Method;

    /// Few draws, so that a build without optimisation is done in seconds.
    const PLAN: Plan = Plan {
        draws: 2,
        pairs: 10,
        seed: 1,
        bootstrap: Bootstrap { resamples: 100, level: 0.95, seed: 1, method: Method::BiasCorrected },
    };

    #[test]
    fn what_is_slower_is_found_and_what_is_not_passes() {
        let shares = all(&pools(0.05, 0.01), &PLAN).unwrap();
        assert!(
            shares.iter().all(|share| match share.question {
                Question::Same => share.regression == 0.0 && share.ok == 1.0,
                Question::Planted => share.regression == 1.0,
            }),
            "{shares:?}"
        );
    }

    #[test]
    fn noise_that_hides_the_slowdown_shows_in_the_shares() {
        let shares = all(&pools(0.05, 0.6), &PLAN).unwrap();
        let planted = shares.iter().find(|share| share.question == Question::Planted).unwrap();
        assert!(
            planted.regression < 1.0 && planted.undecided > 0.0 && planted.pairs_mean > 10.0,
            "{planted:?}"
        );
    }

    #[test]
    fn small_pools_are_refused() {
        let mut small = pools(0.0, 0.01);
        small.base.truncate(20);
        assert!(all(&small, &PLAN).unwrap_err().to_string().contains("60 are needed"));
    }

    #[test]
    fn pools_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pools) = (folder.path().join("pools.json"), pools(0.05, 0.01));
        pools.write(&path).unwrap();
        let read = Pools::read(&path).unwrap();
        assert_eq!(read.base.len(), pools.base.len());
        assert_eq!(all(&read, &PLAN).unwrap(), all(&pools, &PLAN).unwrap());
    }
}
