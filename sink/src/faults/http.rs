//! `GET`, `PUT` and `PATCH /rules`: the rules of a running sink.
//!
//! What changes something asks for a content type that no page of another site can send without asking the
//! sink first, and the sink never says yes to that question: a browser cannot be made to misconfigure it.
//! Rules that are wrong are answered 422 with the name of the rule, and those before stay in force.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::error::RuleError;
use super::live::Live;
use super::written::{RULE_FILE_BYTES_MAX, json_value, toml_value};
use crate::server::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/rules", get(show).put(replace).patch(merge))
        .layer(DefaultBodyLimit::max(RULE_FILE_BYTES_MAX))
}

async fn show(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.faults.report()).into_response()
}

async fn replace(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    change(&shared, &headers, &body, Live::replace)
}

async fn merge(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    change(&shared, &headers, &body, Live::merge)
}

fn change(
    shared: &Shared,
    headers: &HeaderMap,
    body: &[u8],
    apply: impl FnOnce(&Live, Value) -> Result<(), RuleError>,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let read = match content_type.map(essence).as_deref() {
        Some("application/json") => json_value(body),
        Some("application/toml") => match std::str::from_utf8(body) {
            Ok(text) => toml_value(text),
            Err(error) => Err(RuleError::of_file(format!("this is no text: {error}"))),
        },
        _ => {
            let error = "send rules with Content-Type: application/json or application/toml";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Json(json!({ "error": error }))).into_response();
        }
    };
    match read.and_then(|value| apply(&shared.faults, value)) {
        Ok(()) => Json(shared.faults.report()).into_response(),
        Err(error) => {
            let told = json!({ "error": error.to_string(), "rule": error.rule() });
            (StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response()
        }
    }
}

/// The type without its parameters.
fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
