//! `traffic-gen audit` as its users meet it: good and bad ways between generator and sink, and what it says.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use message::traffic::find_in;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use traffic_gen::{Plan, Report, Share, run};

mod support;

use support::{Answer, Arrival, PATIENCE, Server};

/// Messages of the run through a bad relay.
const COUNT: u64 = 5_000;

/// Of a thousand messages the bad relay loses this one, doubles that one and damages the third.
const LOST: u64 = 333;
const DOUBLED: u64 = 500;
const DAMAGED: u64 = 777;

/// Hands mail on to the sink, as a relay would.
struct Relay {
    stream: BufReader<TcpStream>,
}

impl Relay {
    fn new(sink: SocketAddr) -> Self {
        let stream = TcpStream::connect(sink).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut relay = Self { stream: BufReader::new(stream) };
        relay.read("220");
        relay
    }

    fn send(&mut self, recipient: &str, message: &[u8]) {
        let mut bytes =
            format!("MAIL FROM:<>\r\nRCPT TO:<{recipient}>\r\nBDAT {} LAST\r\n", message.len()).into_bytes();
        bytes.extend_from_slice(message);
        self.stream.get_mut().write_all(&bytes).unwrap();
        (0..3).for_each(|_| self.read("250"));
    }

    fn read(&mut self, code: &str) {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert!(line.starts_with(code), "{line}");
    }
}

/// A run whose mail waits in a relay: the report, and what the relay has.
fn sent(count: u64) -> (Report, Vec<(u64, Arrival)>) {
    let server = Server::start(|_| Answer::Accept);
    let mut plan = Plan::messages(server.address, count);
    plan.concurrency = 8;
    let report = run(plan);
    assert_eq!(report.sent, count);
    let arrivals = server.arrivals().into_iter();
    (report, arrivals.map(|(sequence, mut all)| (sequence, all.remove(0))).collect())
}

fn sink() -> sink::Server {
    sink::Server::start(sink::Config::on_free_ports()).unwrap()
}

fn written(folder: &TempDir, report: &Report) -> PathBuf {
    let path = folder.path().join(format!("{}.json", report.run_id));
    std::fs::write(&path, serde_json::to_string(report).unwrap()).unwrap();
    path
}

fn audit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_traffic-gen")).arg("audit").args(arguments).output().unwrap()
}

/// The verdict on one run, with the exit code.
fn verdict(report: &Path, ledger: &str) -> (Value, i32) {
    let output = audit(&["--report", report.to_str().unwrap(), "--sink", ledger, "--json", "-"]);
    let verdicts: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (verdicts[0].clone(), output.status.code().unwrap())
}

fn url(server: &sink::Server) -> String {
    format!("http://{}", server.http_addr)
}

/// The numbers in a list of the verdict.
fn numbers(list: &Value, field: &str) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|note| note[field].as_u64().unwrap()).collect()
}

/// Every thousandth number from `first` on.
fn every_thousandth(first: u64) -> Vec<u64> {
    (first..COUNT).step_by(1000).collect()
}

#[test]
fn a_relay_that_loses_doubles_and_damages_one_in_a_thousand_is_caught_to_the_message() {
    let (report, mail) = sent(COUNT);
    let server = sink();
    let (mut relay, mut other) = (Relay::new(server.smtp_addr), Relay::new(server.smtp_addr));
    for (sequence, Arrival { recipient, message, .. }) in &mail {
        match sequence % 1000 {
            LOST => {}
            DOUBLED => {
                relay.send(recipient, message);
                other.send(recipient, message);
            }
            DAMAGED => {
                let mut damaged = message.clone();
                let (_, body) = find_in(message).unwrap();
                damaged[body] ^= 1;
                relay.send(recipient, &damaged);
            }
            _ => relay.send(recipient, message),
        }
    }
    let folder = tempdir().unwrap();
    let file = written(&folder, &report);
    let (verdict, code) = verdict(&file, &url(&server));
    assert_eq!(code, 1);
    assert_eq!(
        [&verdict["lost"], &verdict["duplicated"], &verdict["corrupted"], &verdict["delivered"]],
        [&json!(5), &json!(5), &json!(5), &json!(COUNT - 5)]
    );
    assert_eq!(numbers(&verdict["lost_messages"], "first"), every_thousandth(LOST));
    assert_eq!(numbers(&verdict["duplicates"], "seq"), every_thousandth(DOUBLED));
    assert_eq!(numbers(&verdict["corruptions"], "seq"), every_thousandth(DAMAGED));
    for lost in verdict["lost_messages"].as_array().unwrap() {
        assert!(lost["after_ns"].as_u64().unwrap() <= lost["before_ns"].as_u64().unwrap(), "{lost}");
    }
    for note in verdict["duplicates"].as_array().unwrap() {
        assert!(note["first_ns"].as_u64().unwrap() < note["again_ns"].as_u64().unwrap(), "{note}");
    }
    assert_eq!((&verdict["reordered"], &verdict["uncertain"]), (&json!(0), &json!([])));
    let text = audit(&["--report", file.to_str().unwrap(), "--sink", &url(&server)]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("NOT CLEAN") && text.contains("message 1333, its neighbours arrived at "),
        "{text}"
    );
}

