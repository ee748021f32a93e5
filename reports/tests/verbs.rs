//! The verbs: compare, merge, history, export and serve, as a user meets them.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(dead_code, reason = "each test uses its part of the fixture")]

mod fixture;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use reports::results::{Results, Side};
use reports::run::{Kind, LOAD_PAIR_LABEL, PAIR_LABEL, Record, Run, counter};
use reports::stats::Random;
use serde_json::{Value, json};

const HOSTILE: &str = "</script><script>alert(1)</script>|`*_[x](y)\"'&\n=1+1\u{1}";

fn reports() -> Command {
    Command::new(env!("CARGO_BIN_EXE_reports"))
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `count` records of one run each, whose cost is `cpu_us` with a spread of a percent or two.
fn set(folder: &Path, name: &str, count: usize, cpu_us: f64, change: impl Fn(usize, &mut Record)) {
    let sample = tempfile::tempdir().unwrap();
    let mut template = fixture::record(sample.path());
    template.runs.retain(|run| run.kind == Kind::Kumod && run.body_bytes == 10_000);
    let mut random = Random::new(cpu_us.to_bits());
    for index in 0..count {
        let mut record = template.clone();
        record.run_id = format!("{name}-{index:03}");
        record.started_utc = format!("2026-11-{:02}T{:02}:00:00Z", 1 + index / 24, index % 24);
        let run = &mut record.runs[0];
        let noise = 1.0 + 0.015 * (random.unit() + random.unit() + random.unit() - 1.5);
        run.processes.kumod.as_mut().unwrap().cpu_s = cpu_us * noise * run.delivered as f64 / 1e6;
        run.labels.insert(PAIR_LABEL.to_owned(), index.to_string());
        run.hlog = reports::run::HlogFiles::default();
        change(index, &mut record);
        let own = folder.join(name).join(&record.run_id);
        fs::create_dir_all(&own).unwrap();
        record.write(&own.join("run.json")).unwrap();
    }
}

fn compare(folder: &Path, more: &[&str]) -> Output {
    reports().arg("compare").arg(folder.join("base")).arg(folder.join("head")).args(more).output().unwrap()
}

#[test]
fn a_planted_slowdown_is_a_regression() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "base", 12, 100.0, |_, _| {});
    set(folder.path(), "head", 12, 106.0, |_, _| {});
    let output = compare(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(99), "{}", text(&output));
    assert!(text(&output).starts_with("regression: CPU of the relay, relative +"), "{}", text(&output));
    assert!(text(&output).contains("12 pairs"));
    let output = compare(folder.path(), &["--limit", "10"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).starts_with("ok: "), "{}", text(&output));
    // The other way round it is an improvement.
    let output = reports()
        .arg("compare")
        .arg(folder.path().join("head"))
        .arg(folder.path().join("base"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).starts_with("ok: "), "{}", text(&output));
}

#[test]
fn the_same_costs_are_ok_and_every_form_says_so() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "base", 12, 100.0, |_, record| record.runs[0].name = HOSTILE.into());
    set(folder.path(), "head", 12, 100.4, |_, record| record.software.rustc = Some(HOSTILE.into()));
    let output = compare(folder.path(), &["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["verdict"], "ok");
    let cpu = found["rows"].as_array().unwrap().iter().find(|row| row["metric"] == "cpu").unwrap();
    assert!(
        cpu["low"].as_f64() < cpu["ratio_shift"].as_f64()
            && cpu["ratio_shift"].as_f64() < cpu["high"].as_f64()
    );
    let again = compare(folder.path(), &["--format", "json"]);
    assert_eq!(again.stdout, output.stdout, "the same runs and seed give the same answer");
    let markdown = text(&compare(folder.path(), &["--format", "markdown"]));
    assert!(markdown.starts_with("### ok"), "{markdown}");
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.iter().all(|row| row.matches('|').count() - row.matches("\\|").count() == 9), "{markdown}");
}

#[test]
fn another_generator_or_sink_is_no_clock() {
    let folder = tempfile::tempdir().unwrap();
    let label = |name: &'static str| {
        move |_: usize, record: &mut Record| {
            record.runs[0].labels.insert(LOAD_PAIR_LABEL.into(), name.into());
        }
    };
    set(folder.path(), "base", 12, 100.0, label("one"));
    set(folder.path(), "head", 12, 100.0, label("two"));
    let output = compare(folder.path(), &[]);
    assert!(text(&output).contains("were not the same programs in all runs"), "{}", text(&output));
    set(folder.path(), "head", 12, 106.0, label("two"));
    let output = compare(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(99), "{}", text(&output));
    assert!(text(&output).starts_with("regression: CPU of the relay +"), "{}", text(&output));
}

