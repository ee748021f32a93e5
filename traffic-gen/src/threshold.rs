//! Conditions on the figures of a run: `p99<50ms`, `errors<0.1%`, `rate>5000/s`.
//!
//! Owns the words and their meaning. All figures are those of the measured window. A condition on something
//! that was not measured is missed, never met: a run that sent nothing has no latency to be content with.
//! What is not understood is refused with the text, the rule and examples.

use std::str::FromStr;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::parse;
use crate::phases::NAMES;
use crate::report::Report;

const EXAMPLES: &str = "p99<50ms, max<2s, raw:p99.9<10ms, lag:p99<5ms, final_dot:p95<20ms, errors<0.1%, \
    rate>5000/s or mmh>20";

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    comparison: Comparison,
    /// In the unit of the metric.
    limit: f64,
}

/// Why a condition was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no condition: {rule}; write it like {EXAMPLES}")]
pub struct ThresholdError {
    text: String,
    rule: String,
}

/// How a condition came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The condition, as it was written.
    pub threshold: String,
    /// What was measured, in `unit`; null where nothing was.
    pub measured: Option<f64>,
    /// `us`, `%`, `messages`, `msg/s` or `MMH`.
    pub unit: &'static str,
    /// Whether the condition holds.
    pub met: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Latency(Series, Point),
    ErrorShare,
    Errors,
    Rate,
    Mmh,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Series {
    Corrected,
    Raw,
    Lag,
    OwnLag,
    Hiccup,
    Phase(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    Quantile(f64),
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Threshold {
    /// Whether it is about the share or the number of messages that failed: then those within it are no
    /// reason to call the run a failure.
    pub fn is_about_errors(&self) -> bool {
        matches!(self.metric, Metric::ErrorShare | Metric::Errors)
    }

    /// Whether it is about the lag behind the schedule, which only a run with a rate has.
    pub fn needs_a_rate(&self) -> bool {
        matches!(self.metric, Metric::Latency(Series::Lag | Series::OwnLag, _))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Looks whether it holds for a run.
    pub fn outcome(&self, report: &Report) -> Outcome {
        let measured = self.metric.of(report);
        let met = measured.is_some_and(|measured| match self.comparison {
            Comparison::Below => measured < self.limit,
            Comparison::AtMost => measured <= self.limit,
            Comparison::Above => measured > self.limit,
            Comparison::AtLeast => measured >= self.limit,
        });
        Outcome { threshold: self.text.clone(), measured, unit: self.metric.unit(), met }
    }
}

/// Conditions separated by commas: `p99<250ms,errors<0.1%`.
pub fn list(text: &str) -> Result<Vec<Threshold>, ThresholdError> {
    text.split(',').map(str::parse).collect()
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let refuse = |rule: String| ThresholdError { text: text.to_owned(), rule };
        let at = text.find(['<', '>']).ok_or_else(|| refuse("there is no < or > in it".to_owned()))?;
        let (name, rest) = text.split_at(at);
        let (comparison, value) = Comparison::split(rest);
        let metric = Metric::parse(name.trim(), value.trim())
            .ok_or_else(|| refuse(format!("{:?} is no figure of a run", name.trim())))?;
        let limit = metric.limit(value.trim()).map_err(refuse)?;
        Ok(Self { text: text.trim().to_owned(), metric, comparison, limit })
    }
}

impl Comparison {
    /// Takes the sign off the front; it is known to be there.
    fn split(text: &str) -> (Self, &str) {
        for (sign, comparison) in [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below)] {
            if let Some(rest) = text.strip_prefix(sign) {
                return (comparison, rest);
            }
        }
        (Self::Above, text.trim_start_matches('>'))
    }
}

impl Metric {
    fn parse(name: &str, value: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "errors" if value.ends_with('%') => return Some(Self::ErrorShare),
            "errors" => return Some(Self::Errors),
            "rate" => return Some(Self::Rate),
            "mmh" => return Some(Self::Mmh),
            _ => {}
        }
        let (series, point) = match name.split_once(':') {
            Some((series, point)) => (Series::parse(series)?, Point::parse(point)?),
            // `lag<5ms` is about its 99th percentile, as is the name of each phase.
            None => match Series::parse(&name) {
                Some(series) => (series, Point::Quantile(0.99)),
                None => (Series::Corrected, Point::parse(&name)?),
            },
        };
        Some(Self::Latency(series, point))
    }

    /// The value behind the sign, in the unit of the metric.
    fn limit(self, value: &str) -> Result<f64, String> {
        let number = |text: &str| {
            let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
            number.ok_or_else(|| format!("{value:?} is no number"))
        };
        match self {
            Self::Latency(..) => {
                let limit = parse::duration(value).map_err(|error| error.to_string())?;
                if value.ends_with(|last: char| last.is_ascii_digit()) {
                    // Seconds would be meant by other flags, and milliseconds by most people here.
                    return Err(format!("{value:?} lacks its unit, such as ms"));
                }
                Ok(limit.as_secs_f64() * 1e6)
            }
            Self::ErrorShare => number(value.trim_end_matches('%')),
            Self::Rate => parse::rate(value).map_err(|error| error.to_string()),
            Self::Errors | Self::Mmh => number(value),
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Latency(..) => "us",
            Self::ErrorShare => "%",
            Self::Errors => "messages",
            Self::Rate => "msg/s",
            Self::Mmh => "MMH",
        }
    }

    fn of(self, report: &Report) -> Option<f64> {
        let measured = &report.measured;
        let bad = measured.failed + measured.partial + measured.unknown;
        let all = bad + measured.sent;
        match self {
            Self::Latency(series, point) => series.of(report).and_then(|histogram| point.of(histogram)),
            Self::ErrorShare => (all > 0).then(|| bad as f64 * 100.0 / all as f64),
            Self::Errors => (all > 0).then_some(bad as f64),
            Self::Rate => (measured.length_s > 0.0).then(|| measured.accepted as f64 / measured.length_s),
            Self::Mmh => report.mmh,
        }
    }
}

