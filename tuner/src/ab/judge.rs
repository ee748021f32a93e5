//! The verdict: what the pairs prove, and whether the change stays.
//!
//! Owns the rule and no statistics: `reports` compares, once in each direction, because it only ever proves that something is
//! worse. What is worse without the change is better with it. It refuses to keep anything that is not proved.

use reports::compare::{CompareError, Comparison, Options, Row, Verdict, compare};
use reports::metrics::{Better, Metric};
use serde::Serialize;

use super::{Measured, PAIRS_MIN, Plan};

/// What the pairs say about one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// Proved better by at least the gain that was asked for.
    Better,
    /// Proved worse by as much.
    Worse,
    /// Proved to be within that of what it was.
    Same,
    /// These pairs cannot tell.
    Undecided,
}

impl Judgement {
    /// The word that is shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "the same",
            Self::Undecided => "undecided",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// Its name.
    pub metric: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Pairs that have it.
    pub pairs: usize,
    /// Median with the values of the host.
    pub before: f64,
    /// Median with the values on trial.
    pub after: f64,
    /// How many times as large with them: the estimate that the interval is about.
    pub ratio: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// The probability of the rank test, corrected for the number of metrics.
    pub probability: Option<f64>,
    /// What follows.
    pub judgement: Judgement,
}

/// What follows from all of them.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// Whether the change is worth keeping.
    pub is_gain: bool,
    /// Why, or why not.
    pub reason: String,
    /// The metrics that decided.
    pub metrics: Vec<Compared>,
}

/// Judges what was measured.
///
/// # Errors
/// [`CompareError`], where the runs cannot be compared at all.
pub fn decide(plan: &Plan, measured: &Measured) -> Result<Decision, CompareError> {
    let runs_min = PAIRS_MIN as usize;
    let options = Options { gates: plan.metrics.clone(), limit: plan.gain, runs_min, ..Options::default() };
    let forward = compare(&measured.before, &measured.after, &options)?;
    let backward = compare(&measured.after, &measured.before, &options)?;
    let metrics = plan.metrics.iter().filter_map(|metric| compared(metric, &forward, &backward)).collect();
    Ok(conclude(metrics))
}

fn compared(metric: &Metric, forward: &Comparison, backward: &Comparison) -> Option<Compared> {
    let there = row(forward, metric)?;
    let back = row(backward, metric)?;
    let judgement = match (there.verdict?, back.verdict?) {
        (Verdict::Regression, _) => Judgement::Worse,
        (_, Verdict::Regression) => Judgement::Better,
        (Verdict::Ok, Verdict::Ok) => Judgement::Same,
        _ => Judgement::Undecided,
    };
    Some(Compared {
        metric: metric.name,
        title: metric.title,
        unit: metric.unit,
        pairs: there.base_runs,
        before: there.base,
        after: there.head,
        ratio: there.ratio_shift,
        low: there.low,
        high: there.high,
        probability: there.corrected,
        judgement,
    })
}

fn row<'c>(comparison: &'c Comparison, metric: &Metric) -> Option<&'c Row> {
    comparison.rows.iter().find(|row| row.metric == metric.name)
}

fn conclude(metrics: Vec<Compared>) -> Decision {
    let of = |judgement| metrics.iter().find(|metric| metric.judgement == judgement);
    let (is_gain, reason) = if let Some(worse) = of(Judgement::Worse) {
        (false, format!("{} is worse: {}", worse.title, least(worse)))
    } else if let Some(better) = of(Judgement::Better) {
        (true, format!("{} is better: {}", better.title, least(better)))
    } else if !metrics.is_empty() && metrics.iter().all(|metric| metric.judgement == Judgement::Same) {
        (false, "it makes no difference that matters".to_owned())
    } else {
        (false, undecided(&metrics))
    };
    Decision { is_gain, reason, metrics }
}

fn undecided(metrics: &[Compared]) -> String {
    let Some(pairs) = metrics.iter().map(|metric| metric.pairs).min() else {
        return "undecided: no run has a metric that was asked for".to_owned();
    };
    if pairs < PAIRS_MIN as usize {
        return format!("undecided: {pairs} pairs can be used, {PAIRS_MIN} are needed");
    }
    "undecided: interval and rank test do not prove it together; more pairs or longer runs may".to_owned()
}

/// The end of the interval that is nearest to no change.
fn least(compared: &Compared) -> String {
    let larger = Metric::named(compared.metric).is_some_and(|metric| metric.better == Better::Larger);
    let grows = larger == (compared.judgement == Judgement::Better);
    let end = if grows { compared.low } else { compared.high };
    end.map_or_else(String::new, |end| format!("{} at least", percent(end)))
}

/// `+4.9 %` for a ratio of 1.049.
pub fn percent(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}
