//! The command as its users meet it: what it prints, how it stops, what it leaves.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

mod support;

use support::{Client, message};

struct Running {
    child: Child,
    _errors: BufReader<ChildStderr>,
    smtp: SocketAddr,
    http: SocketAddr,
}

/// Starts a sink by way of a shell, after `before`.
fn start(before: &str, arguments: &str) -> Running {
    let line = format!(
        "{before} exec {} --listen 127.0.0.1:0 --http 127.0.0.1:0 {arguments}",
        env!("CARGO_BIN_EXE_sink")
    );
    let mut child = Command::new("sh").args(["-c", &line]).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = |prefix: &str| {
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        line.trim_end()
            .strip_prefix(prefix)
            .unwrap_or_else(|| panic!("{line:?} should start with {prefix:?}"))
            .to_owned()
    };
    let smtp = line("smtp listener on ").parse().unwrap();
    let http = line("http listener on ").parse().unwrap();
    assert_eq!(line("initialization complete"), "");
    Running { child, _errors: errors, smtp, http }
}

impl Running {
    fn stop(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn signals_stop_it_and_the_report_is_written() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempdir().unwrap();
        let file = folder.path().join("sink.json");
        let sink = start("", &format!("--json {}", file.display()));
        Client::new(sink.smtp).send(&message("r", 0, b"x\r\n"), &["a@example.test"]);
        assert_eq!(sink.stop(signal), Some(0));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!((&report["accepted"], &report["runs"]["r"]["distinct"]), (&1.into(), &1.into()));
    }
}

#[test]
fn with_few_files_it_serves_some_leaves_the_rest_in_the_backlog_and_still_answers_http() {
    // 40 files are kept for itself, so 16 connections are served at once.
    let sink = start("ulimit -n 56;", "--workers 1");
    let mut served: Vec<Client> = (0..16).map(|_| Client::new(sink.smtp)).collect();
    let mut waiting: Vec<Client> =
        (0..16).map(|_| Client::of(std::net::TcpStream::connect(sink.smtp).unwrap())).collect();
    let url = format!("http://{}/stats", sink.http);
    let stats: serde_json::Value = ureq::get(url).call().unwrap().body_mut().read_json().unwrap();
    assert_eq!(stats["connections"], 16);
    for (client, next) in served.iter_mut().zip(&mut waiting) {
        assert_eq!(client.codes(b"QUIT\r\n", 1), [221]);
        assert_eq!(next.reply(), 220);
    }
    assert_eq!(sink.stop(Signal::TERM), Some(0));
}

#[test]
fn a_port_in_use_and_wrong_flags_have_their_exit_codes() {
    let sink = start("", "");
    let output =
        |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_sink")).args(arguments).output().unwrap();
    let taken = output(&["--listen", &sink.smtp.to_string()]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&taken.stderr).contains("cannot listen on"));
    assert_eq!(output(&["--listen", "nonsense"]).status.code(), Some(2));
    assert_eq!(output(&["--workers", "0"]).status.code(), Some(2));
    let help = output(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
    assert_eq!(sink.stop(Signal::TERM), Some(0));
}

/// Waits for a sink that ends by itself.
fn ended(mut sink: Running) -> Option<i32> {
    sink.child.wait().unwrap().code()
}

#[test]
fn so_many_messages_or_sessions_end_it_with_the_report() {
    let folder = tempdir().unwrap();
    for (flag, sessions) in [("--max-messages 3", false), ("-M 3", false), ("-n 3", true)] {
        let file = folder.path().join("sink.json");
        let sink = start("", &format!("{flag} --json {}", file.display()));
        let mut client = Client::new(sink.smtp);
        for seq in 0..3 {
            // Each reply is read, also the last.
            client.send(&message("end", seq, b"x\r\n"), &["a@example.test"]);
            if sessions {
                assert_eq!(client.codes(b"QUIT\r\n", 1), [221]);
                if seq < 2 {
                    client = Client::new(sink.smtp);
                }
            }
        }
        assert_eq!(ended(sink), Some(0), "{flag}");
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!((&report["accepted"], &report["connections"]), (&3.into(), &0.into()), "{flag}");
    }
}

#[test]
fn the_self_test_prints_a_table_and_writes_it_down() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("ceiling.json");
    let output = Command::new(env!("CARGO_BIN_EXE_sink"))
        .args(["--self-test", "--self-test-ms", "20", "--workers", "2", "--json"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for words in ["ceiling at 1000 bytes: ", "ceiling at 100000 bytes: ", " MMH, ", "shared the cores"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let ceilings = report["ceilings"].as_array().unwrap();
    assert_eq!((ceilings.len(), &report["workers"]), (3, &2.into()));
    assert!(ceilings.iter().all(|step| step["per_s"].as_f64().unwrap() > 0.0));
}

#[test]
fn flags_of_looking_on_are_checked() {
    for wrong in [
        &["--capture-format", "eml"][..],
        &["--capture", "x", "--capture-bytes-max", "much"],
        &["--max-messages", "0"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sink")).args(wrong).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}
