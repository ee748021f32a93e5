//! What the screen shows: the facts of the run, the last second, and the seconds before it.
//!
//! It keeps the last [`SECONDS_MAX`] seconds as a few numbers each and forgets older ones.

use std::collections::VecDeque;
use std::time::Duration;

use traffic_gen::{Plan, Schedule};

use crate::outputs::sample::Sample;
use crate::summary::grouped;

/// Seconds shown at most; no terminal has more columns.
pub(crate) const SECONDS_MAX: usize = 600;

/// A generator that keeps this share of the processors busy may be what limits the run.
const CPU_SHARE_MAX: f64 = 0.9;

/// A host that keeps a thread waiting for so long at one look in a hundred is too busy, in microseconds; the
/// report draws the same line.
const HICCUP_P99_US_MAX: f64 = 10_000.0;

/// What does not change while a run goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) run: String,
    pub(crate) target: String,
    /// The load in words: connections, rate.
    pub(crate) load: String,
    /// How long messages begin, if that is known.
    pub(crate) length: Option<Duration>,
    /// Whether messages are due by a schedule.
    pub(crate) has_schedule: bool,
    /// Processors that the generator may use.
    pub(crate) cores: usize,
}

impl Facts {
    /// What a plan says.
    pub(crate) fn of(plan: &Plan, cores: usize) -> Self {
        let names: Vec<_> = plan.targets.iter().map(|target| &target.name[..]).collect();
        let connections = grouped(plan.concurrency as f64);
        let load = match (&plan.schedule, plan.schedule.rate_per_s()) {
            (_, Some(rate_per_s)) => format!("{}/s over {connections} connections", grouped(rate_per_s)),
            (Schedule::Open { .. }, None) => format!("in stages over {connections} connections"),
            (Schedule::Closed, None) => format!("{connections} connections"),
        };
        Self {
            run: plan.run_id.to_string(),
            target: names.join(","),
            load,
            length: plan.length(),
            has_schedule: plan.schedule.is_open(),
            cores,
        }
    }
}

/// One second in the charts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) rate_per_s: f64,
    pub(crate) due_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// Whether somebody asked for the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    NotAsked,
    /// Replies are waited for.
    Soon,
    /// They are not.
    Now,
}

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    pub(crate) facts: Facts,
    /// Whether colours may be used.
    pub(crate) color: bool,
    pub(crate) points: VecDeque<Point>,
    pub(crate) last: Option<Sample>,
    pub(crate) ending: Ending,
}

impl Picture {
    pub(crate) fn new(facts: Facts, color: bool) -> Self {
        Self { facts, color, ..Self::default() }
    }

    /// One more second.
    pub(crate) fn add(&mut self, sample: &Sample) {
        if self.points.len() == SECONDS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point {
            rate_per_s: sample.rate_per_s,
            due_per_s: sample.due_per_s,
            p50_us: sample.latency.p50_us,
            p99_us: sample.latency.p99_us,
            max_us: sample.latency.max_us,
        });
        self.last = Some(sample.clone());
    }

    /// Somebody asks for the end, once more.
    pub(crate) fn end(&mut self) {
        self.ending = if self.ending == Ending::NotAsked { Ending::Soon } else { Ending::Now };
    }

    /// Signs in the last second that the generator or its host is the limit. The report has the last word.
    pub(crate) fn limits(&self) -> Vec<&'static str> {
        let Some(last) = &self.last else {
            return Vec::new();
        };
        let mut limits = Vec::new();
        if last.cpu_cores > self.facts.cores as f64 * CPU_SHARE_MAX {
            limits.push("no processor left");
        }
        if self.facts.has_schedule && last.hiccup_p99_us > HICCUP_P99_US_MAX {
            limits.push("the host pauses");
        }
        limits
    }
}
