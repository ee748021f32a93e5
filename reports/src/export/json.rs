//! The two JSON formats of tools that follow benchmarks over commits.
//!
//! It owns their shapes. It refuses nothing.

use serde_json::{Map, Value, json};

use super::rows::rows;
use crate::metrics::{ALL, Better};
use crate::results::Entry;
use crate::run::Run;

/// `{benchmark: {measure: {value, lower_value, upper_value}}}`; the bounds are the extremes of the rounds where the
/// record has them.
pub(super) fn bmf(entries: &[Entry]) -> String {
    let mut benchmarks = Map::new();
    for row in rows(entries) {
        let mut measures = Map::new();
        for metric in &ALL {
            let Some(value) = metric.of(row.run) else { continue };
            let mut measure = json!({"value": value});
            if let Some((low, high)) = extremes(row.run).filter(|_| metric.name == "mmh") {
                measure["lower_value"] = json!(low.min(value));
                measure["upper_value"] = json!(high.max(value));
            }
            measures.insert(metric.name.replace('_', "-"), measure);
        }
        if !measures.is_empty() {
            benchmarks.insert(row.name, Value::Object(measures));
        }
    }
    pretty(&Value::Object(benchmarks))
}

/// `[{name, unit, value, range, extra}]`.
pub(super) fn github_action(entries: &[Entry], better: Better) -> String {
    let mut list = Vec::new();
    for row in rows(entries) {
        for metric in ALL.iter().filter(|metric| metric.better == better) {
            let Some(value) = metric.of(row.run) else { continue };
            let unit = if metric.unit.is_empty() { "1" } else { metric.unit };
            let mut item =
                json!({"name": format!("{} {}", row.name, metric.name), "unit": unit, "value": value});
            if let Some((low, high)) = extremes(row.run).filter(|_| metric.name == "mmh") {
                item["range"] = json!(format!("{low:.2} to {high:.2}"));
            }
            item["extra"] = json!(format!("run {}\n{}", row.entry.record.run_id, metric.title));
            list.push(item);
        }
    }
    pretty(&Value::Array(list))
}

fn extremes(run: &Run) -> Option<(f64, f64)> {
    Some((*run.counters.get("mmh_delivered_min")?, *run.counters.get("mmh_delivered_max")?))
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
