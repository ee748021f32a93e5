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

#[test]
fn an_interval_log_has_the_same_percentiles_for_both() {
    let Some(python) = python() else { return };
    let folder = TempDir::new().unwrap();
    // A rate, so that latencies differ by more than the accuracy of a histogram.
    let report = traffic_gen(folder.path(), &["--hdr", "run.hlog", "--rate", "4000/s"]);
    let log = folder.path().join("run.hlog");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/read_histograms.py");
    let read =
        output(Command::new(python).arg(script).arg(&log).args(PERCENTILES.map(|(at, _)| at.to_string())));
    assert!(read.status.success(), "{}", said(&read));
    let theirs: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    let theirs = theirs.as_object().unwrap();
    assert_eq!(theirs[""]["count"], MESSAGES);
    for (tag, theirs) in theirs {
        let ours = merge(&read_hlog_tagged(&log, Some(tag.as_str()).filter(|tag| !tag.is_empty())).unwrap());
        let at: Vec<u64> = PERCENTILES.iter().map(|(_, at)| ours.value_at_quantile(*at)).collect();
        let figures = serde_json::json!({
            "count": ours.len(),
            "smallest": ours.min(),
            "largest": ours.max(),
            "at": at,
        });
        assert_eq!(theirs, &figures, "{tag}");
    }
    // The report says the same of the run as a whole.
    for (name, at) in [("p50", 1), ("p90", 2), ("p99", 3), ("p99_9", 4), ("max", 5)] {
        assert_eq!(report["latency_us"][name].as_f64(), theirs[""]["at"][at].as_f64(), "{name}");
    }
}
