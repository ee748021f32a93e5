//! The rules, one module for each family; [`check`] runs them all.
//!
//! A rule is a function from the tree to findings. Each has a test on a fake tree that breaks it.

use std::fmt;

use crate::Tree;

pub mod crates;
pub mod documents;
pub mod doors;
pub mod levels;
pub mod modules;
pub mod rfcs;
pub mod sources;
pub mod words;

/// A place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root of the checkout.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule and what to do about it.
    pub problem: String,
}

impl Finding {
    /// A finding at a line of a file.
    pub fn new(path: &str, line: usize, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, problem: problem.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.problem)
    }
}

/// Every rule.
const RULES: [fn(&Tree) -> Vec<Finding>; 16] = [
    crates::arrows,
    levels::arrows,
    levels::map_is_true,
    modules::files_are_reached,
    doors::callers,
    doors::spool_is_behind_the_store,
    doors::accepted_is_made_in_intake,
    sources::opening_paragraph,
    sources::no_input_or_output,
    sources::unsafe_code,
    words::unbounded_channels,
    words::checks_that_cannot_fail,
    words::unfinished,
    words::machine_words,
    documents::spool_format,
    rfcs::all,
];

/// Runs every rule; the findings come sorted by place.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings.dedup();
    findings
}

/// For tests of rules: the findings of one rule on a fake tree, as text.
#[cfg(test)]
fn on(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    rule(&Tree::fake(files)).iter().map(Finding::to_string).collect()
}
