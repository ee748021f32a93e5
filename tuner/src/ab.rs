//! Whether a change is worth it on this host: the laboratory measures with and without, and statistics decide.
//!
//! Owns the order of the runs, the repeating of disturbed ones, and the rule of keeping. Runs come in pairs, one with the
//! values as they are and one with those on trial, and the pairs turn round (AB, BA, AB…), so that a host that becomes slower
//! by the minute slows both alike. A change is kept only where an interval proves a gain and none proves a loss. Everything else,
//! a failure, lost mail and an interruption included, puts back what was there.

pub mod judge;
pub mod lab;
pub mod runtime;

use std::path::PathBuf;

use reports::disturbance::disturbances;
use reports::metrics::Metric;
use reports::results::Entry;
use reports::run::PAIR_LABEL;
use serde::Serialize;

use crate::apply::ApplyError;
use crate::apply::trial::Trial;
use lab::{Lab, LabError};

/// Version of the JSON result; raised when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;
/// The JSON schema (draft 2020-12) of the result.
pub const SCHEMA: &str = include_str!("../schema/ab.schema.json");
/// Pairs when nobody says.
pub const PAIRS: u32 = 10;
/// The fewest pairs from which anything is decided.
pub const PAIRS_MIN: u32 = 8;
/// The most pairs.
pub const PAIRS_MAX: u32 = 200;
/// The longest run that may be asked for, seconds.
pub const SECONDS_MAX: u64 = 600;
/// Pairs that are measured again because somebody else was at work; after that the comparison ends with what it has.
pub const REPEATED_PAIRS_MAX: u32 = 10;
/// Metrics that decide when nobody says.
pub const METRICS: [&str; 2] = ["mmh", "cpu_all"];
/// The gain that has to be proved when nobody says, percent.
pub const GAIN_PERCENT: f64 = 1.0;

/// Which values were in force during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Those of the host.
    Before,
    /// Those on trial.
    After,
}

impl Side {
    /// The word, and the folder of its runs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What is measured, and what decides.
#[derive(Debug)]
pub struct Plan {
    /// Pairs that count.
    pub pairs: u32,
    /// Metrics that decide.
    pub metrics: Vec<&'static Metric>,
    /// The part by which one of them must be proved better, 0.01 for 1 %.
    pub gain: f64,
}

/// Runs that count, in the order of their pairs, and those that do not.
#[derive(Debug, Default)]
pub struct Measured {
    /// With the values of the host.
    pub before: Vec<Entry>,
    /// With the values on trial.
    pub after: Vec<Entry>,
    /// Why runs were measured again, one sentence each.
    pub disturbed: Vec<String>,
}

/// What has just happened.
#[derive(Debug)]
pub enum Step<'s> {
    /// A pair that counts, from 1, with its two runs.
    Pair(u32, &'s Entry, &'s Entry),
    /// A pair that is measured again, and why.
    Disturbed(&'s str),
}

/// Why nothing was decided. What was there is put back by whoever holds the trial.
#[derive(Debug, thiserror::Error)]
pub enum AbError {
    /// A value could not be given or taken back.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The laboratory failed, or was interrupted.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Somebody else was at work all the time.
    #[error("no pair was left undisturbed: {why}; measure when the host is quiet")]
    Disturbed {
        /// What disturbed the last one.
        why: String,
    },
    /// Mail was lost or damaged: no number is worth anything.
    #[error("with the values {} the trial, {lost} messages were lost and {corrupted} damaged: see {}", if *.side == Side::Before { "before" } else { "on" }, folder.display())]
    Unsound {
        /// With which values.
        side: Side,
        /// Messages.
        lost: u64,
        /// Messages.
        corrupted: u64,
        /// The run.
        folder: PathBuf,
    },
}

/// Measures pair after pair; `progress` is told each of them.
///
/// # Errors
/// See [`AbError`]; the trial is left as it was at that moment.
pub fn measure(
    plan: &Plan,
    trial: &mut Trial,
    lab: &mut Lab,
    progress: &mut dyn FnMut(Step<'_>),
) -> Result<Measured, AbError> {
    let mut measured = Measured::default();
    let (mut pair, mut repeated) = (1, 0);
    while pair <= plan.pairs {
        match one_pair(pair, trial, lab)? {
            Ok((before, after)) => {
                progress(Step::Pair(pair, &before, &after));
                measured.before.push(before);
                measured.after.push(after);
                pair += 1;
            }
            Err(why) => {
                repeated += 1;
                let why = format!("pair {pair}: {why}");
                progress(Step::Disturbed(&why));
                measured.disturbed.push(why);
                if repeated > REPEATED_PAIRS_MAX {
                    break;
                }
            }
        }
    }
    match measured.disturbed.last() {
        Some(why) if measured.before.is_empty() => Err(AbError::Disturbed { why: why.clone() }),
        _ => Ok(measured),
    }
}

/// Both runs, or why one of them does not count.
fn one_pair(pair: u32, trial: &mut Trial, lab: &mut Lab) -> Result<Result<(Entry, Entry), String>, AbError> {
    let order = if pair % 2 == 1 { [Side::Before, Side::After] } else { [Side::After, Side::Before] };
    let mut runs = Vec::new();
    for side in order {
        trial.switch(side == Side::After)?;
        let mut entry = lab.run(side)?;
        if let Some(why) = why_not(&entry, side)? {
            return Ok(Err(format!("{}, {why}", side.as_str())));
        }
        for run in &mut entry.record.runs {
            run.labels.insert(PAIR_LABEL.into(), pair.to_string());
        }
        lab.label(&entry)?;
        runs.push(entry);
    }
    if order[0] == Side::After {
        runs.reverse();
    }
    let (after, before) = (runs.pop(), runs.pop());
    Ok(before.zip(after).ok_or_else(|| "no runs".to_owned()))
}

/// What disturbed a run.
fn why_not(entry: &Entry, side: Side) -> Result<Option<String>, AbError> {
    let online = entry.record.machine.cpu.online;
    for run in &entry.record.runs {
        let (lost, corrupted) = (run.lost, run.corrupted);
        if lost + corrupted > 0 {
            let folder = entry.folder.clone().unwrap_or_default();
            return Err(AbError::Unsound { side, lost, corrupted, folder });
        }
        let found = disturbances(run, online.map_or(run.tier.cpus, f64::from));
        if !found.is_empty() {
            return Ok(Some(found.join("; ")));
        }
    }
    Ok(None)
}
