//! `GET /`: a page to look at statistics and recent mail while they come in.
//!
//! One file without anything from elsewhere. Mail is hostile, so the page shows what it gets as text only, and a
//! policy in its header forbids every script but its own, by a number that is drawn for each answer.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rustls::crypto::ring::default_provider;

use crate::server::Shared;

const PAGE: &str = include_str!("page.html");

/// Stands in the page where the number goes.
const NONCE: &str = "{nonce}";

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/", get(page))
}

async fn page() -> Response {
    let mut random = [0; 16];
    if default_provider().secure_random.fill(&mut random).is_err() {
        // Without it the page could not be told from what mail brings along.
        return (StatusCode::INTERNAL_SERVER_ERROR, "the host has no random numbers").into_response();
    }
    let nonce = format!("{:032x}", u128::from_ne_bytes(random));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, PAGE.replace(NONCE, &nonce)).into_response()
}
