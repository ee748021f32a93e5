//! The verb that measures, its progress on a terminal and its table.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tuner::measure::{BODY_BYTES_MAX, Measurement, PROBE_LENGTH_MAX, Plan, SIZES_MAX, measure};

use super::{Common, Failure};

/// How to measure.
#[derive(Args)]
pub(crate) struct MeasureArguments {
    /// Length of each probe; there are eleven, or five for each size and one.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,

    /// Sizes of messages, up to six: those of the runs that the ceiling is to stand beside. 4096 and 100000 unless given.
    #[arg(long = "body-size", value_name = "BYTES", value_delimiter = ',')]
    body_bytes: Vec<usize>,
}

/// Characters of the bar.
const BAR: usize = 30;

pub(super) fn run(common: &Common, arguments: &MeasureArguments) -> Result<u8, Failure> {
    if common.root.is_some() {
        return Err(Failure::usage("--root: a tree cannot be measured; measure runs on this host"));
    }
    let most = PROBE_LENGTH_MAX.as_secs_f64();
    if !(0.01..=most).contains(&arguments.seconds) {
        return Err(Failure::usage(format!(
            "--seconds: {} is not between 0.01 and {most}",
            arguments.seconds
        )));
    }
    let mut plan = Plan::usual(Duration::from_secs_f64(arguments.seconds));
    if !arguments.body_bytes.is_empty() {
        plan.body_bytes.clone_from(&arguments.body_bytes);
    }
    if let Some(bytes) = plan.body_bytes.iter().find(|bytes| !(1..=BODY_BYTES_MAX).contains(*bytes)) {
        return Err(Failure::usage(format!(
            "--body-size: {bytes} is not between 1 and {BODY_BYTES_MAX} bytes"
        )));
    }
    if plan.body_bytes.len() > SIZES_MAX {
        return Err(Failure::usage(format!("--body-size: at most {SIZES_MAX} sizes are measured at once")));
    }
    let directory = directory(common)?;
    let to_terminal = io::stderr().is_terminal();
    let mut progress = |share: f64, what: &str| {
        if to_terminal {
            eprint!("\r\x1b[K{}", bar(share, what));
        }
    };
    let measured = measure(&directory, &plan, &mut progress);
    if to_terminal {
        eprint!("\r\x1b[K");
    }
    let measured = measured.map_err(Failure::error)?;
    common.tell(&table(&measured));
    common.record(&measured)?;
    Ok(0)
}

fn directory(common: &Common) -> Result<PathBuf, Failure> {
    let default = Path::new("/").join(tuner::host::SPOOL_DIRECTORY);
    match &common.spool {
        Some(directory) if directory.is_dir() => Ok(directory.clone()),
        Some(directory) => {
            Err(Failure::usage(format!("--spool: {} is not a directory", directory.display())))
        }
        None if default.is_dir() => Ok(default),
        None => Err(Failure::usage(format!(
            "{} does not exist: name a directory on the disk of the spool with --spool DIR",
            default.display()
        ))),
    }
}

fn bar(share: f64, what: &str) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and is clamped")]
    let full = (share * BAR as f64).clamp(0.0, BAR as f64) as usize;
    format!("[{}{}] {what}", "#".repeat(full), " ".repeat(BAR - full))
}

fn table(measured: &Measurement) -> String {
    let mut text = String::from(
        "durable appends through the spool\n  bytes   at once  appends/s     MB/s  p50 us   p99 us  batch  CPU us\n",
    );
    for point in &measured.disk {
        writeln!(
            text,
            "  {:<7} {:>7} {:>10.0} {:>8.1} {:>7.0} {:>8.0} {:>6.1} {:>7.1}",
            point.body_bytes,
            point.writers,
            point.per_s,
            point.bytes_per_s / 1e6,
            point.latency_us.p50,
            point.latency_us.p99,
            point.batch,
            point.processor_us
        )
        .expect("a String takes every write");
    }
    text.push_str("messages across the loopback\n");
    for point in &measured.loopback {
        writeln!(text, "  {:<7} {:.0}/s, {:.1} us CPU", point.body_bytes, point.per_s, point.processor_us)
            .expect("a String takes every write");
    }
    writeln!(text, "one processor passes over {:.1} GB/s", measured.pass_bytes_per_s / 1e9)
        .expect("a String takes every write");
    text.push_str("ceiling of this machine (a model: in, stored, out, and nothing else)\n");
    for ceiling in &measured.ceilings {
        writeln!(
            text,
            "  {:<7} {:.1} MMH, set by the {}  (disk {:.1}, loopback {:.1}, processor {:.1})",
            ceiling.body_bytes,
            ceiling.mmh,
            ceiling.set_by.name(),
            ceiling.disk_mmh,
            ceiling.loopback_mmh,
            ceiling.processor_mmh
        )
        .expect("a String takes every write");
    }
    text
}
