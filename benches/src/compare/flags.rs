//! The options of `lab --compare`.
//!
//! It owns their words, limits and defaults, and what they amount to. It refuses what clap refuses, and fewer pairs at the end than at
//! the beginning.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::metrics::{self, Metric};

use super::{Options, PAIRS, PAIRS_MAX, SECONDS, Version};
use crate::error::{Error, Result};
use crate::promise::Promise;
use crate::stop::Stop;

/// The longest run of a comparison, in seconds.
const SECONDS_MAX: u64 = 3600;
/// The most pairs; [`reports::compare`] takes no larger sets.
const PAIRS_LIMIT: i64 = 1000;
/// Bodies of a comparison unless told otherwise: small ones, where most of the cost is per message.
const BODY_BYTES: u64 = 1000;

/// Comparing two versions of kumod.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Measure two versions of kumod in turns and judge them: commits, programs, or folders with a kumod.
    #[arg(long, num_args = 2, value_names = ["BASE", "HEAD"], conflicts_with_all = ["floor", "crash_test"])]
    pub compare: Vec<String>,

    /// Pairs before the first verdict.
    #[arg(long, value_name = "N", default_value_t = PAIRS, requires = "compare",
          value_parser = clap::value_parser!(u32).range(1..=PAIRS_LIMIT))]
    pub pairs: u32,

    /// Pairs after which a comparison that cannot tell is given up, and passes with a warning.
    #[arg(long, value_name = "N", requires = "compare",
          value_parser = clap::value_parser!(u32).range(1..=PAIRS_LIMIT))]
    pub pairs_max: Option<u32>,

    /// Seconds of each run of --compare and --once.
    #[arg(long, value_name = "S", default_value_t = SECONDS, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,

    /// Metrics that may fail the comparison: costs per message unless given; mmh and others on demand.
    #[arg(long, value_name = "METRIC", value_delimiter = ',', value_parser = Metric::parse, requires = "compare")]
    pub gate: Vec<&'static Metric>,

    /// Percent by which a cost may grow, or a rate shrink.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = metrics::parse_percent, requires = "compare")]
    pub limit: f64,

    /// Ask the head for TLS on every connection, and the base for none: with the same program twice, what encryption costs.
    #[arg(long, requires = "compare")]
    pub head_starttls: bool,

    /// Let the head's sink offer STARTTLS, which kumod then uses whatever the certificate: with the same program twice, what encryption
    /// towards next hops costs.
    #[arg(long, requires = "compare")]
    pub head_sink_starttls: bool,

    /// Write the verdict of --compare as Markdown to FILE as well.
    #[arg(long, value_name = "FILE", requires = "compare")]
    pub markdown: Option<PathBuf>,
}

/// What the laboratory's other options say about it.
#[derive(Debug)]
pub struct Common {
    /// Folder for the folders of runs.
    pub results: PathBuf,
    /// Body sizes; empty when none was given.
    pub body_bytes: Vec<u64>,
    /// Connections of traffic-gen.
    pub connections: usize,
    /// Seed.
    pub seed: u64,
    /// What a 250 promises.
    pub durability: Promise,
}

impl Flags {
    /// Whether a comparison was asked for.
    pub fn is_wanted(&self) -> bool {
        !self.compare.is_empty()
    }

    /// The options, with both versions found or built.
    ///
    /// # Errors
    /// As [`Version::find`], and [`Error::Operator`] where the numbers of pairs do not fit.
    pub fn options(&self, common: Common, stop: &Stop) -> Result<Options> {
        let pairs_max = self.pairs_max.unwrap_or_else(|| PAIRS_MAX.max(self.pairs));
        if pairs_max < self.pairs {
            let pairs = self.pairs;
            return Err(Error::Operator(format!(
                "--pairs-max {pairs_max} is less than --pairs {pairs}; give at least as many"
            )));
        }
        let [base, head] = self.compare.as_slice() else {
            return Err(Error::Operator("--compare needs two versions, BASE and HEAD".into()));
        };
        let checkout = Path::new(".");
        let Common { results, body_bytes, connections, seed, durability } = common;
        Ok(Options {
            base: Version::find(base, checkout, stop)?,
            head: Version::find(head, checkout, stop)?,
            results,
            pairs: self.pairs,
            pairs_max,
            duration: Duration::from_secs(self.seconds),
            body_bytes: if body_bytes.is_empty() { vec![BODY_BYTES] } else { body_bytes },
            gates: self.gate.clone(),
            limit: self.limit / 100.0,
            seed,
            connections,
            durability,
            head_starttls: self.head_starttls,
            head_sink_starttls: self.head_sink_starttls,
        })
    }
}
