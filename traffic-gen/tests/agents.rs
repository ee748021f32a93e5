//! Runs from several machines, as their users meet them: agents and controller are processes of their own,
//! over loopback, and what arrived is counted to the message.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::tempdir;

const TOKEN: &str = "a-token-for-these-tests-only";

fn traffic_gen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_traffic-gen"));
    command.args(arguments).env("TRAFFIC_GEN_TOKEN", TOKEN);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// An agent that ends with the test.
struct Agent {
    process: Child,
    address: String,
}

impl Agent {
    fn start() -> Self {
        let mut process = traffic_gen(&["agent", "--listen", "0"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line.strip_prefix("agent on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { process, address }
    }

    /// Asks over HTTP and returns the whole answer.
    fn ask(&self, request: &str, token: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("Host: here\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n");
        write!(stream, "{request} HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn controller(agents: &[&Agent], target: &str, more: &[&str]) -> Command {
    let addresses: Vec<_> = agents.iter().map(|agent| &agent.address[..]).collect();
    let mut command = traffic_gen(&["--agents", &addresses.join(","), "--target", target]);
    command.args(more);
    command
}

fn run(agents: &[&Agent], target: &str, more: &[&str]) -> Output {
    controller(agents, target, more).output().unwrap()
}

#[test]
fn two_agents_are_one_run_to_the_message() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let (one, other) = (Agent::start(), Agent::start());
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (report, hlog, csv) = (path("run.json"), path("run.hlog"), path("run.csv"));
    let load = ["-c", "5", "-n", "1001", "--rate", "2k", "--run-id", "many"];
    let files = ["--json", &report, "--hdr", &hlog, "--csv", &csv];
    let target = server.smtp_addr.to_string();
    let output = run(&[&one, &other], &target, &[&load[..], &files[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stderr), text(&output.stdout));
    assert!(text(&output.stdout).contains("clock off by"), "{}", text(&output.stdout));

    let report = json(Path::new(&report));
    assert_eq!((&report["sent"], &report["latency_us"]["p50"].is_number()), (&1001.into(), &true));
    let parts = report["agents"].as_array().unwrap();
    assert_eq!((&parts[0]["sent"], &parts[1]["sent"]), (&501.into(), &500.into()));
    // Both clocks are the same one, so that its offset is within what cannot be told.
    let clock = &parts[0]["clock"];
    assert!(clock["offset_ns"].as_i64().unwrap().unsigned_abs() <= clock["uncertainty_ns"].as_u64().unwrap());
    let ledger = server.ledger("many".parse().unwrap()).unwrap();
    assert_eq!((&ledger.had[..], &ledger.missing[..]), (&[(0, 1000)][..], &[][..]));

    let intervals = reports::latency::read_hlog(Path::new(&hlog)).unwrap();
    let all = reports::latency::merge(&intervals);
    assert_eq!(
        (all.len(), report["latency_us"]["p99"].as_f64()),
        (1001, Some(reports::latency::summary(&all).p99))
    );
    let table = std::fs::read_to_string(csv).unwrap();
    let names: Vec<_> = table.lines().next().unwrap().split(',').collect();
    let last: Vec<_> = table.lines().last().unwrap().split(',').collect();
    assert_eq!(last[names.iter().position(|name| *name == "sent").unwrap()], "1001");
    // `sent` of messages and reports is the time of day where several machines send.
    assert!(report["first_sent_ns"].as_u64().unwrap() > 1_600_000_000_000_000_000);
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.duplicated, stats.corrupted), (1001, 0, 0));
}

#[test]
fn an_agent_takes_one_run_after_the_other_and_a_signal_ends_it_on_all() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let (one, other) = (Agent::start(), Agent::start());
    let target = server.smtp_addr.to_string();
    let folder = tempdir().unwrap();
    let report = folder.path().join("run.json");
    let mut child = controller(&[&one, &other], &target, &["-c", "4", "-d", "1h", "--rate", "500"])
        .arg("--json")
        .arg(&report)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(progress.any(|line| !line.contains("sent 0 ")), "no message was sent");
    let busy = run(&[&one], &target, &["-q", "-n", "1"]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(text(&busy.stderr).contains("works for another controller"), "{}", text(&busy.stderr));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    progress.by_ref().for_each(drop);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    // Ended by time, the parts have not begun equally many, and the audit knows which numbers they sent.
    let sink = format!("http://{}", server.http_addr);
    let audit = traffic_gen(&["audit", "--sink", &sink, "--report"]).arg(&report).output().unwrap();
    assert_eq!(audit.status.code(), Some(0), "{}{}", text(&audit.stdout), text(&audit.stderr));
    let report = json(&report);
    assert_eq!(report["shares"].as_array().map(Vec::len), Some(2));
    assert_eq!((&report["interrupted"], &report["unknown"]), (&true.into(), &0.into()));

    let again = run(&[&one, &other], &target, &["-q", "-n", "10", "-c", "2"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(server.stop().accepted, report["sent"].as_u64().unwrap() + 10);
}

#[test]
fn an_agent_that_is_lost_is_named_and_its_messages_are_unknown() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let (one, mut other) = (Agent::start(), Agent::start());
    let target = server.smtp_addr.to_string();
    let folder = tempdir().unwrap();
    let report = folder.path().join("run.json");
    let mut child = controller(&[&one, &other], &target, &["-c", "4", "-d", "4s", "--rate", "500"])
        .arg("--json")
        .arg(&report)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(progress.any(|line| !line.contains("sent 0 ")), "no message was sent");
    other.process.kill().unwrap();
    progress.by_ref().for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains(&format!("{}  LOST", other.address)), "{}", text(&output.stdout));
    let report = json(&report);
    let parts = report["agents"].as_array().unwrap();
    assert!(parts[0]["lost"].is_null() && parts[1]["lost"].is_string(), "{parts:?}");
    assert_eq!((&report["sent"], &report["unknown"]), (&parts[0]["sent"], &parts[1]["unknown"]));
    assert!(report["unknown"].as_u64().unwrap() > 0);
}

#[test]
fn only_the_token_opens_an_agent() {
    let agent = Agent::start();
    for request in
        ["GET /clock", "POST /run", "GET /run/x/seconds?from=0", "POST /run/x/stop", "GET /run/x/report"]
    {
        let answer = agent.ask(request, "a-token-for-these-tests-onlY");
        assert!(answer.starts_with("HTTP/1.1 401"), "{request}: {answer}");
        let answer = agent.ask(request, TOKEN);
        assert!(!answer.starts_with("HTTP/1.1 401"), "{request}: {answer}");
    }
    let stranger = traffic_gen(&["--agents", &agent.address, "-n", "1"])
        .env("TRAFFIC_GEN_TOKEN", "another-token-of-enough-bytes")
        .output()
        .unwrap();
    assert_eq!(stranger.status.code(), Some(1));
    assert!(text(&stranger.stderr).contains("token is missing or another one"), "{}", text(&stranger.stderr));
}

#[test]
fn an_agent_does_not_start_without_a_token_that_is_long_enough() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "short\n").unwrap();
    let short = traffic_gen(&["agent", "--listen", "0", "--token-file"]).arg(&file).output().unwrap();
    assert_eq!(short.status.code(), Some(2));
    assert!(text(&short.stderr).contains("16 are the least"), "{}", text(&short.stderr));
    for line in [&["agent", "--listen", "0"][..], &["--agents", "127.0.0.1:1", "-n", "1"]] {
        let none = traffic_gen(line).env_remove("TRAFFIC_GEN_TOKEN").output().unwrap();
        assert_eq!(none.status.code(), Some(2), "{line:?}");
        assert!(text(&none.stderr).contains("--token-file"), "{}", text(&none.stderr));
    }
}

#[test]
fn an_agent_asks_for_itself_whether_a_public_host_is_ours() {
    let agent = Agent::start();
    let output = run(&[&agent], "192.0.2.1:2525", &["-n", "1", "--i-own-this-host"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("public address") && error.contains("agent itself"), "{error}");
}

#[test]
fn an_agent_that_is_not_there_is_named_before_anything_is_sent() {
    let output = traffic_gen(&["--agents", "127.0.0.1:1", "-n", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("agent 127.0.0.1:1:"), "{}", text(&output.stderr));
    let output = traffic_gen(&["--agents", "nonsense/path", "-n", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
