//! The highest rate at which a server keeps the promises asked of it.
//!
//! [`search`] decides which rate is tried next, [`steady`] whether a try was in a steady state; here the tries
//! are made, each a run of its own with its own name and warm-up. A try counts as met where every objective
//! is met, the rate was reached and the state was steady. A try that misses while the generator was limited
//! says nothing about the server: it is made once more, and then ends the search. A signal ends it, too.

pub mod search;
pub mod steady;

use std::time::Duration;

use message::traffic::RunId;
use reports::run::Latency;
use serde::Serialize;

use self::search::{Next, Purpose, Search, Settings, Verdict};
use self::steady::{Seen, Steadiness};
use crate::plan::{Plan, random};
use crate::report::Report;
use crate::schedule::{Arrivals, Schedule, Stage};
use crate::second::{Observer, Second, Window};
use crate::threshold::{Outcome, Threshold};

/// The share of the offered rate that must be accepted: a server that is content with half of the mail may
/// have a fine latency for it.
pub const REACHED_SHARE_MIN: f64 = 0.95;

/// How often a try that is not steady is made again, each time twice as long.
pub const LENGTHENED_MAX: u32 = 1;

/// How often a try that the generator limited is made again: its host may have been busy for a moment.
pub const REPEATED_MAX: u32 = 1;

/// The shortest second that is looked at; the rest of one at an end has too few messages.
const SECOND_LENGTH_MIN: Duration = Duration::from_millis(500);

/// What is asked of the server, and how it is found out.
#[derive(Clone, Debug)]
pub struct Goal {
    /// All of them must be met.
    pub objectives: Vec<Threshold>,
    /// Where the search begins, and when it is content.
    pub settings: Settings,
    /// How long each try is measured, after its warm-up.
    pub length: Duration,
}

/// One try.
#[derive(Clone, Debug, Serialize)]
pub struct Try {
    /// Messages per second offered.
    pub rate_per_s: f64,
    /// Why it was tried.
    pub purpose: Purpose,
    /// The name that its messages carry.
    pub run_id: String,
    /// Messages per second accepted.
    pub reached_per_s: f64,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it was not met, the objectives that were missed first; empty where it was.
    pub reasons: Vec<String>,
    /// Each objective.
    pub objectives: Vec<Outcome>,
    /// The look at its seconds.
    pub steadiness: Steadiness,
    /// How long it was measured, in seconds.
    pub measured_s: f64,
    /// From the intended time to the final 250, in microseconds.
    pub latency_us: Latency,
    /// Messages refused or lost sight of, of all that were due in the window, in percent.
    pub errors_percent: f64,
    /// Million messages per hour; null where the generator was the limit.
    pub mmh: Option<f64>,
}

/// A search and its end.
#[derive(Clone, Debug, Serialize)]
pub struct FindMax {
    /// How it ended; null where a signal ended it.
    pub outcome: Option<search::Outcome>,
    /// Every try, in order.
    pub tries: Vec<Try>,
}

impl FindMax {
    /// The tries at 80, 100 and 120 % of the claim that stands; fewer where there is none.
    pub fn confirmation(&self) -> &[Try] {
        let first = |purpose| purpose == Purpose::Confirm { percent: search::CONFIRMED_PERCENT[0] };
        let from = self.tries.iter().rposition(|tried| first(tried.purpose));
        from.map_or(&[], |from| &self.tries[from..])
    }
}

/// Makes runs for a search.
pub trait Runner {
    /// A try begins.
    fn begin(&mut self, plan: &Plan, purpose: Purpose);
    /// Runs the plan; `watch` sees every second of it.
    fn run(&mut self, plan: Plan, watch: &mut dyn Observer) -> Report;
    /// A try was judged.
    fn tried(&mut self, tried: &Try);
}

/// Looks for the highest rate at which `plan` meets the goal. Takes a few dozen tries at most.
pub fn find_max(plan: &Plan, goal: &Goal, runner: &mut dyn Runner) -> FindMax {
    let mut search = Search::new(goal.settings);
    let mut tries = Vec::new();
    loop {
        match search.next() {
            Next::Done(outcome) => return FindMax { outcome: Some(outcome), tries },
            Next::Try { per_s, purpose } => {
                let Some(tried) = attempt(plan, goal, per_s, purpose, runner) else {
                    return FindMax { outcome: None, tries };
                };
                runner.tried(&tried);
                search = search.judged(tried.verdict);
                tries.push(tried);
            }
        }
    }
}

