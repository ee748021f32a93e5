//! The floor as three real processes: every message that is answered is delivered, and the disk was really asked.
//!
//! It owns no measurement: a debug build on a shared machine proves only that the programs agree with each other.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::floor::LOG_BYTES;
use benches::floor::measure::{Outcome, Plan, measure};
use benches::placement::Placement;
use benches::processes::Programs;
use benches::stop::Stop;

/// A folder on a real disk, under the target folder.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn run(folder: PathBuf, body_bytes: u64, messages_max: u64) -> Outcome {
    let lab = Path::new(env!("CARGO_BIN_EXE_lab"));
    let programs = Programs::in_folder(lab.parent().unwrap(), lab);
    let plan = Plan { body_bytes, duration: Duration::from_secs(600), messages_max, folder };
    measure(&programs, &plan, &Placement::default(), &Stop::default(), || Ok(())).unwrap()
}

#[test]
fn every_message_arrives_by_both_ways_to_the_disk() {
    let folder = folder();
    // Small bodies are packed into a batch, large ones are gathered by the kernel; 700 do not fit into the relay at once.
    for (body_bytes, messages) in [(1, 100), (1_000, 700), (100_000, 300)] {
        let outcome = run(folder.path().to_path_buf(), body_bytes, messages);
        assert_eq!((outcome.sent, outcome.delivered), (messages, messages));
        assert!(outcome.elapsed_s > 0.0);
        assert!((1..=messages).contains(&outcome.barriers), "{} barriers", outcome.barriers);
        assert!(outcome.processes.kumod.unwrap().rss_peak_bytes > 0);
    }
    let ring = std::fs::metadata(folder.path().join("floor.log-ring")).unwrap();
    assert_eq!(ring.len(), LOG_BYTES);
}

#[test]
fn the_operator_can_interrupt_it() {
    let folder = folder();
    let lab = Path::new(env!("CARGO_BIN_EXE_lab"));
    let programs = Programs::in_folder(lab.parent().unwrap(), lab);
    let (body_bytes, duration) = (1_000, Duration::from_secs(600));
    let plan = Plan { body_bytes, duration, messages_max: u64::MAX, folder: folder.path().to_path_buf() };
    let stop = Stop::default();
    let asked = stop.clone();
    let result = measure(&programs, &plan, &Placement::default(), &stop, || {
        asked.request();
        Ok(())
    });
    assert!(matches!(result, Err(benches::error::Error::Interrupted)));
}
