//! Domains of recipients, each with its share of the mail.
//!
//! What could not stand in an address is refused.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Shares of mailbox providers in the list of a sender to consumers in North America and Western Europe: an
/// example in round numbers from public knowledge, not a measurement. The shares add up to 100.
const PROVIDERS: [(&str, f64); 20] = [
    ("gmail.com", 45.0),
    ("yahoo.com", 13.0),
    ("hotmail.com", 9.0),
    ("outlook.com", 7.0),
    ("icloud.com", 6.0),
    ("aol.com", 4.0),
    ("live.com", 2.0),
    ("msn.com", 2.0),
    ("comcast.net", 2.0),
    ("gmx.de", 1.5),
    ("web.de", 1.5),
    ("att.net", 1.0),
    ("libero.it", 1.0),
    ("me.com", 1.0),
    ("orange.fr", 1.0),
    ("proton.me", 0.5),
    ("t-online.de", 0.5),
    ("verizon.net", 1.0),
    ("wanadoo.fr", 0.5),
    ("ymail.com", 0.5),
];

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

impl Domain {
    /// The built-in mix of large mailbox providers. Its weights add up to 100.
    pub fn provider_mix() -> Vec<Self> {
        PROVIDERS.map(|(name, weight)| Self { name: name.to_owned(), weight }).to_vec()
    }

    /// KumoMTA's four, alike.
    pub(super) fn defaults() -> Vec<Self> {
        ["aol.com", "gmail.com", "hotmail.com", "yahoo.com"]
            .map(|name| Self { name: name.to_owned(), weight: 1.0 })
            .to_vec()
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

#[cfg(test)]
mod tests {
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
    fn the_mix_of_providers_adds_up_and_names_each_once() {
        let mix = Domain::provider_mix();
        assert_eq!(mix.iter().map(|domain| domain.weight).sum::<f64>(), 100.0);
        assert!(mix.iter().all(|domain| is_domain(&domain.name) && domain.weight > 0.0));
        let names: std::collections::BTreeSet<_> = mix.iter().map(|domain| &domain.name).collect();
        assert_eq!(names.len(), mix.len());
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
