//! Injection over HTTP, against doubles that check what they are given and answer as they are told.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use message::traffic::{body_crc, find_in};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use traffic_gen::{
    Auth, ContentPlan, Injection, PerMessage, Plan, Report, Schedule, Target, Tls, Verify, run,
};

/// One request as it arrived.
#[derive(Clone, Debug)]
struct Request {
    path: String,
    authorization: Option<String>,
    content_type: String,
    json: Value,
}

impl Request {
    fn recipients(&self) -> Vec<&str> {
        let recipients = self.json["recipients"].as_array().unwrap();
        recipients.iter().map(|recipient| recipient["email"].as_str().unwrap()).collect()
    }

    fn content(&self) -> &str {
        self.json["content"].as_str().unwrap()
    }
}

/// What the double answers to a request; the number counts requests from 0.
type Behaviour = Arc<dyn Fn(usize, &Request) -> (u16, String) + Send + Sync>;

/// Stands in for KumoMTA's HTTP listener.
struct Kumo {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Kumo {
    fn start(behaviour: impl Fn(usize, &Request) -> (u16, String) + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (all, behaviour): (_, Behaviour) = (Arc::clone(&requests), Arc::new(behaviour));
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let request = Request {
                path: uri.to_string(),
                authorization: text(header::AUTHORIZATION),
                content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
                json: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let mut all = all.lock().unwrap();
            let (status, answer) = behaviour(all.len(), &request);
            all.push(request);
            async move { (StatusCode::from_u16(status).unwrap(), answer).into_response() }
        };
        let router = Router::new().fallback(axum::routing::any(handler)).layer(
            // The default limit of the library, not of KumoMTA's, would come first.
            axum::extract::DefaultBodyLimit::disable(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        // The thread ends with the test process; a test has nothing to wait for there.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Self { address, requests }
    }

    /// Accepts everybody.
    fn kind() -> Self {
        Self::start(|_, request| (200, accepted(request)))
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// What KumoMTA answers when all is well.
fn accepted(request: &Request) -> String {
    json!({
        "success_count": request.recipients().len(), "fail_count": 0, "failed_recipients": [], "errors": []
    })
    .to_string()
}

fn plan(address: SocketAddr, messages: u64) -> Plan {
    let http = Some(Injection::default());
    let content = ContentPlan::fixed(300);
    // A run begins when the first worker has its connections and may be over before another has; one worker
    // waits for all three, so that they can be counted.
    Plan { http, content, concurrency: 3, workers: 1, seed: 5, ..Plan::messages(address, messages) }
}

fn counts(report: &Report) -> (u64, u64, u64) {
    (report.sent, report.failed, report.unknown)
}

/// Asserts that the content is a whole message and returns its number.
fn sequence(request: &Request) -> u64 {
    let content = request.content().as_bytes();
    let (traffic, body) = find_in(content).unwrap();
    assert_eq!(traffic.crc, body_crc(&content[body..]), "{}", request.content());
    let to = message::header::find(content, "To").unwrap();
    assert_eq!(to, format!("<{}>", request.recipients()[0]));
    traffic.seq
}

#[test]
fn every_message_is_one_request_in_the_form_of_kumomta() {
    let kumo = Kumo::kind();
    let report = run(plan(kumo.address, 50));
    assert_eq!((counts(&report), report.exit_code()), ((50, 0, 0), 0), "{:?}", report.errors);
    assert_eq!(report.reply_codes, BTreeMap::from([(200, 50)]));
    assert_eq!((report.connections, report.connections_lost, report.latency.len()), (3, 0, 50));
    let requests = kumo.requests();
    assert_eq!(requests.iter().map(sequence).collect::<BTreeSet<_>>(), (0..50).collect());
    for request in &requests {
        assert_eq!((&request.path[..], &request.content_type[..]), ("/api/inject/v1", "application/json"));
        assert_eq!(request.authorization, None);
        let fields: BTreeSet<&str> = request.json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(["content", "envelope_sender", "recipients", "template_dialect"]));
        assert_eq!(request.json["envelope_sender"], "sender@mx-sink.localhost");
        assert_eq!(request.json["template_dialect"], "Static");
        assert_eq!(request.json["recipients"][0].as_object().unwrap().len(), 1);
    }
}

#[test]
fn a_rate_is_kept_and_latency_counts_from_the_intended_time() {
    let kumo = Kumo::kind();
    let mut plan = plan(kumo.address, 200);
    plan.schedule = Schedule::rate(2_000.0);
    let report = run(plan);
    assert_eq!((counts(&report), report.latency.len(), report.lag.len()), ((200, 0, 0), 200, 200));
    // 200 messages at 2,000 a second are intended over 99.5 ms, however fast the machine is.
    assert!(report.elapsed_s >= 0.0995, "{}", report.elapsed_s);
    for request in kumo.requests() {
        let sent_ns = find_in(request.content().as_bytes()).unwrap().0.sent_ns;
        let first_ns = report.first_sent_ns.unwrap();
        // What the message says is a time of the schedule: a multiple of half a millisecond.
        let off_ns = (sent_ns - first_ns) % 500_000;
        assert!(off_ns.min(500_000 - off_ns) <= 2, "{off_ns}");
    }
}

#[test]
fn what_is_asked_for_stands_in_the_request() {
    let kumo = Kumo::start(|_, _| (200, json!({"success_count": 0, "fail_count": 0}).to_string()));
    let mut plan = plan(kumo.address, 10);
    plan.http = Some(Injection { defer_spool: true, defer_generation: true });
    plan.transport.auth =
        Some(Auth { mechanism: None, user: "Aladdin".to_owned(), password: "open sesame".to_owned() });
    plan.recipients.per_message = PerMessage { min: 4, max: 4 };
    plan.targets = vec![Target::resolve(&format!("http://{}/other/path?x=1", kumo.address), false).unwrap()];
    // A server that makes the messages later counts nobody, and that is no refusal.
    assert_eq!(counts(&run(plan)), (10, 0, 0));
    for request in kumo.requests() {
        assert_eq!(request.path, "/other/path?x=1");
        assert_eq!(request.authorization.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(request.json["deferred_spool"], true);
        assert_eq!(request.json["deferred_generation"], true);
        assert_eq!(request.recipients().into_iter().collect::<BTreeSet<_>>().len(), 4);
    }
}

#[test]
fn any_text_is_carried_undamaged() {
    let kumo = Kumo::kind();
    let mut plan = plan(kumo.address, 20);
    plan.content = ContentPlan::file("X-\"Q\": \\\n\n{{x}} \"quoted\" \\ \t\u{1} gr\u{fc}n\n.\n".into());
    assert_eq!(counts(&run(plan)), (20, 0, 0));
    let requests = kumo.requests();
    requests.iter().for_each(|request| assert!(sequence(request) < 20));
    assert!(requests[0].content().ends_with("\r\n\r\n{{x}} \"quoted\" \\ \t\u{1} gr\u{fc}n\r\n.\r\n"));
    // What is not text cannot be carried, and is refused before anything is sent.
    let mut plan = self::plan(kumo.address, 20);
    plan.content = ContentPlan::file(b"\xff\n".to_vec());
    let report = run(plan);
    assert_eq!((counts(&report), report.exit_code()), ((0, 0, 0), 1));
    assert!(report.errors.keys().any(|error| error.contains("UTF-8")), "{:?}", report.errors);
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    let kumo = Kumo::kind();
    let mut plan = plan(kumo.address, 100);
    plan.content = ContentPlan { sizes: "uniform:0-200k".parse().unwrap(), ..ContentPlan::default() };
    let report = run(plan);
    assert_eq!(counts(&report), (100, 0, 0), "{:?}", report.errors);
    let requests = kumo.requests();
    assert_eq!(requests.iter().map(sequence).collect::<BTreeSet<_>>(), (0..100).collect());
    assert_eq!(requests.iter().map(|request| request.content().len() as u64).sum::<u64>(), report.bytes);
}

#[test]
fn what_cannot_be_had_over_http_is_not_left_out_in_silence() {
    for (tls, lmtp) in [(Tls::StartTls, false), (Tls::Implicit, false), (Tls::None, true)] {
        let kumo = Kumo::kind();
        let mut plan = plan(kumo.address, 5);
        (plan.transport.tls, plan.transport.lmtp) = (tls, lmtp);
        let report = run(plan);
        assert_eq!((counts(&report), report.exit_code()), ((0, 0, 0), 1));
        assert!(report.errors.keys().any(|error| error.contains("https://")), "{:?}", report.errors);
        assert_eq!(kumo.requests().len(), 0);
    }
}

#[test]
fn a_recipient_that_is_refused_is_not_sent() {
    let kumo = Kumo::start(|number, request| match number % 2 {
        0 => (200, accepted(request)),
        _ => {
            let failed = request.recipients()[0].to_owned();
            let error = format!("failed to inject for {failed}: unknown tenant");
            let answer = json!({
                "success_count": 0, "fail_count": 1, "failed_recipients": [failed], "errors": [error]
            });
            (200, answer.to_string())
        }
    });
    let report = run(plan(kumo.address, 40));
    assert_eq!((counts(&report), report.exit_code()), ((20, 20, 0), 1));
    // Recipients differ, and the reason is one kind all the same.
    assert_eq!(report.errors.values().copied().collect::<Vec<_>>(), [20], "{:?}", report.errors);
    assert!(report.errors.keys().all(|reason| reason.contains("unknown tenant")), "{:?}", report.errors);
}

#[test]
fn some_recipients_of_a_request_may_be_refused() {
    let kumo = Kumo::start(|_, request| {
        let failed = [request.recipients()[1], request.recipients()[2]];
        let answer =
            json!({"success_count": 2, "fail_count": 2, "failed_recipients": failed, "errors": ["no"]});
        (200, answer.to_string())
    });
    let mut plan = plan(kumo.address, 10);
    plan.recipients.per_message = PerMessage { min: 4, max: 4 };
    let report = run(plan);
    assert_eq!((counts(&report), report.partial), ((0, 0, 0), 10), "{:?}", report.errors);
    assert_eq!((report.recipients_accepted, report.refused_recipients.len()), (20, 20));
    assert!(report.refused_recipients.iter().all(|[_, recipient]| [1, 2].contains(recipient)));
}

#[test]
fn a_server_that_sheds_load_is_heard_and_asked_again() {
    let kumo = Kumo::start(|number, request| match number % 4 {
        0 => (503, "shedding".to_owned()),
        1 => (429, String::new()),
        _ => (200, accepted(request)),
    });
    let report = run(plan(kumo.address, 80));
    assert_eq!((counts(&report), report.connections), ((40, 40, 0), 3), "{:?}", report.errors);
    assert_eq!(report.reply_codes, BTreeMap::from([(200, 40), (429, 20), (503, 20)]));
}

#[test]
fn redirections_are_not_followed() {
    let kumo = Kumo::start(|_, _| (307, String::new()));
    let report = run(plan(kumo.address, 5));
    assert_eq!((counts(&report), report.reply_codes), ((0, 5, 0), BTreeMap::from([(307, 5)])));
    assert_eq!(kumo.requests().len(), 5);
}

#[test]
fn an_answer_that_says_nothing_makes_the_message_unknown() {
    let kumo = Kumo::start(|number, request| match number {
        2 => (200, "<html>welcome</html>".to_owned()),
        _ => (200, accepted(request)),
    });
    let mut plan = plan(kumo.address, 30);
    plan.keep_going = true;
    let report = run(plan);
    assert_eq!((counts(&report), report.connections_lost), ((29, 0, 1), 1), "{:?}", report.errors);
}

/// Reads requests, and answers each with these bytes before it hangs up.
fn raw(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut buffer, mut read) = ([0; 4096], Vec::new());
            while !read.ends_with(b"\"}") {
                match stream.read(&mut buffer) {
                    Ok(bytes) if bytes > 0 => read.extend_from_slice(&buffer[..bytes]),
                    _ => break,
                }
            }
            // The client may be gone already.
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn a_server_that_hangs_up_leaves_messages_unknown() {
    for answer in
        [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"succ", b"220 mail.example ESMTP\r\n"]
    {
        let mut plan = plan(raw(answer), 100);
        plan.concurrency = 1;
        let report = run(plan);
        assert_eq!(counts(&report), (0, 0, 1), "{:?}", report.errors);
        assert_eq!((report.connections_lost, report.exit_code()), (1, 1));
    }
}

#[test]
fn a_server_that_closes_after_each_answer_is_served_on() {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 34\r\n\r\n\
        {\"success_count\":1,\"fail_count\":0}";
    let mut plan = plan(raw(answer), 20);
    plan.concurrency = 1;
    let report = run(plan);
    assert_eq!((counts(&report), report.connections_lost), ((20, 0, 0), 0), "{:?}", report.errors);
    assert_eq!(report.connections, 20);
}

/// Takes injections over TLS, with a certificate of its own making.
fn https() -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec!["kumo.localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve_tls(listener, TlsAcceptor::from(Arc::new(config))));
    });
    (address, made.cert.pem())
}

async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 34\r\n\r\n{\"success_count\":1,\"fail_count\":0}";
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust us goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut read = Vec::new();
            while stream.read_buf(&mut read).await.is_ok_and(|bytes| bytes > 0) {
                if read.ends_with(b"\"}") {
                    read.clear();
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
    }
}

#[test]
fn https_is_spoken_and_the_certificate_checked_if_asked_for() {
    let (address, certificate) = https();
    let url = format!("https://kumo.localhost:{}", address.port());
    let mut plan = plan(address, 20);
    plan.targets = vec![Target::resolve(&url, false).unwrap()];
    let report = run(plan.clone());
    assert_eq!((counts(&report), report.connections), ((20, 0, 0), 3), "{:?}", report.errors);
    plan.transport.verify = Verify::Ca(certificate);
    assert_eq!(counts(&run(plan.clone())), (20, 0, 0));
    plan.transport.sni = Some("other.localhost".to_owned());
    let report = run(plan);
    assert_eq!(counts(&report), (0, 0, 0));
    assert!(report.errors.keys().all(|kind| kind.starts_with("TLS: ")), "{:?}", report.errors);
}

fn command(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_traffic-gen")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_command_injects_with_the_flags_of_kumomtas_generator() {
    let kumo = Kumo::kind();
    let target = format!("http://{}", kumo.address);
    let line = "-q -n 30 -c 2 --http --http-batch-size 3 --http-defer-spool --http-auth a:b:c --target";
    let (code, text) = command(&line.split_whitespace().chain([&target[..]]).collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{text}");
    let requests = kumo.requests();
    assert_eq!(requests.len(), 30);
    assert!(requests.iter().all(|request| request.recipients().len() == 3));
    assert!(requests.iter().all(|request| request.json["deferred_spool"] == true));
    assert_eq!(requests[0].authorization.as_deref(), Some("Basic YTpiOmM="));
}

#[test]
fn public_urls_and_wrong_ones_are_refused() {
    for (arguments, word) in [
        (&["--http", "--target", "http://192.0.2.1/api/inject/v1"][..], "--i-own-this-host"),
        (&["--http", "--target", "https://192.0.2.1"], "--i-own-this-host"),
        (&["--target", "http://127.0.0.1:8000"], "--http"),
        (&["--http", "--target", "ftp://127.0.0.1:8000"], "HOST:PORT"),
        (&["--http", "--http-batch-size", "2000"], "too many"),
        (&["--http-defer-spool"], "--http"),
        (&["--http", "--http-auth", "nobody"], "USER:PASSWORD"),
    ] {
        let (code, text) = command(&[&["-q", "-n", "1"], arguments].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}
