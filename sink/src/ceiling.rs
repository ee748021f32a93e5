//! `sink --self-test`: what the sink itself can do on this host, as a table and as JSON.

use std::io::{self, Write};

use sink::{Config, SelfTestReport, Step};

use crate::flags::Flags;
use crate::write_report;

const HEADS: [&str; 8] =
    ["size", "connections", "messages/s", "MMH", "MB/s", "sink us/msg", "load us/msg", "alone, est."];

/// Measures, prints each step as it ends, and writes the report where one is asked for.
pub(crate) fn measure(flags: &Flags, config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout();
    writeln!(out, "{}", row(&HEADS.map(ToOwned::to_owned)))?;
    let mut broken = None;
    let report = SelfTestReport::measure(config.workers, flags.eyes.self_test_step(), |step| {
        broken = writeln!(out, "{}", row(&cells(step))).err().or_else(|| broken.take());
    })?;
    broken.map_or(Ok(()), Err)?;
    for Step { message_bytes, per_s, mmh, mb_per_s, .. } in &report.ceilings {
        writeln!(
            out,
            "ceiling at {message_bytes} bytes: {per_s:.0} messages/s, {mmh:.1} MMH, {mb_per_s:.0} MB/s"
        )?;
    }
    let SelfTestReport { cores, workers, remark, .. } = &report;
    writeln!(out, "{workers} threads of the sink on {cores} cores. {remark}")?;
    flags.json.as_ref().map_or(Ok(()), |file| write_report(file, &report))
}

fn cells(step: &Step) -> [String; 8] {
    let told = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    [
        step.message_bytes.to_string(),
        step.connections.to_string(),
        format!("{:.0}", step.per_s),
        format!("{:.1}", step.mmh),
        format!("{:.0}", step.mb_per_s),
        told(step.sink_cpu_us, 2),
        told(step.generator_cpu_us, 2),
        told(step.alone_per_s, 0),
    ]
}

fn row(cells: &[String; 8]) -> String {
    cells.iter().map(|cell| format!("{cell:>12}")).collect::<String>().trim_end().to_owned()
}
