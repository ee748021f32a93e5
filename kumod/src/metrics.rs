//! The numbers that kumod shows of itself: counters, levels and latencies, under KumoMTA's names where it has them.
//!
//! Each is an atomic that its owner counts up; a field has the name of its metric. Values that something else keeps (the
//! spool, the log) are read when somebody asks, through [`Metrics::register_source`]. Text and JSON are drawn from one snapshot, so
//! they cannot disagree. Nothing here fails: a label that is one too many is counted under `other`.

mod sample;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::Value;

use sample::Families;
pub use sample::{Kind, LATENCY_BUCKETS_SECONDS, Latency, Sample};

/// Different reasons counted apart in `smtp_server_rejections`; more are counted as `other`.
pub const REJECTION_REASONS_MAX: usize = 64;

/// All metrics of one process; shared behind an `Arc`.
#[derive(Default)]
pub struct Metrics {
    /// Messages taken over from clients.
    pub total_messages_received: Counter,
    /// Messages that a next hop has taken.
    pub total_messages_delivered: Counter,
    /// Attempts that ended in a retry.
    pub total_messages_transfail: Counter,
    /// Messages given up for good.
    pub total_messages_fail: Counter,
    /// Connections open now.
    pub connection_count: PerService<Gauge>,
    /// Connections opened so far.
    pub total_connection_count: PerService<Counter>,
    /// Connections turned away: at a limit or not welcome.
    pub total_connections_denied: PerService<Counter>,
    /// Messages that kumod answers for.
    pub message_count: Gauge,
    /// Messages whose body is in memory.
    pub message_data_resident_count: Gauge,
    /// Messages put back because their ready queue was full.
    pub delayed_due_to_ready_queue_full: Counter,
    /// Messages put back because a rate was used up.
    pub delayed_due_to_message_rate_throttle: Counter,
    /// TLS handshakes with servers that succeeded.
    pub tls_handshakes: Counter,
    /// Those of them that took up a session from before.
    pub tls_handshakes_resumed: Counter,
    /// Those that did not succeed.
    pub tls_handshakes_failed: Counter,
    /// Connections that a policy in mode enforce would have forbidden.
    pub mta_sts_testing_failures: Counter,
    /// What was found when hosts were asked for TLSA records.
    pub dane_results: DaneResults,
    /// Sessions given up because nothing happened for as long as their path allows.
    pub dispatcher_watchdog_aborted_total: Counter,
    /// Messages taken out of the queue because the spool cannot give their body back.
    pub spool_messages_set_aside: Counter,
    /// Time from the last byte of a body to its being as safe as the durability in force says.
    pub message_save_latency: Latency,
    rejections: RwLock<BTreeMap<&'static str, Counter>>,
    sources: Mutex<Vec<Source>>,
}

/// Reads values that something else keeps, at the time of asking.
pub type Source = Box<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// One value for each of the services that have connections.
#[derive(Debug, Default)]
pub struct PerService<T> {
    /// SMTP clients of ours.
    pub esmtp_listener: T,
    /// SMTP servers that we send to.
    pub smtp_client: T,
    /// HTTP clients.
    pub http_listener: T,
}

impl<T> PerService<T> {
    fn each(&self) -> [(&'static str, &T); 3] {
        let Self { esmtp_listener, smtp_client, http_listener } = self;
        [("esmtp_listener", esmtp_listener), ("smtp_client", smtp_client), ("http_listener", http_listener)]
    }
}

/// What is found when a host is asked for TLSA records.
#[derive(Debug, Default)]
pub struct DaneResults {
    /// Records that can be used.
    pub usable: Counter,
    /// Records of which none can be used.
    pub unusable: Counter,
    /// None, or none that are signed.
    pub nothing: Counter,
    /// No answer, or one that is not signed as it must be.
    pub failed: Counter,
}

/// One open connection in `connection_count`; dropping it takes it off.
#[derive(Debug)]
#[must_use = "the connection is counted for as long as this lives"]
pub struct OpenConnection(Gauge);

impl OpenConnection {
    /// Counts one on a gauge.
    pub fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Metrics that all stand at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a refusal given to an SMTP client. `reason` is a word of ours, never something that a client said.
    pub fn reject(&self, reason: &'static str) {
        let known = self.rejections.read().unwrap_or_else(PoisonError::into_inner).get(reason).cloned();
        let counter = known.unwrap_or_else(|| {
            let mut rejections = self.rejections.write().unwrap_or_else(PoisonError::into_inner);
            let full = rejections.len() >= REJECTION_REASONS_MAX && !rejections.contains_key(reason);
            rejections.entry(if full { "other" } else { reason }).or_default().clone()
        });
        counter.inc();
    }

