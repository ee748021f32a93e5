//! What is counted, under KumoMTA's names, and how it is shown: the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters. All of them only grow, but for the open connections.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Clients that are being served now.
    pub active: AtomicU64,
    /// Clients that came.
    pub accepted: AtomicU64,
    /// Clients that were turned away before they said a word: not on the list, or too many.
    pub denied: AtomicU64,
    /// Clients that got where they wanted and are done.
    pub completed: AtomicU64,
    /// Clients that did not get where they wanted.
    pub failed: AtomicU64,
    /// Connections made for clients.
    pub outbound: AtomicU64,
    /// Passwords that were wrong.
    pub passwords_wrong: AtomicU64,
    /// Handshakes of TLS that failed.
    pub tls_failures: AtomicU64,
    /// Connections that were cut because nothing had passed for too long.
    pub idle: AtomicU64,
    /// Bytes from clients.
    pub bytes_from_client: AtomicU64,
    /// Bytes to clients.
    pub bytes_to_client: AtomicU64,
}

/// Counts one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// All of them, as Prometheus reads them.
    pub fn text(&self) -> String {
        let rows: [(&str, &str, &str, &AtomicU64); 11] = [
            ("proxy_active_connections", "gauge", "Clients that are being served", &self.active),
            ("proxy_connections_accepted_total", "counter", "Clients that came", &self.accepted),
            ("proxy_connections_denied_total", "counter", "Clients turned away unheard", &self.denied),
            ("proxy_connections_completed_total", "counter", "Clients that are done", &self.completed),
            ("proxy_connections_failed_total", "counter", "Clients that did not get through", &self.failed),
            ("proxy_outbound_connections_total", "counter", "Connections made for clients", &self.outbound),
            ("proxy_auth_failures_total", "counter", "Wrong passwords", &self.passwords_wrong),
            ("proxy_tls_handshake_failures_total", "counter", "Failed TLS handshakes", &self.tls_failures),
            ("proxy_idle_timeouts_total", "counter", "Connections cut for being idle", &self.idle),
            ("proxy_bytes_client_to_dest_total", "counter", "Bytes from clients", &self.bytes_from_client),
            ("proxy_bytes_dest_to_client_total", "counter", "Bytes to clients", &self.bytes_to_client),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in rows {
            let value = value.load(Ordering::Relaxed);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_with_their_names() {
        let metrics = Metrics::default();
        count(&metrics.accepted);
        metrics.bytes_to_client.fetch_add(7, Ordering::Relaxed);
        let text = metrics.text();
        for line in [
            "proxy_connections_accepted_total 1",
            "proxy_bytes_dest_to_client_total 7",
            "proxy_active_connections 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
    }
}
