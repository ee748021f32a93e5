//! Tables: CSV, Prometheus's text format, Markdown.
//!
//! It owns their columns and their escaping. It refuses nothing; in CSV a field that a spreadsheet would take for a formula
//! begins with an apostrophe.

use super::rows::rows;
use crate::metrics::ALL;
use crate::results::Entry;
use crate::words;

/// Columns before the metrics.
const COLUMNS: [&str; 16] = [
    "run_id",
    "started_utc",
    "commit",
    "machine",
    "name",
    "kind",
    "cpus",
    "memory_gib",
    "tier_source",
    "body_bytes",
    "durability",
    "accepted",
    "delivered",
    "lost",
    "duplicated",
    "corrupted",
];

/// RFC 4180: a header, records ended by CRLF.
pub(super) fn csv(entries: &[Entry]) -> String {
    let metrics = ALL.iter().map(|metric| metric.name.to_owned());
    let mut text = record(COLUMNS.iter().map(|name| (*name).to_owned()).chain(metrics));
    for row in rows(entries) {
        let (record_of, run) = (&row.entry.record, row.run);
        let first = [
            record_of.run_id.clone(),
            record_of.started_utc.clone(),
            record_of.software.git_commit.clone().unwrap_or_default(),
            record_of.machine.tier_key(&run.tier),
            run.name.clone(),
            run.kind.as_str().to_owned(),
            run.tier.cpus.to_string(),
            run.tier.memory_gib.to_string(),
            run.tier_source.remark().to_owned(),
            run.body_bytes.to_string(),
            run.durability.clone().unwrap_or_default(),
            run.accepted.to_string(),
            run.delivered.to_string(),
            run.lost.to_string(),
            run.duplicated.to_string(),
            run.corrupted.to_string(),
        ];
        let values =
            ALL.iter().map(|metric| metric.of(run).map_or_else(String::new, |value| value.to_string()));
        text.push_str(&record(first.into_iter().chain(values)));
    }
    text
}

fn record(fields: impl Iterator<Item = String>) -> String {
    let fields: Vec<String> = fields.map(|field| quoted(&field)).collect();
    format!("{}\r\n", fields.join(","))
}

fn quoted(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
    let field = if is_formula { format!("'{field}") } else { field.to_owned() };
    if field.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

/// A gauge for each metric; runs are told apart by labels.
pub(super) fn prometheus(entries: &[Entry]) -> String {
    let rows = rows(entries);
    let mut text = String::new();
    for metric in &ALL {
        let values: Vec<_> = rows.iter().filter_map(|row| Some((row, metric.of(row.run)?))).collect();
        if values.is_empty() {
            continue;
        }
        let name = format!("kumod_lab_{}", metric.name);
        let unit = if metric.unit.is_empty() { String::new() } else { format!(" ({})", metric.unit) };
        text.push_str(&format!("# HELP {name} {}{unit}\n# TYPE {name} gauge\n", metric.title));
        for (row, value) in values {
            let labels = [
                ("run", row.name.as_str()),
                ("kind", row.run.kind.as_str()),
                ("run_id", &row.entry.record.run_id),
                ("machine", &row.entry.record.machine.tier_key(&row.run.tier)),
                ("body_bytes", &row.run.body_bytes.to_string()),
            ]
            .map(|(name, value)| format!("{name}=\"{}\"", label(value)));
            text.push_str(&format!("{name}{{{}}} {value}\n", labels.join(",")));
        }
    }
    text
}

/// A label's value: backslash, quote and line feed are escaped, and nothing else may be.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The table that one pastes into a ticket.
pub(super) fn markdown(entries: &[Entry]) -> String {
    const SHOWN: [&str; 7] = ["mmh", "cpu", "syscalls", "barriers", "written", "p50", "p99"];
    let shown: Vec<_> = ALL.iter().filter(|metric| SHOWN.contains(&metric.name)).collect();
    let titles = shown.iter().map(|metric| format!("{} {}", metric.title, metric.unit));
    let titles: Vec<String> =
        ["Run", "CPUs", "GiB", "Body", "Lost"].map(str::to_owned).into_iter().chain(titles).collect();
    let mut text = format!("| {} |\n|---|{}\n", titles.join(" | "), "--:|".repeat(titles.len() - 1));
    for row in rows(entries) {
        let run = row.run;
        let first = [
            words::markdown(&row.name),
            run.tier.cpus.to_string(),
            run.tier.memory_gib.to_string(),
            run.body_bytes.to_string(),
            run.lost.to_string(),
        ];
        let values = shown
            .iter()
            .map(|metric| metric.of(run).map_or_else(|| words::NOTHING.to_owned(), words::digits));
        let cells: Vec<String> = first.into_iter().chain(values).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}
