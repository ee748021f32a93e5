//! The verbs: compare, merge, history, export and serve, as a user meets them.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(dead_code, reason = "each test uses its part of the fixture")]

mod export;
#[path = "../fixture/mod.rs"]
mod fixture;
mod serve;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

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