#[test]
fn few_runs_are_undecided_whatever_they_look_like() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "base", 1, 100.0, |_, _| {});
    set(folder.path(), "head", 1, 300.0, |_, _| {});
    for more in [&[][..], &["--runs-min", "0"]] {
        let output = compare(folder.path(), more);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output).starts_with("undecided"), "{}", text(&output));
        assert!(complaint(&output).contains("undecided"), "a warning on standard error");
    }
}

#[test]
fn disturbed_runs_go_with_their_partners_and_are_told() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "base", 12, 100.0, |_, _| {});
    set(folder.path(), "head", 12, 100.0, |index, record| {
        if index == 3 {
            record.runs[0].counters.insert(counter::STEAL_S.into(), 9.0);
            record.runs[0].processes.kumod.as_mut().unwrap().cpu_s *= 5.0;
        }
    });
    let output = text(&compare(folder.path(), &[]));
    assert!(output.contains("11 pairs"), "{output}");
    assert!(
        output.contains("head head-003 kumod-10k: the host took 37.5 % of the processors' time away."),
        "{output}"
    );
    assert!(output.contains("1 runs of"), "{output}");
}

#[test]
fn lost_mail_is_a_regression_before_all_numbers() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "base", 2, 100.0, |_, _| {});
    set(folder.path(), "head", 2, 50.0, |index, record| record.runs[0].lost = u64::from(index == 1));
    let output = compare(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(99));
    assert!(text(&output).starts_with("regression: mail was lost or damaged"), "{}", text(&output));
}

#[test]
fn rates_gate_on_demand_and_machines_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "base", 10, 100.0, |_, _| {});
    set(folder.path(), "head", 10, 100.0, |_, record| record.runs[0].mmh_delivered *= 0.8);
    assert_eq!(compare(folder.path(), &[]).status.code(), Some(0));
    let output = compare(folder.path(), &["--gate", "cpu,mmh"]);
    assert_eq!(output.status.code(), Some(99), "{}", text(&output));
    let output = compare(folder.path(), &["--gate", "speed"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        complaint(&output).contains("no such metric; there are cpu_relative, "),
        "{}",
        complaint(&output)
    );

    set(folder.path(), "head", 10, 100.0, |_, record| record.machine.cpu.model = Some("Another".into()));
    let output = compare(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("numbers of different machines are not compared"),
        "{}",
        complaint(&output)
    );
    assert_eq!(reports().arg("compare").arg(folder.path()).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_merged_file_is_all_that_was_merged() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    for record in fixture::tiers(&results) {
        record.write(&results.join(&record.run_id).join("run.json")).unwrap();
    }
    let merged = folder.path().join("all.json");
    let output = reports().arg("merge").arg(&results).arg("-o").arg(&merged).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    let (apart, together) = (Results::gather(&[&results]), Results::gather(&[&merged]));
    assert!(together.refused.is_empty());
    assert_eq!(apart.entries.len(), together.entries.len());
    for (one, other) in apart.entries.iter().zip(&together.entries) {
        assert_eq!(one.record, other.record);
        for run in &one.record.runs {
            let (kept, original) =
                (other.histogram(run, Side::EndToEnd).unwrap(), one.histogram(run, Side::EndToEnd).unwrap());
            assert_eq!(kept.unwrap(), original.unwrap(), "{}", run.name);
        }
    }
    // What was merged can be merged again, and nothing comes twice.
    let output = reports().arg("merge").arg(&merged).arg(&results).output().unwrap();
    assert_eq!(text(&output), fs::read_to_string(&merged).unwrap());
    assert!(
        text(&reports().arg("render").arg(&merged).output().unwrap()).contains("5 tiers, 15 runs, 5 records")
    );
}

#[test]
fn history_names_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), "nights", 40, 100.0, |index, record| {
        record.software.git_commit = Some(format!("{index:040x}"));
        if index >= 25 {
            record.runs[0].processes.kumod.as_mut().unwrap().cpu_s *= 1.13;
        }
        if index == 30 {
            record.runs[0].counters.insert(counter::STEAL_S.into(), 9.0);
        }
    });
    let output = reports()
        .arg("history")
        .arg(folder.path().join("nights"))
        .args(["--metric", "cpu", "--json"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found[0]["values"], 39);
    assert_eq!(found[0]["disturbed"], 1);
    let changes = found[0]["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{found}");
    assert_eq!(changes[0]["commit"], json!(format!("{:040x}", 25)));
    assert_eq!(changes[0]["commit_before"], json!(format!("{:040x}", 24)));
    let relative = changes[0]["relative"].as_f64().unwrap();
    assert!((relative - 0.13).abs() < 0.02, "{relative}");
    let output = text(&reports().arg("history").arg(folder.path().join("nights")).output().unwrap());
    assert!(output.contains("% since 000000000000 (2026-11-02T01:00:00Z, run nights-025)"), "{output}");
    assert!(output.contains("mmh of c2-"), "{output}");
}

