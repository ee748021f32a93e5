//! The paths, and who may ask for them.
//!
//! Liveness is for everybody, because load balancers come from anywhere and learn nothing but yes or no. Everything else is for
//! `trusted_hosts`; somebody else is told which address and which option stand in the way. Every answer that is not a page
//! of numbers is JSON with `error` or a plain `OK`.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;

use super::connection::{Client, ClientLimits, Door};
use crate::config::{CidrSet, HttpListener, UNSPECIFIED};
use crate::metrics::Metrics;
use crate::ports::BoxFuture;

/// How long a stop waits for answers that are on their way.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// The Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether mail is served, or why not. Asked at each request for liveness; must not block.
pub type Liveness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How mail for a domain (the first) would leave from a source, as JSON; else a status and a reason.
pub type ResolveEgressPath = Arc<
    dyn Fn(String, String) -> BoxFuture<'static, Result<serde_json::Value, (StatusCode, String)>>
        + Send
        + Sync,
>;

/// What the answers are made of.
#[derive(Clone)]
pub struct AdminState {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Whether mail is served.
    pub liveness: Liveness,
    /// Which way mail would take.
    pub resolve_egress_path: ResolveEgressPath,
}

/// Serves one listener until `shutdown` is over and the answers on their way are sent.
///
/// # Errors
/// The socket cannot be used with the runtime.
pub async fn serve(
    listener: TcpListener,
    listener_config: HttpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_with(listener, listener_config, state, shutdown, ClientLimits::default()).await
}

async fn serve_with(
    listener: TcpListener,
    listener_config: HttpListener,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send + 'static,
    limits: ClientLimits,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let door = Door::new(listener, limits, Arc::clone(&state.metrics));
    let service =
        router(state, listener_config.trusted_hosts).into_make_service_with_connect_info::<Client>();
    let stopping = Arc::new(Notify::new());
    let announce = Arc::clone(&stopping);
    let shutdown = async move {
        shutdown.await;
        announce.notify_one();
    };
    let served = axum::serve(door, service).with_graceful_shutdown(shutdown).into_future();
    let grace = async {
        stopping.notified().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        served = served => served,
        () = grace => Ok(()),
    }
}

fn router(state: AdminState, trusted_hosts: CidrSet) -> Router {
    let trusted = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/metrics.json", get(metrics_json))
        .route("/api/admin/resolve-egress-path/v1", get(resolve_egress_path))
        .route_layer(from_fn_with_state(Arc::new(trusted_hosts), require_trusted));
    Router::new()
        .route("/api/check-liveness/v1", get(check_liveness))
        .merge(trusted)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(state)
}

async fn check_liveness(State(state): State<AdminState>) -> Response {
    match (state.liveness)() {
        Ok(()) => "OK".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

#[derive(Deserialize)]
struct Filter {
    #[serde(default)]
    prefix: String,
}

async fn metrics_text(State(state): State<AdminState>, Query(filter): Query<Filter>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], state.metrics.text(&filter.prefix)).into_response()
}

async fn metrics_json(State(state): State<AdminState>, Query(filter): Query<Filter>) -> Response {
    Json(state.metrics.json(&filter.prefix)).into_response()
}

#[derive(Deserialize)]
struct Way {
    domain: Option<String>,
    #[serde(default = "unspecified")]
    source: String,
}

fn unspecified() -> String {
    UNSPECIFIED.to_owned()
}

async fn resolve_egress_path(State(state): State<AdminState>, Query(way): Query<Way>) -> Response {
    let Some(domain) = way.domain.filter(|domain| !domain.is_empty()) else {
        let wanted =
            "say which domain, as in /api/admin/resolve-egress-path/v1?domain=example.com&source=ip-1";
        return refuse(StatusCode::BAD_REQUEST, wanted);
    };
    match (state.resolve_egress_path)(domain, way.source).await {
        Ok(answer) => Json(answer).into_response(),
        Err((status, reason)) => refuse(status, &reason),
    }
}

async fn require_trusted(
    State(trusted_hosts): State<Arc<CidrSet>>,
    ConnectInfo(Client(client)): ConnectInfo<Client>,
    request: Request,
    next: Next,
) -> Response {
    if trusted_hosts.contains(client.ip()) {
        return next.run(request).await;
    }
    let reason =
        format!("{} is not among trusted_hosts of this start_http_listener", client.ip().to_canonical());
    refuse(StatusCode::FORBIDDEN, &reason)
}

async fn no_such_path(request: Request) -> Response {
    refuse(StatusCode::NOT_FOUND, &format!("there is nothing at {}", request.uri().path()))
}

async fn no_such_method(request: Request) -> Response {
    let reason = format!("{} cannot be used with {}", request.method(), request.uri().path());
    refuse(StatusCode::METHOD_NOT_ALLOWED, &reason)
}

fn refuse(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}

#[cfg(test)]
mod tests;