impl Series {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "corrected" => Some(Self::Corrected),
            "raw" => Some(Self::Raw),
            "lag" => Some(Self::Lag),
            "own_lag" => Some(Self::OwnLag),
            "hiccup" => Some(Self::Hiccup),
            name => NAMES.iter().find(|phase| **phase == name).map(|phase| Self::Phase(phase)),
        }
    }

    fn of(self, report: &Report) -> Option<&Histogram<u64>> {
        match self {
            Self::Corrected => Some(&report.latency),
            Self::Raw => Some(&report.raw),
            Self::Lag => Some(&report.lag),
            Self::OwnLag => Some(&report.own_lag),
            Self::Hiccup => Some(&report.hiccup),
            Self::Phase(name) => {
                report.phases.iter().find(|(phase, _)| *phase == name).map(|(_, histogram)| histogram)
            }
        }
    }
}

impl Point {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "max" => Some(Self::Max),
            "mean" => Some(Self::Mean),
            name => {
                let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Self::Quantile(percent / 100.0))
            }
        }
    }

    /// In microseconds; nothing where nothing was recorded.
    fn of(self, histogram: &Histogram<u64>) -> Option<f64> {
        (!histogram.is_empty()).then(|| match self {
            Self::Quantile(quantile) => histogram.value_at_quantile(quantile) as f64,
            Self::Mean => histogram.mean(),
            Self::Max => histogram.max() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use reports::latency::record_ns;

    use super::*;
    use crate::plan::Plan;
    use crate::report::Measured;
    use crate::run::run;

    /// The report of a run that sent nothing, with figures put into it.
    fn report(change: impl FnOnce(&mut Report)) -> Report {
        let mut plan = Plan::messages(([127, 0, 0, 1], 1).into(), 1);
        plan.targets.clear();
        let mut report = run(plan);
        change(&mut report);
        report
    }

    fn outcome(text: &str, report: &Report) -> (Option<f64>, bool) {
        let outcome = text.parse::<Threshold>().unwrap().outcome(report);
        (outcome.measured, outcome.met)
    }

    #[test]
    fn every_figure_can_be_named() {
        let report = report(|report| {
            (1..=100_u64).for_each(|ms| record_ns(&mut report.latency, ms * 1_000_000));
            record_ns(&mut report.raw, 2_000_000);
            record_ns(&mut report.lag, 3_000);
            let measured =
                Measured { length_s: 2.0, sent: 999, unknown: 1, accepted: 500, ..Measured::default() };
            (report.measured, report.mmh) = (measured, Some(0.9));
        });
        for (text, met) in [
            ("p50<60ms", true),
            ("p99<50ms", false),
            ("max<=101ms", true),
            ("mean>40ms", true),
            ("corrected:p99>50ms", true),
            ("raw:p99.9<10ms", true),
            ("lag<3us", false),
            ("lag:max<=3us", true),
            ("errors<0.1%", false),
            ("errors <= 0.1 %", true),
            ("errors<2", true),
            ("rate>=250/s", true),
            ("rate>15001/m", false),
            ("mmh>0.5", true),
        ] {
            assert_eq!(outcome(text, &report).1, met, "{text}: {:?}", outcome(text, &report));
        }
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let report = report(|report| report.mmh = None);
        for text in ["p99<1h", "p99>1ms", "lag<1h", "final_dot:p50<1h", "errors<100%", "rate>1", "mmh>0"] {
            assert_eq!(outcome(text, &report), (None, false), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_rule() {
        for (text, words) in [
            ("p99", "no < or >"),
            ("p101<1ms", "\"p101\" is no figure"),
            ("speed>5", "\"speed\" is no figure"),
            ("dns:p99<5ms", "\"dns:p99\" is no figure"),
            ("p99<fast", "no time"),
            ("p99<50", "lacks its unit"),
            ("errors<few%", "no number"),
            ("mmh>-1", "no number"),
            ("rate>5/w", "no rate"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("p99<50ms"), "{text}: {error}");
        }
        assert_eq!(list("p99<250ms, errors<0.1%,lag<5ms").unwrap().len(), 3);
        assert!(list("p99<250ms,,").is_err());
    }
}
