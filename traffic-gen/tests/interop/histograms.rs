//! The files of histograms, read back by another implementation: the Python package `hdrhistogram`.

use std::path::{Path, PathBuf};
use std::process::Command;

use reports::latency::{merge, read_hlog_tagged};
use tempfile::TempDir;

use crate::program::{find, output, said};

/// The ranks of all quantiles below are whole numbers then, so that it does not matter how they are rounded.
const MESSAGES: u64 = 2_000;
/// As the two libraries want them: of 100, and of 1. Divided, 99.9 would be a little more than 0.999.
const PERCENTILES: [(f64, f64); 6] =
    [(10.0, 0.1), (50.0, 0.5), (90.0, 0.9), (99.0, 0.99), (99.9, 0.999), (100.0, 1.0)];

/// A Python that has the package: of `scripts/setup`, or the system's.
fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let own = target.join("tools/python/bin/python3");
    let found = if own.is_file() { own } else { find("python3")? };
    if Command::new(&found).args(["-c", "import hdrh"]).output().unwrap().status.success() {
        return Some(found);
    }
    eprintln!("skipped: {} has no package hdrhistogram; scripts/setup installs it", found.display());
    None
}

/// A run of the command into a sink, with its files in the folder; the report.
fn traffic_gen(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let messages = MESSAGES.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_traffic-gen"));
    command
        .current_dir(folder)
        .args(["--target", &server.smtp_addr.to_string(), "-n", &messages, "-c", "4", "--json", "run.json"])
        .args(arguments);
    let run = output(&mut command);
    assert!(run.status.success(), "{}", said(&run));
    serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap()
}

/// Each row of the spectrum against the values that Python found: milliseconds, quantile, how many are at or below.
fn assert_spectrum(file: &Path, up_to: &serde_json::Value) {
    let up_to: Vec<(u64, u64)> = serde_json::from_value(up_to.clone()).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let rows: Vec<Vec<f64>> = text
        .lines()
        .map(|line| line.split_whitespace().map_while(|word| word.parse().ok()).collect())
        .filter(|row: &Vec<f64>| row.len() >= 3)
        .collect();
    assert!(rows.len() > 30, "{text}");
    for row in rows {
        let value_us = (row[0] * 1000.0).round();
        let at = up_to.iter().position(|(value, _)| *value as f64 == value_us);
        let at = at.unwrap_or_else(|| panic!("Python knows no such value: {row:?}"));
        assert_eq!(up_to[at].1 as f64, row[2], "{row:?}");
        // The least value that so many do not exceed; where the rank is a whole number, the sum of the steps up to it
        // may be a little more.
        let rank = row[1] * MESSAGES as f64;
        let below = if at == 0 { 0 } else { up_to[at - 1].1 };
        assert!(up_to[at].1 as f64 >= rank - 1e-6 && below as f64 <= rank + 1e-6, "{row:?}, {below} below");
    }
}

#[test]
fn both_files_have_the_same_percentiles_for_both() {
    let Some(python) = python() else { return };
    let folder = TempDir::new().unwrap();
    // A rate, so that latencies differ by more than the accuracy of a histogram.
    let report = traffic_gen(folder.path(), &["--hdr", "run.hlog", "--hgrm", "run.hgrm", "--rate", "4000/s"]);
    let log = folder.path().join("run.hlog");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_histograms.py");
    let read =
        output(Command::new(python).arg(script).arg(&log).args(PERCENTILES.map(|(at, _)| at.to_string())));
    assert!(read.status.success(), "{}", said(&read));
    let theirs: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    let theirs = theirs.as_object().unwrap();
    assert_spectrum(&folder.path().join("run.hgrm"), &theirs[""]["up_to"]);
    assert_eq!(theirs[""]["count"], MESSAGES);
    for (tag, theirs) in theirs {
        let ours = merge(&read_hlog_tagged(&log, Some(tag.as_str()).filter(|tag| !tag.is_empty())).unwrap());
        let at: Vec<u64> = PERCENTILES.iter().map(|(_, at)| ours.value_at_quantile(*at)).collect();
        for (name, figure) in [("count", ours.len()), ("smallest", ours.min()), ("largest", ours.max())] {
            assert_eq!(theirs[name], figure, "{tag}: {name}");
        }
        assert_eq!(theirs["at"], serde_json::json!(at), "{tag}");
    }
    // The report says the same of the run as a whole.
    for (name, at) in [("p50", 1), ("p90", 2), ("p99", 3), ("p99_9", 4), ("max", 5)] {
        assert_eq!(report["latency_us"][name].as_f64(), theirs[""]["at"][at].as_f64(), "{name}");
    }
}
