//! `GET /metrics` while a run goes on, in the OpenMetrics text form that Prometheus scrapes.
//!
//! The figures are those of the last second that is over; a scrape reads them and never asks the load.
//! Labels of the run stand on every metric. Names are a promise: dashboards read them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use traffic_gen::Second;

use super::sample::{Points, Sample, window_name};
use crate::serve::Service;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets of latency, in seconds.
const BUCKETS_S: [f64; 17] = [
    0.000_5,
    0.001,
    0.002_5,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    f64::INFINITY,
];

/// The endpoint; it is gone when this is dropped.
pub(crate) struct Prometheus {
    pub(crate) service: Service,
    figures: Arc<Mutex<Figures>>,
}

impl Prometheus {
    /// Listens there. `labels` stand on every metric.
    pub(crate) fn start(address: SocketAddr, labels: &BTreeMap<String, String>) -> io::Result<Self> {
        let figures = Arc::new(Mutex::new(Figures::default()));
        let labels = labels.clone().into_iter().map(|(name, value)| (Cow::from(name), Cow::from(value)));
        let mut registry = Registry::with_prefix_and_labels("traffic_gen", labels);
        registry.register_collector(Box::new(Live(Arc::clone(&figures))));
        let routes = Router::new().route("/metrics", get(metrics)).with_state(Arc::new(registry));
        Ok(Self { service: Service::start(address, "prometheus", routes)?, figures })
    }

    /// Shows the figures of a second from now on.
    pub(crate) fn show(&self, second: &Second<'_>, sample: &Sample) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.latency.add(second.latency);
        figures.sample = Some(sample.clone());
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What is shown.
#[derive(Debug, Default)]
struct Figures {
    sample: Option<Sample>,
    latency: Buckets,
}

/// All latencies so far, in as many numbers as there are bounds.
#[derive(Clone, Debug, Default)]
struct Buckets {
    counts: [u64; BUCKETS_S.len()],
    sum_s: f64,
}

impl Buckets {
    fn add(&mut self, histogram: &Histogram<u64>) {
        for value in histogram.iter_recorded() {
            let latency_s = value.value_iterated_to() as f64 / 1e6;
            // The last bound is above every number.
            let bucket = BUCKETS_S.iter().position(|bound| latency_s <= *bound);
            self.counts[bucket.unwrap_or(BUCKETS_S.len() - 1)] += value.count_since_last_iteration();
        }
        self.sum_s += histogram.mean() * histogram.len() as f64 / 1e6;
    }
}

/// Writes the figures whenever somebody asks.
#[derive(Debug)]
struct Live(Arc<Mutex<Figures>>);

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (sample, latency) = {
            let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (figures.sample.clone(), figures.latency.clone())
        };
        let Some(sample) = sample else {
            return Ok(());
        };
        let mut metrics = Metrics(encoder);
        metrics.totals(&sample)?;
        metrics.levels(&sample)?;
        metrics.latencies(&sample, &latency)
    }
}

struct Metrics<'a>(DescriptorEncoder<'a>);

