//! The table that ends a suite.
//!
//! It owns the layout: one line for each body size and kind, numbers right-aligned, units in the head; where there are limited tiers,
//! one such table for each. It prints what the record says and nothing else; a value that was not measured is a dash.

use std::collections::BTreeSet;

use reports::run::{Kind, Record, Run, Skipped, Tier, TierSource};

use crate::promise::Promise;
use crate::size::size_label;

const HEAD: [&str; 11] = [
    "body",
    "through",
    "MMH",
    "of floor",
    "direct is",
    "p50 ms",
    "p99 ms",
    "CPU us/msg",
    "lost",
    "doubled",
    "damaged",
];

/// The whole table, with a line of explanation for each mark in it; ends with a line break.
pub fn render(record: &Record) -> String {
    let mut text = String::new();
    for tier in tiers(record) {
        let mut runs: Vec<&Run> = record.runs.iter().filter(|run| run.tier == tier).collect();
        runs.sort_by_key(|run| (run.body_bytes, order(run.kind)));
        text.push_str(&heading(tier, &runs));
        text.push_str(&one(&runs));
    }
    for Skipped { tier, reason } in &record.skipped {
        text.push_str(&format!("{}: skipped, {reason}.\n", name(*tier)));
    }
    promises(&record.runs, &mut text);
    text
}

/// In the order of the record, without those that have no run.
fn tiers(record: &Record) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = Vec::new();
    for run in &record.runs {
        if !tiers.contains(&run.tier) {
            tiers.push(run.tier);
        }
    }
    tiers
}

fn name(tier: Tier) -> String {
    let word = if tier.cpus == 1.0 { "CPU" } else { "CPUs" };
    format!("{} {word}, {} GiB", tier.cpus, tier.memory_gib)
}

/// The line above the table of a limited tier; nothing where the tier is the machine.
fn heading(tier: Tier, runs: &[&Run]) -> String {
    let relayed = || runs.iter().filter(|run| run.kind != Kind::Direct);
    if !relayed().any(|run| run.tier_source == TierSource::Cgroup) {
        return String::new();
    }
    let shared = if relayed().any(|run| run.shared_cores) { ", shared cores" } else { "" };
    format!("{}, {}{shared}\n", name(tier), TierSource::Cgroup.remark())
}

fn one(runs: &[&Run]) -> String {
    let rows: Vec<[String; 11]> = runs.iter().map(|run| row(run)).collect();
    let widths: [usize; 11] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    });
    let mut text = line(&HEAD.map(String::from), &widths);
    for (row, run) in rows.iter().zip(runs) {
        text.push_str(&line(row, &widths));
        if let Some(limit) = run.limited_by {
            let limit = limit.as_str();
            text.push_str(&format!(
                "{:>8}  {limit} held this one back: the direct rate is under 3 times\n",
                "^"
            ));
        }
    }
    text
}

/// What a 250 of kumod meant in these runs.
fn promises(runs: &[Run], text: &mut String) {
    let of_kumod = runs.iter().filter(|run| run.kind == Kind::Kumod);
    let names: BTreeSet<&str> = of_kumod.filter_map(|run| run.durability.as_deref()).collect();
    for name in names {
        let promise =
            Promise::named(name).map_or("its promise is not known here", |promise| promise.0.promise());
        text.push_str(&format!("A 250 of kumod, durability {name}: {promise}.\n"));
    }
}

fn order(kind: Kind) -> u8 {
    match kind {
        Kind::Kumod => 0,
        Kind::Floor => 1,
        Kind::Direct => 2,
    }
}

fn row(run: &Run) -> [String; 11] {
    let latency = run.latency_us.end_to_end.or(run.latency_us.inject);
    let milliseconds = |value: Option<f64>| value.map_or_else(dash, |value| format!("{:.1}", value / 1000.0));
    let Processes { cpu_s, known } = cpu(run);
    let cpu_us = if known && run.delivered > 0 {
        format!("{:.0}", cpu_s * 1e6 / run.delivered as f64)
    } else {
        dash()
    };
    [
        size_label(run.body_bytes),
        through(run),
        format!("{:.1}", run.mmh_delivered),
        run.floor_ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
        run.direct_ratio.map_or_else(dash, |ratio| format!("{ratio:.1} x")),
        milliseconds(latency.map(|latency| latency.p50)),
        milliseconds(latency.map(|latency| latency.p99)),
        cpu_us,
        run.lost.to_string(),
        run.duplicated.to_string(),
        run.corrupted.to_string(),
    ]
}

