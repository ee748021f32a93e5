//! The parts put together in one HTML file.
//!
//! It owns the template, the style sheet and the script, and that none of them asks for anything from
//! outside: a content security policy in the page forbids it. Text from records is escaped by the
//! template; records and histograms are embedded as JSON without `<`, so that they cannot end their block.

use std::path::Path;

use askama::Template;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::charts::{self, Chart, Measure};
use super::facts::{self, Facts, Finding};
use super::format;
use super::series::{self, Group};
use super::tables::{self, Table};
use super::tiers;
use super::view::{SHOWN_MAX, View};
use super::words::{self, Tile, Warning};
use crate::results::Entry;
use crate::run::Record;

/// A larger record is embedded without its rates per second, in bytes.
const EMBEDDED_BYTES_MAX: usize = 96 << 10;

/// Histograms are embedded as long as all of them fit into this, in bytes.
const HISTOGRAM_BYTES_MAX: usize = 96 << 10;

const STYLE: &str = include_str!("../../templates/page.css");

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'v> {
    record: &'v Record,
    style: &'static str,
    script: &'static str,
    headline: String,
    summary: Vec<String>,
    started: String,
    place: String,
    tiles: Vec<Tile>,
    warnings: Vec<Warning>,
    legend: Vec<(String, String)>,
    scaling: Vec<Chart>,
    scaling_remarks: Vec<String>,
    throughput: Option<Chart>,
    efficiency: Vec<Chart>,
    rooflines: Vec<Chart>,
    tables: Vec<(&'static str, Table)>,
    limits: Option<&'static str>,
    inject: Vec<Chart>,
    end_to_end: Vec<Chart>,
    rates: Vec<Chart>,
    latencies: Vec<Chart>,
    heat: Vec<Chart>,
    complaints: Vec<String>,
    facts: Vec<Facts>,
    machines: Vec<[String; 6]>,
    findings: Vec<Finding>,
    notes: Vec<String>,
    shared_cores: bool,
    not_shown: usize,
    json: String,
    json_is_whole: bool,
    histograms: String,
}

#[cfg(feature = "serve")]
#[derive(Template)]
#[template(path = "list.html")]
struct List<'l> {
    style: &'static str,
    rows: &'l str,
    complaints: &'l str,
}

/// The page for a record; `folder` holds its histogram files.
pub(super) fn render(record: &Record, folder: &Path) -> String {
    render_all(&[Entry::new(record.clone(), folder)])
}

/// The page for any number of records.
pub(super) fn render_all(entries: &[Entry]) -> String {
    let view = View::of(entries);
    let (groups, complaints) = series::groups(&view);
    let record = &view.record;
    let (json, json_is_whole) = embedded(&view);
    let measures = [Measure::Core, Measure::Gib, Measure::Dollar];
    let page = Page {
        record,
        style: STYLE,
        script: include_str!("../../templates/page.js"),
        headline: if view.by_tier() { tiers::headline(&view) } else { words::headline(record) },
        summary: words::summary(record),
        started: started(record),
        place: if view.by_tier() { tiers::place(&view) } else { place(record) },
        tiles: if view.by_tier() { Vec::new() } else { words::tiles(record) },
        warnings: words::warnings(record),
        legend: tiers::legend(&view),
        scaling: charts::scaling(&groups),
        scaling_remarks: tiers::remarks(&view),
        throughput: charts::throughput(&groups),
        efficiency: measures
            .iter()
            .filter(|_| view.by_tier() || view.tiers.iter().any(|tier| tier.price_per_hour.is_some()))
            .filter_map(|measure| charts::efficiency(&groups, &view.tiers, *measure))
            .collect(),
        rooflines: charts::rooflines(&view, &groups),
        tables: tables::all(&view),
        limits: tables::limits(record),
        inject: charts::spectra(&groups, charts::Side::Inject),
        end_to_end: charts::spectra(&groups, charts::Side::EndToEnd),
        rates: charts::rates(&groups),
        latencies: charts::latencies(&groups),
        heat: charts::heat_maps(&groups),
        complaints,
        facts: facts::all(record),
        machines: tiers::machines(&view),
        findings: facts::findings(record),
        notes: notes(record),
        shared_cores: record.runs.iter().any(|run| run.shared_cores),
        not_shown: view.places.len().saturating_sub(SHOWN_MAX),
        json,
        json_is_whole,
        histograms: histograms(&groups),
    };
    page.render().expect("writing into a string fails only where a Display of ours does, and none does")
}

/// A page with a list of runs; both texts are HTML.
#[cfg(feature = "serve")]
pub(super) fn list(rows: &str, complaints: &str) -> String {
    let page = List { style: STYLE, rows, complaints };
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

/// JSON that cannot end the script block it stands in.
fn in_block(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// The record, or the list of records, as JSON, and whether it is all of it: the rates of long runs would make the page
/// larger than the charts do, so over the limit they are left out, and then all but the numbers of each run.
fn embedded(view: &View<'_>) -> (String, bool) {
    let text = |records: Vec<Value>| {
        let value = match <[Value; 1]>::try_from(records) {
            Ok([only]) => only,
            Err(records) => Value::Array(records),
        };
        in_block(&value.to_string())
    };
    let values = |change: fn(&mut Record)| {
        let records = view.entries.iter().map(|entry| {
            let mut record = entry.record.clone();
            change(&mut record);
            serde_json::to_value(record).unwrap_or_default()
        });
        records.collect::<Vec<_>>()
    };
    let whole = text(values(|_| {}));
    if whole.len() <= EMBEDDED_BYTES_MAX {
        return (whole, true);
    }
    let without_rates =
        text(values(|record| record.runs.iter_mut().for_each(|run| run.rate_per_second.clear())));
    if without_rates.len() <= EMBEDDED_BYTES_MAX || view.entries.len() < 2 {
        return (without_rates, false);
    }
    (text(view.entries.iter().map(summary).collect()), false)
}

/// What a record comes down to.
fn summary(entry: &Entry) -> Value {
    let record = &entry.record;
    let runs = record.runs.iter().map(|run| {
        json!({"name": run.name, "kind": run.kind, "tier": run.tier, "body_bytes": run.body_bytes,
            "delivered": run.delivered, "lost": run.lost, "mmh_delivered": run.mmh_delivered})
    });
    json!({"run_id": record.run_id, "started_utc": record.started_utc, "git_commit": record.software.git_commit,
        "runs": runs.collect::<Vec<_>>()})
}

/// End-to-end histograms by name of the run, as HdrHistogram's tools read them; those that fit.
fn histograms(groups: &[Group<'_>]) -> String {
    let mut embedded = serde_json::Map::new();
    let mut bytes = 0;
    for drawn in groups.iter().flat_map(|group| &group.runs) {
        let Some(text) = drawn.histogram.as_ref() else { continue };
        bytes += text.len() + drawn.run.name.len();
        if bytes <= HISTOGRAM_BYTES_MAX {
            embedded.insert(drawn.run.name.clone(), Value::String(text.clone()));
        }
    }
    in_block(&Value::Object(embedded).to_string())
}
