//! Checks the settings of a host that sends and receives mail in volume.
//!
//! Owns the rules (data, in `tuner/rules`), the readings of the host, and the verdicts. It changes no setting. A setting
//! that cannot be read gives the verdict [`Verdict::Unknown`] with the reason; it never stops the other rules. A better
//! value than the rule asks for is kept, never called wrong.
//!
//! Reading order: [`rule`] what is wanted, [`host`] what is there, [`finding`] how the two compare.

pub mod finding;
pub mod host;
pub mod rule;
pub mod table;

pub use finding::{Finding, Verdict};
pub use host::Host;
pub use rule::Rule;

/// Compares the host with every built-in rule, in the order in which the rules are written.
///
/// Reads a handful of small files, and on the running host tries io_uring with a file that is removed again; milliseconds.
pub fn check(host: &Host) -> Vec<Finding> {
    rule::built_in().iter().map(|rule| finding::judge(rule, host)).collect()
}

/// Whether any of `findings` asks for a change. A rule that only informs never does.
pub fn changes_needed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Low)
}
