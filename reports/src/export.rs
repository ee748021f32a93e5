//! Results in the formats of other tools.
//!
//! It owns six of them: Bencher's metric format, the list of github-action-benchmark, JUnit, CSV (RFC 4180), Prometheus's text
//! format 0.0.4 and Markdown. It refuses nothing: text from records is escaped by each format's rules, and what a run does not
//! have is left out, never 0.

mod json;
mod rows;
mod table;
mod xml;

use crate::metrics::Better;
use crate::results::Entry;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Bencher Metric Format.
    Bmf,
    /// github-action-benchmark, `customSmallerIsBetter` or `customBiggerIsBetter`: one of both in a file.
    GithubAction(Better),
    /// JUnit: a test case for each run, which fails where mail was lost or damaged.
    Junit,
    /// A line for each run.
    Csv,
    /// For node_exporter's textfile collector or a push gateway.
    Prometheus,
    /// A table.
    Markdown,
}

/// All runs of the records in a format.
pub fn export(entries: &[Entry], format: Format) -> String {
    match format {
        Format::Bmf => json::bmf(entries),
        Format::GithubAction(better) => json::github_action(entries, better),
        Format::Junit => xml::junit(entries),
        Format::Csv => table::csv(entries),
        Format::Prometheus => table::prometheus(entries),
        Format::Markdown => table::markdown(entries),
    }
}
