//! The comparison as Markdown and as JSON.
//!
//! It owns the layout: where and what was measured, one table for each body size, and the limits. It prints medians of the rounds
//! and, for the rate, their extremes; a value that was not measured is a dash.

use std::path::Path;

use reports::machine::Machine;
use reports::software::Software;
use serde::Serialize;

use super::limits::{self, Limit, Spread, limits};
use super::plan::{Contender, Plan};
use super::run::{Cell, Measured};
use crate::error::{During, Result};
use crate::figures::{bound_label, dash, heading, plain, short, verdict};
use crate::size::size_label;

/// Everything that was found out, ready to be written.
#[derive(Debug, Serialize)]
pub struct Report<'m> {
    /// When it began, UTC.
    pub started_utc: String,
    /// The command line.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// What.
    pub software: Software,
    /// How often each cell was run.
    pub rounds: u32,
    /// Length of each run.
    pub seconds: f64,
    /// Every run.
    #[serde(flatten)]
    pub measured: &'m Measured,
    /// What is expected of the spool.
    pub limits: Vec<Limit>,
}

impl<'m> Report<'m> {
    /// Looks at the machine and the checkout.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] when there is no current folder.
    pub fn of(measured: &'m Measured, plan: &Plan, started: jiff::Timestamp) -> Result<Self> {
        let checkout = std::env::current_dir().during(|| "find the current folder".into())?;
        let mut software = Software::probe(&checkout);
        software.profile = Some(if cfg!(debug_assertions) { "dev" } else { "release" }.into());
        let arguments: Vec<String> =
            std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        Ok(Self {
            started_utc: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            command: format!("./scripts/bench spool_writers {}", arguments.join(" ")).trim_end().into(),
            machine: Machine::probe(&plan.dir),
            software,
            rounds: plan.rounds,
            seconds: plan.length.as_secs_f64(),
            measured,
            limits: limits(&measured.cells),
        })
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`crate::error::Error::Host`] with the path.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).during(|| "write JSON".into())?;
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))
    }

    /// The whole text; ends with a line break.
    pub fn markdown(&self) -> String {
        let mut text = self.head();
        let mut sizes: Vec<u64> = self.measured.cells.iter().map(|cell| cell.body_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        for body_bytes in sizes {
            text.push_str(&self.table(body_bytes));
        }
        text.push_str(&self.limits());
        for (contender, reason) in &self.measured.refused {
            text.push_str(&format!("\nNot measured: {}: {reason}.\n", contender.label()));
        }
        text
    }

    fn head(&self) -> String {
        let what =
            format!("{} rounds of {} s for each cell, {}", self.rounds, self.seconds, self.started_utc);
        heading(&what, &self.machine, &self.software, &self.command)
    }

    fn table(&self, body_bytes: u64) -> String {
        let of_size: Vec<&Cell> =
            self.measured.cells.iter().filter(|cell| cell.body_bytes == body_bytes).collect();
        let mut text = format!(
            "\n### Bodies of {} bytes\n\n\
             | writers | way | appends/s | lowest to highest | MB/s | p50 ms | p99 ms | p99.9 ms | max ms | CPU us | of it writer | batch |\n\
             |---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
            size_label(body_bytes)
        );
        let mut rows: Vec<(usize, Contender)> =
            of_size.iter().map(|cell| (cell.writers, cell.contender)).collect();
        // Stable, so the contenders stay in the order of a round.
        rows.sort_by_key(|(writers, _)| *writers);
        let mut told: Vec<(usize, Contender)> = Vec::new();
        for row in rows {
            if !told.contains(&row) {
                told.push(row);
                let rounds = of_size.iter().copied().filter(|cell| (cell.writers, cell.contender) == row);
                text.push_str(&line(row, &rounds.collect::<Vec<_>>()));
            }
        }
        text
    }

    fn limits(&self) -> String {
        let subjects: Vec<&str> = limits::SUBJECTS.iter().map(|subject| subject.label()).collect();
        let mut text = format!(
            "\n### Limits, {} writers\n\n| limit | expected | {} |\n|---|---|{}\n",
            limits::WRITERS,
            subjects.join(" | "),
            "---|".repeat(subjects.len())
        );
        for Limit { what, bound, measured } in &self.limits {
            let told: Vec<String> = measured.iter().map(|measured| verdict(*bound, *measured)).collect();
            text.push_str(&format!("| {what} | {} | {} |\n", bound_label(*bound), told.join(" | ")));
        }
        text
    }
}

