//! The statistics over HTTP, on a thread of its own.
//!
//! `GET /stats`, `GET /ledger/<run>` and `GET /hlog/<run>` are answered here; other rooms bring theirs. A run that nobody has heard of is 404 with a
//! JSON error. Merging takes time in proportion to the ledger and happens here, never on a worker.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use message::traffic::RunId;
use reports::latency::HlogWriter;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use crate::ledger_report::{LedgerBitmap, LedgerReport};
use crate::server::Shared;
use crate::stats::latency_of;
use crate::{faults, messages, metrics, page};

pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/stats", get(stats))
        .route("/ledger/{run}", get(ledger))
        .route("/hlog/{run}", get(hlog))
        .merge(faults::routes())
        .merge(messages::routes())
        .merge(metrics::routes())
        .merge(page::routes())
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

/// What may follow `/ledger/<run>?`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    #[serde(default)]
    format: LedgerFormat,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LedgerFormat {
    /// Everything, as ranges and lists.
    #[default]
    Json,
    /// The sequence numbers alone, a bit each.
    Bitmap,
}

async fn ledger(
    State(shared): State<Arc<Shared>>,
    Path(run): Path<String>,
    Query(query): Query<LedgerQuery>,
) -> Response {
    let Ok(id) = run.parse::<RunId>() else { return unknown(&run) };
    let tallies = shared.tallies();
    let answer = match query.format {
        LedgerFormat::Json => LedgerReport::new(&tallies, id).map(|report| Json(report).into_response()),
        LedgerFormat::Bitmap => LedgerBitmap::new(&tallies, id).map(|bitmap| Json(bitmap).into_response()),
    };
    answer.unwrap_or_else(|| unknown(&run))
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
