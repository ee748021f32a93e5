//! What this machine can do: its disk through the spool, its loopback, its processors, and the ceiling that follows.
//!
//! Writes only below one directory that it makes and removes, sends only to the loopback, and ends within a minute at the
//! default length. A probe that fails ends the measurement with the reason; half a roofline would be believed.

mod disk;
mod loopback;
mod processor;
mod roofline;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::machine::{Ceiling, Machine};
use rustix::fs::FlockOperation;
use serde::Serialize;

pub use disk::DiskPoint;
pub use loopback::{LoopbackPoint, round_trip_us};

/// Version of the report; raised when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;
/// The JSON schema (draft 2020-12) of the report.
pub const SCHEMA: &str = include_str!("../schema/measure.schema.json");
/// Sizes of messages unless others are asked for, bytes: a disk's block, and the message that lists of figures are about.
pub const BODY_BYTES: [usize; 2] = [4096, 100_000];
/// The largest message that can be asked for, bytes; some hundred of them have room in the probe's segments.
pub const BODY_BYTES_MAX: usize = 1_000_000;
/// Sizes that can be asked for at once.
pub const SIZES_MAX: usize = 6;
/// Appends that are under way at the same time: the batch curve.
pub const WRITERS: [usize; 4] = [1, 4, 16, 64];
/// Appends at the same time in the warm-up before a curve, which lasts a quarter of a probe.
const WARM_UP_WRITERS: usize = 16;
/// The longest that one probe may be asked to last.
pub const PROBE_LENGTH_MAX: Duration = Duration::from_secs(4);
/// Name of the directory that is made and removed.
pub const DIRECTORY: &str = "tuner-measure";

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The operator named a directory that cannot be used.
    #[error("{}: {error}; measure needs a directory on the spool's disk that it may write to (--spool DIR)", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another measurement is under way; both would measure half of the machine.
    #[error("{}: another measurement is under way", .0.display())]
    Busy(PathBuf),
    /// The spool refused.
    #[error("disk probe: {0}")]
    Spool(String),
    /// The loopback refused.
    #[error("loopback probe: {0}")]
    Loopback(#[from] io::Error),
}

/// What to measure, and for how long.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Sizes of messages, bytes; those beyond [`SIZES_MAX`] and [`BODY_BYTES_MAX`] are left out.
    pub body_bytes: Vec<usize>,
    /// Appends that are under way at the same time, a probe for each.
    pub writers: Vec<usize>,
    /// Length of each probe, at most [`PROBE_LENGTH_MAX`].
    pub length: Duration,
}

impl Plan {
    /// The usual sizes and the whole batch curve.
    pub fn usual(length: Duration) -> Self {
        Self { body_bytes: BODY_BYTES.into(), writers: WRITERS.into(), length }
    }

    /// What can be measured, without what comes twice.
    fn checked(&self) -> (Vec<usize>, Vec<usize>, Duration) {
        let mut sizes: Vec<usize> = Vec::new();
        for bytes in self.body_bytes.iter().copied().filter(|bytes| (1..=BODY_BYTES_MAX).contains(bytes)) {
            if !sizes.contains(&bytes) && sizes.len() < SIZES_MAX {
                sizes.push(bytes);
            }
        }
        let writers = self.writers.iter().copied().filter(|writers| WRITERS.contains(writers)).collect();
        (sizes, writers, self.length.min(PROBE_LENGTH_MAX))
    }
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Version of this format.
    pub schema_version: u32,
    /// When it began.
    pub started_utc: String,
    /// Where it was measured.
    pub machine: Machine,
    /// Length of each probe, seconds.
    pub probe_s: f64,
    /// Durable appends.
    pub disk: Vec<DiskPoint>,
    /// Messages across the loopback.
    pub loopback: Vec<LoopbackPoint>,
    /// Bytes that one processor copies and compares each second.
    pub pass_bytes_per_s: f64,
    /// What follows for each size.
    pub ceilings: Vec<Ceiling>,
}

/// Measures as planned; `progress` is told the share that is done and what comes next.
///
/// # Errors
/// See [`MeasureError`].
pub fn measure(
    directory: &Path,
    plan: &Plan,
    progress: &mut dyn FnMut(f64, &str),
) -> Result<Measurement, MeasureError> {
    let scratch = Scratch::make(directory)?;
    let machine = Machine::probe(directory);
    let started_utc = jiff::Timestamp::now().to_string();
    let (sizes, writers, length) = plan.checked();
    let steps = (sizes.len() * (writers.len() + 1) + 1) as f64;
    let mut done = 0.0;
    let mut step = |what: String| {
        progress(done / steps, &what);
        done += 1.0;
    };
    let mut disk = Vec::new();
    let mut loopback = Vec::new();
    for body_bytes in sizes {
        let probe = disk::Probe::open(&scratch.path.join(body_bytes.to_string()), body_bytes)?;
        // The first appends meet segments and memory that nobody has touched yet.
        probe.run(WARM_UP_WRITERS, length / 4)?;
        for writers in writers.iter().copied() {
            step(format!("disk: {body_bytes} bytes, {writers} at once"));
            disk.push(probe.run(writers, length)?);
        }
        probe.close()?;
        step(format!("loopback: {body_bytes} bytes"));
        loopback.push(loopback::run(body_bytes, length)?);
    }
    step("processors".into());
    let pass_bytes_per_s = processor::pass_bytes_per_s(length.min(Duration::from_millis(500)));
    let cores = machine.cpu.usable.unwrap_or(1.0);
    let ceilings = roofline::ceilings(&disk, &loopback, pass_bytes_per_s, cores);
    let (schema_version, probe_s) = (SCHEMA_VERSION, length.as_secs_f64());
    progress(1.0, "done");
    Ok(Measurement {
        schema_version,
        started_utc,
        machine,
        probe_s,
        disk,
        loopback,
        pass_bytes_per_s,
        ceilings,
    })
}

/// A directory that is removed again. What an earlier run left, that was killed, is removed first.
struct Scratch {
    path: PathBuf,
    /// Held as long as the measurement lasts.
    _lock: fs::File,
}

impl Scratch {
    fn make(directory: &Path) -> Result<Self, MeasureError> {
        let wrong = |error: io::Error| MeasureError::Directory { path: directory.to_owned(), error };
        let lock = fs::File::open(directory).map_err(wrong)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(MeasureError::Busy(directory.to_owned())),
            Err(error) => return Err(wrong(error.into())),
        }
        let path = directory.join(DIRECTORY);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
            _ => {}
        }
        fs::create_dir(&path).map_err(wrong)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next measurement.
        let _ = fs::remove_dir_all(&self.path);
    }
}
