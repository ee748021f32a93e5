//! How figures are told: which machine and commit they come from, three digits, and whether a limit was reached.
//!
//! It owns the heading of every table of a bench and the words beside its limits. What is unknown is said to be unknown.

use reports::machine::Machine;
use reports::software::Software;

use crate::writers::limits::{Bound, Spread};

/// The lines above a table: `what` was done, on which commit and machine, with which command.
pub fn heading(what: &str, machine: &Machine, software: &Software, command: &str) -> String {
    let Machine { cpu, memory, disk, system, .. } = machine;
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let number = |value: Option<f64>| value.map_or_else(|| "?".into(), |value| value.to_string());
    let gibibytes = memory.total_bytes.map(|bytes| (bytes as f64 / f64::from(1 << 30)).round());
    let disk = disk.as_ref();
    let below =
        disk.and_then(|disk| disk.device.clone()).or_else(|| disk.and_then(|disk| disk.source.clone()));
    let changed = if software.git_dirty == Some(true) { ", with changes" } else { "" };
    format!(
        "{what}, commit {}{changed}, profile {}.\n\
         {} ({} processors), {} GiB of memory, Linux {}, {} on {}.\n\
         Command: `{command}`\n",
        word(&software.git_commit),
        word(&software.profile),
        word(&cpu.model),
        number(cpu.usable),
        number(gibibytes),
        word(&system.kernel),
        word(&disk.and_then(|disk| disk.filesystem.clone())),
        word(&below),
    )
}

/// `at least 3.00`.
pub fn bound_label(bound: Bound) -> String {
    match bound {
        Bound::AtLeast(value) => format!("at least {}", plain(value)),
        Bound::AtMost(value) => format!("at most {}", plain(value)),
    }
}

/// The median with its extremes, and whether it is on the good side; a dash where nothing was measured.
pub fn verdict(bound: Bound, measured: Option<Spread>) -> String {
    measured.map_or_else(dash, |measured| {
        let word = if bound.is_reached(measured) { "reached" } else { "not reached" };
        let Spread { median, min, max } = measured;
        format!("{} ({} to {}), {word}", plain(median), plain(min), plain(max))
    })
}

/// Stands for what was not measured.
pub fn dash() -> String {
    "-".into()
}

/// Three significant digits or all before the point.
pub fn plain(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `139k`, `25.1k`, `950`.
pub fn short(value: f64) -> String {
    if value >= 10_000.0 { format!("{}k", plain(value / 1000.0)) } else { format!("{value:.0}") }
}