impl Metrics<'_> {
    fn totals(&mut self, sample: &Sample) -> Result<(), fmt::Error> {
        self.counter("sent", "Messages with a final 250", sample.sent)?;
        self.counter("failed", "Messages with a final refusal", sample.failed)?;
        self.counter("partial", "Messages refused for some of their recipients", sample.partial)?;
        self.counter("unknown", "Messages whose connection was lost before the answer", sample.unknown)?;
        self.counter("due", "Messages that were due by the schedule", sample.due)?;
        let codes = sample.reply_codes.iter().map(|(code, count)| (code.to_string(), *count));
        self.counters("replies", "Final replies by their code", "code", codes)?;
        let errors = sample.errors.iter().map(|(kind, count)| (kind.clone(), *count));
        self.counters("errors", "What went wrong, by kind", "kind", errors)
    }

    fn levels(&mut self, sample: &Sample) -> Result<(), fmt::Error> {
        self.gauge("in_flight", "Messages begun and not answered", sample.in_flight as f64)?;
        self.gauge("connections", "Connections open now", sample.connections as f64)?;
        self.gauge("rate_per_second", "Messages sent in the last second", sample.rate_per_s)?;
        self.gauge("due_per_second", "Messages due in the last second", sample.due_per_s)?;
        self.gauge("cpu_cores", "Cores that the generator used in the last second", sample.cpu_cores)?;
        let mut metric =
            self.0.encode_descriptor("window", "1 for the part of the run", None, MetricType::Gauge)?;
        ConstGauge::new(1_i64).encode(metric.encode_family(&[("window", window_name(sample.window))])?)
    }

    fn latencies(&mut self, sample: &Sample, latency: &Buckets) -> Result<(), fmt::Error> {
        let help = "From the intended time, or MAIL in a closed loop, to the final 250";
        let (counts, unit) = (latency.counts, Unit::Seconds);
        let buckets: Vec<_> = BUCKETS_S.into_iter().zip(counts).collect();
        self.0
            .encode_descriptor("latency", help, Some(&unit), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(latency.sum_s, counts.iter().sum(), &buckets, None)?;
        let help = "Percentiles of the last second";
        let mut metric =
            self.0.encode_descriptor("latency_of_second", help, Some(&unit), MetricType::Gauge)?;
        for (series, points) in [("corrected", sample.latency), ("raw", sample.raw), ("lag", sample.lag)] {
            for (quantile, value_us) in quantiles(&points) {
                let labels = [("series", series), ("quantile", quantile)];
                ConstGauge::new(value_us / 1e6).encode(metric.encode_family(&labels)?)?;
            }
        }
        let help = "The longest pause in the last second that the host made a waiting thread wait";
        self.0
            .encode_descriptor("hiccup", help, Some(&unit), MetricType::Gauge)?
            .encode_gauge(&(sample.hiccup_max_us / 1e6))
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> Result<(), fmt::Error> {
        ConstCounter::new(count).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl Iterator<Item = (String, u64)>,
    ) -> Result<(), fmt::Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in counts {
            ConstCounter::new(count).encode(metric.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), fmt::Error> {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

fn quantiles(points: &Points) -> [(&'static str, f64); 5] {
    [
        ("0.5", points.p50_us),
        ("0.9", points.p90_us),
        ("0.99", points.p99_us),
        ("0.999", points.p99_9_us),
        ("1", points.max_us),
    ]
}

#[cfg(test)]
mod tests {
    use reports::latency::{new_histogram, record_ns};

    use super::*;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let mut latency = new_histogram();
        [700_000, 800_000, 70_000_000_000].into_iter().for_each(|ns| record_ns(&mut latency, ns));
        let mut figures = Figures::default();
        figures.latency.add(&latency);
        figures.latency.add(&latency);
        let mut sample = Sample::example();
        sample.errors.insert("timeout: \"no\" reply".to_owned(), 7);
        figures.sample = Some(sample);
        let labels = [(Cow::from("machine"), Cow::from("c5"))].into_iter();
        let mut registry = Registry::with_prefix_and_labels("traffic_gen", labels);
        registry.register_collector(Box::new(Live(Arc::new(Mutex::new(figures)))));
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE traffic_gen_sent counter",
            "traffic_gen_sent_total{machine=\"c5\"} 15000",
            "traffic_gen_replies_total{machine=\"c5\",code=\"250\"} 15000",
            "traffic_gen_errors_total{machine=\"c5\",kind=\"timeout: \\\"no\\\" reply\"} 7",
            "traffic_gen_rate_per_second{machine=\"c5\"} 5000.0",
            "traffic_gen_latency_seconds_count{machine=\"c5\"} 6",
            "traffic_gen_latency_seconds_bucket{machine=\"c5\",le=\"0.001\"} 4",
            "traffic_gen_latency_seconds_bucket{machine=\"c5\",le=\"60.0\"} 4",
            "traffic_gen_latency_seconds_bucket{machine=\"c5\",le=\"+Inf\"} 6",
            "traffic_gen_window{machine=\"c5\",window=\"measured\"} 1",
            "# EOF",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
    }
}
