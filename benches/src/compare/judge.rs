//! The judgement of a comparison, and the files that tell of it.
//!
//! It owns the way from options and entries to [`reports::compare`], and `verdict.md` and `index.html`. It judges nothing itself.

use std::path::Path;

use reports::compare::{self, Comparison, Form};
use reports::results::Entry;
use reports::stats::Bootstrap;

use super::Options;
use crate::error::{During, Error, Result};

/// What is said of the runs so far.
pub(super) fn judge(options: &Options, base: &[Entry], head: &[Entry]) -> Result<Comparison> {
    let mut rules = compare::Options {
        limit: options.limit,
        bootstrap: Bootstrap { seed: options.seed, ..Bootstrap::default() },
        ..compare::Options::default()
    };
    if !options.gates.is_empty() {
        rules.gates.clone_from(&options.gates);
    }
    compare::compare(base, head, &rules).map_err(|error| Error::Peer(error.to_string()))
}

/// Writes the verdict and the page of all runs.
pub(super) fn write(folder: &Path, comparison: &Comparison, base: &[Entry], head: &[Entry]) -> Result<()> {
    let verdict = folder.join("verdict.md");
    std::fs::write(&verdict, comparison.render(Form::Markdown))
        .during(|| format!("write {}", verdict.display()))?;
    let page = folder.join("index.html");
    let all: Vec<Entry> = base.iter().chain(head).cloned().collect();
    std::fs::write(&page, reports::render::page_of(&all)).during(|| format!("write {}", page.display()))
}
