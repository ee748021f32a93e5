//! `lab --compare` and `lab --once` as a user runs them, with the programs that were built for the tests.
//!
//! It owns no measurement: a debug build on a shared machine proves only that runs are made, paired, judged and kept.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;
use std::process::{Command, Output};

use reports::run::{LOAD_PAIR_LABEL, PAIR_LABEL, Record, counter};

fn lab(arguments: &[&str]) -> Output {
    let lab = Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&lab.stderr));
    lab
}

/// The folder of the programs; `None`, said aloud, where the workspace was not built as a whole.
fn programs() -> Option<&'static Path> {
    let folder = Path::new(env!("CARGO_BIN_EXE_lab")).parent().unwrap();
    let missing = ["kumod", "sink", "traffic-gen"].iter().find(|name| !folder.join(name).is_file());
    if let Some(missing) = missing {
        eprintln!("skipped: {missing} is not built; cargo test --workspace builds it");
    }
    missing.is_none().then_some(folder)
}

#[test]
fn pairs_are_measured_judged_and_kept() {
    let Some(folder) = programs() else { return };
    let results = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (version, results) = (folder.to_str().unwrap(), results.path().to_str().unwrap());
    let output = lab(&[
        "--compare",
        version,
        version,
        "--pairs",
        "2",
        "--pairs-max",
        "2",
        "--seconds",
        "1",
        "--results",
        results,
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    // Two pairs tell nothing, whatever they look like.
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("undecided"), "{text}");
    let page = Path::new(text.lines().last().unwrap());
    assert!(page.is_file());
    let folder = page.parent().unwrap();
    assert!(std::fs::read_to_string(folder.join("verdict.md")).unwrap().starts_with("### undecided"));
    let mut records: Vec<Record> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| Record::load(&path).unwrap())
        .collect();
    records.sort_by(|one, other| one.started_utc.cmp(&other.started_utc));
    let order: Vec<(bool, &str)> = records
        .iter()
        .map(|record| (record.run_id.contains("-base-"), record.runs[0].labels[PAIR_LABEL].as_str()))
        .collect();
    assert_eq!(order, [(true, "1"), (false, "1"), (false, "2"), (true, "2")], "base first, then head first");
    for record in &records {
        let run = &record.runs[0];
        assert!(run.delivered > 0 && run.is_clean(), "{run:?}");
        assert_eq!(run.labels[LOAD_PAIR_LABEL], records[0].runs[0].labels[LOAD_PAIR_LABEL]);
        assert!(run.counters.contains_key(counter::FOREIGN_CPU_S), "{:?}", run.counters);
        assert_eq!(record.software.git_commit, None, "nobody knows what a program was built from");
    }
    assert!(!folder.join("spool-base").exists(), "spools are removed");
}

#[test]
fn one_run_leaves_its_record() {
    if programs().is_none() {
        return;
    }
    let results = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let results = results.path().to_str().unwrap();
    let output = lab(&["--once", "--seconds", "1", "--body-size", "10k", "--results", results]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let record = Record::load(Path::new(text.lines().last().unwrap())).unwrap();
    assert_eq!((record.runs.len(), record.runs[0].body_bytes), (1, 10_000));
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_runs() {
    let refused = [
        (&["--compare", "no-such-thing", "HEAD"][..], "neither a commit"),
        (&["--compare", "HEAD"], "2 values required"),
        (&["--compare", "a", "b", "--pairs", "0"], "0 is not in 1.."),
        (
            &["--compare", "a", "b", "--pairs", "9", "--pairs-max", "3"],
            "--pairs-max 3 is less than --pairs 9",
        ),
        (&["--compare", "a", "b", "--gate", "speed"], "no such metric; there are cpu_relative, "),
        (&["--pairs", "9"], "--compare"),
        (&["--once", "--crash-test"], "cannot be used with"),
    ];
    for (arguments, complaint) in refused {
        let output = lab(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(complaint), "{arguments:?}: {text}");
    }
}