    /// Adds values that are read whenever somebody asks for the metrics. The source must be quick and must not block.
    pub fn register_source(&self, source: Source) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// The metrics whose names begin with `prefix` (all for an empty one), in Prometheus text format 0.0.4.
    pub fn text(&self, prefix: &str) -> String {
        sample::text(self.families(prefix))
    }

    /// The same as JSON: `{"name": {"help", "type", "value"}}`. A value is a number; with one label `{label: {value: n}}`; with
    /// several a list of `{label: value, "@": n}`.
    pub fn json(&self, prefix: &str) -> Value {
        sample::json(&self.families(prefix))
    }

    /// All samples, those of one name together.
    fn families(&self, prefix: &str) -> Families {
        let mut families = Families::new();
        let mut samples = self.own_samples();
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            samples.extend(source());
        }
        for sample in samples.into_iter().filter(|sample| sample.name().starts_with(prefix)) {
            families.entry(sample.name()).or_default().push(sample);
        }
        families
    }

    fn own_samples(&self) -> Vec<Sample> {
        let mut samples = self.message_samples();
        samples.extend(self.connection_samples());
        samples.extend(self.tls_samples());
        samples.extend(self.dane_samples());
        for (reason, counter) in self.rejections.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let help = "Refusals given to SMTP clients, by reason";
            samples.push(
                Sample::counter("smtp_server_rejections", help, counter.get()).label("reason", *reason),
            );
        }
        samples
    }

    fn message_samples(&self) -> Vec<Sample> {
        let counter = |name, help, counter: &Counter| Sample::counter(name, help, counter.get());
        let client = |name, help, value: &Counter| counter(name, help, value).label("service", "smtp_client");
        let gauge = |name, help, gauge: &Gauge| Sample::gauge(name, help, gauge.get());
        let throttled = &self.delayed_due_to_message_rate_throttle;
        vec![
            counter(
                "total_messages_received",
                "Messages taken over from clients",
                &self.total_messages_received,
            )
            .label("service", "esmtp_listener"),
            client(
                "total_messages_delivered",
                "Messages that a next hop has taken",
                &self.total_messages_delivered,
            ),
            client(
                "total_messages_transfail",
                "Attempts that ended in a retry",
                &self.total_messages_transfail,
            ),
            client("total_messages_fail", "Messages given up for good", &self.total_messages_fail),
            gauge("message_count", "Messages that kumod answers for", &self.message_count),
            gauge(
                "message_data_resident_count",
                "Messages whose body is in memory",
                &self.message_data_resident_count,
            ),
            counter(
                "dispatcher_watchdog_aborted_total",
                "Sessions given up because they made no progress",
                &self.dispatcher_watchdog_aborted_total,
            ),
            counter(
                "delayed_due_to_ready_queue_full",
                "Messages put back because their ready queue was full",
                &self.delayed_due_to_ready_queue_full,
            ),
            counter(
                "delayed_due_to_message_rate_throttle",
                "Messages put back because a rate was used up",
                throttled,
            ),
            counter(
                "spool_messages_set_aside",
                "Messages taken out of the queue because their body is damaged",
                &self.spool_messages_set_aside,
            ),
            self.message_save_latency.sample(
                "message_save_latency",
                "Seconds from the last byte of a body to its being as safe as the durability says",
            ),
        ]
    }

    fn connection_samples(&self) -> Vec<Sample> {
        let open = self.connection_count.each().into_iter().map(|(service, gauge)| {
            Sample::gauge("connection_count", "Connections open now", gauge.get()).label("service", service)
        });
        let opened = self.total_connection_count.each().into_iter().map(|(service, counter)| {
            Sample::counter("total_connection_count", "Connections opened so far", counter.get())
                .label("service", service)
        });
        let denied = self.total_connections_denied.each().into_iter().map(|(service, counter)| {
            Sample::counter("total_connections_denied", "Connections turned away", counter.get())
                .label("service", service)
        });
        open.chain(opened).chain(denied).collect()
    }
}

impl Metrics {
    fn dane_samples(&self) -> [Sample; 4] {
        let DaneResults { usable, unusable, nothing, failed } = &self.dane_results;
        [("usable", usable), ("unusable", unusable), ("none", nothing), ("failed", failed)].map(
            |(result, count)| {
                Sample::counter(
                    "dane_result_count",
                    "Hosts asked for TLSA records, by what was found",
                    count.get(),
                )
                .label("result", result)
            },
        )
    }

