//! What is wrong with rules, said to who wrote them: the rule, the key, what would be accepted.

use std::fmt;

/// Why rules are refused. Nothing of them is in force then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    rule: Option<String>,
    text: String,
}

impl RuleError {
    pub(crate) fn of_file(text: impl Into<String>) -> Self {
        Self { rule: None, text: text.into() }
    }

    pub(super) fn of_rule(rule: &str, text: impl Into<String>) -> Self {
        Self { rule: Some(rule.to_owned()), text: text.into() }
    }

    /// The name of the rule, or its place where it has none; `None` where the file as a whole is wrong.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(formatter, "rule {rule:?}: {}", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

impl std::error::Error for RuleError {}

/// Adds the nearest word to what serde says about an unknown key or value: ``unknown field `rpely`, expected
/// one of `reply`, `delay` ``.
pub(super) fn with_near_miss(text: &str) -> String {
    if !text.starts_with("unknown ") {
        return text.to_owned();
    }
    let mut words = text.split('`').skip(1).step_by(2);
    let given = words.next().unwrap_or_default();
    match nearest(given, words) {
        Some(word) => format!("{text}; did you mean `{word}`?"),
        None => text.to_owned(),
    }
}

/// The word that differs least, where that is little.
pub(crate) fn nearest<'a>(given: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance_max = (given.chars().count() / 3).clamp(1, 3);
    let near = words.map(|word| (distance(given, word), word)).min()?;
    (near.0 <= distance_max).then_some(near.1)
}

/// How many letters have to be put, taken, changed or swapped with their neighbour (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
    for row in 0..=left.len() {
        for column in 0..=right.len() {
            if row == 0 || column == 0 {
                rows[row][column] = row + column;
                continue;
            }
            let differs = usize::from(left[row - 1] != right[column - 1]);
            let put_or_taken = rows[row - 1][column].min(rows[row][column - 1]) + 1;
            let mut least = put_or_taken.min(rows[row - 1][column - 1] + differs);
            let swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if swapped {
                least = least.min(rows[row - 2][column - 2] + 1);
            }
            rows[row][column] = least;
        }
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses() {
        let words = ["reply", "delay", "probability", "drop"];
        let table = [
            ("dealy", Some("delay")),
            ("probabilty", Some("probability")),
            ("repyl", Some("reply")),
            ("dorp", Some("drop")),
            ("explode", None),
            ("", None),
        ];
        for (given, expected) in table {
            assert_eq!(nearest(given, words.into_iter()), expected, "{given}");
        }
        assert_eq!(
            with_near_miss("unknown field `dealy`, expected one of `reply`, `delay`"),
            "unknown field `dealy`, expected one of `reply`, `delay`; did you mean `delay`?"
        );
        assert_eq!(with_near_miss("missing field `x`"), "missing field `x`");
    }
}
