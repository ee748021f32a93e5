//! A local page over a folder of results.
//!
//! It owns four addresses: the list, the page of one run, the page of all of them, and a record as it stands. It reads the folder
//! anew for each request, so runs appear as they are written. It refuses names that are not in that list, so that no request
//! can lead out of the folder, and, while it listens on loopback, requests for another host name: a foreign web page cannot
//! have its own name resolved to this machine and read the results.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Segment, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use crate::render;
use crate::results::{Entry, Results};

struct Shared {
    folder: PathBuf,
    is_local: bool,
}

/// Serves `folder` on `listen` until the process is interrupted; `told` gets the address as soon as it is known.
///
/// # Errors
/// Host: the address cannot be listened on.
pub fn run(folder: &Path, listen: SocketAddr, told: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        told(address);
        let interrupted = async {
            // Without a signal to wait for, the process ends by being killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        axum::serve(listener, router(folder, address.ip().is_loopback()))
            .with_graceful_shutdown(interrupted)
            .await
    })
}

/// The addresses; with `is_local`, only requests for this host's own names are answered.
fn router(folder: &Path, is_local: bool) -> Router {
    let shared = Arc::new(Shared { folder: folder.to_owned(), is_local });
    Router::new()
        .route("/", get(list))
        .route("/all", get(all))
        .route("/run/{id}", get(one))
        .route("/run/{id}/run.json", get(record))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.is_local && !names_this_host(request.headers()) {
        let refusal = "This address is for the host that it runs on; ask for 127.0.0.1 or localhost.\n";
        return (StatusCode::FORBIDDEN, refusal).into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    response
}

fn names_this_host(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

/// Reads and draws away from the thread that answers.
async fn answer(shared: Arc<Shared>, of: impl FnOnce(Results) -> Response + Send + 'static) -> Response {
    let work = move || of(Results::gather(&[&shared.folder]));
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    answer(shared, |results| Html(index(&results)).into_response()).await
}

async fn all(State(shared): State<Arc<Shared>>) -> Response {
    answer(shared, |results| Html(render::page_of(&results.entries)).into_response()).await
}

async fn one(State(shared): State<Arc<Shared>>, Segment(id): Segment<String>) -> Response {
    answer(shared, move |results| {
        found(results, &id, |entry| Html(render::page_of(std::slice::from_ref(entry))).into_response())
    })
    .await
}

async fn record(State(shared): State<Arc<Shared>>, Segment(id): Segment<String>) -> Response {
    answer(shared, move |results| found(results, &id, |entry| axum::Json(&entry.record).into_response()))
        .await
}

fn found(results: Results, id: &str, of: impl FnOnce(&Entry) -> Response) -> Response {
    match results.entries.iter().find(|entry| entry.record.run_id == id) {
        Some(entry) => of(entry),
        None => (StatusCode::NOT_FOUND, "There is no such run in this folder.\n").into_response(),
    }
}

fn index(results: &Results) -> String {
    let mut rows = String::new();
    let mut entries: Vec<&Entry> = results.entries.iter().collect();
    entries.sort_by(|a, b| b.record.started_utc.cmp(&a.record.started_utc));
    for entry in entries {
        let record = &entry.record;
        let (id, link) = (escape(&record.run_id), percent(&record.run_id));
        let (started, suite) = (escape(&record.started_utc), escape(&record.suite));
        let commit: String =
            record.software.git_commit.iter().flat_map(|hash| hash.chars().take(12)).collect();
        let commit = escape(&commit);
        // Writing into a string does not fail.
        let _ = writeln!(
            rows,
            "<tr><th scope=\"row\"><a href=\"/run/{link}\">{id}</a></th><td>{started}</td><td>{suite}</td>\
             <td>{}</td><td><code>{commit}</code></td><td><a href=\"/run/{link}/run.json\">run.json</a></td></tr>",
            record.runs.len()
        );
    }
    let refused: String = results
        .refused
        .iter()
        .map(|refused| format!("<p class=\"complaint\">{}</p>\n", escape(&refused.to_string())))
        .collect();
    render::list_page(&rows, &refused)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A segment of a path: everything but letters, digits, `-`, `_` and `.` as percent and two digits (RFC 3986 2.1).
fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_pass() {
        let names = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            names_this_host(&headers)
        };
        for host in ["localhost", "localhost:8088", "127.0.0.1:1", "[::1]:8088", "[::1]"] {
            assert!(names(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8088", "localhost.evil", ""] {
            assert!(!names(host), "{host}");
        }
        assert!(!names_this_host(&HeaderMap::new()));
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(percent("a/../b c"), "a%2F..%2Fb%20c");
    }
}
