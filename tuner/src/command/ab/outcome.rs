//! What a comparison says in the end: the table for a person, the JSON for a program.

use std::path::PathBuf;

use serde::Serialize;
use tuner::ab::judge::{Decision, percent};
use tuner::ab::{Measured, SCHEMA_VERSION};
use tuner::table::columns;

use super::AbArguments;
use crate::command::look::line;

/// A value on trial.
#[derive(PartialEq, Serialize)]
pub(super) struct Value {
    pub(super) key: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) started_utc: String,
    pub(super) folder: PathBuf,
    pub(super) values: Vec<Value>,
    pub(super) measured: Measured,
    pub(super) decision: Decision,
    pub(super) kept: bool,
}

impl Outcome {
    pub(super) fn text(&self, arguments: &AbArguments) -> String {
        let Self { values, measured, decision, kept, .. } = self;
        let mut text = String::new();
        let (pairs, seconds, size) = (measured.before.len(), arguments.seconds, &arguments.body_size);
        let again = match measured.disturbed.len() {
            0 => String::new(),
            count => format!(", {count} measured again"),
        };
        line(&mut text, &format!("{pairs} pairs of runs of {seconds} s, bodies of {size}{again}"));
        text.push('\n');
        let mut rows =
            vec![["measured", "before", "after", "change", "95 % interval", "verdict"].map(String::from)];
        rows.extend(decision.metrics.iter().map(|metric| {
            let unit = if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) };
            let interval = metric.low.zip(metric.high);
            [
                format!("{}{unit}", metric.title),
                shown(Some(metric.before)),
                shown(Some(metric.after)),
                metric.ratio.map_or_else(|| "-".into(), percent),
                interval.map_or_else(
                    || "-".into(),
                    |(low, high)| format!("{} to {}", percent(low), percent(high)),
                ),
                metric.judgement.as_str().into(),
            ]
        }));
        text += &columns(&rows);
        text.push('\n');
        let word = if *kept { "kept" } else { "put back" };
        let mut rows = vec![["setting", "before", "after", "verdict"].map(String::from)];
        rows.extend(
            values
                .iter()
                .map(|value| [value.key.clone(), value.before.clone(), value.after.clone(), word.into()]),
        );
        text += &columns(&rows);
        let asked = if decision.is_gain && !kept { "as asked, although " } else { "" };
        text.push('\n');
        line(&mut text, &format!("{word}: {asked}{}", decision.reason));
        text
    }

    pub(super) fn json(&self, arguments: &AbArguments) -> serde_json::Value {
        serde_json::json!({
            "schema_version": SCHEMA_VERSION,
            "started_utc": self.started_utc,
            "folder": self.folder,
            "pairs": self.measured.before.len(),
            "seconds": arguments.seconds,
            "body_size": arguments.body_size,
            "settings": self.values,
            "metrics": self.decision.metrics,
            "disturbed": self.measured.disturbed,
            "is_gain": self.decision.is_gain,
            "kept": self.kept,
            "reason": self.decision.reason,
        })
    }
}

/// Four digits or so.
pub(super) fn shown(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}
