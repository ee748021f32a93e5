//! How the two compare: one [`Finding`] for each rule.
//!
//! The comparison has a direction (see [`Operator`]), so a host that is better than the rule is told to stay as it is.
//! A value that does not parse is [`Verdict::Unknown`]: the kernel is newer than the rule, and guessing helps nobody.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::{Host, IoUring, Reading, Unreadable};
use crate::rule::{Operator, Rule, SourceOfValue};

/// What a rule found on a host. The names of the fields are those of the JSON report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The setting.
    pub key: String,
    /// Its value on this host, or why it has none.
    pub current: String,
    /// What the rule asks for.
    pub wanted: String,
    /// How the two compare.
    pub verdict: Verdict,
    /// What the setting does for mail.
    pub why: String,
    /// Where that can be read again.
    pub source: String,
    /// What to change, where something should be changed or may be.
    pub remedy: Option<String>,
}

/// How a current value compares with the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Just what is wanted.
    Ok,
    /// Better than what is wanted; it stays.
    Kept,
    /// Less than what is wanted. The only verdict that asks for a change.
    Low,
    /// A facility is switched off or forbidden here; things work without it.
    Blocked,
    /// The value could not be read or understood; `current` says why.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "ok",
            Self::Kept => "kept (better)",
            Self::Low => "low",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        })
    }
}

/// Compares one setting of `host` with its rule.
pub fn judge(rule: &Rule, host: &Host) -> Finding {
    let (verdict, current) = match &rule.source_of_value {
        SourceOfValue::Sysctl => compare(rule, host.sysctl(&rule.key)),
        SourceOfValue::Limits { row, column } => compare(rule, host.limit(row, *column)),
        SourceOfValue::IoUring => match host.io_uring() {
            IoUring::Available(how) => (Verdict::Ok, format!("available: {how}")),
            IoUring::Blocked(reason) => (Verdict::Blocked, format!("blocked: {reason}")),
            IoUring::Unknown(reason) => (Verdict::Unknown, reason),
        },
    };
    Finding {
        key: rule.key.clone(),
        current,
        wanted: rule.wanted_in_words(),
        verdict,
        why: rule.why.clone(),
        source: rule.source.clone(),
        remedy: matches!(verdict, Verdict::Low | Verdict::Blocked).then(|| rule.remedy.clone()),
    }
}

fn compare(rule: &Rule, reading: Result<Reading, Unreadable>) -> (Verdict, String) {
    match reading {
        Err(reason) => (Verdict::Unknown, reason.to_string()),
        Ok(reading) => (verdict(rule.operator, &reading.value, &rule.wanted), reading.shown),
    }
}

fn verdict(operator: Operator, current: &str, wanted: &str) -> Verdict {
    let comparison = match operator {
        Operator::AtLeast => at_least(current, wanted),
        Operator::Superset => superset(current, wanted),
        Operator::Info => Some(Ordering::Equal),
    };
    match comparison {
        Some(Ordering::Greater) => Verdict::Kept,
        Some(Ordering::Equal) => Verdict::Ok,
        Some(Ordering::Less) => Verdict::Low,
        None => Verdict::Unknown,
    }
}

fn at_least(current: &str, wanted: &str) -> Option<Ordering> {
    Some(number(current)?.cmp(&number(wanted)?))
}

/// The kernel writes the absence of a limit as a word.
fn number(text: &str) -> Option<u64> {
    if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() }
}

/// Less: some of the wanted range is missing. Greater: all of it is there and more.
fn superset(current: &str, wanted: &str) -> Option<Ordering> {
    let (current, wanted) = (range(current)?, range(wanted)?);
    let holds_all = current.0 <= wanted.0 && current.1 >= wanted.1;
    Some(match (holds_all, current == wanted) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, _) => Ordering::Less,
    })
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once(' ')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_low_ok_or_kept() {
        assert_eq!(verdict(Operator::AtLeast, "128", "4096"), Verdict::Low);
        assert_eq!(verdict(Operator::AtLeast, "4096", "4096"), Verdict::Ok);
        assert_eq!(verdict(Operator::AtLeast, "65535", "4096"), Verdict::Kept);
        assert_eq!(verdict(Operator::AtLeast, "unlimited", "4096"), Verdict::Kept);
        assert_eq!(verdict(Operator::AtLeast, "many", "4096"), Verdict::Unknown);
    }

    #[test]
    fn a_range_that_lacks_either_end_is_low() {
        let verdict = |current| verdict(Operator::Superset, current, "10240 65535");
        assert_eq!(verdict("32768 60999"), Verdict::Low);
        assert_eq!(verdict("1024 65000"), Verdict::Low);
        assert_eq!(verdict("20000 65535"), Verdict::Low);
        assert_eq!(verdict("10240 65535"), Verdict::Ok);
        assert_eq!(verdict("1024 65535"), Verdict::Kept);
        assert_eq!(verdict("1024"), Verdict::Unknown);
    }
}
