//! The statistics over HTTP, on a thread of its own.
//!
//! `GET /stats`, `GET /ledger/<run>` and `GET /hlog/<run>`. A run that nobody has heard of is 404 with a
//! JSON error. Merging takes time in proportion to the ledger and happens here, never on a worker.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use message::traffic::RunId;
use reports::latency::HlogWriter;
use serde_json::json;
use tokio::sync::watch;

use crate::server::Shared;
use crate::stats::{LedgerReport, latency_of};

pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/stats", get(stats))
        .route("/ledger/{run}", get(ledger))
        .route("/hlog/{run}", get(hlog))
        .with_state(shared);
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tokio::select! {
        result = async { axum::serve(listener, routes).await } => result,
        // An error means that the server object is gone, which is the same wish.
        _ = stop.wait_for(|stop| *stop) => Ok(()),
    }
}

async fn stats(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.stats()).into_response()
}

async fn ledger(State(shared): State<Arc<Shared>>, Path(run): Path<String>) -> Response {
    let report = run.parse().ok().and_then(|run| LedgerReport::new(&shared.tallies(), run));
    report.map_or_else(|| unknown(&run), |report| Json(report).into_response())
}

async fn hlog(State(shared): State<Arc<Shared>>, Path(run): Path<String>) -> Response {
    let log = run.parse::<RunId>().ok().and_then(|run| hlog_of(&shared, run));
    log.map_or_else(|| unknown(&run), |log| ([(header::CONTENT_TYPE, "text/plain")], log).into_response())
}

/// One interval from the first to the last arrival of the run.
fn hlog_of(shared: &Shared, run: RunId) -> Option<Vec<u8>> {
    let (latency, length_ns) = latency_of(&shared.tallies(), run)?;
    let length = Duration::from_nanos(length_ns);
    let comment = format!("end to end latency of run {run}");
    // Writing into memory cannot fail; a histogram of ours can always be serialised.
    let mut writer = HlogWriter::new(Vec::new(), SystemTime::now() - length, &comment).ok()?;
    writer.write(&latency, Duration::ZERO, length).ok()?;
    writer.finish().ok()
}

fn unknown(run: &str) -> Response {
    let error = format!("no message of run {run:?} has arrived, or it was too long ago");
    (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
}