/// A sink that does that to its mail, and the report of a run over so many connections.
fn run_into(rules: &str, concurrency: usize) -> (sink::Server, Report) {
    let rules = sink::faults::RuleSet::from_toml(rules).unwrap();
    let config = sink::Config { rules, seed: 7, ..sink::Config::on_free_ports() };
    let server = sink::Server::start(config).unwrap();
    let report = run(Plan { concurrency, ..Plan::messages(server.smtp_addr, COUNT) });
    assert_eq!(report.sent, COUNT);
    (server, report)
}

/// Every so many messages of a connection.
fn rule(action: &str, condition: &str) -> String {
    format!("[[rule]]\nname = \"{action}\"\nstage = \"final_dot\"\n{condition}\naction = \"{action}\"\n")
}

#[test]
fn a_sink_told_to_lose_double_and_corrupt_is_caught_to_the_message() {
    let every = [("lose", 1000), ("double", 700), ("corrupt", 900)];
    let rules: String = every
        .iter()
        .map(|(action, every)| rule(action, &format!("match.message = {{ every = {every} }}")))
        .collect();
    let (server, report) = run_into(&rules, 1);
    let folder = tempdir().unwrap();
    let (verdict, code) = verdict(&written(&folder, &report), &url(&server));
    assert_eq!(code, 1);
    // Over one connection the thousandth message has number 999.
    let told = |every: usize| -> Vec<u64> { (every as u64 - 1..COUNT).step_by(every).collect() };
    assert_eq!(numbers(&verdict["lost_messages"], "first"), told(1000));
    assert_eq!(numbers(&verdict["duplicates"], "seq"), told(700));
    assert_eq!(numbers(&verdict["corruptions"], "seq"), told(900));
    assert_eq!(&verdict["uncertain"], &json!([]));
}

#[test]
fn one_in_a_thousand_by_chance_is_counted_as_the_sink_counts_it() {
    let rules: String =
        ["lose", "double", "corrupt"].iter().map(|action| rule(action, "probability = 0.001")).collect();
    let (server, report) = run_into(&rules, 8);
    let folder = tempdir().unwrap();
    let (verdict, _) = verdict(&written(&folder, &report), &url(&server));
    let answer =
        ureq::get(format!("{}/rules", url(&server))).call().unwrap().into_body().read_to_string().unwrap();
    let hits: Value = serde_json::from_str::<Value>(&answer).unwrap()["hits"].take();
    assert_eq!(
        [&verdict["lost"], &verdict["duplicated"], &verdict["corrupted"]],
        [&hits["lose"], &hits["double"], &hits["corrupt"]]
    );
    assert!(hits.as_object().unwrap().values().any(|hits| hits.as_u64() > Some(0)), "{hits}");
}

#[test]
fn a_clean_run_is_clean_from_the_sink_and_from_a_file() {
    let server = sink();
    let report = run(Plan::messages(server.smtp_addr, 300));
    let folder = tempdir().unwrap();
    let file = written(&folder, &report);
    let (from_sink, code) = verdict(&file, &url(&server));
    assert_eq!((code, &from_sink["delivered"], &from_sink["remarks"]), (0, &json!(300), &json!([])));
    let ledger = folder.path().join("ledger.json");
    let answer = ureq::get(format!("{}/ledger/{}", url(&server), report.run_id)).call().unwrap();
    std::fs::write(&ledger, answer.into_body().read_to_string().unwrap()).unwrap();
    server.stop();
    assert_eq!(verdict(&file, ledger.to_str().unwrap()), (from_sink, 0));
}

