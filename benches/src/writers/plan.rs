//! What the operator asks of the comparison, as written on the command line and as meant.
//!
//! It owns the defaults and the limits of each option, and refuses what lies outside them by name. `--quick` stands for the cells
//! that the limits are about, for a second each; options given beside it hold.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

pub use super::contender::Contender;
use crate::size::body_bytes;

const EXAMPLES: &str = "Examples:
  ./scripts/bench spool_writers                       all cells, about twenty minutes
  ./scripts/bench spool_writers --quick               1 KB and 100 KB from 64 writers, about a minute
  ./scripts/bench spool_writers --body 100k --writers 64,1000 --rounds 5 --seconds 3
  ./scripts/bench spool_writers --contenders spool-uring,spool-threads --json writers.json

The tables are Markdown on standard output; progress is on standard error. docs/measuring.md says what the
numbers mean. The folder must be on a disk; what is made there is removed.

Exit codes: 0 measured (whether limits are reached is in the last table), 1 failed, 2 usage,
130 interrupted (what was measured is still printed and written).";

/// Writers beyond this are threads beyond what a host gives.
const WRITERS_MAX: u64 = 4096;
/// Part of a run's length that warms it up.
const WARM_UP_SHARE: f64 = 0.2;

/// Compares ways of making messages durable: throughput, latency and processor time of each.
#[derive(Debug, Parser)]
#[command(name = "spool_writers", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Body sizes in bytes, with k or m for thousands and millions [default: 1k,10k,100k,1m; quick: 1k,100k].
    #[arg(long = "body", value_name = "BYTES", value_parser = body_bytes, value_delimiter = ',')]
    body_bytes: Vec<u64>,

    /// Writers at a time [default: 1,16,64,1000; quick: 64].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=WRITERS_MAX), value_delimiter = ',')]
    writers: Vec<u64>,

    /// Length of one run in seconds, a warm-up of a fifth before it [default: 2; quick: 1].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<f64>,

    /// Rounds; within each, every contender runs once for each cell [default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,

    /// Who runs [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    contenders: Vec<Contender>,

    /// Where the files are made; on a disk [default: the folder of the build].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Write every run of every cell to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Fewer cells, shorter.
    #[arg(long)]
    quick: bool,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Bytes of the bodies, one table for each.
    pub body_bytes: Vec<u64>,
    /// Writers at a time.
    pub writers: Vec<usize>,
    /// Length of a run.
    pub length: Duration,
    /// Time before it.
    pub warm_up: Duration,
    /// How often each cell is run by each contender.
    pub rounds: u32,
    /// Who runs, in the order of a round.
    pub contenders: Vec<Contender>,
    /// Where.
    pub dir: PathBuf,
    /// Where the record goes.
    pub json: Option<PathBuf>,
}

impl Arguments {
    /// As meant; `build_dir` is where files go if nothing was said.
    pub fn plan(self, build_dir: &str) -> Plan {
        let (body_bytes, writers): (&[u64], &[u64]) = if self.quick {
            (&[1_000, 100_000], &[64])
        } else {
            (&[1_000, 10_000, 100_000, 1_000_000], &[1, 16, 64, 1000])
        };
        let given =
            |given: Vec<u64>, default: &[u64]| if given.is_empty() { default.to_vec() } else { given };
        let length = Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 1.0 } else { 2.0 }));
        let all = Contender::value_variants();
        let chosen = all.iter().filter(|one| self.contenders.is_empty() || self.contenders.contains(one));
        Plan {
            body_bytes: given(self.body_bytes, body_bytes),
            writers: given(self.writers, writers)
                .into_iter()
                .filter_map(|writers| writers.try_into().ok())
                .collect(),
            length,
            warm_up: length.mul_f64(WARM_UP_SHARE),
            rounds: self.rounds.unwrap_or(3),
            contenders: chosen.copied().collect(),
            dir: self.dir.unwrap_or_else(|| build_dir.into()),
            json: self.json,
        }
    }
}

/// Whether the process was started to measure: cargo says `--bench` when it does, and nothing when it tests.
pub fn asked_to_measure(mut arguments: impl Iterator<Item = String>) -> bool {
    arguments.any(|argument| ["--bench", "--help", "-h", "--version", "-V"].contains(&argument.as_str()))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=600.0).contains(seconds));
    seconds.ok_or_else(|| format!("{text}: 0.05 to 600 seconds are expected"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn plan(line: &str) -> Plan {
        Arguments::try_parse_from(line.split(' ')).unwrap().plan("target/tmp")
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_hold_over_quick() {
        let quick = plan("spool_writers --quick --bench");
        assert_eq!((quick.body_bytes, quick.writers), (vec![1_000, 100_000], vec![64]));
        assert_eq!(quick.length, Duration::from_secs(1));
        let said = plan("spool_writers --quick --writers 1,2 --seconds 0.5 --contenders files,spool-uring");
        assert_eq!((said.writers, said.length), (vec![1, 2], Duration::from_millis(500)));
        assert_eq!(said.contenders, [Contender::SpoolUring, Contender::Files]);
        assert_eq!(plan("spool_writers").contenders.len(), Contender::value_variants().len());
    }

    #[test]
    fn a_test_run_measures_nothing() {
        let asked = |line: &str| asked_to_measure(line.split(' ').map(String::from));
        assert!(asked("spool_writers --quick --bench") && asked("spool_writers --help"));
        assert!(!asked("spool_writers --quick"));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for wrong in
            ["--writers 0", "--writers 5000", "--seconds 0", "--rounds 0", "--body 0", "--contenders x"]
        {
            let line = format!("spool_writers {wrong}");
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{wrong}");
        }
    }
}