/// `kumod`, or `kumod at 80 %` where a part of the rate was offered.
fn through(run: &Run) -> String {
    let kind = run.kind.as_str();
    run.load.map_or_else(|| kind.to_owned(), |load| format!("{kind} at {} %", load.percent))
}

struct Processes {
    cpu_s: f64,
    known: bool,
}

/// CPU of all three processes together: what a message costs this machine.
fn cpu(run: &Run) -> Processes {
    let all = [run.processes.kumod, run.processes.sink, run.processes.traffic_gen];
    Processes {
        cpu_s: all.iter().flatten().map(|process| process.cpu_s).sum(),
        known: all.iter().any(Option::is_some),
    }
}

fn dash() -> String {
    "-".into()
}

fn line(cells: &[String; 11], widths: &[usize; 11]) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let gap = if column == 0 { "" } else { "  " };
        // Words stand left, numbers right.
        let cell = if column == 1 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
        text.push_str(gap);
        text.push_str(&cell);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use reports::run::{Latency, LatencyPair, LimitedBy, ProcessUse};

    fn record(runs: Vec<Run>) -> Record {
        Record {
            schema_version: reports::run::SCHEMA_VERSION,
            run_id: "r".into(),
            suite: "quick".into(),
            started_utc: String::new(),
            finished_utc: None,
            command: String::new(),
            machine: reports::machine::Machine::default(),
            software: reports::software::Software::default(),
            tuner: Vec::new(),
            runs,
            skipped: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn lines_are_sorted_and_aligned() {
        let latency = Latency { p50: 1500.0, p99: 20_000.0, ..Latency::default() };
        let process = ProcessUse { cpu_s: 1.0, ..ProcessUse::default() };
        let kumod = Run {
            kind: Kind::Kumod,
            body_bytes: 100_000,
            durability: Some("commit".into()),
            mmh_delivered: 12.34,
            delivered: 10_000,
            floor_ratio: Some(0.412),
            direct_ratio: Some(2.9),
            limited_by: Some(LimitedBy::Generator),
            latency_us: LatencyPair { end_to_end: Some(latency), inject: None },
            processes: reports::run::Processes { kumod: Some(process), ..Default::default() },
            ..Run::default()
        };
        let floor = Run { kind: Kind::Floor, body_bytes: 100_000, mmh_delivered: 30.0, ..Run::default() };
        let small = Run { kind: Kind::Kumod, body_bytes: 1000, mmh_delivered: 50.0, ..Run::default() };
        let text = render(&record(vec![floor, kumod, small]));
        let expected = "\
body  through   MMH  of floor  direct is  p50 ms  p99 ms  CPU us/msg  lost  doubled  damaged
  1k  kumod    50.0         -          -       -       -           -     0        0        0
100k  kumod    12.3      0.41      2.9 x     1.5    20.0         100     0        0        0
       ^  generator held this one back: the direct rate is under 3 times
100k  floor    30.0         -          -       -       -           -     0        0        0
A 250 of kumod, durability commit: the message is on stable storage and survives a power cut.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_limited_tier_has_its_table() {
        let tier = |cpus, memory_gib| Tier { cpus, memory_gib };
        let run = |kind, tier, mmh_delivered, shared_cores| {
            let tier_source = TierSource::Cgroup;
            Run { kind, tier, tier_source, body_bytes: 1000, mmh_delivered, shared_cores, ..Run::default() }
        };
        let (half, whole) = (tier(0.5, 1.0), tier(1.0, 2.0));
        let mut record = record(vec![
            run(Kind::Floor, half, 9.0, false),
            run(Kind::Kumod, half, 3.0, false),
            run(Kind::Kumod, whole, 5.0, true),
        ]);
        let reason = "needs 16 CPUs, 1 here".into();
        record.skipped.push(Skipped { tier: tier(16.0, 64.0), reason });
        let text = render(&record);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (lines[0], lines[4]),
            ("0.5 CPUs, 1 GiB, cgroup-limited", "1 CPU, 2 GiB, cgroup-limited, shared cores")
        );
        assert!(
            lines[2].contains("kumod") && lines[2].contains("3.0") && lines[3].contains("floor"),
            "{text}"
        );
        assert_eq!(lines[7], "16 CPUs, 64 GiB: skipped, needs 16 CPUs, 1 here.");
    }
}
