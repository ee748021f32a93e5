//! The command as its users meet it: flags, exit codes, reports, signals.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

mod support;

use support::{Answer, Server};

fn traffic_gen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_traffic-gen"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    traffic_gen(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn help_has_examples() {
    let output = output(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("Examples:") && text(&output.stdout).contains("Exit codes:"));
}

#[test]
fn a_public_host_is_refused_with_the_line_that_would_be_accepted() {
    let line = [
        "--target",
        "192.0.2.1:587",
        "--concurrency",
        "20000",
        "--message-count",
        "100000",
        "--body-size",
        "100000",
        "--header",
        "X-A: b",
    ];
    let output = output(&line);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    let accepted = "traffic-gen --target 192.0.2.1:587 --concurrency 20000 --message-count 100000 \
        --body-size 100000 --header 'X-A: b' --i-own-this-host";
    assert_eq!(error.lines().last(), Some(accepted), "{error}");
}

#[test]
fn wrong_flags_are_named() {
    for (flag, value, word) in [
        ("--body-size", "60 parrots", "size"),
        ("--message-count", "0", "count"),
        ("--duration", "soon", "time"),
        ("--rate", "5/week", "rate"),
        ("--domain", "a b", "domain"),
        ("--header", "nonsense", "header"),
        ("--run-id", "a b", "run id"),
        ("--target", "localhost", "HOST:PORT"),
    ] {
        let output = output(&[flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(text(&output.stderr).contains(word), "{flag}: {}", text(&output.stderr));
    }
}

#[test]
fn a_good_run_ends_with_0_and_its_reports() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let folder = tempdir().unwrap();
    let (report, log) = (folder.path().join("run.json"), folder.path().join("run.hlog"));
    let mut command =
        traffic_gen(&["-c", "4", "-n", "1k", "--body-size", "2kb", "--run-id", "good", "--target"]);
    command.arg(server.smtp_addr.to_string()).arg("--json").arg(&report).arg("--hdr").arg(&log);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("MMH") && text(&output.stdout).contains("p99.9"));
    let last = text(&output.stderr).lines().last().unwrap().to_owned();
    assert!(last.contains("sent 1,000  failed 0  unknown 0  in flight 0"), "{last}");
    let report = json(&report);
    assert_eq!((&report["run_id"], &report["sent"]), (&"good".into(), &1000.into()));
    for field in [
        "failed",
        "unknown",
        "elapsed_s",
        "mmh",
        "first_sent_ns",
        "per_second",
        "connections",
        "bytes",
        "reply_codes",
        "errors",
    ] {
        assert!(!report[field].is_null(), "{field}");
    }
    for field in ["p50", "p90", "p99", "p99_9", "max"] {
        assert!(report["latency_us"][field].is_number(), "{field}");
    }
    let intervals = reports::latency::read_hlog(&log).unwrap();
    assert_eq!(intervals.iter().map(|interval| interval.histogram.len()).sum::<u64>(), 1000);
    assert_eq!(server.stop().accepted, 1000);
}

#[test]
fn quiet_says_nothing_on_the_way_and_body_files_are_sent() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let folder = tempdir().unwrap();
    let file = folder.path().join("body.txt");
    std::fs::write(&file, "Dear all,\n.\nbye\n").unwrap();
    let mut command =
        traffic_gen(&["-q", "-n", "10", "--target", &server.smtp_addr.to_string(), "--body-file"]);
    let output = command.arg(&file).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert_eq!(server.stop().corrupted, 0);
    let output = output_of_missing(&folder.path().join("none"));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot read"));
}

fn output_of_missing(file: &Path) -> Output {
    traffic_gen(&["-q", "-n", "10", "--body-file"]).arg(file).output().unwrap()
}

#[test]
fn refusals_end_with_1() {
    let server = Server::start(|_| Answer::Refuse(550));
    let output = output(&["-q", "-n", "10", "--target", &server.address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("550: 10"), "{}", text(&output.stdout));
}

#[test]
fn signals_end_with_130_and_the_report() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(|_| Answer::Accept);
        let folder = tempdir().unwrap();
        let report = folder.path().join("run.json");
        let mut child =
            traffic_gen(&["-c", "2", "-d", "1h", "--target", &server.address.to_string(), "--json"])
                .arg(&report)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        // The first line of progress means that signals have long been caught.
        wait_for_line(&mut child);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert!(text(&output.stdout).contains("by a signal"));
        let report = json(&report);
        assert_eq!(report["sent"], server.arrivals().len());
        assert_eq!((&report["interrupted"], &report["unknown"]), (&true.into(), &0.into()));
    }
}

fn wait_for_line(child: &mut Child) {
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut String::new()).unwrap();
    // Dropping the pipe would make the next line of progress fail; it is read to the end elsewhere.
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
}

#[test]
fn connections_that_do_not_fit_are_named_once_and_everything_is_sent() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let line = format!(
        "ulimit -n 100; exec {} -q -c 2,000 -n 5k --target {}",
        env!("CARGO_BIN_EXE_traffic-gen"),
        server.smtp_addr
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let error = text(&output.stderr);
    assert!(
        error.ends_with(" of 2,000 connections: RLIMIT_NOFILE hard 100\n") && error.lines().count() == 1,
        "{error}"
    );
    assert_eq!(server.stop().distinct, 5000);
}
