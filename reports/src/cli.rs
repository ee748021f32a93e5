//! The command line of `reports`: verbs, options and their help.
//!
//! It owns the words and the checks of single values. It refuses what clap refuses, with exit code 2.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use reports::metrics::{self, Metric};

const EXAMPLES: &str = "\
Examples:
  reports render results/20261122T061500Z-quick -o page.html
  reports render results/* -o tiers.html
  reports render results/latest --ceiling measure.json -o page.html
  reports compare results/base results/head
  reports compare --base base/* --head head/* --gate cpu,mmh --format markdown
  reports merge aws/results azure/results -o all.json
  reports history results --metric cpu
  reports export results/latest --format csv
  reports serve results
  reports schema > run.schema.json

A path is a run folder, a run.json, a folder of run folders, or a file that merge wrote. Exit codes: 0 ok, 1 failed,
2 usage, 99 a comparison found a regression. docs/reports.md says what the numbers mean.";

/// Draws, compares, merges, follows and exports the results of laboratory runs.
#[derive(Parser)]
#[command(name = "reports", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// One self-contained page of all runs given.
    Render {
        #[command(flatten)]
        paths: Paths,
        /// What the host of the runs can do at most: a file of `tuner measure --json`, with the body sizes of the runs.
        #[arg(long, value_name = "FILE")]
        ceiling: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Judges two sets of runs: regression (exit code 99), ok, or undecided.
    Compare(Box<Compare>),
    /// One file of many records, with their histograms; every verb reads it.
    Merge {
        #[command(flatten)]
        paths: Paths,
        #[command(flatten)]
        output: Output,
    },
    /// Finds where numbers changed over time, and names the commit.
    History(History),
    /// Writes results in the format of another tool.
    Export {
        #[command(flatten)]
        paths: Paths,
        /// The format.
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// With github-action: rates (customBiggerIsBetter) in place of costs (customSmallerIsBetter).
        #[arg(long)]
        bigger: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Shows a folder of results in the browser.
    Serve {
        /// A folder of run folders.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// Where to listen. Other addresses than loopback show the results to everybody who reaches them.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8088")]
        listen: SocketAddr,
    },
    /// Prints the JSON schema of run.json.
    Schema {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Args)]
pub(crate) struct Paths {
    /// Run folders, folders of run folders, or merged files.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Output {
    /// Writes to a file in place of standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Compare {
    /// Base and head, each a path; for sets of several paths there are --base and --head.
    #[arg(value_name = "PATH", num_args = 0..=2, conflicts_with_all = ["base", "head"])]
    pub(crate) sets: Vec<PathBuf>,
    /// Runs of the version that is known.
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "head")]
    pub(crate) base: Vec<PathBuf>,
    /// Runs of the version that is judged.
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "base")]
    pub(crate) head: Vec<PathBuf>,
    /// Metrics that may fail the comparison: cpu_relative, instructions, syscalls, allocations unless given; mmh and others on demand.
    #[arg(long, value_name = "METRIC", value_delimiter = ',', value_parser = Metric::parse)]
    pub(crate) gate: Vec<&'static Metric>,
    /// Percent by which a cost may grow, or a rate shrink.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = metrics::parse_percent)]
    pub(crate) limit: f64,
    /// Usable runs in each set without which nothing is decided.
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub(crate) runs_min: usize,
    /// Seed of the drawn intervals.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The form of the answer.
    #[arg(long, value_enum, default_value_t = CompareFormat::Text)]
    pub(crate) format: CompareFormat,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Metrics to follow.
    #[arg(long, value_name = "METRIC", value_delimiter = ',', value_parser = Metric::parse, default_value = "cpu,mmh")]
    pub(crate) metric: Vec<&'static Metric>,
    /// Smaller changes are not told, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0, value_parser = metrics::parse_percent)]
    pub(crate) change_min: f64,
    /// All numbers as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum CompareFormat {
    Text,
    Markdown,
    Json,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Bencher Metric Format.
    Bmf,
    /// A list for github-action-benchmark.
    GithubAction,
    /// JUnit XML.
    Junit,
    /// A line for each run.
    Csv,
    /// Text format for a textfile collector or a push gateway.
    Prometheus,
    /// A table.
    Markdown,
}