fn line((writers, contender): (usize, Contender), rounds: &[&Cell]) -> String {
    let median =
        |value: &dyn Fn(&Cell) -> Option<f64>| Spread::of(rounds.iter().filter_map(|cell| value(cell)));
    let told =
        |value: &dyn Fn(&Cell) -> Option<f64>| median(value).map_or_else(dash, |spread| plain(spread.median));
    let rate = median(&|cell| Some(cell.appends_per_second));
    let range = rate.map_or_else(dash, |rate| format!("{} to {}", short(rate.min), short(rate.max)));
    let made: u64 = rounds.iter().map(|cell| cell.segments_made).sum();
    let remark = if made > 0 { format!(" ({made} segments made meanwhile)") } else { String::new() };
    format!(
        "| {writers} | {}{remark} | {} | {range} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        contender.label(),
        rate.map_or_else(dash, |rate| short(rate.median)),
        told(&|cell| Some(cell.bytes_per_second / 1e6)),
        told(&|cell| Some(cell.latency_us.p50 / 1000.0)),
        told(&|cell| Some(cell.latency_us.p99 / 1000.0)),
        told(&|cell| Some(cell.latency_us.p99_9 / 1000.0)),
        told(&|cell| Some(cell.latency_us.max / 1000.0)),
        told(&|cell| Some(cell.cpu_us_per_append)),
        told(&|cell| cell.writer_cpu_us_per_append),
        told(&|cell| cell.appends_per_batch),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writers::limits::tests::cell;

    #[test]
    fn tables_have_a_line_for_each_contender_and_the_limits_a_verdict() {
        let (spool, files) = (Contender::SpoolUring, Contender::FilesSynced);
        let mut cells = vec![cell(files, 1000, 1, 16_000.0), cell(spool, 1000, 1, 150_500.0)];
        cells.extend([
            cell(spool, 1000, 2, 139_000.0),
            cell(files, 1000, 2, 12_000.0),
            cell(spool, 1000, 3, 163_000.0),
        ]);
        cells[1].segments_made = 2;
        let refused = vec![(Contender::SpoolTokioUring, "no".into())];
        let measured = Measured { cells, refused, error: None };
        let report = Report {
            started_utc: "2026-01-01T00:00:00Z".into(),
            command: "x".into(),
            machine: Machine::default(),
            software: Software::default(),
            rounds: 3,
            seconds: 1.0,
            limits: limits(&measured.cells),
            measured: &measured,
        };
        let text = report.markdown();
        let expected = "\
### Bodies of 1k bytes

| writers | way | appends/s | lowest to highest | MB/s | p50 ms | p99 ms | p99.9 ms | max ms | CPU us | of it writer | batch |
|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| 64 | file per message, synced | 14.0k | 12.0k to 16.0k | 14.0 | 0.40 | 0.90 | 2.00 | 12.3 | 4.00 | 1.50 | 33.0 |
| 64 | spool, io_uring, direct (2 segments made meanwhile) | 150k | 139k to 163k | 150 | 0.40 | 0.90 | 2.00 | 12.3 | 4.00 | 1.50 | 33.0 |
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("| 1 KB: rate, of a synced file per message | at least 9.00 | 10.5 (9.41 to 11.6), reached | - | - | - |"), "{text}");
        assert!(text.contains("Not measured: spool, tokio-uring, direct: no."), "{text}");
    }
}
