//! The HTTP server over loopback: answers, refusals, and clients that misbehave.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::admin::connection::REQUEST_BYTES_MAX;
use crate::metrics::Sample;

/// A server on a port of its own, stopped when the test ends.
struct Server {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    alive: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start() -> Self {
        Self::with(&["127.0.0.1"], ClientLimits::default())
    }

    fn with(trusted_hosts: &[&str], limits: ClientLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let alive = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&alive);
        let liveness: Liveness = Arc::new(move || {
            if asked.load(Ordering::Relaxed) { Ok(()) } else { Err("the spool is full".to_owned()) }
        });
        let resolve_egress_path: ResolveEgressPath = Arc::new(|domain, source| {
            let known = domain == "a.example";
            Box::pin(async move {
                known
                    .then(|| json!({ "domain": domain, "source": source }))
                    .ok_or_else(|| (StatusCode::NOT_FOUND, "550 no such domain".to_owned()))
            })
        });
        let state = AdminState { metrics: Arc::clone(&metrics), liveness, resolve_egress_path };
        let config =
            HttpListener { trusted_hosts: CidrSet::parse(trusted_hosts).unwrap(), ..HttpListener::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve_with(listener, config, state, shutdown, limits)).unwrap();
        });
        Self { address, metrics, alive, stop: Some(stop), thread: Some(thread) }
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.get(format!("http://{}{path}", self.address)).call().unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), kind, response.body_mut().read_to_string().unwrap())
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Waits until as many connections are open. Only a connection that never ends makes this wait for ever.
    fn wait_for_connections(&self, count: i64) {
        while self.metrics.connection_count.http_listener.get() != count {
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn liveness_says_yes_or_why_not() {
    let server = Server::with(&["192.0.2.1"], ClientLimits::default());
    assert_eq!(server.get("/api/check-liveness/v1").0, 200);
    assert_eq!(server.get("/api/check-liveness/v1").2, "OK");
    server.alive.store(false, Ordering::Relaxed);
    let (status, _, body) = server.get("/api/check-liveness/v1");
    assert_eq!((status, body.as_str()), (503, "the spool is full"));
}

#[test]
fn metrics_come_as_text_and_as_json_and_can_be_filtered() {
    let server = Server::start();
    server.metrics.total_messages_received.inc_by(5);
    let (status, kind, text) = server.get("/metrics");
    assert_eq!((status, kind.as_str()), (200, METRICS_TYPE));
    assert!(text.contains("total_messages_received{service=\"esmtp_listener\"} 5\n"), "{text}");
    let (_, kind, body) = server.get("/metrics.json?prefix=total_messages_received");
    assert_eq!(kind, "application/json");
    let value: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 1);
    assert_eq!(value["total_messages_received"]["value"]["service"]["esmtp_listener"], 5);
    assert!(!server.get("/metrics?prefix=message_").2.contains("total_messages"));
}

#[test]
fn only_trusted_hosts_see_metrics_and_others_learn_why() {
    let server = Server::with(&["192.0.2.1"], ClientLimits::default());
    for path in ["/metrics", "/metrics.json"] {
        let (status, kind, body) = server.get(path);
        assert_eq!((status, kind.as_str()), (403, "application/json"));
        assert!(body.contains("127.0.0.1") && body.contains("trusted_hosts"), "{body}");
    }
}

#[test]
fn other_paths_and_methods_are_refused_in_json() {
    let server = Server::start();
    let (status, kind, body) = server.get("/api/admin/bounce/v1");
    assert_eq!((status, kind.as_str()), (404, "application/json"));
    assert!(body.contains("/api/admin/bounce/v1"), "{body}");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.post(format!("http://{}/metrics", server.address)).send("x").unwrap();
    let body = response.body_mut().read_to_string().unwrap();
    assert!(response.status() == 405 && body.contains("POST"), "{body}");
}

#[test]
fn a_client_that_never_ends_its_request_is_cut_off() {
    let limits = ClientLimits { request_time_max: Duration::from_millis(20), ..ClientLimits::default() };
    let server = Server::with(&["127.0.0.1"], limits);
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.write_all(b"GET /metrics HT").unwrap();
    for stream in [&mut silent, &mut slow] {
        // The end of the stream, or a reset: either way the server has let go.
        drop(stream.read_to_end(&mut Vec::new()));
    }
    server.wait_for_connections(0);
}

#[test]
fn a_client_that_never_reads_its_answer_is_cut_off() {
    let limits = ClientLimits { answer_time_max: Duration::from_millis(20), ..ClientLimits::default() };
    let server = Server::with(&["127.0.0.1"], limits);
    server.metrics.register_source(Box::new(|| {
        let sample = |number: i64| Sample::gauge("filler", "Much text", number).label("x", "x".repeat(1000));
        (0..20_000).map(sample).collect()
    }));
    let mut greedy = server.connect();
    greedy.write_all(b"GET /metrics?prefix=filler HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    while server.metrics.total_connection_count.http_listener.get() == 0 {
        std::thread::yield_now();
    }
    server.wait_for_connections(0);
}

#[test]
fn a_request_that_is_too_long_is_cut_off() {
    let server = Server::start();
    let mut stream = server.connect();
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(2 * REQUEST_BYTES_MAX));
    drop(stream.write_all(long.as_bytes()));
    drop(stream.read_to_end(&mut Vec::new()));
    server.wait_for_connections(0);
}

#[test]
fn connections_over_the_limit_wait_their_turn() {
    let limits = ClientLimits { connections_max: 1, ..ClientLimits::default() };
    let server = Server::with(&["127.0.0.1"], limits);
    let first = server.connect();
    server.wait_for_connections(1);
    let mut second = server.connect();
    second.write_all(b"GET /api/check-liveness/v1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(server.metrics.total_connection_count.http_listener.get(), 1);
    drop(first);
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("OK"), "{answer}");
}

#[test]
fn a_stop_does_not_wait_for_idle_clients() {
    let server = Server::start();
    let idle = server.connect();
    server.wait_for_connections(1);
    drop(server);
    drop(idle);
}

#[test]
fn the_way_of_a_domains_mail_is_told_or_why_there_is_none() {
    let server = Server::start();
    let ask = |query: &str| server.get(&format!("/api/admin/resolve-egress-path/v1{query}"));
    let (status, _, text) = ask("?domain=a.example&source=ip-1");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answer), (200, json!({ "domain": "a.example", "source": "ip-1" })));
    assert!(ask("?domain=a.example").2.contains("unspecified"));
    assert_eq!((ask("?domain=b.example").0, ask("").0, ask("?source=ip-1").0), (404, 400, 400));
    assert!(ask("").2.contains("say which domain"));
}
