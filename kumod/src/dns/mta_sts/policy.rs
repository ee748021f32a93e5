//! What a domain publishes for MTA-STS: the TXT record that says that there is a policy, and the policy itself (RFC 8461 3). No network, no clock.

use std::time::Duration;

use thiserror::Error;

/// RFC 8461 3.2: about a year.
const MAX_AGE_MAX: Duration = Duration::from_secs(31_557_600);
/// Patterns of one policy; a domain with more hosts than a mail server looks at has no use for more.
const PATTERNS_MAX: usize = 256;
/// RFC 8461 3.1.
const ID_BYTES_MAX: usize = 32;

/// A domain's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsPolicy {
    /// What is to be done about a host that is not as it should be.
    pub mode: StsMode,
    /// The hosts that take the domain's mail.
    patterns: Vec<String>,
    /// How long the policy holds.
    pub max_age: Duration,
}

/// What is to be done about a host that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StsMode {
    /// No mail for it.
    Enforce,
    /// It is counted.
    Testing,
    /// Nothing: the domain has no policy any more.
    None,
}

/// Why a text is not a policy. The domain is to blame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum PolicyError {
    /// Not UTF-8.
    #[error("it is not text")]
    NotText,
    /// A field that must be there is not.
    #[error("it has no valid field {0:?}")]
    Missing(&'static str),
}

impl StsPolicy {
    /// Reads a policy. Fields that are not known are passed over, and of two fields of one name the first counts (RFC 8461 3.2).
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::NotText)?;
        let fields: Vec<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let first = |name| {
            let found = fields.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| *value).ok_or(PolicyError::Missing(name))
        };
        if first("version")? != "STSv1" {
            return Err(PolicyError::Missing("version"));
        }
        let mode = match first("mode")? {
            "enforce" => StsMode::Enforce,
            "testing" => StsMode::Testing,
            "none" => StsMode::None,
            _ => return Err(PolicyError::Missing("mode")),
        };
        let max_age: u64 = first("max_age")?.parse().map_err(|_| PolicyError::Missing("max_age"))?;
        let patterns = fields.iter().filter(|(name, _)| *name == "mx").take(PATTERNS_MAX);
        let patterns: Vec<String> =
            patterns.map(|(_, value)| value.trim_end_matches('.').to_ascii_lowercase()).collect();
        if patterns.is_empty() && mode != StsMode::None {
            return Err(PolicyError::Missing("mx"));
        }
        Ok(Self { mode, patterns, max_age: Duration::from_secs(max_age).min(MAX_AGE_MAX) })
    }

    /// Whether a host takes the domain's mail. `*.` stands for one label (RFC 8461 4.1).
    pub fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.patterns.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(rest) => parent == Some(rest),
            None => *pattern == host,
        })
    }
}

/// The id in the TXT records of `_mta-sts.DOMAIN`, if exactly one of them is about MTA-STS (RFC 8461 3.1).
pub(super) fn id_in<'t>(texts: impl Iterator<Item = &'t [u8]>) -> Option<String> {
    let mut records = texts.filter(|text| text.starts_with(b"v=STSv1;"));
    let only = records.next().filter(|_| records.next().is_none())?;
    let fields = std::str::from_utf8(only).ok()?.split(';');
    let id = fields.filter_map(|field| field.trim().split_once('=')).find(|(name, _)| *name == "id")?.1;
    let valid = (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    valid.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.a.test\r\nmx: *.b.test\r\nmax_age: 604800\r\n";

    #[test]
    fn a_policy_names_its_hosts() {
        let policy = StsPolicy::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age), (StsMode::Enforce, Duration::from_secs(604_800)));
        for (host, allowed) in [
            ("mail.a.test", true),
            ("MAIL.A.test.", true),
            ("other.a.test", false),
            ("mx.b.test", true),
            ("b.test", false),
            ("deep.mx.b.test", false),
            ("xb.test", false),
        ] {
            assert_eq!(policy.allows(host), allowed, "{host}");
        }
    }

    #[test]
    fn the_first_of_two_fields_counts_and_unknown_ones_do_not() {
        let text =
            "version: STSv1\nmode: testing\nmode: enforce\nnews: 1\n\nmx: a.test\nmax_age: 99999999999";
        let policy = StsPolicy::parse(text.as_bytes()).unwrap();
        assert_eq!((policy.mode, policy.max_age), (StsMode::Testing, MAX_AGE_MAX));
        let none = StsPolicy::parse(b"version: STSv1\nmode: none\nmax_age: 0\n").unwrap();
        assert_eq!((none.mode, none.max_age), (StsMode::None, Duration::ZERO));
    }

    #[test]
    fn what_lacks_a_field_is_no_policy() {
        for (line, error) in [
            ("version: STSv1\r\n", "version"),
            ("mode: enforce\r\n", "mode"),
            ("max_age: 604800\r\n", "max_age"),
        ] {
            let error = PolicyError::Missing(error);
            assert_eq!(StsPolicy::parse(GOOD.replace(line, "").as_bytes()), Err(error.clone()));
            let (name, _) = line.split_once(':').unwrap();
            let nonsense = GOOD.replace(line, &format!("{name}: -1\r\n"));
            assert_eq!(StsPolicy::parse(nonsense.as_bytes()), Err(error));
        }
        let without_hosts = GOOD.replace("mx:", "xm:");
        assert_eq!(StsPolicy::parse(without_hosts.as_bytes()), Err(PolicyError::Missing("mx")));
        assert_eq!(StsPolicy::parse(b"\xff"), Err(PolicyError::NotText));
        assert_eq!(StsPolicy::parse(b"<html>"), Err(PolicyError::Missing("version")));
    }

    #[test]
    fn one_record_has_the_id() {
        let id = |texts: &[&str]| id_in(texts.iter().map(|text| text.as_bytes()));
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;"]).unwrap(), "20160831085700Z");
        assert_eq!(id(&["v=spf1 -all", "v=STSv1;id=1"]).unwrap(), "1");
        for texts in [
            &[][..],
            &["v=spf1 -all"],
            &["v=STSv1; id=1;", "v=STSv1; id=2;"],
            &["v=STSv1;"],
            &["v=STSv1; id=;"],
            &["v=STSv1; id=a b;"],
            &["v=STSv1; id=000000000000000000000000000000000;"],
            &["V=STSv1; id=1;"],
        ] {
            assert_eq!(id(texts), None, "{texts:?}");
        }
    }
}
