//! The command as its users meet it: flags, exit codes, reports, signals.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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
        ("--threshold", "p99<fast", "condition"),
        ("--threshold", "lag<5ms", "--rate"),
        ("--label", "machine", "label"),
        ("--prometheus", "here", "address"),
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
fn every_output_tells_of_the_same_run() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (csv, hlog, hgrm, report) = (path("run.csv"), path("run.hlog"), path("run.hgrm"), path("run.json"));
    let target = server.smtp_addr.to_string();
    let line = ["-c", "4", "--rate", "5k", "-n", "1k", "--label", "machine=lab", "--target", &target];
    let files = ["--csv", &csv, "--hdr", &hlog, "--hgrm", &hgrm, "--json", &report, "--prometheus", "0"];
    let output = traffic_gen(&line).args(files).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).starts_with("metrics on http://127.0.0.1:"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("from MAIL") && text(&output.stdout).contains("lag"));

    let report = json(Path::new(&report));
    assert_eq!((&report["labels"]["machine"], &report["sent"]), (&"lab".into(), &1000.into()));
    let table = std::fs::read_to_string(csv).unwrap();
    let lines: Vec<Vec<_>> = table.lines().map(|line| line.split(',').collect()).collect();
    let sent = lines[0].iter().position(|name| *name == "sent").unwrap();
    assert_eq!(lines.last().unwrap()[sent], "1000");
    assert_eq!(report["timeline"]["columns"].as_array().unwrap().len(), lines[0].len());
    assert_eq!(report["timeline"]["rows"].as_array().unwrap().len(), lines.len() - 1);
    for (tag, figure) in [(None, "latency_us"), (Some("raw"), "raw_latency_us"), (Some("lag"), "lag_us")] {
        let intervals = reports::latency::read_hlog_tagged(Path::new(&hlog), tag).unwrap();
        let all = reports::latency::merge(&intervals);
        assert_eq!(all.len(), 1000, "{tag:?}");
        assert_eq!(report[figure]["p99"], reports::latency::summary(&all).p99, "{tag:?}");
    }
    let spectrum = std::fs::read_to_string(hgrm).unwrap();
    let max_ms = report["latency_us"]["max"].as_f64().unwrap() / 1e3;
    assert!(
        spectrum.contains(&format!("#[Max     = {max_ms:12.3}, Total count    =         1000]")),
        "{spectrum}"
    );
    assert_eq!(server.stop().accepted, 1000);
}

#[test]
fn metrics_are_answered_while_the_run_goes_on() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let target = server.smtp_addr.to_string();
    let mut child =
        traffic_gen(&["-c", "2", "--rate", "200", "-d", "1h", "--prometheus", "0", "--target", &target])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let url = lines.next().unwrap().split_once("http://").unwrap().1.to_owned();
    // The line of the first second comes after its figures were laid down.
    lines.next().unwrap();
    let (address, path) = url.split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("application/openmetrics-text"),
        "{answer}"
    );
    assert!(answer.contains("traffic_gen_connections 2.0\n") && answer.contains("# EOF\n"), "{answer}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    lines.by_ref().for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_missed_threshold_ends_with_99_and_says_which() {
    let server = Server::start(|number| if number == 0 { Answer::Refuse(550) } else { Answer::Accept });
    let target = server.address.to_string();
    let line = ["-q", "-c", "1", "-n", "20", "--target", &target];
    let ends = |thresholds: &[&str]| traffic_gen(&line).args(thresholds).output().unwrap();
    let output = ends(&["--threshold", "errors<1%", "--fail-if", "p99<1h"]);
    assert_eq!(output.status.code(), Some(99));
    let table = text(&output.stdout);
    assert!(table.contains("errors<1%  MISSED  5.000 %") && table.contains("p99<1h     met"), "{table}");
    // One of twenty may fail where somebody says so, and is a failure where nobody does.
    assert_eq!(ends(&["--threshold", "errors<=5%"]).status.code(), Some(0));
    assert_eq!(ends(&["--threshold", "p99<1h"]).status.code(), Some(1));
}

