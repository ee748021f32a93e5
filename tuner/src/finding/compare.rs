//! A value against what is wanted: worse, the same, better, and the value that would do.
//!
//! The value that would do is never worse than the current one in any part. `None` is a value that is not understood: the
//! kernel is newer than the rule, and guessing helps nobody.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::rule::formula::Formula;
use crate::rule::{Rule, Wanted};
use crate::sizing::Sizing;

/// How a current value compares, and what it would become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Of the current value with the wanted one.
    pub(crate) order: Ordering,
    /// The current value, raised where it lacks something.
    pub(crate) target: String,
}

/// What the host contributes to what is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) sizing: &'a Sizing,
    pub(crate) listening: &'a BTreeSet<u16>,
    /// The range for connections out as it will be: the wider of what is and what is wanted.
    pub(crate) port_range: (u64, u64),
}

pub(crate) fn compare(wanted: &Wanted, current: &str, context: Context<'_>) -> Option<Comparison> {
    let (order, target) = match wanted {
        Wanted::AtLeast(formula) => at_least(number(current)?, formula.value(context.sizing)),
        Wanted::AtMost(formula) => at_most(number(current)?, formula.value(context.sizing)),
        Wanted::Equal(text) => (equality(current == text), text.clone()),
        Wanted::Superset(first, last) => superset(range(current)?, (*first, *last)),
        Wanted::Elementwise(formulas) => elementwise(current, formulas, context.sizing)?,
        Wanted::OneOf(words) => (equality(words.iter().any(|word| word == current)), words[0].clone()),
        Wanted::Without(words) => {
            (equality(!words.iter().any(|word| has_option(current, word))), String::new())
        }
        Wanted::ListeningPorts => reserved(current, context)?,
        Wanted::Available | Wanted::Info | Wanted::Declined => (Ordering::Equal, current.to_owned()),
    };
    let target = if order == Ordering::Less { target } else { current.to_owned() };
    Some(Comparison { order, target })
}

