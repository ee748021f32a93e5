//! Liveness and metrics over HTTP: two pages, one request for a connection.
//!
//! A client has a time and a number of bytes for its request, and there is a number of clients at once; what is beyond is closed. Nothing
//! here changes anything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;
use crate::server::{ACCEPT_RETRY_DELAY, Stopping};

/// Bytes of one request with its headers.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// For a request to come and its answer to leave.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Clients at once.
const CLIENTS_MAX: usize = 64;

/// Answers until the process ends, so that a proxy that is stopping can still be asked.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, stopping: Stopping) {
    let slots = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (metrics, stopping) = (Arc::clone(&metrics), stopping.clone());
        tokio::spawn(async move {
            // Whoever asks and does not listen has only itself to tell.
            let _ = timeout(REQUEST_TIME_MAX, reply(stream, &metrics, &stopping)).await;
            drop(slot);
        });
    }
}

async fn reply(mut stream: TcpStream, metrics: &Metrics, stopping: &Stopping) -> io::Result<()> {
    let request = request(&mut stream).await?;
    let (status, body) = answer(&request, metrics, stopping);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !request.starts_with("HEAD ") {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

/// The head of a request, or as much of it as there may be.
async fn request(stream: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    let mut more = [0; 1024];
    while request.len() < REQUEST_BYTES_MAX && !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let bytes = stream.read(&mut more).await?;
        if bytes == 0 {
            break;
        }
        request.extend_from_slice(&more[..bytes]);
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}

fn answer(request: &str, metrics: &Metrics, stopping: &Stopping) -> (&'static str, String) {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["GET", "HEAD"].contains(&method) {
        return ("405 Method Not Allowed", "GET is wanted\n".into());
    }
    match target.split('?').next().unwrap_or_default() {
        "/metrics" => ("200 OK", metrics.text()),
        "/api/check-liveness/v1" if stopping.is_stopping() => {
            ("503 Service Unavailable", "shutting down".into())
        }
        "/api/check-liveness/v1" => ("200 OK", "OK".into()),
        other => (
            "404 Not Found",
            format!("there is nothing at {other}; /metrics and /api/check-liveness/v1 are here\n"),
        ),
    }
}