#[test]
fn parts_of_a_run_and_several_recipients_are_audited_as_one() {
    let server = sink();
    let folder = tempdir().unwrap();
    let whole = Plan::messages(server.smtp_addr, 90);
    let files: Vec<PathBuf> = (0..3)
        .map(|index| {
            let mut plan = whole.clone();
            plan.share = Share { index, of: 3 };
            plan.recipients.per_message = "4".parse().unwrap();
            let path = folder.path().join(format!("part-{index}.json"));
            std::fs::write(&path, serde_json::to_string(&run(plan)).unwrap()).unwrap();
            path
        })
        .collect();
    let parts: Vec<&str> = files.iter().flat_map(|file| ["--report", file.to_str().unwrap()]).collect();
    let output = audit(&[&parts[..], &["--sink", &url(&server), "--json", "-"]].concat());
    let verdicts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), verdicts.as_array().unwrap().len()), (Some(0), 1), "{verdicts}");
    assert_eq!((&verdicts[0]["promised"], &verdicts[0]["delivered"]), (&json!(90), &json!(360)));
    // Part after part, each over connections of its own.
    assert_eq!(verdicts[0]["reordered"], 0);
    // Without one of the parts there is mail at the sink that the others did not send.
    let (verdict, code) = verdict(&files[0], &url(&server));
    assert_eq!((code, &verdict["never_sent"]["count"], &verdict["lost"]), (1, &json!(60), &json!(0)));
}

#[test]
fn a_message_overtaken_on_its_way_is_named_and_still_clean() {
    let (report, mail) = sent(100);
    let conn = |index: usize| find_in(&mail[index].1.message).unwrap().0.conn;
    let later = (1..mail.len()).find(|index| conn(*index) == conn(0)).unwrap();
    let mut order: Vec<usize> = (0..mail.len()).collect();
    order.swap(0, later);
    let server = sink();
    let mut relay = Relay::new(server.smtp_addr);
    for index in order {
        let Arrival { recipient, message, .. } = &mail[index].1;
        relay.send(recipient, message);
    }
    let folder = tempdir().unwrap();
    let (verdict, code) = verdict(&written(&folder, &report), &url(&server));
    assert_eq!((code, numbers(&verdict["reorders"], "seq")), (0, vec![0]));
    assert_eq!(
        (&verdict["reorders"][0]["after"], &verdict["reorders"][0]["conn"]),
        (&json!(later), &json!(conn(0)))
    );
}

#[test]
fn settling_waits_for_mail_that_is_still_under_way() {
    let (report, mail) = sent(200);
    let server = sink();
    let folder = tempdir().unwrap();
    let file = written(&folder, &report);
    let (before, code) = verdict(&file, &url(&server));
    assert_eq!((code, &before["lost"]), (1, &json!(200)));
    let address = server.smtp_addr;
    let relaying = std::thread::spawn(move || {
        let mut relay = Relay::new(address);
        mail.iter().for_each(|(_, arrival)| relay.send(&arrival.recipient, &arrival.message));
    });
    let arguments = ["--report", file.to_str().unwrap(), "--sink", &url(&server), "--settle", "2s"];
    let output = audit(&arguments);
    relaying.join().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn several_runs_are_judged_one_by_one_and_the_same_report_twice_is_refused() {
    let server = sink();
    let folder = tempdir().unwrap();
    let files: Vec<PathBuf> =
        (0..2).map(|_| written(&folder, &run(Plan::messages(server.smtp_addr, 20)))).collect();
    let (first, second) = (files[0].to_str().unwrap(), files[1].to_str().unwrap());
    let both = audit(&["--report", first, "--report", second, "--sink", &url(&server), "--json", "-"]);
    let verdicts: Value = serde_json::from_slice(&both.stdout).unwrap();
    assert_eq!((both.status.code(), verdicts.as_array().unwrap().len()), (Some(0), 2));
    let twice = audit(&["--report", first, "--report", first, "--sink", &url(&server)]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("give each report once"));
}

#[test]
fn wrong_files_and_silent_sinks_are_named() {
    let folder = tempdir().unwrap();
    let server = sink();
    let report = written(&folder, &run(Plan::messages(server.smtp_addr, 5)));
    let report = report.to_str().unwrap();
    let silent = url(&server);
    server.stop();
    let nothing = folder.path().join("nothing.json");
    std::fs::write(&nothing, "{}").unwrap();
    let nothing = nothing.to_str().unwrap();
    for (arguments, code, words) in [
        (&["--report", report, "--sink", &silent][..], 1, &["no ledger from", silent.as_str()][..]),
        (&["--report", report, "--sink", nothing], 1, &["cannot use", nothing, "curl -o"]),
        (&["--report", nothing], 2, &["cannot use", nothing, "traffic-gen --json"]),
        (&["--report", "no-such-file"], 2, &["no-such-file"]),
        (&[], 2, &["--report"]),
    ] {
        let output = audit(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
    }
}
