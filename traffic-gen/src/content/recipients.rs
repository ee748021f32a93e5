//! Whom the mail is for: weighted domains, and a recipient for each sequence number.
//!
//! The recipient depends on the seed and the sequence number only, never on which connection sends it or
//! when, so that a run can be repeated with the same addresses. Domains that could not stand in an address
//! are refused.

use std::str::FromStr;

use message::traffic::write_decimal;
use serde::{Deserialize, Serialize};

use super::weights::Weights;

/// Different users at each domain.
const USERS: u32 = 1_000_000;

/// Digits of the number of a user.
const USER_DIGITS: usize = 6;

/// One domain with its share of the mail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Who the mail is from and for. Public fields; the default is KumoMTA's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipientPlan {
    /// The domains with their shares; none at all means KumoMTA's four.
    pub domains: Vec<Domain>,
    /// Appended to every domain after a dot; empty appends nothing.
    pub domain_suffix: String,
    /// The address that all mail is from.
    pub sender: String,
}

impl Default for RecipientPlan {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            domain_suffix: "mx-sink.localhost".to_owned(),
            sender: "sender@mx-sink.localhost".to_owned(),
        }
    }
}

/// The recipients of one run, as tables.
#[derive(Clone, Debug)]
pub(super) struct Recipients {
    /// Each with its `@` and suffix.
    domains: Vec<String>,
    choice: Weights,
}

impl Recipients {
    pub(super) fn new(plan: &RecipientPlan) -> Self {
        let defaults = ["aol.com", "gmail.com", "hotmail.com", "yahoo.com"];
        let defaults = defaults.map(|name| Domain { name: name.to_owned(), weight: 1.0 });
        let domains = if plan.domains.is_empty() { &defaults[..] } else { &plan.domains };
        let weights: Vec<f64> = domains.iter().map(|domain| domain.weight).collect();
        let at_domain = |domain: &Domain| match plan.domain_suffix.as_str() {
            "" => format!("@{}", domain.name),
            suffix => format!("@{}.{suffix}", domain.name),
        };
        Self { domains: domains.iter().map(at_domain).collect(), choice: Weights::new(&weights) }
    }

    /// Writes the recipients of a message over `to`.
    pub(super) fn draw(&self, random: &mut fastrand::Rng, to: &mut [String]) {
        let domain = &self.domains[self.choice.choose(random.u64(..))];
        for recipient in to {
            write_address(random.u32(0..USERS), domain, recipient);
        }
    }
}

/// Writes `user000042@domain` over `to`.
fn write_address(user: u32, at_domain: &str, to: &mut String) {
    let mut digits = [b'0'; USER_DIGITS];
    write_decimal(u64::from(user), &mut digits);
    to.clear();
    to.push_str("user");
    to.extend(digits.iter().map(|digit| char::from(*digit)));
    to.push_str(at_domain);
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

    fn recipients(domains: &[&str], suffix: &str) -> Recipients {
        let domains = domains.iter().map(|text| text.parse().unwrap()).collect();
        Recipients::new(&RecipientPlan {
            domains,
            domain_suffix: suffix.to_owned(),
            ..RecipientPlan::default()
        })
    }

    #[test]
    fn shares_follow_the_weights() {
        let recipients = recipients(&["heavy:9", "light"], "test");
        let (mut random, mut to) = (fastrand::Rng::with_seed(7), [String::new()]);
        let mut seen = BTreeMap::new();
        for _ in 0..10_000 {
            recipients.draw(&mut random, &mut to);
            let (user, domain) = to[0].split_once('@').unwrap();
            assert!(user.len() == 10 && user.starts_with("user"), "{user}");
            *seen.entry(domain.to_owned()).or_insert(0) += 1;
        }
        assert!((8_900..9_100).contains(&seen["heavy.test"]), "{seen:?}");
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn without_domains_it_is_kumomtas_four() {
        assert_eq!(recipients(&[], "mx-sink.localhost").domains[0], "@aol.com.mx-sink.localhost");
        assert_eq!(recipients(&[], "").domains, ["@aol.com", "@gmail.com", "@hotmail.com", "@yahoo.com"]);
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
