//! Durations as policies write them: `"5 minutes"`, `"20m"`, `"1h 30m"`, or a number of seconds.

use std::fmt;
use std::time::Duration;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a duration. A bare number is seconds.
///
/// # Errors
/// Names the text and shows what is accepted; negative durations are refused.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?} is not a duration; write for example '90s', '20 minutes' or '1h 30m'");
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wanted());
    }
    // Days and longer have no fixed length in jiff's eyes; a mail queue means 24 hours by a day.
    let span: jiff::Span = text.trim().parse().map_err(|_| wanted())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wanted())?;
    Duration::try_from(exact).map_err(|_| wanted())
}

/// For `#[serde(deserialize_with)]`: a number of seconds or a text.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(DurationVisitor)
}

/// The same for an option that may be left out.
pub(super) fn deserialize_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    deserialize(deserializer).map(Some)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as '5 minutes', or a number of seconds")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Duration, E> {
        Ok(Duration::from_secs(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Duration, E> {
        u64::try_from(seconds)
            .map(Duration::from_secs)
            .map_err(|_| E::custom("a duration cannot be negative"))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_usual_spellings_are_read() {
        for (text, seconds) in [
            ("90s", 90),
            ("90", 90),
            ("5 minutes", 300),
            ("20m", 1200),
            ("1h 30m", 5400),
            ("7 days", 7 * 86_400),
            ("1 week", 7 * 86_400),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "soon", "-5s", "5 bananas"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
