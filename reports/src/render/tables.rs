//! The tables: what arrived, what it took, what a message cost, steps of load, and what could be reached.
//!
//! It owns their columns. It refuses nothing; what is unknown is a dash.

use super::format::{self, NOTHING};
use super::series;
use super::view::{Place, View};
use crate::metrics::Metric;
use crate::run::{Kind, Latency, LimitedBy, ProcessUse, Record, Run};

/// A table with columns in named groups.
pub(super) struct Table {
    /// Whether it is shown without rows, too.
    pub(super) is_main: bool,
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
    /// Kind or tier, by which the legend shows or hides it.
    pub(super) class: String,
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

/// All tables that have something to say.
pub(super) fn all(view: &View<'_>) -> Vec<(&'static str, Table)> {
    let tables = [
        ("What arrived", arrived(view)),
        ("What it took", took(view)),
        ("What a message cost the relay", costs(view)),
        ("At 80, 100 and 120 percent", loads(view)),
        ("Against the floor and the ceiling", ceilings(view)),
    ];
    tables.into_iter().filter(|(_, table)| !table.rows.is_empty() || table.is_main).collect()
}

/// Rows of the runs that `wanted` lets through, by body size and kind.
fn table(
    view: &View<'_>,
    groups: &[(&'static str, Vec<&'static str>)],
    wanted: impl Fn(&Run, &Place<'_>) -> bool,
    cells: impl Fn(&Run, &Place<'_>) -> Vec<Cell>,
) -> Table {
    let mut runs: Vec<(&Run, &Place<'_>)> = view.runs().filter(|(run, place)| wanted(run, place)).collect();
    runs.sort_by_key(|(run, place)| (run.body_bytes, series::order(run.kind), place.tier));
    let mut body_bytes = None;
    let rows = runs.into_iter().map(|(run, place)| {
        let first = body_bytes.replace(run.body_bytes) != Some(run.body_bytes);
        let class = view.class(run, place);
        Row { name: run.name.clone(), kind: run.kind.as_str(), class, first, cells: cells(run, place) }
    });
    Table {
        is_main: false,
        rows: rows.collect(),
        groups: groups.iter().map(|(name, columns)| (*name, columns.len())).collect(),
        columns: groups.iter().flat_map(|(_, columns)| columns.iter().copied()).collect(),
    }
}

/// What each message cost the relay; of kumod, and of the floor beside it. Costs that everybody asks for stand there even where
/// nobody counted them; the others where at least one run knows them.
fn costs(view: &View<'_>) -> Table {
    const SHOWN: [(&str, &str, bool); 8] = [
        ("cpu", "CPU µs", true),
        ("cpu_relative", "CPU of the load's", false),
        ("instructions", "instructions", false),
        ("syscalls", "system calls", true),
        ("switches", "context switches", true),
        ("allocations", "allocations", true),
        ("barriers", "barriers", true),
        ("written", "bytes written", true),
    ];
    let relayed = |run: &Run| run.kind != Kind::Direct && run.is_at_full_rate();
    let known = |metric: &Metric| view.record.runs.iter().any(|run| relayed(run) && metric.of(run).is_some());
    let shown: Vec<(&Metric, &str)> = SHOWN
        .iter()
        .filter_map(|(name, title, always)| Some((Metric::named(name)?, *title, *always)))
        .filter(|(metric, _, always)| *always || known(metric))
        .map(|(metric, title, _)| (metric, title))
        .collect();
    let columns = shown.iter().map(|(_, title)| *title).collect();
    table(
        view,
        &[("", vec!["Body", "CPUs"]), ("Per message", columns)],
        |run, _| relayed(run) && shown.iter().any(|(metric, _)| metric.of(run).is_some()),
        |run, _| {
            let first = [cell(format::body(run.body_bytes)), cell(format::short(run.tier.cpus))];
            let costs =
                shown.iter().map(|(metric, _)| metric.of(run).map_or_else(unknown, |cost| cell(small(cost))));
            first.into_iter().chain(costs).collect()
        },
    )
}

/// What nobody counted.
fn unknown() -> Cell {
    Cell { text: "unknown".to_owned(), class: "none" }
}

/// Steps of a search for the highest rate.
fn loads(view: &View<'_>) -> Table {
    let groups = [
        ("", vec!["Body", "Load"]),
        ("Messages per second", vec!["offered", "delivered"]),
        ("End to end", vec!["p50", "p99", "p99.9", "max"]),
        ("", vec!["Refused", "Lost"]),
    ];
    table(
        view,
        &groups,
        |run, _| !run.is_at_full_rate(),
        |run, _| {
            let load = run.load.unwrap_or_default();
            let end_to_end = |of: fn(Latency) -> f64| latency(run.latency_us.end_to_end, of);
            vec![
                cell(format::body(run.body_bytes)),
                cell(format!("{} %", format::short(load.percent))),
                cell(format::count(format::whole(load.offered_per_s))),
                cell(format::count(format::whole(run.mmh_delivered * 1e6 / 3600.0))),
                end_to_end(|latency| latency.p50),
                end_to_end(|latency| latency.p99),
                end_to_end(|latency| latency.p99_9),
                end_to_end(|latency| latency.max),
                fault(run.failed),
                fault(run.lost),
            ]
        },
    )
}

/// kumod beside what the same machine can do at all.
fn ceilings(view: &View<'_>) -> Table {
    let groups = [
        ("", vec!["Body"]),
        ("MMH", vec!["kumod", "floor", "direct", "disk in order", "disk synced", "ceiling"]),
        ("", vec!["Set by"]),
        ("kumod reaches", vec!["of floor", "of direct", "of ceiling"]),
    ];
    let ratio = |ratio: Option<f64>| cell(format::or_nothing(ratio.map(|ratio| format!("{ratio:.2}"))));
    let rate = |mmh: Option<f64>| cell(format::or_nothing(mmh.map(format::three_digits)));
    let machine = |place: &Place<'_>| &view.entries[place.entry].record.machine;
    let ceiling = |run: &Run, place: &Place<'_>| {
        machine(place).ceilings.iter().find(|ceiling| ceiling.body_bytes == run.body_bytes)
    };
    let has_more = |run: &Run| run.floor_ratio.is_some() || run.direct_ratio.is_some();
    table(
        view,
        &groups,
        |run, place| {
            run.kind == Kind::Kumod
                && run.is_at_full_rate()
                && (has_more(run) || ceiling(run, place).is_some())
        },
        |run, place| {
            let disk = machine(place).disk.as_ref().and_then(|disk| disk.measured);
            let ceiling = ceiling(run, place);
            let per_hour = |per_second: f64| per_second * 3600.0 / 1e6;
            let in_order = disk.and_then(|disk| disk.sequential_bytes_per_s).filter(|_| run.body_bytes > 0);
            vec![
                cell(format::body(run.body_bytes)),
                Cell { text: format::three_digits(run.mmh_delivered), class: "strong" },
                rate(run.floor_ratio.filter(|ratio| *ratio > 0.0).map(|ratio| run.mmh_delivered / ratio)),
                rate(run.direct_ratio.map(|ratio| run.mmh_delivered * ratio)),
                rate(in_order.map(|bytes| per_hour(bytes / run.body_bytes as f64))),
                rate(disk.map(|disk| per_hour(disk.syncs_per_s))),
                rate(ceiling.map(|ceiling| ceiling.mmh)),
                word(ceiling.map(|ceiling| ceiling.set_by.name())),
                ratio(run.floor_ratio),
                ratio(run.direct_ratio.filter(|ratio| *ratio > 0.0).map(|ratio| 1.0 / ratio)),
                ratio(
                    ceiling
                        .filter(|ceiling| ceiling.mmh > 0.0)
                        .map(|ceiling| run.mmh_delivered / ceiling.mmh),
                ),
            ]
        },
    )
}

/// Costs may lie far below one where work is shared.
fn small(number: f64) -> String {
    if number > 0.0 && number < 0.1 { format!("{number:.4}") } else { format::three_digits(number) }
}

/// What became of the messages.
fn arrived(view: &View<'_>) -> Table {
    let groups = [
        ("", vec!["Body", "Durability", "Connections"]),
        ("Messages", vec!["accepted", "delivered", "lost", "duplicated", "corrupted"]),
        ("MMH", vec!["accepted", "delivered", "of floor"]),
        ("", vec!["Time", "Limited by"]),
    ];
    main(view, &groups, |run| {
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

fn main(
    view: &View<'_>,
    groups: &[(&'static str, Vec<&'static str>)],
    cells: impl Fn(&Run) -> Vec<Cell>,
) -> Table {
    Table { is_main: true, ..table(view, groups, |run, _| run.is_at_full_rate(), |run, _| cells(run)) }
}

fn limited(run: &Run) -> Cell {
    match run.limited_by {
        Some(limit) => Cell { text: limit.as_str().to_owned(), class: "word bad" },
        None => word(None),
    }
}

/// What each message took: time, processor, memory, disk.
fn took(view: &View<'_>) -> Table {
    let groups = [
        ("Until the 250", vec!["p50", "p99"]),
        ("End to end", vec!["p50", "p99", "p99.9", "max"]),
        ("CPU µs per message", vec!["relay", "sink", "generator"]),
        ("Relay", vec!["peak RSS", "written/msg", "barriers/msg"]),
        ("", vec!["Spool"]),
    ];
    main(view, &groups, |run| {
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
            cell(format::or_nothing(run.barriers_per_message().map(small))),
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

/// The sentence below the first table, where a run was limited.
pub(super) fn limits(record: &Record) -> Option<&'static str> {
    let limited =
        record.runs.iter().any(|run| matches!(run.limited_by, Some(LimitedBy::Generator | LimitedBy::Sink)));
    limited.then_some("A run is limited when the direct run reached less than three times its rate; the number is then a lower bound.")
}
