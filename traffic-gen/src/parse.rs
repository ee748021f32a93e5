//! How numbers are written on the command line: sizes, counts, durations and rates.
//!
//! Units count without case and may stand after a blank; commas and underscores may group digits. What is
//! not understood is refused with the text, the rule and examples.

use std::time::Duration;

/// What was wrong with a number on the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}; write it like {examples}")]
pub struct ParseError {
    text: String,
    what: &'static str,
    examples: &'static str,
}

/// A size in bytes: `1024`, `10k`, `60kb`, `64KiB`, `1.5MB`. `k` is 1000, `Ki` is 1024.
pub fn size(text: &str) -> Result<usize, ParseError> {
    let refuse = || error(text, "size", "1024, 60kb, 64KiB or 1MB");
    let (number, unit) = split(text).ok_or_else(refuse)?;
    let bytes = match unit.as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024.0 * 1024.0,
        "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(refuse()),
    };
    whole(number * bytes).and_then(|size| usize::try_from(size).ok()).ok_or_else(refuse)
}

/// A number of things, at least 1: `100000`, `100,000`, `10k`, `1m`.
pub fn count(text: &str) -> Result<u64, ParseError> {
    let refuse = || error(text, "count", "100000, 100,000, 10k or 1m");
    let (number, unit) = split(text).ok_or_else(refuse)?;
    let times = match unit.as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        _ => return Err(refuse()),
    };
    whole(number * times).filter(|count| *count > 0).ok_or_else(refuse)
}

/// A time, more than nothing: `60` (seconds), `250us`, `500ms`, `30s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, ParseError> {
    let refuse = || error(text, "time", "60, 500ms, 30s, 5m or 1h");
    let (number, unit) = split(text).ok_or_else(refuse)?;
    let seconds = match unit.as_str() {
        "" | "s" | "sec" | "seconds" => 1.0,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "m" | "min" | "minutes" => 60.0,
        "h" | "hours" => 3600.0,
        _ => return Err(refuse()),
    };
    let duration = Duration::try_from_secs_f64(number * seconds).map_err(|_| refuse())?;
    if duration.is_zero() { Err(refuse()) } else { Ok(duration) }
}

/// A rate in messages per second, more than nothing: `500`, `500/s`, `30k/m`, `1m/h`.
pub fn rate(text: &str) -> Result<f64, ParseError> {
    let refuse = || error(text, "rate", "500, 500/s, 30000/m or 1m/h");
    let (number, per) = text.split_once('/').unwrap_or((text, "s"));
    let (number, unit) = split(number).ok_or_else(refuse)?;
    let times = match unit.as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        _ => return Err(refuse()),
    };
    let seconds = match per.trim().to_ascii_lowercase().as_str() {
        "s" | "sec" | "second" => 1.0,
        "m" | "min" | "minute" => 60.0,
        "h" | "hr" | "hour" => 3600.0,
        _ => return Err(refuse()),
    };
    let rate = number * times / seconds;
    // Beyond a nanosecond a message no schedule could be written down; below one in eleven days nobody waits.
    if (1e-6..=1e9).contains(&rate) { Ok(rate) } else { Err(refuse()) }
}

/// Splits `60 kb` into 60 and `kb`.
fn split(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end =
        text.find(|character: char| !matches!(character, '0'..='9' | '.' | ',' | '_')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if !digits.starts_with(|character: char| character.is_ascii_digit()) {
        return None;
    }
    let number = digits.replace([',', '_'], "").parse().ok()?;
    Some((number, unit.trim().to_ascii_lowercase()))
}

/// The number, where it is whole and small enough to be exact.
fn whole(number: f64) -> Option<u64> {
    let exact = (0.0..=9e15).contains(&number) && number.fract() == 0.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range and whole, as just checked"
    )]
    exact.then_some(number as u64)
}

fn error(text: &str, what: &'static str, examples: &'static str) -> ParseError {
    ParseError { text: text.to_owned(), what, examples }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("1024", 1024),
            ("10k", 10_000),
            ("60kb", 60_000),
            ("64KiB", 65_536),
            ("1.5 MB", 1_500_000),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1.5", "10 apples", "1e3", ".5k", "99999999999GB", "1.2.3", "NaN"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_times_and_rates_too() {
        assert_eq!(count("100,000"), Ok(100_000));
        assert_eq!(count("1m"), Ok(1_000_000));
        assert_eq!(count("2.5k"), Ok(2_500));
        assert!(count("0").is_err());
        assert_eq!(duration("60"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("0").is_err() && duration("5 weeks").is_err());
        assert_eq!(rate("500"), Ok(500.0));
        assert_eq!(rate("30k/m"), Ok(500.0));
        assert_eq!(rate("1,800,000/h"), Ok(500.0));
        assert!(rate("0").is_err() && rate("5/w").is_err() && rate("/s").is_err());
    }

    #[test]
    fn a_refusal_names_the_text_and_the_rule() {
        let text = size("60 parrots").map_err(|error| error.to_string());
        assert_eq!(text, Err("\"60 parrots\" is no size; write it like 1024, 60kb, 64KiB or 1MB".to_owned()));
    }

    proptest! {
        #[test]
        fn whole_numbers_mean_themselves(number in 1u64..1 << 50) {
            prop_assert_eq!(count(&number.to_string()), Ok(number));
            prop_assert_eq!(size(&number.to_string()).ok(), usize::try_from(number).ok());
            let kibibytes = size(&format!("{}KiB", number >> 10));
            prop_assert_eq!(kibibytes.ok(), usize::try_from(number >> 10 << 10).ok());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}", number in "[0-9.,_]{0,30} ?[kmgib/sh]{0,4}") {
            for text in [&text, &number] {
                let _ = (size(text), count(text), duration(text), rate(text));
            }
        }
    }
}
