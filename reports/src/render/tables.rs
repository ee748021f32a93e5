//! The two tables: what arrived, and what it took.
//!
//! It owns their columns. It refuses nothing; what is unknown is a dash.

use super::format::{self, NOTHING};
use super::series;
use crate::run::{Latency, LimitedBy, ProcessUse, Record, Run};

/// A table with columns in named groups.
pub(super) struct Table {
    /// Names over the columns, each with the number of columns below it.
    pub(super) groups: Vec<(&'static str, usize)>,
    pub(super) columns: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

/// One run.
pub(super) struct Row {
    pub(super) name: String,
    /// `kumod`, `floor` or `direct`; a class of the style sheet.
    pub(super) kind: &'static str,
    /// Whether another body size begins here.
    pub(super) first: bool,
    pub(super) cells: Vec<Cell>,
}

/// One value.
pub(super) struct Cell {
    pub(super) text: String,
    /// `bad`, `strong`, `word` or nothing; classes of the style sheet.
    pub(super) class: &'static str,
}

fn cell(text: String) -> Cell {
    let class = if text == NOTHING { "none" } else { "" };
    Cell { text, class }
}

fn word(text: Option<&str>) -> Cell {
    Cell {
        text: text.unwrap_or(NOTHING).to_owned(),
        class: if text.is_some() { "word" } else { "word none" },
    }
}

/// A number that should be zero.
fn fault(number: u64) -> Cell {
    Cell { text: format::count(number), class: if number > 0 { "bad" } else { "" } }
}

fn table(
    record: &Record,
    groups: &[(&'static str, &[&'static str])],
    cells: impl Fn(&Run) -> Vec<Cell>,
) -> Table {
    let mut body_bytes = None;
    let rows = series::ordered(record).into_iter().map(|run| {
        let first = body_bytes.replace(run.body_bytes) != Some(run.body_bytes);
        Row { name: run.name.clone(), kind: run.kind.as_str(), first, cells: cells(run) }
    });
    Table {
        rows: rows.collect(),
        groups: groups.iter().map(|(name, columns)| (*name, columns.len())).collect(),
        columns: groups.iter().flat_map(|(_, columns)| columns.iter().copied()).collect(),
    }
}

/// What became of the messages.
pub(super) fn arrived(record: &Record) -> Table {
    let groups: [(&str, &[&str]); 4] = [
        ("", &["Body", "Durability", "Connections"]),
        ("Messages", &["accepted", "delivered", "lost", "duplicated", "corrupted"]),
        ("MMH", &["accepted", "delivered", "of floor"]),
        ("", &["Time", "Limited by"]),
    ];
    table(record, &groups, |run| {
        vec![
            cell(format::body(run.body_bytes)),
            word(run.durability.as_deref()),
            cell(format::or_nothing(run.connections.map(format::count))),
            cell(format::count(run.accepted)),
            cell(format::count(run.delivered)),
            fault(run.lost),
            fault(run.duplicated),
            fault(run.corrupted),
            cell(format::three_digits(run.mmh_accepted)),
            Cell { text: format::three_digits(run.mmh_delivered), class: "strong" },
            cell(format::or_nothing(run.floor_ratio.map(|ratio| format!("{ratio:.2}")))),
            cell(format::seconds(run.elapsed_s)),
            limited(run),
        ]
    })
}

fn limited(run: &Run) -> Cell {
    match run.limited_by {
        Some(limit) => Cell { text: limit.as_str().to_owned(), class: "word bad" },
        None => word(None),
    }
}

/// What each message took: time, processor, memory, disk.
pub(super) fn took(record: &Record) -> Table {
    let groups: [(&str, &[&str]); 5] = [
        ("Until the 250", &["p50", "p99"]),
        ("End to end", &["p50", "p99", "p99.9", "max"]),
        ("CPU µs per message", &["relay", "sink", "generator"]),
        ("Relay", &["peak RSS", "written/msg", "barriers/msg"]),
        ("", &["Spool"]),
    ];
    table(record, &groups, |run| {
        let inject = |of: fn(Latency) -> f64| latency(run.latency_us.inject, of);
        let end_to_end = |of: fn(Latency) -> f64| latency(run.latency_us.end_to_end, of);
        let cpu =
            |process| cell(format::or_nothing(run.cpu_us_per_message(process).map(format::three_digits)));
        let relay = run.processes.kumod;
        vec![
            inject(|latency| latency.p50),
            inject(|latency| latency.p99),
            end_to_end(|latency| latency.p50),
            end_to_end(|latency| latency.p99),
            end_to_end(|latency| latency.p99_9),
            end_to_end(|latency| latency.max),
            cpu(relay),
            cpu(run.processes.sink),
            cpu(run.processes.traffic_gen),
            cell(format::or_nothing(relay.map(|used| format::bytes(used.rss_peak_bytes)))),
            cell(format::or_nothing(written(run, relay))),
            cell(format::or_nothing(run.barriers_per_message().map(barriers))),
            word(run.spool_backend.as_deref()),
        ]
    })
}

fn latency(latency: Option<Latency>, of: fn(Latency) -> f64) -> Cell {
    cell(format::or_nothing(latency.map(|latency| format::latency(of(latency)))))
}

fn written(run: &Run, relay: Option<ProcessUse>) -> Option<String> {
    let written = relay?.write_bytes.checked_div(run.delivered)?;
    Some(format::bytes(written))
}

/// Far below one where commits are shared, so two digits would not do.
fn barriers(ratio: f64) -> String {
    if ratio > 0.0 && ratio < 0.1 { format!("{ratio:.4}") } else { format::three_digits(ratio) }
}

/// The sentence below the first table, where a run was limited.
pub(super) fn limits(record: &Record) -> Option<&'static str> {
    let limited =
        record.runs.iter().any(|run| matches!(run.limited_by, Some(LimitedBy::Generator | LimitedBy::Sink)));
    limited.then_some("A run is limited when the direct run reached less than three times its rate; the number is then a lower bound.")
}