    fn tls_samples(&self) -> [Sample; 4] {
        let client = |name, help, value: &Counter| {
            Sample::counter(name, help, value.get()).label("service", "smtp_client")
        };
        [
            client("tls_handshakes", "TLS handshakes that succeeded", &self.tls_handshakes),
            client(
                "tls_handshakes_resumed",
                "TLS handshakes that took up a session from before",
                &self.tls_handshakes_resumed,
            ),
            client("tls_handshakes_failed", "TLS handshakes that failed", &self.tls_handshakes_failed),
            client(
                "mta_sts_testing_failures",
                "Hosts and connections that an MTA-STS policy in testing would forbid if it were enforced",
                &self.mta_sts_testing_failures,
            ),
        ]
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn names_and_labels_are_those_of_the_dashboards() {
        let metrics = Metrics::new();
        metrics.total_messages_received.inc_by(3);
        metrics.connection_count.smtp_client.set(2);
        metrics.reject("relay_denied");
        let text = metrics.text("");
        for line in [
            "# TYPE total_messages_received counter",
            "total_messages_received{service=\"esmtp_listener\"} 3",
            "total_messages_fail{service=\"smtp_client\"} 0",
            "connection_count{service=\"smtp_client\"} 2",
            "total_connections_denied{service=\"http_listener\"} 0",
            "smtp_server_rejections{reason=\"relay_denied\"} 1",
            "message_count 0",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn json_shows_the_same_numbers_in_the_shape_of_metrics_json() {
        let metrics = Metrics::new();
        metrics.total_messages_delivered.inc_by(7);
        metrics.message_count.set(-1);
        let value = metrics.json("");
        assert_eq!(value["total_messages_delivered"]["value"]["service"]["smtp_client"], 7);
        assert_eq!(value["total_messages_delivered"]["type"], "counter");
        let help = "Messages that kumod answers for";
        assert_eq!(value["message_count"], json!({"help": help, "type": "gauge", "value": -1}));
    }

    #[test]
    fn connections_are_counted_while_they_last() {
        let gauge = Gauge::default();
        let first = OpenConnection::count(&gauge);
        let second = OpenConnection::count(&gauge);
        drop(first);
        assert_eq!(gauge.get(), 1);
        drop(second);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn sources_are_read_at_the_time_of_asking_and_may_add_to_a_name_of_ours() {
        let metrics = Metrics::new();
        let written = std::sync::Arc::new(AtomicU64::new(1));
        let shared = written.clone();
        metrics.register_source(Box::new(move || {
            vec![
                Sample::counter("spool_bytes_written_total", "Bytes", shared.load(Ordering::Relaxed)),
                Sample::gauge("spool_info", "Spool", 1)
                    .label("backend", "threads")
                    .label("reason", "say \"no\"\n"),
                Sample::gauge("connection_count", "Connections", 4).label("service", "lua:other"),
            ]
        }));
        written.store(99, Ordering::Relaxed);
        let text = metrics.text("");
        assert!(text.contains("\nspool_bytes_written_total 99\n"), "{text}");
        assert!(text.contains("spool_info{backend=\"threads\",reason=\"say \\\"no\\\"\\n\"} 1\n"), "{text}");
        assert_eq!(text.matches("# TYPE connection_count ").count(), 1);
        let info = &metrics.json("spool_")["spool_info"]["value"][0];
        assert_eq!(*info, json!({"backend": "threads", "reason": "say \"no\"\n", "@": 1}));
    }

    #[test]
    fn a_prefix_leaves_the_rest_out() {
        let metrics = Metrics::new();
        assert_eq!(metrics.json("delayed_").as_object().unwrap().len(), 2);
        let text = metrics.text("message_c");
        assert!(text.contains("message_count 0") && !text.contains("connection_count"), "{text}");
        assert_eq!(metrics.json("no_such_metric"), json!({}));
    }

    #[test]
    fn a_latency_lands_in_the_bucket_whose_bound_it_does_not_pass() {
        let metrics = Metrics::new();
        for duration in
            [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(3), Duration::from_secs(60)]
        {
            metrics.message_save_latency.observe(duration);
        }
        let text = metrics.text("message_save_latency");
        for line in [
            "_bucket{le=\"0.001\"} 2",
            "_bucket{le=\"0.005\"} 3",
            "_bucket{le=\"+Inf\"} 4",
            "_count 4",
            "_sum 60.004",
        ] {
            assert!(text.contains(&format!("message_save_latency{line}\n")), "{line} is not in\n{text}");
        }
        let value = &metrics.json("message_save_latency")["message_save_latency"]["value"];
        assert_eq!((&value["count"], &value["bucket"][14]), (&json!(4), &json!([null, 4])));
    }

    #[test]
    fn reasons_beyond_the_limit_are_counted_as_other() {
        let metrics = Metrics::new();
        for number in 0..REJECTION_REASONS_MAX + 10 {
            metrics.reject(Box::leak(format!("reason_{number}").into_boxed_str()));
        }
        let value = metrics.json("smtp_server_rejections");
        let reasons = value["smtp_server_rejections"]["value"]["reason"].as_object().unwrap().clone();
        assert_eq!((reasons.len(), &reasons["other"]), (REJECTION_REASONS_MAX + 1, &json!(10)));
    }
}
