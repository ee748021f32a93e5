//! The parts put together in one HTML file.
//!
//! It owns the template, the style sheet and the script, and that none of them asks for anything from
//! outside: a content security policy in the page forbids it. Text from the record is escaped by the
//! template; the record itself is embedded as JSON without `<`, so that it cannot end its block.

use std::path::Path;

use askama::Template;
use jiff::Timestamp;

use super::charts::{self, Chart};
use super::facts::{self, Facts, Finding};
use super::format;
use super::series;
use super::tables::{self, Table};
use super::words::{self, Tile, Warning};
use crate::run::Record;

/// A larger record is embedded without its rates per second, in bytes.
const EMBEDDED_BYTES_MAX: usize = 128 << 10;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'r> {
    record: &'r Record,
    style: &'static str,
    script: &'static str,
    headline: String,
    summary: Vec<String>,
    started: String,
    place: String,
    tiles: Vec<Tile>,
    warnings: Vec<Warning>,
    throughput: Option<Chart>,
    tables: Vec<(&'static str, Table)>,
    limits: Option<&'static str>,
    inject: Vec<Chart>,
    end_to_end: Vec<Chart>,
    rates: Vec<Chart>,
    complaints: Vec<String>,
    facts: Vec<Facts>,
    findings: Vec<Finding>,
    notes: Vec<String>,
    shared_cores: bool,
    json: String,
    json_is_whole: bool,
}

/// The page for a record; `folder` holds its histogram files.
pub(super) fn render(record: &Record, folder: &Path) -> String {
    let (groups, complaints) = series::groups(record, folder);
    let (json, json_is_whole) = embedded(record);
    let page = Page {
        record,
        style: include_str!("../../templates/page.css"),
        script: include_str!("../../templates/page.js"),
        headline: words::headline(record),
        summary: words::summary(record),
        started: started(record),
        place: place(record),
        tiles: words::tiles(record),
        warnings: words::warnings(record),
        throughput: charts::throughput(&groups),
        tables: vec![("What arrived", tables::arrived(record)), ("What it took", tables::took(record))],
        limits: tables::limits(record),
        inject: charts::spectra(&groups, charts::Side::Inject),
        end_to_end: charts::spectra(&groups, charts::Side::EndToEnd),
        rates: charts::rates(&groups),
        complaints,
        facts: facts::all(record),
        findings: facts::findings(record),
        notes: notes(record),
        shared_cores: record.runs.iter().any(|run| run.shared_cores),
        json,
        json_is_whole,
    };
    page.render().expect("writing into a string fails only where a Display of ours does, and none does")
}

/// `22 November 2026, 06:15 UTC`, or the text as it stands.
fn started(record: &Record) -> String {
    let parsed = record.started_utc.parse::<Timestamp>();
    parsed
        .map_or_else(|_| record.started_utc.clone(), |time| time.strftime("%-d %B %Y, %H:%M UTC").to_string())
}

/// The machine in one line.
fn place(record: &Record) -> String {
    let machine = &record.machine;
    let cpus = machine.cpu.usable.map(|cpus| format!("{} CPUs", format::short(cpus)));
    let memory = machine.memory.usable_bytes.map(format::bytes);
    let disk = machine.disk.as_ref().and_then(|disk| disk.filesystem.clone());
    let kernel = machine.system.kernel.as_ref().map(|kernel| format!("Linux {kernel}"));
    let parts: Vec<String> = [cpus, memory, disk, kernel].into_iter().flatten().collect();
    parts.join(", ")
}

/// Notes of the record, then those of each run under its name.
fn notes(record: &Record) -> Vec<String> {
    let of_runs =
        record.runs.iter().flat_map(|run| run.notes.iter().map(|note| format!("{}: {note}", run.name)));
    record.notes.iter().cloned().chain(of_runs).collect()
}

/// The record as JSON that cannot end the script block it stands in, and whether it is all of it: the
/// rates of long runs would make the page larger than the charts do, so over the limit they are left out.
fn embedded(record: &Record) -> (String, bool) {
    let json = |record: &Record| {
        let json = serde_json::to_string(record).expect("a record has only string keys and writable values");
        json.replace('<', "\\u003c")
    };
    let whole = json(record);
    if whole.len() <= EMBEDDED_BYTES_MAX {
        return (whole, true);
    }
    let mut record = record.clone();
    record.runs.iter_mut().for_each(|run| run.rate_per_second.clear());
    (json(&record), false)
}
