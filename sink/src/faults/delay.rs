//! How long a rule makes a client wait: a fixed time, or one drawn from a distribution.
//!
//! Owns the notation: `200ms`, `uniform:10ms-100ms`, `lognormal:50ms:1.2`, `pareto:10ms:1.5`,
//! `geometric:1s:30`. Refuses what is longer than [`DELAY_SECONDS_MAX`]; what a distribution draws beyond it
//! is cut to it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::dice::Draw;

/// The longest wait of one rule, in seconds.
pub const DELAY_SECONDS_MAX: u64 = 3_600;

const DELAY_MAX: Duration = Duration::from_secs(DELAY_SECONDS_MAX);

/// A time, or how to draw one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delay {
    Fixed(Duration),
    /// Anything between the two, all alike.
    Uniform(Duration, Duration),
    /// The logarithm is normal: half of the draws below the median, a long tail above.
    LogNormal {
        median: Duration,
        sigma: f64,
    },
    /// Never below the least; the smaller the shape, the heavier the tail.
    Pareto {
        least: Duration,
        shape: f64,
    },
    /// The unit for each throw of a dice with 100 sides until it shows `odds` or more, as Postfix's
    /// `smtp-sink -W` does it.
    Geometric {
        unit: Duration,
        odds: u8,
    },
}

impl Delay {
    /// The delay of one decision.
    pub(super) fn draw(self, draw: Draw) -> Duration {
        let (first, second) = (draw.again(), draw.again().again());
        let drawn = match self {
            Self::Fixed(time) => return time,
            Self::Uniform(from, to) => from + (to - from).mul_f64(first.unit()),
            Self::LogNormal { median, sigma } => {
                // Box and Muller; 1 - u keeps the logarithm finite.
                let radius = (-2.0 * (1.0 - first.unit()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * second.unit()).cos();
                scaled(median, (sigma * normal).exp())
            }
            Self::Pareto { least, shape } => scaled(least, (1.0 - first.unit()).powf(-1.0 / shape)),
            Self::Geometric { unit, odds } => {
                let below = f64::from(odds) / 100.0;
                // How many throws are below the odds before the first that is not.
                scaled(unit, 1.0 + ((1.0 - first.unit()).ln() / below.ln()).floor())
            }
        };
        drawn.min(DELAY_MAX)
    }
}

fn scaled(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(DELAY_MAX)
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((kind, rest)) = text.split_once(':') else { return duration(text).map(Self::Fixed) };
        let two = |separator| {
            let form = format!("{text:?} needs two values after {kind}:, such as {}", example(kind));
            rest.split_once(separator).ok_or(form)
        };
        match kind {
            "fixed" => duration(rest).map(Self::Fixed),
            "uniform" => {
                let (from, to) = two('-')?;
                let (from, to) = (duration(from)?, duration(to)?);
                if from > to {
                    return Err(format!("{text:?} ends before it begins; write the shorter time first"));
                }
                Ok(Self::Uniform(from, to))
            }
            "lognormal" => {
                let (median, sigma) = two(':')?;
                Ok(Self::LogNormal { median: duration(median)?, sigma: number(sigma, 0.0, 10.0)? })
            }
            "pareto" => {
                let (least, shape) = two(':')?;
                Ok(Self::Pareto { least: duration(least)?, shape: number(shape, 0.01, 1000.0)? })
            }
            "geometric" => {
                let (unit, odds) = two(':')?;
                let odds = odds.parse().ok().filter(|odds| (1..=99).contains(odds));
                let odds = odds.ok_or_else(|| format!("{text:?} needs odds from 1 to 99"))?;
                Ok(Self::Geometric { unit: duration(unit)?, odds })
            }
            _ => Err(format!(
                "{kind:?} is no distribution; fixed, uniform, lognormal, pareto and geometric are"
            )),
        }
    }
}

fn example(kind: &str) -> &'static str {
    match kind {
        "uniform" => "uniform:10ms-100ms",
        "lognormal" => "lognormal:50ms:1.2",
        "pareto" => "pareto:10ms:1.5",
        _ => "geometric:1s:30",
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => write!(formatter, "{time:?}"),
            Self::Uniform(from, to) => write!(formatter, "uniform:{from:?}-{to:?}"),
            Self::LogNormal { median, sigma } => write!(formatter, "lognormal:{median:?}:{sigma}"),
            Self::Pareto { least, shape } => write!(formatter, "pareto:{least:?}:{shape}"),
            Self::Geometric { unit, odds } => write!(formatter, "geometric:{unit:?}:{odds}"),
        }
    }
}

/// `200ms`, `1.5s`, `2m`, `1h`; microseconds as `us` or `µs`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(text.len());
    let (value, unit) = text.split_at(digits);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("{text:?} is no time; write 200ms, 1.5s, 2m or 1h")),
    };
    let value: f64 =
        value.parse().map_err(|_| format!("{text:?} is no time; write 200ms, 1.5s, 2m or 1h"))?;
    let time = Duration::try_from_secs_f64(value * seconds).ok().filter(|time| *time <= DELAY_MAX);
    time.ok_or_else(|| format!("{text:?} is more than the {DELAY_SECONDS_MAX} s that a rule may wait"))
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{text:?} is no number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::super::dice::Dice;
    use super::*;

    fn median_ms(text: &str) -> u128 {
        let delay: Delay = text.parse().unwrap();
        let mut drawn: Vec<u128> =
            (0..2_001).map(|count| delay.draw(Dice::new(1, 2).draw(3, count)).as_millis()).collect();
        drawn.sort_unstable();
        drawn[1_000]
    }

    #[test]
    fn each_distribution_has_its_median() {
        let table = [
            ("200ms", 200..=200),
            ("fixed:2s", 2_000..=2_000),
            ("uniform:100ms-300ms", 190..=210),
            ("lognormal:50ms:1.2", 44..=56),
            // min * 2^(1/shape)
            ("pareto:100ms:1", 185..=215),
            // The second throw, where every second throw is below the odds: the first or the second.
            ("geometric:1s:50", 1_000..=2_000),
        ];
        for (text, expected) in table {
            assert!(expected.contains(&median_ms(text)), "{text}: {}", median_ms(text));
        }
    }

    #[test]
    fn tails_are_cut() {
        let delay: Delay = "pareto:1s:0.01".parse().unwrap();
        let longest = (0..100).map(|count| delay.draw(Dice::new(1, 2).draw(3, count))).max().unwrap();
        assert_eq!(longest, DELAY_MAX);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["200ms", "uniform:10ms-1.5s", "lognormal:50ms:1.2", "pareto:10ms:1.5", "geometric:1s:30"]
        {
            assert_eq!(text.parse::<Delay>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_would_do() {
        let table = [
            ("200", "200ms"),
            ("-1s", "is no time"),
            ("2h", "3600 s"),
            ("uniform:1s", "uniform:10ms-100ms"),
            ("uniform:2s-1s", "shorter time first"),
            ("pareto:1s:0", "from 0.01"),
            ("lognormal:1s:nan", "no number"),
            ("geometric:1s:100", "1 to 99"),
            ("poisson:1s", "no distribution"),
        ];
        for (text, part) in table {
            let error = text.parse::<Delay>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