/// One try, again where the generator limited it and for longer where it was not steady; `None` after a signal.
fn attempt(plan: &Plan, goal: &Goal, per_s: f64, purpose: Purpose, runner: &mut dyn Runner) -> Option<Try> {
    let mut length = goal.length;
    let (mut lengthened, mut repeated) = (0, 0);
    loop {
        let plan = plan_of(plan, per_s, length);
        runner.begin(&plan, purpose);
        let mut seconds = Seconds::default();
        let report = runner.run(plan, &mut seconds);
        if report.interrupted {
            return None;
        }
        let steadiness = Steadiness::of(&seconds.seen);
        let tried = judge(goal, per_s, purpose, steadiness, &report);
        let only_unsteady = !steadiness.steady && tried.reasons.len() == 1;
        if only_unsteady && lengthened < LENGTHENED_MAX {
            lengthened += 1;
            length *= 2;
        } else if tried.verdict == Verdict::GeneratorLimited && repeated < REPEATED_MAX {
            repeated += 1;
        } else {
            return Some(tried);
        }
    }
}

/// The same plan at that rate, with a name of its own.
fn plan_of(plan: &Plan, per_s: f64, length: Duration) -> Plan {
    let arrivals = match plan.schedule {
        Schedule::Open { arrivals, .. } => arrivals,
        Schedule::Closed => Arrivals::Constant,
    };
    let stage = Stage { from_per_s: per_s, to_per_s: per_s, length: None };
    Plan {
        schedule: Schedule::Open { arrivals, stages: vec![stage] },
        duration: Some(length),
        message_count: None,
        run_id: RunId::from_random(random()),
        ..plan.clone()
    }
}

fn judge(goal: &Goal, per_s: f64, purpose: Purpose, steadiness: Steadiness, report: &Report) -> Try {
    let measured = &report.measured;
    let reached_per_s =
        if measured.length_s > 0.0 { measured.accepted as f64 / measured.length_s } else { 0.0 };
    let objectives: Vec<_> = goal.objectives.iter().map(|objective| objective.outcome(report)).collect();
    let missed = objectives.iter().filter(|outcome| !outcome.met);
    let mut reasons: Vec<_> = missed.map(|outcome| outcome.threshold.clone()).collect();
    if reached_per_s < per_s * REACHED_SHARE_MIN {
        reasons.push(format!("accepted {reached_per_s:.0} of {per_s:.0} a second"));
    }
    if !steadiness.steady {
        reasons.push("not steady".to_owned());
    }
    let verdict = if reasons.is_empty() {
        Verdict::Met
    } else if report.generator_limited.is_empty() {
        Verdict::Missed
    } else {
        let limits = report.generator_limited.iter();
        reasons.extend(limits.map(|limit| format!("generator-limited: {limit}")));
        Verdict::GeneratorLimited
    };
    let bad = measured.failed + measured.partial + measured.unknown;
    Try {
        rate_per_s: per_s,
        purpose,
        run_id: report.run_id.clone(),
        reached_per_s,
        verdict,
        reasons,
        objectives,
        steadiness,
        measured_s: measured.length_s,
        latency_us: report.latency_us,
        errors_percent: bad as f64 * 100.0 / ((bad + measured.sent).max(1)) as f64,
        mmh: report.mmh,
    }
}

/// The measured seconds of a try.
#[derive(Default)]
struct Seconds {
    seen: Vec<Seen>,
    sent_before: u64,
}

