//! One value of one metric, and how all of them are written: Prometheus text and JSON, from the same samples.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

/// Upper bounds of the buckets of a latency, in seconds.
pub const LATENCY_BUCKETS_SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Samples by name; those of one name stand together.
pub(super) type Families = BTreeMap<&'static str, Vec<Sample>>;

/// Prometheus text format 0.0.4.
pub(super) fn text(families: Families) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot(families)));
    let mut out = String::with_capacity(8192);
    // Writing to a string cannot fail; whatever was written until then is what there is to show.
    let _ = text::encode(&mut out, &registry);
    out
}

/// The shape of KumoMTA's `metrics.json`.
pub(super) fn json(families: &Families) -> Value {
    Value::Object(families.iter().map(|(name, samples)| ((*name).to_owned(), family_json(samples))).collect())
}

/// What a number does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts values by size.
    Histogram,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

/// One value of one metric.
#[derive(Clone, Debug)]
pub struct Sample {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    labels: Vec<(&'static str, Cow<'static, str>)>,
    reading: Reading,
}

#[derive(Clone, Debug)]
enum Reading {
    Number(i64),
    Histogram { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl Sample {
    /// A value that only grows.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::number(name, help, Kind::Counter, i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A value that goes up and down.
    pub fn gauge(name: &'static str, help: &'static str, value: i64) -> Self {
        Self::number(name, help, Kind::Gauge, value)
    }

    /// Values by size: each with how often it was seen, sorted into buckets by their upper bounds.
    pub fn distribution(
        name: &'static str,
        help: &'static str,
        bounds: &[f64],
        values: impl Iterator<Item = (f64, u64)>,
    ) -> Self {
        let mut buckets: Vec<(f64, u64)> =
            bounds.iter().copied().chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let (mut sum, mut count) = (0.0, 0);
        for (value, times) in values {
            let bucket = bounds.partition_point(|bound| *bound < value);
            buckets[bucket].1 += times;
            sum += value * times as f64;
            count += times;
        }
        let reading = Reading::Histogram { sum, count, buckets };
        Self { name, help, kind: Kind::Histogram, labels: Vec::new(), reading }
    }

    /// The same sample, told apart from others of its name by a label.
    pub fn label(mut self, key: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.labels.push((key, value.into()));
        self
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn number(name: &'static str, help: &'static str, kind: Kind, value: i64) -> Self {
        Self { name, help, kind, labels: Vec::new(), reading: Reading::Number(value) }
    }
}

/// Durations counted by size. Observing is one atomic addition to a bucket and one to the sum; nothing is locked.
#[derive(Debug, Default)]
pub struct Latency {
    /// One more than the bounds: the last holds what is longer than all of them.
    buckets: [AtomicU64; LATENCY_BUCKETS_SECONDS.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = LATENCY_BUCKETS_SECONDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted until now.
    pub fn sample(&self, name: &'static str, help: &'static str) -> Sample {
        Sample { name, help, kind: Kind::Histogram, labels: Vec::new(), reading: self.read() }
    }

    fn read(&self) -> Reading {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let bounds = LATENCY_BUCKETS_SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Reading::Histogram { sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6, count, buckets }
    }
}

fn family_json(samples: &[Sample]) -> Value {
    let first = &samples[0];
    let value = match samples {
        [only] if only.labels.is_empty() => only.reading.json(),
        _ if first.labels.len() == 1 => {
            let of = |sample: &Sample| (sample.labels[0].1.clone().into_owned(), sample.reading.json());
            let values = samples.iter().filter(|sample| sample.labels.len() == 1).map(of).collect();
            json!({ first.labels[0].0: Value::Object(values) })
        }
        _ => samples.iter().map(labelled_json).collect(),
    };
    json!({ "help": first.help, "type": first.kind.word(), "value": value })
}

fn labelled_json(sample: &Sample) -> Value {
    let labels = sample.labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(value.as_ref())));
    Value::Object(labels.chain([("@".to_owned(), sample.reading.json())]).collect())
}

impl Reading {
    fn json(&self) -> Value {
        match self {
            Self::Number(value) => json!(value),
            Self::Histogram { sum, count, buckets } => {
                let mut below = 0;
                let cumulative = buckets.iter().map(|(bound, count)| {
                    below += count;
                    // JSON has no infinity: the last bucket's bound reads as null.
                    json!([bound, below])
                });
                json!({ "count": count, "sum": sum, "bucket": cumulative.collect::<Vec<_>>() })
            }
        }
    }
}

/// The families of one scrape, in the form that prometheus-client writes. A name is written as it is: the encoder's own
/// `_total` for counters would rename what KumoMTA's dashboards look for.
#[derive(Debug)]
struct Snapshot(Families);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, samples) in &self.0 {
            let first = &samples[0];
            let mut metric = encoder.encode_descriptor(name, first.help, None, first.kind.metric_type())?;
            for sample in samples {
                if sample.labels.is_empty() {
                    sample.reading.write(&mut metric)?;
                } else {
                    let labels: Vec<(&str, &str)> =
                        sample.labels.iter().map(|(key, value)| (*key, value.as_ref())).collect();
                    sample.reading.write(&mut metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Reading {
    fn write(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => encoder.encode_gauge(value),
            Self::Histogram { sum, count, buckets } => {
                encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
        }
    }
}