fn hostile_results(folder: &Path) {
    let mut record = fixture::record(folder);
    record.run_id = HOSTILE.into();
    record.runs.iter_mut().for_each(|run: &mut Run| run.name = format!("{} {HOSTILE}", run.name));
    record.runs[2].lost = 7;
    record.write(&folder.join("run.json")).unwrap();
}

fn exported(folder: &Path, format: &[&str]) -> String {
    let output = reports().arg("export").arg(folder).arg("--format").args(format).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    text(&output)
}

#[test]
fn json_exports_follow_their_schemas() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let number = json!({"type": "number"});
    let measure = json!({"type": "object", "required": ["value"], "additionalProperties": false,
        "properties": {"value": number, "lower_value": number, "upper_value": number}});
    let bmf = json!({"type": "object", "minProperties": 9, "additionalProperties":
        {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z0-9-]+$"}, "additionalProperties": measure}});
    let item = json!({"type": "object", "required": ["name", "unit", "value"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "minLength": 1}, "unit": {"type": "string", "minLength": 1}, "value": number,
            "range": {"type": "string"}, "extra": {"type": "string"}}});
    let list = json!({"type": "array", "minItems": 9, "items": item});
    for (format, schema) in
        [(&["bmf"][..], bmf), (&["github-action"], list.clone()), (&["github-action", "--bigger"], list)]
    {
        let value: Value = serde_json::from_str(&exported(folder.path(), format)).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{format:?}: {errors:?}");
    }
    let names = |text: String| {
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut names: Vec<String> = list.iter().map(|item| item["name"].to_string()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "names are unique");
        names
    };
    let costs = names(exported(folder.path(), &["github-action"]));
    let rates = names(exported(folder.path(), &["github-action", "--bigger"]));
    assert!(rates.iter().all(|name| name.ends_with(" mmh\"") && !costs.contains(name)));
}

/// Elements that open are closed in order, attributes are quoted, and nothing stands raw that must not.
fn assert_well_formed(xml: &str) -> Vec<String> {
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for piece in xml.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').unwrap();
        assert!(!content.contains(['"']) || !content.contains('>'), "{content}");
        assert_eq!(
            content.matches('&').count(),
            content.matches(';').count().min(content.matches('&').count())
        );
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '\n']).next().unwrap().to_owned();
        if !tag.starts_with('?') && !tag.ends_with('/') {
            open.push(name.clone());
        }
        seen.push(name);
    }
    assert!(open.is_empty(), "{open:?}");
    seen
}

#[test]
fn junit_fails_where_mail_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let xml = exported(folder.path(), &["junit"]);
    let seen = assert_well_formed(&xml);
    assert_eq!(seen.iter().filter(|name| *name == "testcase").count(), 9);
    assert_eq!(seen.iter().filter(|name| *name == "failure").count(), 1);
    assert!(xml.contains("tests=\"9\" failures=\"1\"") && xml.contains("7 messages lost"));
    assert!(!xml.contains('\u{1}') && !xml.contains("<script>"));
    if let Ok(mut lint) = Command::new("xmllint").args(["--noout", "-"]).stdin(Stdio::piped()).spawn() {
        lint.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
        assert!(lint.wait().unwrap().success());
    } else {
        eprintln!("skipped: xmllint is not installed");
    }
}

/// RFC 4180: fields of one record.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted => {
                assert_eq!(characters.next(), Some('\n'));
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && field.is_empty() && record.is_empty());
    records
}

#[test]
fn tables_keep_their_columns() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let records = csv_records(&exported(folder.path(), &["csv"]));
    assert_eq!(records.len(), 10);
    assert!(records.iter().all(|record| record.len() == records[0].len()));
    let column = |name: &str| records[0].iter().position(|title| title == name).unwrap();
    assert_eq!(records[1][column("run_id")], HOSTILE);
    assert_eq!(records[3][column("lost")], "7");
    assert!(records[3][column("mmh")].parse::<f64>().unwrap() > 1.0);
    let markdown = exported(folder.path(), &["markdown"]);
    assert_eq!(markdown.lines().count(), 11);
    let pipes = |line: &str| line.matches('|').count() - line.matches("\\|").count();
    assert!(markdown.lines().all(|line| pipes(line) == 13), "{markdown}");
    assert!(!markdown.contains("<script>"));
}

