//! One second of a run as numbers: what progress, charts, tables and metrics are made from.
//!
//! Owns the columns of the per-second table, with their names and units. Columns are added at the end and
//! never renamed: programs read them.

use std::collections::BTreeMap;

use serde::Serialize;
use traffic_gen::{Second, Window};

/// Latencies of one second, in microseconds; all 0 where nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Points {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
}

impl Points {
    fn of(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let summary = reports::latency::summary(histogram);
        Self {
            p50_us: summary.p50,
            p90_us: summary.p90,
            p99_us: summary.p99,
            p99_9_us: summary.p99_9,
            max_us: summary.max,
        }
    }
}

/// One second, and what changed in it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) offset_s: f64,
    pub(crate) length_s: f64,
    pub(crate) window: Window,
    /// Messages sent in this second, per second.
    pub(crate) rate_per_s: f64,
    /// Messages that became due in this second, per second; 0 in a closed loop.
    pub(crate) due_per_s: f64,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// Refused for some of their recipients.
    pub(crate) partial: u64,
    pub(crate) unknown: u64,
    pub(crate) in_flight: u64,
    pub(crate) connections: u64,
    pub(crate) due: u64,
    pub(crate) latency: Points,
    pub(crate) raw: Points,
    pub(crate) lag: Points,
    pub(crate) hiccup_p99_us: f64,
    pub(crate) hiccup_max_us: f64,
    pub(crate) cpu_cores: f64,
    pub(crate) reply_codes: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Sample {
    /// Reads a second; `before` is the one before it.
    pub(crate) fn new(second: &Second<'_>, before: Option<&Self>) -> Self {
        let length_s = second.length.as_secs_f64();
        let per_s = |now: u64, before: Option<u64>| {
            now.saturating_sub(before.unwrap_or(0)) as f64 / length_s.max(1e-9)
        };
        Self {
            offset_s: second.offset.as_secs_f64(),
            length_s,
            window: second.window,
            rate_per_s: per_s(second.sent, before.map(|before| before.sent)),
            due_per_s: per_s(second.due, before.map(|before| before.due)),
            sent: second.sent,
            failed: second.failed,
            partial: second.partial,
            unknown: second.unknown,
            in_flight: second.in_flight,
            connections: second.connections,
            due: second.due,
            latency: Points::of(second.latency),
            raw: Points::of(second.raw),
            lag: Points::of(second.lag),
            hiccup_p99_us: second.hiccup.value_at_quantile(0.99) as f64,
            hiccup_max_us: second.hiccup.max() as f64,
            cpu_cores: second.cpu_cores,
            reply_codes: second.reply_codes.clone(),
            errors: second.errors.clone(),
        }
    }

    /// A second of a run that goes well.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        let points =
            Points { p50_us: 400.0, p90_us: 800.0, p99_us: 2_000.0, p99_9_us: 3_000.0, max_us: 9_000.0 };
        Self {
            offset_s: 2.0,
            length_s: 1.0,
            window: Window::Measured,
            rate_per_s: 5_000.0,
            due_per_s: 0.0,
            sent: 15_000,
            failed: 0,
            partial: 0,
            unknown: 0,
            in_flight: 64,
            connections: 64,
            due: 0,
            latency: points,
            raw: points,
            lag: Points::default(),
            hiccup_p99_us: 90.0,
            hiccup_max_us: 150.0,
            cpu_cores: 0.5,
            reply_codes: BTreeMap::from([(250, 15_000)]),
            errors: BTreeMap::new(),
        }
    }

    /// Messages answered with a code of that hundred so far.
    fn replies(&self, hundred: u16) -> f64 {
        let codes = self.reply_codes.range(hundred * 100..(hundred + 1) * 100);
        codes.map(|(_, count)| *count).sum::<u64>() as f64
    }

    /// The values of [`COLUMNS`].
    pub(crate) fn values(&self) -> impl Iterator<Item = Value> + '_ {
        COLUMNS.iter().map(|(_, value)| value(self))
    }
}

/// A cell of the per-second table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Number(f64),
    Word(&'static str),
}

impl std::fmt::Display for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Six decimals are microseconds of a second; whole numbers have none.
            Self::Number(number) => write!(formatter, "{}", (number * 1e6).round() / 1e6),
            Self::Word(word) => formatter.write_str(word),
        }
    }
}

/// A column: its name with its unit, and how its value is read.
pub(crate) type Column = (&'static str, fn(&Sample) -> Value);

/// The per-second table. What has no unit counts messages or connections; `sent` and the like count since the
/// start of the run.
pub(crate) const COLUMNS: &[Column] = &[
    ("offset_s", |sample| Value::Number(sample.offset_s)),
    ("length_s", |sample| Value::Number(sample.length_s)),
    ("window", |sample| Value::Word(window_name(sample.window))),
    ("rate_per_s", |sample| Value::Number(sample.rate_per_s)),
    ("due_per_s", |sample| Value::Number(sample.due_per_s)),
    ("sent", |sample| Value::Number(sample.sent as f64)),
    ("failed", |sample| Value::Number(sample.failed as f64)),
    ("unknown", |sample| Value::Number(sample.unknown as f64)),
    ("due", |sample| Value::Number(sample.due as f64)),
    ("in_flight", |sample| Value::Number(sample.in_flight as f64)),
    ("connections", |sample| Value::Number(sample.connections as f64)),
    ("latency_p50_us", |sample| Value::Number(sample.latency.p50_us)),
    ("latency_p90_us", |sample| Value::Number(sample.latency.p90_us)),
    ("latency_p99_us", |sample| Value::Number(sample.latency.p99_us)),
    ("latency_p99_9_us", |sample| Value::Number(sample.latency.p99_9_us)),
    ("latency_max_us", |sample| Value::Number(sample.latency.max_us)),
    ("raw_p50_us", |sample| Value::Number(sample.raw.p50_us)),
    ("raw_p99_us", |sample| Value::Number(sample.raw.p99_us)),
    ("raw_max_us", |sample| Value::Number(sample.raw.max_us)),
    ("lag_p50_us", |sample| Value::Number(sample.lag.p50_us)),
    ("lag_p99_us", |sample| Value::Number(sample.lag.p99_us)),
    ("lag_max_us", |sample| Value::Number(sample.lag.max_us)),
    ("hiccup_max_us", |sample| Value::Number(sample.hiccup_max_us)),
    ("cpu_cores", |sample| Value::Number(sample.cpu_cores)),
    ("replies_2xx", |sample| Value::Number(sample.replies(2))),
    ("replies_4xx", |sample| Value::Number(sample.replies(4))),
    ("replies_5xx", |sample| Value::Number(sample.replies(5))),
    ("hiccup_p99_us", |sample| Value::Number(sample.hiccup_p99_us)),
    ("partial", |sample| Value::Number(sample.partial as f64)),
    ("errors", |sample| Value::Number(sample.errors.values().sum::<u64>() as f64)),
];

/// The word for a window in files.
pub(crate) fn window_name(window: Window) -> &'static str {
    match window {
        Window::WarmUp => "warm_up",
        Window::Measured => "measured",
        Window::Drain => "drain",
    }
}
