//! Whom the mail is for: weighted domains, and a recipient for each sequence number.
//!
//! The recipient depends on the seed and the sequence number only, never on which connection sends it or
//! when, so that a run can be repeated with the same addresses. Domains that could not stand in an address
//! are refused.

use std::fmt::Write;
use std::str::FromStr;

/// Different users at each domain.
const USERS: u32 = 1_000_000;

/// One domain with its share of the mail.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// The name, without the suffix.
    pub name: String,
    /// The share, relative to the other domains; more than 0.
    pub weight: f64,
}

impl FromStr for Domain {
    type Err = String;

    /// Reads `NAME` or `NAME:WEIGHT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, weight) = text.split_once(':').unwrap_or((text, "1"));
        if !is_domain(name) {
            return Err(format!(
                "{name:?} is no domain name; write NAME or NAME:WEIGHT, such as gmail.com:67.4"
            ));
        }
        match weight.parse::<f64>() {
            Ok(weight) if weight.is_finite() && weight > 0.0 => Ok(Self { name: name.to_owned(), weight }),
            _ => Err(format!("{weight:?} is no weight; write a number above 0, such as gmail.com:67.4")),
        }
    }
}

/// The mix of domains of one run.
#[derive(Clone, Debug)]
pub struct Domains {
    names: Vec<String>,
    /// For each name the sum of the weights up to it.
    sums: Vec<f64>,
}

impl Domains {
    /// Mixes `domains`, each with `suffix` appended after a dot; an empty suffix is left out. No domains at
    /// all means KumoMTA's four.
    pub fn new(domains: &[Domain], suffix: &str) -> Self {
        let defaults = ["aol.com", "gmail.com", "hotmail.com", "yahoo.com"];
        let defaults = defaults.map(|name| Domain { name: name.to_owned(), weight: 1.0 });
        let domains = if domains.is_empty() { &defaults[..] } else { domains };
        let mut sum = 0.0;
        let sums = domains.iter().map(|domain| {
            sum += domain.weight;
            sum
        });
        Self {
            sums: sums.collect(),
            names: domains.iter().map(|domain| with_suffix(&domain.name, suffix)).collect(),
        }
    }

    /// Writes the recipient of a message over `to`.
    pub(crate) fn recipient(&self, random: &mut fastrand::Rng, to: &mut String) {
        let point = random.f64() * self.sums.last().copied().unwrap_or(0.0);
        let at = self.sums.partition_point(|sum| *sum <= point).min(self.names.len() - 1);
        to.clear();
        // Writing to a String cannot fail.
        let _ = write!(to, "user{:06}@{}", random.u32(0..USERS), self.names[at]);
    }
}

/// Whether the text can stand for a domain on the command line: dot-separated labels of letters, digits,
/// `-` and `_`.
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // RFC 5321 4.5.3.1.2 allows 255 bytes; a suffix of the same size must still fit an address's limits, so
    // half is plenty.
    text.len() <= 127 && text.split('.').all(label)
}

fn with_suffix(name: &str, suffix: &str) -> String {
    if suffix.is_empty() { name.to_owned() } else { format!("{name}.{suffix}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_weights_are_read() {
        assert_eq!("gmail.com:67.4".parse(), Ok(Domain { name: "gmail.com".to_owned(), weight: 67.4 }));
        assert_eq!("a.example".parse(), Ok(Domain { name: "a.example".to_owned(), weight: 1.0 }));
        for text in ["", ":1", "a:0", "a:-1", "a:inf", "a:NaN", "a:", "a b", "a@b", "a..b", "a>b"] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let domains = Domains::new(&["heavy:9".parse().unwrap(), "light".parse().unwrap()], "test");
        let (mut random, mut to, mut seen) = (fastrand::Rng::with_seed(7), String::new(), BTreeMap::new());
        for _ in 0..10_000 {
            domains.recipient(&mut random, &mut to);
            *seen.entry(to.split_once('@').unwrap().1.to_owned()).or_insert(0) += 1;
        }
        assert!((8_700..9_300).contains(&seen["heavy.test"]), "{seen:?}");
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn without_domains_it_is_kumomtas_four() {
        assert_eq!(Domains::new(&[], "mx-sink.localhost").names[0], "aol.com.mx-sink.localhost");
        assert_eq!(Domains::new(&[], "").names, ["aol.com", "gmail.com", "hotmail.com", "yahoo.com"]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_domain_or_refused(text in "\\PC{0,40}", weight in 0.001f64..1e9) {
            if let Ok(domain) = text.parse::<Domain>() {
                prop_assert!(is_domain(&domain.name) && domain.weight > 0.0);
            }
            let weighted = format!("a.b:{weight}").parse::<Domain>();
            prop_assert_eq!(weighted.map(|domain| domain.weight), Ok(weight));
        }
    }
}