#[test]
fn a_dry_run_says_what_would_be_done_and_sends_nothing() {
    let server = Server::start(|_| Answer::Accept);
    let target = server.address.to_string();
    let line = ["--dry-run", "--rate", "5k", "-n", "100", "-c", "8", "--seed", "7", "--target", &target];
    let output = traffic_gen(&line).args(["--header", "X-Team: mail"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for words in [
        &target[..],
        "5,000/s",
        "100 messages",
        "\nX-Team: mail\n",
        "\nX-Traffic-Gen: ",
        "nothing was sent\n",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(server.arrivals().is_empty());
}

#[test]
fn debug_shows_what_both_sides_said_about_one_message() {
    let server = Server::start(|number| if number == 0 { Answer::Accept } else { Answer::Refuse(550) });
    let target = server.address.to_string();
    let output = output(&["--debug", "--target", &target]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines: Vec<_> = said.lines().map(|line| &line[..line.len().min(6)]).collect();
    for start in ["S: 220", "C: EHL", "C: MAI", "C: RCP", "C: X-T", "S: 250", "C: QUI", "S: 221"] {
        assert!(lines.contains(&start), "{start}\n{said}");
    }
    assert_eq!(server.arrivals().len(), 1);
    let refusing = Server::start(|_| Answer::Refuse(550));
    let output = self::output(&["--debug", "--target", &refusing.address.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("S: 550"), "{}", text(&output.stdout));
}

#[test]
fn a_search_that_is_interrupted_claims_nothing() {
    let server = Server::start(|_| Answer::Accept);
    let target = server.address.to_string();
    let folder = tempdir().unwrap();
    let report = folder.path().join("search.json");
    let line =
        ["--find-max", "--slo", "p99<250ms,errors<0.1%", "--rate", "50", "-c", "2", "--target", &target];
    let mut child = traffic_gen(&line)
        .arg("--json")
        .arg(&report)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stdout).contains("nothing is claimed"), "{}", text(&output.stdout));
    let report = json(&report);
    assert_eq!((&report["find_max"]["outcome"], &report["objectives"][0]), (&().into(), &"p99<250ms".into()));
}

#[test]
fn a_search_needs_objectives_and_takes_nothing_that_is_about_one_run() {
    for (line, word) in [
        (&["--find-max"][..], "--slo"),
        (&["--slo", "p99<1s"], "--find-max"),
        (&["--find-max", "--slo", "p99<fast"], "condition"),
        (&["--find-max", "--slo", "p99<1s", "--find-max-precision", "0"], "precision"),
        (&["--find-max", "--slo", "p99<1s", "-n", "5"], "--message-count"),
        (&["--find-max", "--slo", "p99<1s", "--threshold", "p99<1s"], "--threshold"),
    ] {
        let output = output(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert!(text(&output.stderr).contains(word), "{line:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_report_that_cannot_be_written_is_known_before_mail_is_sent() {
    let server = Server::start(|_| Answer::Accept);
    let target = server.address.to_string();
    for flag in ["--json", "--csv", "--hdr", "--hgrm"] {
        let output = output(&["-n", "1", "--target", &target, flag, "/nowhere/at/all"]);
        assert_eq!(output.status.code(), Some(1), "{flag}");
        assert!(text(&output.stderr).contains("cannot write /nowhere/at/all"), "{}", text(&output.stderr));
    }
    assert!(server.arrivals().is_empty());
}

#[test]
fn a_picture_needs_a_terminal() {
    let output = output(&["--tui", "-n", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("standard error is no terminal"), "{}", text(&output.stderr));
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
fn a_server_that_lacks_what_was_asked_for_ends_with_1_and_its_words() {
    let server = Server::start(|_| Answer::Accept);
    let target = server.address.to_string();
    let folder = tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "geheim\n").unwrap();
    let password = password.to_str().unwrap();
    for (flags, words) in [
        (&["--starttls"][..], "does not offer STARTTLS"),
        (&["--tls-on-connect", "--tls-verify"], "TLS: "),
        (&["--auth", "me:geheim"], "does not offer AUTH"),
        (&["--auth-user", "me", "--auth-password-file", password], "does not offer AUTH"),
        (&["--lmtp"], "500"),
    ] {
        let output =
            output(&[&["-q", "-c", "2", "-n", "10", "-t", "5", "--target", &target], flags].concat());
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(words), "{flags:?}: {}", text(&output.stdout));
    }
    assert!(server.arrivals().is_empty());
}

#[test]
fn flags_that_cannot_be_together_or_alone_are_refused_with_what_to_do() {
    let lines: [(&[&str], &str); 13] = [
        (&["--tls-verify"], "add --starttls"),
        (&["--tls-sni", "mx.test"], "add --starttls"),
        (&["--starttls", "--tls-on-connect"], "cannot be used with"),
        (&["--starttls", "--tls-ca-path", "/nowhere/ca.pem"], "cannot read the certificates"),
        (&["--auth-user", "me"], "TRAFFIC_GEN_AUTH_PASSWORD"),
        (&["--auth-type", "plain"], "add --auth-user"),
        (&["--auth", "me"], "USER:PASSWORD"),
        (&["--rate", "5", "--stages", "5:1s"], "cannot be used with"),
        (&["--arrivals", "poisson"], "required"),
        (&["--stages", "0>5k"], "write it like 0>5k:30s"),
        (&["--messages-per-connection", "9:1"], "5:50"),
        (&["--local-interface", "192.0.2.1"], "an address of this host"),
        (&["--target", "127.0.0.1:2025,192.0.2.1:25"], "--i-own-this-host"),
    ];
    for (flags, words) in lines {
        let output = output(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(text(&output.stderr).contains(words), "{flags:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_password_may_come_from_the_environment() {
    let login = sink::Login { user: "me".to_owned(), password: "geheim".to_owned() };
    let config = sink::Config { auth: sink::Auth::Users(vec![login]), ..sink::Config::on_free_ports() };
    let server = sink::Server::start(config).unwrap();
    let target = server.smtp_addr.to_string();
    let mut command = traffic_gen(&["-q", "-n", "10", "--auth-user", "me", "--target", &target]);
    let output = command.env("TRAFFIC_GEN_AUTH_PASSWORD", "geheim").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    // Alone it asks for nothing.
    let mut command = traffic_gen(&["-q", "-n", "10", "--target", &target]);
    assert!(command.env("TRAFFIC_GEN_AUTH_PASSWORD", "wrong").status().unwrap().success());
    assert_eq!(server.stop().accepted, 20);
}

#[test]
fn a_schedule_of_several_parts_is_run_as_it_is_written() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let folder = tempdir().unwrap();
    let path = folder.path().join("run.json");
    let line = [
        "-q",
        "--stages",
        "0>200:500ms,200:500ms",
        "--arrivals",
        "constant",
        "--warmup",
        "500ms",
        "--grace",
        "30s",
        "--msgs-per-conn",
        "1:5",
        "--source",
        "127.0.0.2",
        "--target",
        &server.smtp_addr.to_string(),
        "--json",
        path.to_str().unwrap(),
    ];
    let output = output(&line);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let report = json(&path);
    assert_eq!((&report["sent"], &report["due"]), (&150.into(), &150.into()));
    // The warm-up is as long as the ramp, so the figures are about the hold.
    assert_eq!((&report["measured"]["sent"], &report["measured"]["length_s"]), (&100.into(), &0.5.into()));
    assert!(report["generator_limited"].is_array() && report["mmh_observed"].is_number());
    assert_eq!(server.stop().accepted, 150);
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
    // The load was not the one that was asked for, so no figure is claimed.
    assert!(text(&output.stdout).contains("of 2000 connections"), "{}", text(&output.stdout));
    let error = text(&output.stderr);
    assert!(
        error.ends_with(" of 2,000 connections: RLIMIT_NOFILE hard 100\n") && error.lines().count() == 1,
        "{error}"
    );
    assert_eq!(server.stop().distinct, 5000);
}
