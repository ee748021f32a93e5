//! Checks the settings of a host that sends and receives mail in volume, changes them, and takes the change back.
//!
//! Owns the rules (data, in `tuner/rules`), the readings of the host, the verdicts, and the journal of what was changed.
//! Refuses to make a better value worse: what is better than a rule is kept. A setting that cannot be read gives the
//! verdict [`Verdict::Unknown`] with the reason; it never stops the other rules. A change that fails is put back.
//!
//! Reading order: [`rule`] what is wanted, [`sizing`] of how large a host, [`facts`] what is there and [`host`] how it is
//! read, [`finding`] how the two compare, [`conflicts`] who else has a say, [`apply`] how it is changed; apart from them [`measure`], what the machine
//! can do, and [`ab`], what a change is worth here.

pub mod rule;
pub mod sizing;

pub mod facts;
pub mod host;

pub mod conflicts;
pub mod export;
pub mod finding;
pub mod report;
pub mod table;
pub mod wishes;

pub mod ab;
pub mod apply;
pub mod measure;

pub use finding::{Finding, Question, Verdict};
pub use host::Host;
pub use rule::Rule;

/// Compares the host with every rule of the default profile, in the order in which the rules are written.
///
/// Reads some dozens of small files, and on the running host tries io_uring with a file that is removed again; milliseconds.
pub fn check(host: &Host) -> Vec<Finding> {
    let facts = host.facts();
    let question = Question::of(&facts);
    judge(&facts, &question)
}

/// Compares facts with every rule that holds for the question's profile.
pub fn judge(facts: &facts::Facts, question: &Question) -> Vec<Finding> {
    let rules = rule::built_in().iter().filter(|rule| rule.is_for(&question.profile));
    rules.map(|rule| finding::judge(rule, facts, question)).collect()
}

/// Whether any of `findings` asks for a change that can be made here. In a container the host's settings are not.
pub fn changes_needed(findings: &[Finding]) -> bool {
    let elsewhere =
        |finding: &Finding| matches!(finding.reach, finding::Reach::Host | finding::Reach::Runtime);
    findings.iter().any(|finding| finding.verdict.asks_for_change() && !elsewhere(finding))
}