#[test]
fn prometheus_lines_follow_the_text_format() {
    let folder = tempfile::tempdir().unwrap();
    hostile_results(folder.path());
    let text = exported(folder.path(), &["prometheus"]);
    let mut typed = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            typed.push(rest.split(' ').next().unwrap().to_owned());
            assert!(rest.ends_with(" gauge"));
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, rest) = line.split_once('{').unwrap();
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        assert_eq!(typed.last().map(String::as_str), Some(name), "a type stands before its values");
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        assert!(value.parse::<f64>().is_ok(), "{value}");
        // Without what is escaped, quotes stand around values only.
        let plain = labels.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
        assert_eq!(plain.matches('"').count(), 10, "{labels}");
        assert!(!plain.contains('\\'), "{labels}");
    }
    assert!(typed.len() >= 8, "{typed:?}");
}

/// Ends the server when the test does.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_folder_is_served_on_loopback_and_to_this_host_only() {
    let folder = tempfile::tempdir().unwrap();
    for record in fixture::tiers(folder.path()) {
        record.write(&folder.path().join(&record.run_id).join("run.json")).unwrap();
    }
    let hostile = folder.path().join("hostile");
    fs::create_dir(&hostile).unwrap();
    hostile_results(&hostile);
    fs::create_dir(folder.path().join("broken")).unwrap();
    fs::write(folder.path().join("broken/run.json"), "{\"schema_version\": 1, <script>").unwrap();
    let mut process = reports()
        .arg("serve")
        .arg(folder.path())
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _server = Server(process);
    let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();

    let list = get(&address, "/", &address);
    assert!(list.starts_with("HTTP/1.1 200"), "{list}");
    assert_eq!(list.matches("<a href=\"/run/").count(), 12);
    assert!(list.contains("broken/run.json: field") && !list.contains("<script>"), "{list}");
    let id = "20261122T020000Z-tiers-c2";
    assert!(get(&address, &format!("/run/{id}"), "localhost").contains("<h1>kumod delivered"));
    assert!(get(&address, "/all", "localhost").contains("6 tiers"), "one of them twice, on another machine");
    let record = get(&address, &format!("/run/{id}/run.json"), "localhost");
    let json = record.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(Record::parse(json, Path::new("served")).unwrap().run_id, id);
    for path in ["/run/..%2F..%2Fetc%2Fpasswd", "/run/nothing", "/run/broken", "/etc/passwd"] {
        assert!(get(&address, path, "localhost").starts_with("HTTP/1.1 404"), "{path}");
    }
    assert!(get(&address, "/", "evil.example").starts_with("HTTP/1.1 403"));
}

#[test]
fn broken_results_are_named_by_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    fs::create_dir(&good).unwrap();
    fixture::record(&good).write(&good.join("run.json")).unwrap();
    let whole = fs::read_to_string(good.join("run.json")).unwrap();
    let broken = [
        ("empty", String::new(), "field (top)"),
        ("truncated", whole[..whole.len() / 2].to_owned(), "line "),
        ("newer", whole.replacen("\"schema_version\": 2", "\"schema_version\": 9", 1), "9 is unknown here"),
        (
            "negative",
            whole.replacen("\"elapsed_s\": 12", "\"elapsed_s\": -12", 1),
            "-12 is not a finite number",
        ),
        (
            "merged",
            "{\"merged_version\": 7, \"records\": []}".to_owned(),
            "merged_version: 7 is unknown here",
        ),
        ("list", "[1, 2]".to_owned(), "field [1]"),
    ];
    for (name, content, expected) in broken {
        let own = folder.path().join(name);
        fs::create_dir(&own).unwrap();
        fs::write(own.join("run.json"), content).unwrap();
        for verb in [&["render"][..], &["merge"], &["history"], &["export", "--format", "csv"]] {
            let output = reports().args(verb).arg(&own).arg(&good).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{name} {verb:?}");
            assert!(!output.stdout.is_empty(), "{name} {verb:?}: the good one is still written");
            let said = complaint(&output);
            assert!(said.contains(name) && said.contains(expected), "{name} {verb:?}: {said}");
        }
        // A comparison of a part would be taken for one of the whole.
        let output = reports().arg("compare").arg(&own).arg(&good).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(output.stdout.is_empty());
    }
}
