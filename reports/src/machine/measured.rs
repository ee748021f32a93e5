//! What a disk does, measured, because what it says of itself is often wrong.
//!
//! It owns two small experiments: 4 KiB written over and over at the beginning of a file, each made durable before the next,
//! and large pieces written one behind the other. It refuses nothing but what the file system refuses, removes its file, and
//! stops at a number of writes or a time, whichever comes first.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::latency::{new_histogram, record_ns};

/// Writes of a measurement at most.
pub const MEASURED_SYNCS_MAX: u32 = 100_000;

/// Bytes that a measurement writes in order at most; they are gone afterwards.
pub const MEASURED_BYTES_MAX: u64 = 256 << 20;

/// The name of the file that is written, in the folder that was given.
const FILE_NAME: &str = ".disk-measured";

const WRITE_BYTES: usize = 4096;

/// Bytes that are made durable together where writes are in order: as large as a batch of a busy spool, and small enough that
/// a slow disk does not hold the measurement up for long.
const PIECE_BYTES: usize = 4 << 20;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DiskMeasured {
    /// Durable writes of 4 KiB in a second, one at a time.
    pub syncs_per_s: f64,
    /// Median of one, microseconds.
    pub sync_p50_us: f64,
    /// 99th percentile of one, microseconds.
    pub sync_p99_us: f64,
    /// Bytes in a second, written in order in pieces of 4 MiB, each made durable; `None` where that was not measured.
    #[serde(default)]
    pub sequential_bytes_per_s: Option<f64>,
}

impl DiskMeasured {
    /// Writes in `folder`, small for `duration` or `syncs_max` times, then large for `duration` or until
    /// [`MEASURED_BYTES_MAX`] are written.
    ///
    /// # Errors
    /// Host: what the file system says.
    pub fn take(folder: &Path, duration: Duration, syncs_max: u32) -> io::Result<Self> {
        let path = folder.join(FILE_NAME);
        let measured = File::create(&path).and_then(|mut file| {
            let small = write_over(&mut file, duration, syncs_max)?;
            Ok(Self { sequential_bytes_per_s: Some(write_in_order(&mut file, duration)?), ..small })
        });
        fs::remove_file(&path)?;
        measured
    }
}

fn write_over(file: &mut File, duration: Duration, syncs_max: u32) -> io::Result<DiskMeasured> {
    let mut histogram = new_histogram();
    let begun = Instant::now();
    for count in 0..syncs_max.clamp(1, MEASURED_SYNCS_MAX) {
        // Other bytes each time, so that nothing on the way can leave a write out.
        let block = [count.to_le_bytes()[0]; WRITE_BYTES];
        let started = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&block)?;
        file.sync_data()?;
        record_ns(&mut histogram, u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if begun.elapsed() >= duration {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);
    Ok(DiskMeasured {
        syncs_per_s: histogram.len() as f64 / seconds,
        sync_p50_us: histogram.value_at_quantile(0.5) as f64,
        sync_p99_us: histogram.value_at_quantile(0.99) as f64,
        sequential_bytes_per_s: None,
    })
}

/// Bytes in a second; one piece at least.
fn write_in_order(file: &mut File, duration: Duration) -> io::Result<f64> {
    let mut piece = vec![0; PIECE_BYTES];
    let begun = Instant::now();
    let mut written = 0_u64;
    for count in 1..=MEASURED_BYTES_MAX / PIECE_BYTES as u64 {
        // Nothing on the way may find that it has these bytes already.
        for block in piece.chunks_exact_mut(WRITE_BYTES) {
            block[..8].copy_from_slice(&(written + count).to_le_bytes());
        }
        file.write_all(&piece)?;
        file.sync_data()?;
        written += PIECE_BYTES as u64;
        if begun.elapsed() >= duration {
            break;
        }
    }
    Ok(written as f64 / begun.elapsed().as_secs_f64().max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_measured_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let measured = DiskMeasured::take(folder.path(), Duration::ZERO, 8).unwrap();
        assert!(measured.syncs_per_s > 0.0);
        assert!(measured.sync_p50_us <= measured.sync_p99_us);
        assert!(measured.sequential_bytes_per_s.unwrap() > 0.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(DiskMeasured::take(&folder.path().join("gone"), Duration::ZERO, 1).is_err());
    }
}
