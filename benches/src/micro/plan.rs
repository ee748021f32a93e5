//! What `cost_per_operation` is asked to do.
//!
//! It owns the command line and the two sizes of a measurement. It refuses names of operations that there are not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use super::catalogue::{ENTRIES, Entry, Making, RECOVERED_MESSAGES};
use super::measure::Effort;

const EXAMPLES: &str = "Examples:
  ./scripts/bench cost_per_operation
  ./scripts/bench cost_per_operation --only queue_cycle,header_prepend
  ./scripts/bench cost_per_operation --json costs.json
  ./scripts/bench cost_per_operation --table costs.json           the table of an earlier measurement
  ./scripts/bench cost_per_operation --json docs/data/cost-per-operation.json --into docs/measuring.md

Exit codes: 0 measured, 1 failed, 2 usage, 130 interrupted.";

/// Messages in the spool that is opened in a smoke run.
const RECOVERED_MESSAGES_QUICK: u64 = 500;

/// Time, allocations and instructions of single operations.
#[derive(Debug, Parser)]
#[command(name = "cost_per_operation", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Operations whose name begins with one of these [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = known)]
    only: Vec<String>,

    /// How often each is measured; the median is told.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How long each time, about.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    seconds: Duration,

    /// A smoke run: that everything works, in a few seconds; the figures say nothing.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,

    /// Where spools are made; on a disk [default: the folder of the build].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Write the figures to FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "table")]
    json: Option<PathBuf>,

    /// Measure nothing; print the table of what --json wrote.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,

    /// Put the table into FILE as well, in the place of the one between its two marks.
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,

    /// Do one operation as often as --operations says, and nothing else: whose instructions are counted.
    #[arg(long, value_name = "NAME", hide = true, requires = "operations")]
    once: Option<String>,

    /// See --once.
    #[arg(long, value_name = "N", hide = true)]
    operations: Option<u64>,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is asked for.
#[derive(Debug)]
pub enum Task {
    /// Measure, and put the table into this file.
    Measure(Plan, Option<PathBuf>),
    /// Print the table of this file, and put it into the other.
    Table(PathBuf, Option<PathBuf>),
    /// Do one operation so often.
    Once(Plan, String, u64),
}

/// What is measured, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Beginnings of names; none stands for all.
    pub only: Vec<String>,
    /// How thoroughly.
    pub effort: Effort,
    /// Messages in the spool that is opened.
    pub recovered_messages: u64,
    /// Where folders are made.
    pub place: PathBuf,
    /// Where the figures are written.
    pub json: Option<PathBuf>,
    /// The program that does one operation when it is told `--once`; without one, instructions are not counted.
    pub program: Option<PathBuf>,
}

impl Arguments {
    /// What is meant. `place` is where folders are made unless something else is said, `program` this one.
    pub fn task(self, place: &Path, program: Option<PathBuf>) -> Task {
        if let Some(table) = self.table {
            return Task::Table(table, self.into);
        }
        let place = self.dir.unwrap_or_else(|| place.to_owned());
        let plan = if self.quick {
            Plan { only: self.only, json: self.json, program, ..Plan::quick(place) }
        } else {
            Plan {
                only: self.only,
                effort: Effort { rounds: self.rounds, round: self.seconds },
                recovered_messages: RECOVERED_MESSAGES,
                place,
                json: self.json,
                program,
            }
        };
        match (self.once, self.operations) {
            (Some(name), Some(operations)) => Task::Once(plan, name, operations),
            _ => Task::Measure(plan, self.into),
        }
    }
}

impl Plan {
    /// Everything, once and for as short as it can be.
    pub fn quick(place: PathBuf) -> Self {
        Self {
            only: Vec::new(),
            effort: Effort { rounds: 1, round: Duration::from_millis(4) },
            recovered_messages: RECOVERED_MESSAGES_QUICK,
            place,
            json: None,
            program: None,
        }
    }

    /// What the operations are made with.
    pub fn making(&self) -> Making<'_> {
        Making { place: &self.place, recovered_messages: self.recovered_messages }
    }

    /// The operations that were asked for.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        let asked = |entry: &&Entry| {
            self.only.is_empty() || self.only.iter().any(|only| entry.name.starts_with(only.as_str()))
        };
        ENTRIES.iter().filter(asked)
    }
}

fn known(text: &str) -> Result<String, String> {
    if ENTRIES.iter().any(|entry| entry.name.starts_with(text)) {
        return Ok(text.to_owned());
    }
    let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
    Err(format!("no operation is called {text:?}; there are {}", names.join(", ")))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text}: 0.001 to 60 seconds are expected"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn task(line: &str) -> Result<Task, clap::Error> {
        let arguments = Arguments::try_parse_from(line.split_whitespace())?;
        Ok(arguments.task(Path::new("target/tmp"), None))
    }

    #[test]
    fn operations_are_chosen_by_how_their_names_begin() {
        let Task::Measure(plan, None) = task("bench --only spool,end_to_end --bench").unwrap() else {
            panic!("a measurement was asked for");
        };
        let names: Vec<&str> = plan.entries().map(|entry| entry.name).collect();
        assert_eq!(names, ["spool_append/1k", "spool_append/100k", "spool_recover", "end_to_end"]);
        let refused = task("bench --only postbox").unwrap_err().to_string();
        assert!(refused.contains("postbox") && refused.contains("queue_cycle"), "{refused}");
    }

    #[test]
    fn a_smoke_run_takes_no_lengths() {
        assert!(matches!(task("bench --quick").unwrap(), Task::Measure(plan, _) if plan.effort.rounds == 1));
        for wrong in
            ["--quick --rounds 3", "--seconds 0", "--rounds 0", "--once queue_cycle", "--table a --json b"]
        {
            assert!(task(&format!("bench {wrong}")).is_err(), "{wrong}");
        }
    }
}
