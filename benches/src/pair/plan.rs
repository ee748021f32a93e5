//! What the operator asks of the comparison, as written on the command line and as meant.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::size::body_bytes;

const EXAMPLES: &str = "Examples:
  ./scripts/bench load_pair                           1 KB and 100 KB, five rounds, some minutes
  ./scripts/bench load_pair --body 1k --rounds 3 --contenders full,smtp-source
  ./scripts/bench load_pair --crowd 15000             also memory, with so many connections
  ./scripts/bench load_pair --json pair.json

smtp-source is part of Debian's postfix package; without it its column is empty and says so.
Exit codes: 0 measured (whether limits are reached is in the last table), 1 failed, 2 usage, 130 interrupted.";

/// Connections that a run may be asked for.
const CONNECTIONS_MAX: u64 = 60_000;

/// Who sends, and into what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// traffic-gen with PIPELINING and CHUNKING
    Full,
    /// traffic-gen with both off: one command at a time, DATA
    Plain,
    /// Postfix's smtp-source: one command at a time, DATA
    SmtpSource,
    /// traffic-gen with both, into a sink with a hundred rules, none of which applies
    Rules,
}

impl Contender {
    /// What the tables call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "traffic-gen",
            Self::Plain => "traffic-gen, no PIPELINING, no CHUNKING",
            Self::SmtpSource => "smtp-source",
            Self::Rules => "traffic-gen, sink with 100 rules",
        }
    }
}

/// Compares traffic-gen with smtp-source, and sink with rules with sink without.
#[derive(Debug, Parser)]
#[command(name = "load_pair", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Body sizes in bytes, with k or m for thousands and millions [default: 1k,100k].
    #[arg(long = "body", value_name = "BYTES", value_parser = body_bytes, value_delimiter = ',')]
    body_bytes: Vec<u64>,

    /// Connections at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    connections: u64,

    /// About how long each run is, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Rounds; within each, every contender runs once for each size.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Who runs [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    contenders: Vec<Contender>,

    /// Also open so many connections at once and read the peak memory of both programs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    crowd: Option<u64>,

    /// Write every run to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Bytes of the bodies, one table for each.
    pub body_bytes: Vec<u64>,
    /// Connections at once.
    pub connections: u64,
    /// About how long a run is.
    pub length: Duration,
    /// How often each contender runs for each size.
    pub rounds: u32,
    /// Who runs, in the order of a round.
    pub contenders: Vec<Contender>,
    /// Connections of the measurement of memory.
    pub crowd: Option<u64>,
    /// Where logs and reports of the programs go meanwhile.
    pub dir: PathBuf,
    /// Where the record goes.
    pub json: Option<PathBuf>,
}

impl Arguments {
    /// As meant; `build_dir` is where files of the programs go.
    pub fn plan(self, build_dir: &str) -> Plan {
        let all = Contender::value_variants().iter();
        let chosen = all.filter(|one| self.contenders.is_empty() || self.contenders.contains(one));
        Plan {
            body_bytes: if self.body_bytes.is_empty() { vec![1_000, 100_000] } else { self.body_bytes },
            connections: self.connections,
            length: Duration::from_secs(self.seconds),
            rounds: self.rounds,
            contenders: chosen.copied().collect(),
            crowd: self.crowd,
            dir: build_dir.into(),
            json: self.json,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn contenders_keep_the_order_of_a_round() {
        let line = ["load_pair", "--contenders", "smtp-source,full", "--body", "10k"];
        let plan = Arguments::try_parse_from(line).unwrap().plan("target/tmp");
        assert_eq!(plan.contenders, [Contender::Full, Contender::SmtpSource]);
        assert_eq!((plan.body_bytes, plan.crowd), (vec![10_000], None));
    }
}
