//! The comparison as Markdown and as JSON: a table for each size, memory, and the limits.

use std::path::Path;

use reports::machine::Machine;
use reports::software::Software;
use serde::Serialize;

use super::plan::{Contender, Plan};
use super::run::{Cell, Crowd, Measured};
use crate::error::{During, Result};
use crate::figures::{bound_label, dash, heading, plain, short, verdict};
use crate::size::size_label;
use crate::writers::limits::{Bound, Spread};

const SMALL_BYTES: u64 = 1_000;
const LARGE_BYTES: u64 = 100_000;
/// Most memory of generator and sink each, with 15,000 connections, in MiB.
const CROWD_MEBIBYTES_MAX: f64 = 750.0;

/// What is expected, and what came.
#[derive(Debug, Serialize)]
pub struct Limit {
    what: &'static str,
    bound: Bound,
    measured: Option<Spread>,
}

/// Everything that was found out, ready to be written.
#[derive(Debug, Serialize)]
pub struct Report<'m> {
    started_utc: String,
    command: String,
    machine: Machine,
    software: Software,
    connections: u64,
    rounds: u32,
    #[serde(flatten)]
    measured: &'m Measured,
    limits: Vec<Limit>,
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
            command: format!("./scripts/bench load_pair {}", arguments.join(" ")).trim_end().into(),
            machine: Machine::probe(&plan.dir),
            software,
            connections: plan.connections,
            rounds: plan.rounds,
            limits: limits(measured),
            measured,
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
        let pinned = if self.measured.pinned { "a core each" } else { "no core of their own" };
        let what = format!(
            "{} connections, {} rounds, generator and sink with {pinned}, {}",
            self.connections, self.rounds, self.started_utc
        );
        let mut text = heading(&what, &self.machine, &self.software, &self.command);
        let mut sizes: Vec<u64> = self.measured.cells.iter().map(|cell| cell.body_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes.iter().for_each(|body_bytes| text.push_str(&table(&self.measured.cells, *body_bytes)));
        if let Some(crowd) = &self.measured.crowd {
            text.push_str(&memory(crowd));
        }
        text.push_str("\n### Limits\n\n| limit | expected | measured |\n|---|---|---|\n");
        for Limit { what, bound, measured } in &self.limits {
            text.push_str(&format!(
                "| {what} | {} | {} |\n",
                bound_label(*bound),
                verdict(*bound, *measured)
            ));
        }
        for (contender, reason) in &self.measured.refused {
            text.push_str(&format!("\nNot measured: {}: {reason}.\n", contender.label()));
        }
        text
    }
}

fn table(cells: &[Cell], body_bytes: u64) -> String {
    let mut text = format!(
        "\n### Bodies of {} bytes\n\n\
         | sender | msg/s | lowest to highest | MB/s of bodies | CPU us of sender | CPU us of sink |\n\
         |---|---:|---:|---:|---:|---:|\n",
        size_label(body_bytes)
    );
    let mut told: Vec<Contender> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.body_bytes == body_bytes) {
        if told.contains(&cell.contender) {
            continue;
        }
        told.push(cell.contender);
        let spread =
            |value: &dyn Fn(&Cell) -> f64| Spread::of(of(cells, cell.contender, body_bytes).map(value));
        let median = |value| spread(value).map_or_else(dash, |spread| plain(spread.median));
        let rate = spread(&|cell| cell.rate);
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            cell.contender.label(),
            rate.map_or_else(dash, |rate| short(rate.median)),
            rate.map_or_else(dash, |rate| format!("{} to {}", short(rate.min), short(rate.max))),
            median(&|cell| cell.rate * cell.body_bytes as f64 / 1e6),
            median(&|cell| cell.generator_cpu_us),
            median(&|cell| cell.sink_cpu_us),
        ));
    }
    text
}