/// The same kind of rule with these values: the kernel's default, or an operator's wish.
pub(crate) fn with_values(wanted: &Wanted, values: &[String]) -> Option<Wanted> {
    let constant = |text: &String| Formula::parse(text).ok().filter(Formula::is_constant);
    match (wanted, values) {
        (Wanted::AtLeast(_), [one]) => Some(Wanted::AtLeast(constant(one)?)),
        (Wanted::AtMost(_), [one]) => Some(Wanted::AtMost(constant(one)?)),
        (Wanted::Equal(_), _) => Some(Wanted::Equal(values.join(" "))),
        (Wanted::Superset(..), [first, last]) => {
            Some(Wanted::Superset(first.parse().ok()?, last.parse().ok()?))
        }
        (Wanted::Elementwise(formulas), _) if formulas.len() == values.len() => {
            Some(Wanted::Elementwise(values.iter().map(constant).collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// What is wanted, in words.
pub(crate) fn in_words(rule: &Rule, context: Context<'_>) -> String {
    let value = |formula: &Formula| formula.value(context.sizing).to_string();
    match &rule.wanted {
        Wanted::AtLeast(formula) => format!("at least {}", value(formula)),
        Wanted::AtMost(formula) => format!("at most {}", value(formula)),
        Wanted::Equal(text) => text.clone(),
        Wanted::Superset(first, last) => format!("all of {first} {last}"),
        Wanted::Elementwise(formulas) => {
            format!("at least {}", formulas.iter().map(value).collect::<Vec<_>>().join(" "))
        }
        Wanted::OneOf(words) => words.join(" or "),
        Wanted::Without(words) => format!("not {}", words.join(", ")),
        Wanted::ListeningPorts => "ports that listen".into(),
        Wanted::Available => "available".into(),
        Wanted::Info => "(information)".into(),
        Wanted::Declined => "(left alone)".into(),
    }
}

fn at_least(current: u64, wanted: u64) -> (Ordering, String) {
    (current.cmp(&wanted), wanted.to_string())
}

/// Less is better, so the order turns round.
fn at_most(current: u64, wanted: u64) -> (Ordering, String) {
    (wanted.cmp(&current), wanted.to_string())
}

fn equality(equal: bool) -> Ordering {
    if equal { Ordering::Equal } else { Ordering::Less }
}

/// The kernel and systemd write the absence of a limit as a word.
fn number(text: &str) -> Option<u64> {
    if matches!(text, "unlimited" | "infinity") { Some(u64::MAX) } else { text.parse().ok() }
}

pub(crate) fn range(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once(' ')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The union of both. The kernel wants one even and one odd end.
fn superset(current: (u64, u64), wanted: (u64, u64)) -> (Ordering, String) {
    let holds_all = current.0 <= wanted.0 && current.1 >= wanted.1;
    let order = match (holds_all, current == wanted) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, _) => Ordering::Less,
    };
    let (first, last) = (current.0.min(wanted.0), current.1.max(wanted.1));
    let first = if first % 2 == last % 2 && first > 1 { first - 1 } else { first };
    (order, format!("{first} {last}"))
}

fn elementwise(current: &str, formulas: &[Formula], sizing: &Sizing) -> Option<(Ordering, String)> {
    let current = current.split(' ').map(number).collect::<Option<Vec<_>>>()?;
    if current.len() != formulas.len() {
        return None;
    }
    let wanted: Vec<u64> = formulas.iter().map(|formula| formula.value(sizing)).collect();
    let raised: Vec<u64> = current.iter().zip(&wanted).map(|(have, want)| *have.max(want)).collect();
    let order = if raised != current {
        Ordering::Less
    } else if current == wanted {
        Ordering::Equal
    } else {
        Ordering::Greater
    };
    Some((order, raised.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")))
}

fn has_option(options: &str, wanted: &str) -> bool {
    options.split(',').any(|option| option == wanted)
}

/// Ports that listen within the range and are not reserved yet; what is reserved stays, and stays first.
fn reserved(current: &str, context: Context<'_>) -> Option<(Ordering, String)> {
    let mut ranges = Vec::new();
    for part in current.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        ranges.push((first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?));
    }
    let (low, high) = context.port_range;
    let missing = context.listening.iter().map(|port| u64::from(*port)).filter(|port| {
        (low..=high).contains(port) && !ranges.iter().any(|(first, last)| (first..=last).contains(&port))
    });
    let missing: Vec<String> = missing.map(|port| port.to_string()).collect();
    let order = if missing.is_empty() { Ordering::Equal } else { Ordering::Less };
    let parts = (!current.is_empty()).then(|| current.to_owned()).into_iter().chain(missing);
    Some((order, parts.collect::<Vec<_>>().join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZING: Sizing = Sizing { connections: 1, rate: 1, ram_bytes: 1, cores: 1 };

    fn with(operator: &str, values: &[&str], current: &str) -> Option<(Ordering, String)> {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        let text = format!(
            "[[rule]]\nkey = \"k\"\noperator = {operator:?}\nvalue = [{}]\nscope = \"host\"\nbrief = \"b\"\n\
             why = \"w\"\nsource = \"s\"\n",
            quoted.join(", ")
        );
        let rule = crate::rule::parse("x.toml", &text).unwrap().remove(0);
        let listening = BTreeSet::from([25, 11_000, 40_000]);
        let context = Context { sizing: &SIZING, listening: &listening, port_range: (10_240, 65_535) };
        compare(&rule.wanted, current, context).map(|found| (found.order, found.target))
    }

    fn less(target: &str) -> Option<(Ordering, String)> {
        Some((Ordering::Less, target.into()))
    }

    #[test]
    fn a_number_is_raised_or_lowered_only_in_its_good_direction() {
        assert_eq!(with("ge", &["4096"], "128"), less("4096"));
        assert_eq!(with("ge", &["4096"], "65535"), Some((Ordering::Greater, "65535".into())));
        assert_eq!(with("ge", &["4096"], "unlimited"), Some((Ordering::Greater, "unlimited".into())));
        assert_eq!(with("ge", &["4096"], "many"), None);
        assert_eq!(with("le", &["10"], "60"), less("10"));
        assert_eq!(with("le", &["10"], "1"), Some((Ordering::Greater, "1".into())));
    }

    #[test]
    fn a_range_grows_and_keeps_one_even_and_one_odd_end() {
        let range = |current| with("superset", &["10240", "65535"], current);
        assert_eq!(range("32768 60999"), less("10240 65535"));
        assert_eq!(range("1024 65000"), less("1024 65535"));
        assert_eq!(range("5001 63000"), less("5000 65535"));
        assert_eq!(range("1024 65535"), Some((Ordering::Greater, "1024 65535".into())));
        assert_eq!(range("1024"), None);
    }

    #[test]
    fn each_element_is_raised_by_itself() {
        let rmem = |current| with("vec_ge", &["4096", "87380", "6291456"], current);
        assert_eq!(rmem("8192 1000 33554432"), less("8192 87380 33554432"));
        assert_eq!(rmem("4096 131072 33554432").unwrap().0, Ordering::Greater);
        assert_eq!(rmem("4096 131072"), None);
    }

    #[test]
    fn ports_are_added_to_those_that_are_reserved_already() {
        assert_eq!(with("ports", &[], "8080,9000-9002"), less("8080,9000-9002,11000,40000"));
        assert_eq!(with("ports", &[], "").unwrap().1, "11000,40000");
        assert_eq!(with("ports", &[], "10000-50000").unwrap().0, Ordering::Equal);
    }

    #[test]
    fn words_and_options_are_compared_whole() {
        assert_eq!(with("one_of", &["madvise", "never"], "always"), less("madvise"));
        assert_eq!(with("one_of", &["madvise", "never"], "never").unwrap().0, Ordering::Equal);
        assert_eq!(with("without", &["nobarrier"], "rw,nobarrier").unwrap().0, Ordering::Less);
        assert_eq!(with("without", &["nobarrier"], "rw,nobarriers").unwrap().0, Ordering::Equal);
    }
}
