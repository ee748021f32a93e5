//! What the rounds of a suite amount to: one run for each kind and body size, and how they relate.
//!
//! It owns three rules. A round that lost or damaged mail is shown before all others; of sound rounds the median is shown,
//! never the best. A rate of kumod counts as its own only where generator and sink alone reach three times as much. A ratio
//! is always between numbers of one suite. All of it is arithmetic on records; nothing here fails.

use reports::run::{Kind, LimitedBy, Run};

/// Generator and sink alone must reach this many times the measured rate.
pub const HEADROOM_MIN: f64 = 3.0;

/// The round that stands for all: the worst audit if any is unsound, else the median by delivered rate. With an even number of
/// rounds the lower of the two in the middle. Notes and counters of the result tell of the others.
pub fn representative(mut rounds: Vec<Run>) -> Option<Run> {
    rounds.sort_by(|left, right| left.mmh_delivered.total_cmp(&right.mmh_delivered));
    let rates: Vec<f64> = rounds.iter().map(|run| run.mmh_delivered).collect();
    let middle = rounds.len().checked_sub(1)? / 2;
    let harm = |run: &Run| run.lost + run.corrupted;
    let worst = (0..rounds.len()).max_by_key(|at| harm(&rounds[*at])).filter(|at| harm(&rounds[*at]) > 0);
    let duplicated: u64 = rounds.iter().map(|run| run.duplicated).sum();
    let mut run = rounds.swap_remove(worst.unwrap_or(middle));
    if worst.is_some() {
        run.notes.push("This round was chosen because it lost or damaged mail.".into());
    }
    if duplicated > run.duplicated {
        run.notes.push(format!("All rounds together delivered {duplicated} messages a second time."));
    }
    if rates.len() > 1 {
        run.notes.push(format!("Delivered MMH of all rounds: {}.", join(&rates)));
        run.counters.insert("rounds".into(), rates.len() as f64);
        run.counters.insert("mmh_delivered_min".into(), rates[0]);
        run.counters.insert("mmh_delivered_max".into(), rates[rates.len() - 1]);
    }
    Some(run)
}

fn join(rates: &[f64]) -> String {
    let words: Vec<String> = rates.iter().map(|rate| format!("{rate:.1}")).collect();
    words.join(", ")
}

/// Fills `floor_ratio`, `direct_ratio` and `limited_by` of the kumod runs from the floor and direct runs of the same body size and tier.
pub fn relate(runs: &mut [Run]) {
    let others: Vec<Run> = runs.iter().filter(|run| run.kind != Kind::Kumod).cloned().collect();
    // A part of the rate that was found is no rate of its own.
    let is_rate = |run: &&mut Run| run.kind == Kind::Kumod && run.load.is_none();
    for run in runs.iter_mut().filter(is_rate) {
        let of = |kind| others.iter().find(|other| other.kind == kind && is_beside(other, run));
        let (floor, direct) = (of(Kind::Floor), of(Kind::Direct));
        run.floor_ratio = floor.and_then(|floor| ratio(run.mmh_delivered, floor.mmh_delivered));
        run.direct_ratio = direct.and_then(|direct| ratio(direct.mmh_delivered, run.mmh_delivered));
        run.limited_by = run.direct_ratio.filter(|ratio| *ratio < HEADROOM_MIN).map(|_| dearer(run));
    }
}

/// Whether both were measured in one series, at one body size.
fn is_beside(other: &Run, run: &Run) -> bool {
    other.body_bytes == run.body_bytes && other.tier == run.tier
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Generator or sink, whichever spent more CPU on a message of this run.
fn dearer(run: &Run) -> LimitedBy {
    let cpu = |process: Option<reports::run::ProcessUse>| process.map_or(0.0, |process| process.cpu_s);
    let generator = cpu(run.processes.traffic_gen) / run.accepted.max(1) as f64;
    let sink = cpu(run.processes.sink) / run.delivered.max(1) as f64;
    if generator >= sink { LimitedBy::Generator } else { LimitedBy::Sink }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use reports::run::{ProcessUse, Processes};

    fn run(kind: Kind, mmh_delivered: f64) -> Run {
        Run { kind, body_bytes: 1000, mmh_delivered, accepted: 100, delivered: 100, ..Run::default() }
    }

    fn with_cpu(generator_s: f64, sink_s: f64) -> Processes {
        let cpu = |cpu_s| Some(ProcessUse { cpu_s, ..ProcessUse::default() });
        Processes { kumod: None, sink: cpu(sink_s), traffic_gen: cpu(generator_s) }
    }

    #[test]
    fn the_median_is_shown() {
        let shown = representative([9.0, 1.0, 5.0].map(|rate| run(Kind::Kumod, rate)).into()).unwrap();
        assert_eq!(shown.mmh_delivered, 5.0);
        assert_eq!(shown.counters["mmh_delivered_max"], 9.0);
        assert!(shown.notes[0].contains("1.0, 5.0, 9.0"));
        let shown = representative(vec![run(Kind::Floor, 2.0), run(Kind::Floor, 1.0)]).unwrap();
        assert_eq!(shown.mmh_delivered, 1.0);
        assert!(representative(Vec::new()).is_none());
    }

    #[test]
    fn a_loss_is_never_hidden_by_the_median() {
        let mut lossy = run(Kind::Kumod, 9.0);
        lossy.lost = 1;
        let shown = representative(vec![run(Kind::Kumod, 1.0), lossy, run(Kind::Kumod, 2.0)]).unwrap();
        assert_eq!((shown.lost, shown.mmh_delivered), (1, 9.0));
    }

    #[test]
    fn duplicates_of_other_rounds_are_told() {
        let mut doubled = run(Kind::Kumod, 9.0);
        doubled.duplicated = 3;
        let shown = representative(vec![run(Kind::Kumod, 1.0), doubled]).unwrap();
        assert!(shown.notes[0].contains("3 messages a second time"));
    }

    #[test]
    fn limited_only_below_three_times() {
        for (direct, expected) in [(30.0, None), (29.9, Some(LimitedBy::Sink))] {
            let mut kumod = run(Kind::Kumod, 10.0);
            kumod.processes = with_cpu(1.0, 2.0);
            let mut runs = vec![run(Kind::Direct, direct), run(Kind::Floor, 20.0), kumod];
            relate(&mut runs);
            assert_eq!(runs[2].limited_by, expected);
            assert_eq!(runs[2].floor_ratio, Some(0.5));
            assert_eq!(runs[2].direct_ratio, Some(direct / 10.0));
            assert_eq!((runs[0].limited_by, runs[1].limited_by), (None, None));
        }
    }

    #[test]
    fn the_dearer_of_the_two_is_blamed_per_message() {
        let mut kumod = run(Kind::Kumod, 10.0);
        kumod.processes = with_cpu(2.0, 1.0);
        let mut runs = vec![run(Kind::Direct, 12.0), kumod];
        relate(&mut runs);
        assert_eq!(runs[1].limited_by, Some(LimitedBy::Generator));
        assert_eq!(runs[1].floor_ratio, None);
    }

    #[test]
    fn other_body_sizes_and_tiers_are_not_compared() {
        let mut floor = run(Kind::Floor, 20.0);
        floor.body_bytes = 7;
        let mut smaller = run(Kind::Direct, 20.0);
        smaller.tier.cpus = 0.5;
        let mut runs = vec![floor, smaller, run(Kind::Kumod, 10.0)];
        relate(&mut runs);
        assert_eq!((runs[2].floor_ratio, runs[2].direct_ratio), (None, None));
    }
}
