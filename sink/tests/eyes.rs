//! What people see of the mail: the page, recent messages, files, metrics, and the end after so much of it.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sink::{CaptureConfig, CaptureFormat, Config, Server};
use tempfile::tempdir;

mod support;

use support::{Client, message};

fn start(change: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config::on_free_ports();
    change(&mut config);
    Server::start(config).unwrap()
}

/// The text of an answer and its headers.
fn get(server: &Server, path: &str) -> (String, ureq::http::HeaderMap) {
    let answer = ureq::get(format!("http://{}{path}", server.http_addr)).call().unwrap();
    let headers = answer.headers().clone();
    let text = answer.into_body().read_to_vec().unwrap();
    (String::from_utf8_lossy(&text).into_owned(), headers)
}

fn list(server: &Server, path: &str) -> Value {
    serde_json::from_str(&get(server, path).0).unwrap()
}

fn header<'h>(headers: &'h ureq::http::HeaderMap, name: &str) -> &'h str {
    headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

const HOSTILE: &[u8] =
    b"Subject: <script>alert(1)</script>\r\nFrom: \"x\" <a@b>\r\n\r\n<script>alert(2)</script>\r\n";

#[test]
fn nothing_is_remembered_unless_asked_for() {
    let server = start(|_| {});
    Client::new(server.smtp_addr).send(HOSTILE, &["a@example.test"]);
    assert_eq!(list(&server, "/messages"), json!({ "remembers": 0, "skipped": 0, "messages": [] }));
}

#[test]
fn recent_mail_is_listed_with_its_envelope_and_header() {
    let server = start(|config| config.remember = 10);
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(b"EHLO client.example\r\n", 1), [250]);
    client.send(HOSTILE, &["ann@example.test", "bob@example.test"]);
    client.send(&message("seen", 7, b"x\r\n"), &["carol@example.test"]);
    let all = list(&server, "/messages");
    let (latest, first) = (&all["messages"][0], &all["messages"][1]);
    assert_eq!(
        (&latest["run"], &latest["seq"], &latest["subject"]),
        (&json!("seen"), &json!(7), &json!("s"))
    );
    assert_eq!(
        (&first["subject"], &first["from"]),
        (&json!("<script>alert(1)</script>"), &json!("s@example.test"))
    );
    assert_eq!(
        (&first["to"], &first["recipients"]),
        (&json!(["ann@example.test", "bob@example.test"]), &json!(2))
    );
    assert_eq!((&first["helo"], &first["client"]), (&json!("client.example"), &json!("127.0.0.1")));
    assert_eq!(
        (&first["bytes"], &first["tls"], &first["cut"]),
        (&json!(HOSTILE.len()), &json!(false), &json!(false))
    );
    for (query, count) in
        [("limit=1", 1), ("to=ANN", 1), ("run=seen", 1), ("run=seen&to=ann", 0), ("to=example", 2)]
    {
        let found = list(&server, &format!("/messages?{query}"));
        assert_eq!(found["messages"].as_array().unwrap().len(), count, "{query}");
    }
    let wrong = ureq::get(format!("http://{}/messages?nonsense=1", server.http_addr)).call();
    assert!(matches!(wrong, Err(ureq::Error::StatusCode(400))));
}

#[test]
fn a_damaged_message_is_marked() {
    let server = start(|config| config.remember = 10);
    let mut damaged = message("marked", 0, b"hello\r\n");
    let last = damaged.len() - 3;
    damaged[last] ^= 1;
    Client::new(server.smtp_addr).send(&damaged, &["a@example.test"]);
    assert_eq!(list(&server, "/messages")["messages"][0]["intact"], false);
}

