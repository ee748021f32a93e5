//! Two sets of runs, judged: a regression, all right, or not to be told apart.
//!
//! It owns the rules of the gate. It refuses to compare numbers of different machines, and it throws away runs that were
//! disturbed, with their partners, and says so. A regression needs two witnesses: the interval of the ratio lies wholly beyond
//! the practical limit, and the rank test, corrected for the number of judgements, agrees. Too few runs are undecided,
//! whatever they look like. Mail that was lost or damaged in the second set is a regression before any number is looked at.

mod judge;
mod pairs;
mod text;

use std::collections::BTreeSet;

use serde::Serialize;
use thiserror::Error;

use crate::metrics::{self, Metric};
use crate::results::Entry;
use crate::run::{LOAD_PAIR_LABEL, Run};
use crate::stats::{Bootstrap, SAMPLE_VALUES_MAX, holm};

pub(crate) use pairs::cell_of;
pub use text::Form;

/// What decides, and how strictly.
#[derive(Debug, Clone)]
pub struct Options {
    /// Metrics that may fail the comparison; the others are shown.
    pub gates: Vec<&'static Metric>,
    /// Leave out the others, which have no say: their intervals are what takes the time.
    pub only_gates: bool,
    /// Part by which a cost may grow, or a rate shrink, before it matters: 0.02 for 2 %.
    pub limit: f64,
    /// Probability of a false alarm over all judgements together.
    pub probability_max: f64,
    /// Runs in each set without which nothing is decided; never under 2.
    pub runs_min: usize,
    /// How intervals are drawn.
    pub bootstrap: Bootstrap,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gates: metrics::ALL.iter().filter(|metric| metric.is_gate).collect(),
            only_gates: false,
            limit: 0.02,
            probability_max: 0.05,
            runs_min: 8,
            bootstrap: Bootstrap::default(),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Not worse by more than the limit.
    Ok,
    /// The runs cannot tell; more of them may.
    Undecided,
    /// Worse by more than the limit.
    Regression,
}

impl Verdict {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Undecided => "undecided",
            Self::Regression => "regression",
        }
    }
}

/// One metric of one kind of run.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Tier, body size and what else tells this kind of run from others.
    pub cell: String,
    /// [`Metric::name`].
    pub metric: &'static str,
    /// [`Metric::title`].
    pub title: &'static str,
    /// [`Metric::unit`].
    pub unit: &'static str,
    /// Whether it may fail the comparison.
    pub is_gate: bool,
    /// Runs of the first set that count.
    pub base_runs: usize,
    /// Runs of the second set that count.
    pub head_runs: usize,
    /// Whether runs were compared with their partners.
    pub is_paired: bool,
    /// Median of the first set.
    pub base: f64,
    /// Median of the second set.
    pub head: f64,
    /// Median ratio: of the pairs, or of the medians.
    pub ratio: Option<f64>,
    /// Hodges and Lehmann's shift, in the metric's unit.
    pub shift: f64,
    /// The same estimator on logarithms, as a ratio: what the interval is about.
    pub ratio_shift: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
    /// Mann and Whitney's probability.
    pub probability: f64,
    /// The same after Holm's correction over all gates; `None` where it is not a gate.
    pub corrected: Option<f64>,
    /// The judgement; `None` where it is not a gate.
    pub verdict: Option<Verdict>,
    /// Why it is undecided.
    pub reason: Option<String>,
}

/// The outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The worst of all judgements; undecided where there was none.
    pub verdict: Verdict,
    /// Every metric that both sets have.
    pub rows: Vec<Row>,
    /// Runs that were thrown away and why, one sentence each.
    pub thrown_away: Vec<String>,
    /// Mail that was lost or damaged in the second set, one sentence each.
    pub unsound: Vec<String>,
    /// What else should be known, one sentence each.
    pub remarks: Vec<String>,
}

impl Comparison {
    /// The comparison as a table of the given form, with all that was thrown away and remarked.
    pub fn render(&self, form: Form) -> String {
        text::render(self, form)
    }
}

/// Why nothing was compared.
#[derive(Debug, Error)]
pub enum CompareError {
    /// Operator: nothing to compare.
    #[error("the {set} set has no run through kumod; give folders of runs that measured it")]
    Nothing {
        /// `base` or `head`.
        set: &'static str,
    },
    /// Operator: the numbers do not compare.
    #[error(
        "run {base} was made on {base_machine} and run {head} on {head_machine}; numbers of different machines are not \
         compared: measure both on one, interleaved"
    )]
    Machines {
        /// Run id.
        base: String,
        /// Its machine.
        base_machine: String,
        /// Run id.
        head: String,
        /// Its machine.
        head_machine: String,
    },
    /// Operator: more runs than are compared.
    #[error(
        "{count} runs in one set, more than are compared ({SAMPLE_VALUES_MAX}); leave the older ones out"
    )]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Compares two sets of records.