fn memory(crowd: &Crowd) -> String {
    let Crowd { connections, connections_opened, messages, .. } = crowd;
    format!(
        "\n### Memory\n\n{connections_opened} of {connections} connections, {messages} messages: \
         traffic-gen {} MiB, sink {} MiB at their peak.\n",
        plain(mebibytes(crowd.generator_rss_bytes)),
        plain(mebibytes(crowd.sink_rss_bytes)),
    )
}

fn limits(measured: &Measured) -> Vec<Limit> {
    let cells = &measured.cells;
    let ours = |body_bytes, value: &dyn Fn(&Cell) -> f64| {
        Spread::of(of(cells, Contender::Full, body_bytes).map(value))
    };
    let over = |one, other, body_bytes, value: &dyn Fn(&Cell) -> f64| {
        Spread::of(of(cells, one, body_bytes).filter_map(|cell| {
            let other = of(cells, other, body_bytes).find(|other| other.round == cell.round)?;
            Some(value(cell) / value(other))
        }))
    };
    let rate = |cell: &Cell| cell.rate;
    let crowd = |value: fn(&Crowd) -> u64| {
        measured
            .crowd
            .iter()
            .map(value)
            .map(mebibytes)
            .map(|one| Spread { median: one, min: one, max: one })
            .next()
    };
    let (full, plain, source) = (Contender::Full, Contender::Plain, Contender::SmtpSource);
    let limit = |what, bound, measured| Limit { what, bound, measured };
    vec![
        limit("1 KB: msg/s of one core", Bound::AtLeast(40_000.0), ours(SMALL_BYTES, &rate)),
        limit(
            "100 KB: GB/s of bodies of one core",
            Bound::AtLeast(2.0),
            ours(LARGE_BYTES, &|cell| cell.rate * cell.body_bytes as f64 / 1e9),
        ),
        limit("1 KB: rate, of smtp-source", Bound::AtLeast(3.0), over(full, source, SMALL_BYTES, &rate)),
        limit(
            "1 KB: rate without PIPELINING and CHUNKING, of smtp-source",
            Bound::AtLeast(1.0),
            over(plain, source, SMALL_BYTES, &rate),
        ),
        limit(
            "1 KB: rate into a sink with 100 rules, of one without",
            Bound::AtLeast(0.95),
            over(Contender::Rules, full, SMALL_BYTES, &rate),
        ),
        limit(
            "1 KB: CPU of a sink with 100 rules, of one without",
            Bound::AtMost(1.05),
            over(Contender::Rules, full, SMALL_BYTES, &|cell| cell.sink_cpu_us),
        ),
        limit(
            "memory of traffic-gen with the crowd, in MiB",
            Bound::AtMost(CROWD_MEBIBYTES_MAX),
            crowd(|crowd| crowd.generator_rss_bytes),
        ),
        limit(
            "memory of sink with the crowd, in MiB",
            Bound::AtMost(CROWD_MEBIBYTES_MAX),
            crowd(|crowd| crowd.sink_rss_bytes),
        ),
    ]
}

fn of(cells: &[Cell], contender: Contender, body_bytes: u64) -> impl Iterator<Item = &Cell> {
    cells.iter().filter(move |cell| (cell.contender, cell.body_bytes) == (contender, body_bytes))
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(contender: Contender, round: u32, rate: f64) -> Cell {
        Cell {
            contender,
            body_bytes: 1_000,
            round,
            messages: 1,
            seconds: 1.0,
            rate,
            generator_cpu_us: 9.0,
            sink_cpu_us: 8.0,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rounds = [(1, 90_000.0, 30_000.0), (2, 9_000.0, 2_000.0), (3, 80_000.0, 40_000.0)];
        let cells = rounds.iter().flat_map(|(round, ours, theirs)| {
            [cell(Contender::Full, *round, *ours), cell(Contender::SmtpSource, *round, *theirs)]
        });
        let measured = Measured { cells: cells.collect(), ..Measured::default() };
        let limits = limits(&measured);
        assert_eq!(limits[2].measured, Some(Spread { median: 3.0, min: 2.0, max: 4.5 }));
        assert_eq!(limits[1].measured, None, "nothing was measured with 100 KB");
    }
}
