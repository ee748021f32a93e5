//! Limits as policies write them: `1,000/s`, `local:5/m,max_burst=10`, and counts such as `"1,000"` or `"local:20"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// A rate: `count` events over `period`, evenly paced, after at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThrottleSpec {
    /// Events in one period, at least 1.
    pub count: u64,
    /// The period, longer than zero.
    pub period: Duration,
    /// Events that may pass at once; the count unless `max_burst` says otherwise.
    pub burst: u64,
    /// Never shared with other nodes.
    pub local: bool,
}

impl FromStr for ThrottleSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |why: &str| {
            format!("throttle {text:?}: {why}; write for example '1,000/s' or 'local:5/m,max_burst=10'")
        };
        let (local, rest) = strip_local(text);
        let (rate, burst) = match rest.rsplit_once(",max_burst=") {
            Some((rate, burst)) => {
                (rate, Some(parse_count(burst).ok_or_else(|| refuse("max_burst is not a count"))?))
            }
            None => (rest, None),
        };
        let (count, period) = rate.split_once('/').ok_or_else(|| refuse("a period is missing"))?;
        let count = parse_count(count)
            .filter(|count| *count > 0)
            .ok_or_else(|| refuse("the count must be 1 or more"))?;
        let period = parse_period(period).ok_or_else(|| refuse("the period is not s, m, h or d"))?;
        let burst = burst.unwrap_or(count);
        if burst == 0 {
            return Err(refuse("max_burst must be 1 or more"));
        }
        Ok(Self { count, period, burst, local })
    }
}

impl fmt::Display for ThrottleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = if self.local { "local:" } else { "" };
        write!(f, "{local}{}/{}s,max_burst={}", self.count, self.period.as_secs(), self.burst)
    }
}

impl<'de> Deserialize<'de> for ThrottleSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A number of things at once, such as connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountLimit(pub usize);

impl<'de> Deserialize<'de> for CountLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = CountLimit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count of 1 or more, such as 32, '1,000' or 'local:20'")
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<CountLimit, E> {
        let count = usize::try_from(count).map_err(E::custom)?;
        if count == 0 { Err(E::custom("a limit of 0 would stop all mail")) } else { Ok(CountLimit(count)) }
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<CountLimit, E> {
        self.visit_u64(u64::try_from(count).map_err(|_| E::custom("a limit cannot be negative"))?)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CountLimit, E> {
        let (_, digits) = strip_local(text);
        let count = parse_count(digits).ok_or_else(|| E::custom(format!("{text:?} is not a count")))?;
        self.visit_u64(count)
    }
}

fn strip_local(text: &str) -> (bool, &str) {
    let text = text.trim();
    text.strip_prefix("local:").map_or((false, text), |rest| (true, rest))
}

/// `1,000` and `1_000` are a thousand.
fn parse_count(text: &str) -> Option<u64> {
    let digits: String = text.trim().chars().filter(|c| !matches!(c, ',' | '_')).collect();
    digits.parse().ok()
}

/// `s`, `5m`, `hour`, `2 days`.
fn parse_period(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let multiple: u64 = if unit_at == 0 { 1 } else { text[..unit_at].parse().ok()? };
    let unit = match text[unit_at..].trim() {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        _ => return None,
    };
    multiple.checked_mul(unit).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rates_are_read_as_kumomta_writes_them() {
        for (text, count, seconds, burst, local) in [
            ("1,000/s", 1000, 1, 1000, false),
            ("local:5/m,max_burst=10", 5, 60, 10, true),
            ("1_000/hour", 1000, 3600, 1000, false),
            ("10/5m", 10, 300, 10, false),
            ("1/day", 1, 86_400, 1, false),
        ] {
            let spec: ThrottleSpec = text.parse().unwrap();
            assert_eq!(
                spec,
                ThrottleSpec { count, period: Duration::from_secs(seconds), burst, local },
                "{text}"
            );
            assert_eq!(spec.to_string().parse::<ThrottleSpec>().unwrap(), spec);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for text in ["", "5", "0/s", "5/parsec", "x/s", "5/s,max_burst=0", "5/0s", "-1/s"] {
            let error = text.parse::<ThrottleSpec>().unwrap_err();
            assert!(error.contains("write for example"), "{text:?}: {error}");
        }
    }
}