impl Observer for Seconds {
    fn second(&mut self, second: &Second<'_>) {
        let sent = second.sent - self.sent_before;
        self.sent_before = second.sent;
        if second.window == Window::Measured && second.length >= SECOND_LENGTH_MIN {
            self.seen.push(Seen {
                rate_per_s: sent as f64 / second.length.as_secs_f64(),
                p99_us: second.latency.value_at_quantile(0.99) as f64,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reports::latency::{new_histogram, record_ns};

    use super::*;
    use crate::phases::Phases;
    use crate::report::Measured;
    use crate::threshold;

    /// A server with a capacity, and a generator with another; both in messages per second.
    struct FakeRunner {
        server_per_s: f64,
        generator_per_s: f64,
        /// Latency grows for that many runs, as in a queue that fills.
        unsteady_runs: u32,
        stopped_after: u32,
        runs: Vec<(f64, Duration, String)>,
        judged: Vec<Verdict>,
    }

    impl FakeRunner {
        fn new(server_per_s: f64, generator_per_s: f64) -> Self {
            Self {
                server_per_s,
                generator_per_s,
                unsteady_runs: 0,
                stopped_after: u32::MAX,
                runs: Vec::new(),
                judged: Vec::new(),
            }
        }

        fn search(&mut self) -> FindMax {
            let goal = Goal {
                objectives: threshold::list("p99<250ms,errors<1%").unwrap(),
                settings: Settings { first_per_s: 500.0, precision: 0.05 },
                length: Duration::from_secs(10),
            };
            find_max(&Plan::messages(([127, 0, 0, 1], 1).into(), 1), &goal, self)
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the rates of these tests are small")]
    fn whole(messages: f64) -> u64 {
        messages as u64
    }

    impl Runner for FakeRunner {
        fn begin(&mut self, plan: &Plan, _: Purpose) {
            assert_eq!((plan.message_count, plan.schedule.is_open()), (None, true));
        }

        fn run(&mut self, mut plan: Plan, watch: &mut dyn Observer) -> Report {
            let (per_s, length) = (plan.schedule.rate_per_s().unwrap(), plan.duration.unwrap());
            self.runs.push((per_s, length, plan.run_id.to_string()));
            let unsteady = self.unsteady_runs > 0;
            self.unsteady_runs = self.unsteady_runs.saturating_sub(1);
            let latency_ms = |second: u64| match per_s <= self.server_per_s {
                true if unsteady => 10 * (second + 1),
                true => 5,
                false => 1_000,
            };
            let (empty, phases, mut sent) = (new_histogram(), Phases::new(), 0);
            for second in 0..length.as_secs() {
                let mut latency = new_histogram();
                record_ns(&mut latency, latency_ms(second) * 1_000_000);
                sent += whole(per_s);
                watch.second(&Second {
                    offset: Duration::from_secs(second),
                    length: Duration::from_secs(1),
                    window: Window::Measured,
                    latency: &latency,
                    raw: &empty,
                    lag: &empty,
                    hiccup: &empty,
                    phases: &phases,
                    sent,
                    failed: 0,
                    partial: 0,
                    unknown: 0,
                    in_flight: 0,
                    connections: 1,
                    due: sent,
                    cpu_cores: 0.0,
                    reply_codes: &BTreeMap::new(),
                    errors: &BTreeMap::new(),
                });
            }
            plan.targets.clear();
            let mut report = crate::run::run(plan);
            record_ns(&mut report.latency, latency_ms(0) * 1_000_000);
            let accepted = whole(per_s.min(self.server_per_s * 1.5) * length.as_secs_f64());
            report.measured =
                Measured { length_s: length.as_secs_f64(), sent: accepted, accepted, ..Measured::default() };
            if per_s > self.generator_per_s {
                report.generator_limited = vec!["no processor left".to_owned()];
            }
            report.interrupted = self.runs.len() > self.stopped_after as usize;
            report
        }

        fn tried(&mut self, tried: &Try) {
            self.judged.push(tried.verdict);
        }
    }

    #[test]
    fn the_maximum_is_found_confirmed_and_each_run_has_its_own_name() {
        let mut runner = FakeRunner::new(5_000.0, 1e9);
        let found = runner.search();
        let Some(search::Outcome::Found { rate_per_s, .. }) = found.outcome else { panic!("{found:?}") };
        assert!((4_750.0..=5_000.0).contains(&rate_per_s), "{rate_per_s}");
        let verdicts: Vec<_> = found.confirmation().iter().map(|tried| tried.verdict).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::Met, Verdict::Missed]);
        assert_eq!(found.confirmation()[2].reasons[0], "p99<250ms");
        let names: std::collections::BTreeSet<_> = runner.runs.iter().map(|(.., name)| name).collect();
        assert_eq!((names.len(), runner.judged.len()), (runner.runs.len(), found.tries.len()));
    }

    #[test]
    fn a_limit_of_the_generator_is_never_called_the_servers() {
        // Above 3,000 the generator cannot tell; its own trouble must not pass for the server's.
        let mut runner = FakeRunner::new(3_000.0, 3_000.0);
        let found = runner.search();
        assert_eq!(
            found.outcome,
            Some(search::Outcome::GeneratorLimited { at_per_s: 4_000.0, met_per_s: Some(2_000.0) })
        );
        // Each was made once more before it was believed.
        let at_limit = runner.runs.iter().filter(|(per_s, ..)| *per_s == 4_000.0).count();
        assert_eq!(at_limit, 1 + REPEATED_MAX as usize);
        let last = found.tries.last().unwrap();
        assert!(last.reasons.contains(&"generator-limited: no processor left".to_owned()), "{last:?}");
    }

    #[test]
    fn a_try_that_is_not_steady_is_made_again_for_twice_as_long() {
        let mut runner = FakeRunner { unsteady_runs: 1, ..FakeRunner::new(600.0, 1e9) };
        runner.search();
        let lengths: Vec<_> =
            runner.runs.iter().take(3).map(|(per_s, length, _)| (*per_s, length.as_secs())).collect();
        assert_eq!(lengths, [(500.0, 10), (500.0, 20), (1_000.0, 10)]);
        assert_eq!(runner.judged[0], Verdict::Met);

        let mut runner = FakeRunner { unsteady_runs: 2, ..FakeRunner::new(600.0, 1e9) };
        let found = runner.search();
        assert_eq!(
            (found.tries[0].verdict, &found.tries[0].reasons[..]),
            (Verdict::Missed, &["not steady".to_owned()][..])
        );
    }

    #[test]
    fn a_signal_ends_the_search_without_a_claim() {
        let mut runner = FakeRunner { stopped_after: 2, ..FakeRunner::new(5_000.0, 1e9) };
        let found = runner.search();
        assert_eq!((found.outcome, found.tries.len(), runner.runs.len()), (None, 2, 3));
    }
}
