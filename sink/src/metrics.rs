//! `GET /metrics`: what the sink has counted, in Prometheus' text format 0.0.4.
//!
//! Drawn from [`Stats`] at the time of asking, so it agrees with `/stats`. Runs have no labels of their own: their
//! names are chosen by senders, and a monitoring system keeps each name for ever.

use std::fmt::{Display, Write};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::server::Shared;
use crate::stats::Stats;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text(&shared.stats())).into_response()
}

fn text(stats: &Stats) -> String {
    let mut out = String::with_capacity(4096);
    for (name, help, value) in [
        ("messages", "Messages answered with 250", stats.accepted),
        ("bytes", "Bytes of their headers and bodies", stats.bytes),
        ("deliveries", "Different pairs of message and recipient", stats.distinct),
        ("duplicated", "Deliveries beyond the first", stats.duplicated),
        ("corrupted", "Messages whose body does not have the promised sum", stats.corrupted),
        ("reordered", "Messages overtaken by a later one of their connection", stats.reordered),
        ("untracked", "Deliveries that the ledger had no room for", stats.untracked),
        ("headerless", "Messages without the laboratory's header", stats.headerless),
        ("connections_opened", "Connections since the start", stats.connections_total),
    ] {
        family(&mut out, &format!("{name}_total"), help, "counter", value);
    }
    family(&mut out, "connections", "Connections open now", "gauge", stats.connections);
    if let Some(capture) = &stats.capture {
        family(&mut out, "captured_total", "Messages written to files", "counter", capture.captured);
        let help = "Messages accepted and not written to files";
        family(&mut out, "not_captured_total", help, "counter", capture.not_captured);
    }
    let latency = &stats.latency_us;
    let quantiles = [(0.5, latency.p50), (0.9, latency.p90), (0.99, latency.p99), (0.999, latency.p99_9)];
    let help = "From the intended send to the arrival, over all mail since the start";
    head(&mut out, "latency_seconds", help, "summary");
    for (quantile, us) in quantiles {
        line(&mut out, &format!("latency_seconds{{quantile=\"{quantile}\"}}"), us / 1e6);
    }
    line(&mut out, "latency_seconds_count", stats.accepted - stats.headerless);
    out
}

/// One value with its explanation.
fn family(out: &mut String, name: &str, help: &str, kind: &str, value: impl Display) {
    head(out, name, help, kind);
    line(out, name, value);
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "# HELP sink_{name} {help}\n# TYPE sink_{name} {kind}");
}

fn line(out: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(out, "sink_{name} {value}");
}