///
/// # Errors
/// [`CompareError`] where the sets cannot be compared at all.
pub fn compare(base: &[Entry], head: &[Entry], options: &Options) -> Result<Comparison, CompareError> {
    one_machine(base, head)?;
    let (base, head) = (pairs::Set::of(base, "base"), pairs::Set::of(head, "head"));
    for set in [&base, &head] {
        match set.runs.len() + set.thrown_away.len() {
            0 => return Err(CompareError::Nothing { set: set.name }),
            count if count > SAMPLE_VALUES_MAX => return Err(CompareError::TooMany { count }),
            _ => {}
        }
    }
    let unsound: Vec<String> = head.unsound.clone();
    let (cells, mut remarks) = pairs::cells(&base, &head);
    let shown =
        |metric: &&Metric| !options.only_gates || options.gates.iter().any(|gate| gate.name == metric.name);
    let mut rows: Vec<Row> = cells
        .iter()
        .flat_map(|cell| {
            metrics::ALL.iter().filter(shown).filter_map(|metric| judge::row(cell, metric, options))
        })
        .collect();
    remarks.extend(without_one_clock(&mut rows, base.runs.iter().chain(&head.runs)));
    decide(&mut rows, options);
    if !rows.iter().any(|row| row.is_gate) {
        remarks.push("No metric that was asked for is in both sets: nothing was judged.".to_owned());
    }
    if base.unsound.len() + unsound.len() > 0 && !base.unsound.is_empty() {
        remarks.extend(base.unsound.iter().map(|sentence| format!("In base: {sentence}")));
    }
    let verdict = overall(&rows, &unsound);
    let thrown_away = base.thrown_away.into_iter().chain(head.thrown_away).collect();
    Ok(Comparison { verdict, rows, thrown_away, unsound, remarks })
}

/// Processor time in units of generator and sink needs the same two programs in all runs. Where they differ, plain processor
/// time is judged in its place.
fn without_one_clock<'r>(rows: &mut [Row], runs: impl Iterator<Item = &'r &'r Run>) -> Option<String> {
    let clocks: BTreeSet<Option<&String>> = runs.map(|run| run.labels.get(LOAD_PAIR_LABEL)).collect();
    let is_gate = |rows: &[Row]| rows.iter().any(|row| row.metric == metrics::CPU_RELATIVE && row.is_gate);
    if clocks.len() < 2 || !is_gate(rows) {
        return None;
    }
    for row in rows {
        match row.metric {
            metrics::CPU_RELATIVE => row.is_gate = false,
            metrics::CPU => row.is_gate = true,
            _ => {}
        }
    }
    let why = "Generator and sink were not the same programs in all runs, so processor time was judged in µs, which moves with the \
               load of the host.";
    Some(why.to_owned())
}

/// Corrects the probabilities over all gates and judges each.
fn decide(rows: &mut [Row], options: &Options) {
    let gates: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].is_gate).collect();
    let probabilities: Vec<f64> = gates.iter().map(|at| rows[*at].probability).collect();
    for (at, corrected) in gates.into_iter().zip(holm(&probabilities)) {
        let row = &mut rows[at];
        row.corrected = Some(corrected);
        let (verdict, reason) = judge::verdict(row, corrected, options);
        row.verdict = Some(verdict);
        row.reason = reason;
    }
}

fn overall(rows: &[Row], unsound: &[String]) -> Verdict {
    let verdicts = || rows.iter().filter_map(|row| row.verdict);
    if !unsound.is_empty() || verdicts().any(|verdict| verdict == Verdict::Regression) {
        return Verdict::Regression;
    }
    let all_ok = verdicts().all(|verdict| verdict == Verdict::Ok) && verdicts().next().is_some();
    if all_ok { Verdict::Ok } else { Verdict::Undecided }
}

/// Sets that were made on different machines do not compare; what is unknown is taken as equal.
fn one_machine(base: &[Entry], head: &[Entry]) -> Result<(), CompareError> {
    let mut all = base.iter().chain(head);
    let Some(first) = all.next() else { return Ok(()) };
    let different = all.find(|other| !same_machine(first, other));
    different.map_or(Ok(()), |other| {
        Err(CompareError::Machines {
            base: first.record.run_id.clone(),
            base_machine: machine_words(first),
            head: other.record.run_id.clone(),
            head_machine: machine_words(other),
        })
    })
}

fn same_machine(one: &Entry, other: &Entry) -> bool {
    let (one, other) = (&one.record.machine, &other.record.machine);
    let same = |a: Option<&String>, b: Option<&String>| a.is_none() || b.is_none() || a == b;
    same(one.host.as_ref(), other.host.as_ref())
        && same(one.cpu.model.as_ref(), other.cpu.model.as_ref())
        && (one.cpu.online.is_none() || other.cpu.online.is_none() || one.cpu.online == other.cpu.online)
}

fn machine_words(entry: &Entry) -> String {
    let cpu = &entry.record.machine.cpu;
    let model = cpu.model.clone().unwrap_or_else(|| "an unknown processor".to_owned());
    let online = cpu.online.map_or_else(String::new, |online| format!(" with {online} processors"));
    let host = entry.record.machine.host.as_ref().map_or_else(String::new, |host| format!(" (host {host})"));
    format!("{model}{online}{host}")
}