#[test]
fn raw_mail_is_plain_text_that_no_browser_runs() {
    let server = start(|config| config.remember = 2);
    let mut client = Client::new(server.smtp_addr);
    client.send(HOSTILE, &["a@example.test"]);
    let (text, headers) = get(&server, "/messages/0");
    assert_eq!(text.as_bytes(), HOSTILE);
    assert_eq!(header(&headers, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&headers, "x-content-type-options"), "nosniff");
    assert!(header(&headers, "content-security-policy").starts_with("default-src 'none'; sandbox"));
    let long = [b"Subject: long\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
    client.send(&long, &["a@example.test"]);
    let (text, headers) = get(&server, "/messages/1");
    assert_eq!((text.len(), header(&headers, "x-sink-cut")), (64 << 10, "true"));
    assert_eq!(header(&headers, "x-sink-bytes"), long.len().to_string());
    client.send(HOSTILE, &["a@example.test"]);
    for gone in ["/messages/0", "/messages/99", "/messages/x"] {
        let answer = ureq::get(format!("http://{}{gone}", server.http_addr)).call();
        assert!(matches!(answer, Err(ureq::Error::StatusCode(404))), "{gone}");
    }
}

#[test]
fn the_page_runs_its_own_script_and_nothing_else() {
    let server = start(|_| {});
    let (page, headers) = get(&server, "/");
    assert_eq!(header(&headers, "content-type"), "text/html; charset=utf-8");
    let policy = header(&headers, "content-security-policy").to_owned();
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(nonce.len(), 32);
    assert!(page.contains(&format!("<script nonce=\"{nonce}\">")) && !page.contains("{nonce}"));
    assert_ne!(header(&get(&server, "/").1, "content-security-policy"), policy);
    // Nothing from elsewhere, and no way from a string to markup.
    for word in ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "src=", "//cdn", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn metrics_have_prometheus_form_and_agree_with_the_statistics() {
    let server = start(|_| {});
    let mut client = Client::new(server.smtp_addr);
    for seq in [0, 1, 1] {
        client.send(&message("metrics", seq, b"x\r\n"), &["a@example.test"]);
    }
    client.send(b"Subject: x\r\n\r\n", &["a@example.test"]);
    let (text, headers) = get(&server, "/metrics");
    assert_eq!(header(&headers, "content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE sink_messages_total counter",
        "sink_messages_total 4",
        "sink_deliveries_total 2",
        "sink_duplicated_total 1",
        "sink_headerless_total 1",
        "sink_connections 1",
        "sink_latency_seconds_count 3",
    ] {
        assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
    }
    let mut names: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands once");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn captured_mail_is_whole_and_its_name_is_not_the_peers() {
    let folder = tempdir().unwrap();
    let server = start(|config| {
        config.capture = Some(CaptureConfig {
            folder: folder.path().to_owned(),
            format: CaptureFormat::Maildir,
            bytes_max: 1 << 20,
        });
    });
    let mut client = Client::new(server.smtp_addr);
    assert_eq!(client.codes(b"EHLO [127.0.0.1]\r\n", 1), [250]);
    client.send(HOSTILE, &["\"../../etc/passwd\"@example.test", "bob@example.test"]);
    let long = [b"Subject: long\r\n\r\n".to_vec(), vec![b'x'; 300_000]].concat();
    client.send(&long, &["a@example.test"]);
    let stats = server.stop();
    let capture = stats.capture.unwrap();
    assert_eq!((capture.captured, capture.not_captured, capture.ended), (2, 0, false));
    let mail = files(&folder.path().join("new"));
    assert_eq!((mail.len(), files(&folder.path().join("tmp")).len()), (2, 0));
    let first = fs::read(&mail[0]).unwrap();
    let head = "Return-Path: <s@example.test>\r\nDelivered-To: \"../../etc/passwd\"@example.test\r\n\
                Delivered-To: bob@example.test\r\nX-Sink: client=127.0.0.1; helo=[127.0.0.1]; tls=no; ";
    assert!(first.starts_with(head.as_bytes()), "{}", String::from_utf8_lossy(&first));
    assert!(first.ends_with(HOSTILE) && fs::read(&mail[1]).unwrap().ends_with(&long));
    let bytes: u64 = mail.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(bytes, capture.bytes);
}

#[test]
fn capturing_ends_at_its_limit_and_mail_goes_on() {
    let folder = tempdir().unwrap();
    let server = start(|config| {
        config.capture = Some(CaptureConfig {
            folder: folder.path().to_owned(),
            format: CaptureFormat::Eml,
            bytes_max: 5_000,
        });
    });
    let mut client = Client::new(server.smtp_addr);
    (0..20).for_each(|_| client.send(&[b'x'; 1_000], &["a@example.test"]));
    let stats = server.stop();
    let capture = stats.capture.unwrap();
    assert_eq!((stats.accepted, capture.captured + capture.not_captured), (20, 20));
    assert!((1..=4).contains(&capture.captured) && capture.bytes <= 5_000 && capture.ended);
    assert_eq!(files(folder.path()).len() as u64, capture.captured);
}

#[test]
fn a_folder_that_cannot_be_had_is_named() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let config = CaptureConfig { folder: file.join("mail"), format: CaptureFormat::Eml, bytes_max: 1 };
    let error = Server::start(Config { capture: Some(config), ..Config::on_free_ports() }).err().unwrap();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
