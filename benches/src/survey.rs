//! What the record says of machine and configuration beyond what files tell: a few seconds of trying at the start.
//!
//! It owns the length of these trials, and the hash of kumod's configuration. A trial that fails is a remark and leaves its number
//! unknown: what is measured afterwards is good all the same. Nothing else of the laboratory runs meanwhile.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use reports::machine::{Ceiling, DiskMeasured, MEASURED_SYNCS_MAX, Machine};
use tuner::measure::{self, BODY_BYTES_MAX, Plan};

use crate::promise::Promise;
use crate::traffic::kumod_arguments;

/// How long the disk is written to in small pieces, and again in large ones.
pub const DISK_TRIAL: Duration = Duration::from_secs(1);
/// How long messages go round the loopback.
pub const ROUND_TRIP_TRIAL: Duration = Duration::from_millis(200);
/// How long each probe of the ceiling runs.
pub const CEILING_PROBE: Duration = Duration::from_secs(1);
/// Appends at the same time in those probes: where batches are large, and so what sets the ceiling.
const CEILING_WRITERS: [usize; 2] = [16, 64];

/// Tries the disk below `folder` and the loopback, for `disk_trial` each way; returns what went wrong.
pub fn trials(machine: &mut Machine, folder: &Path, disk_trial: Duration) -> Vec<String> {
    let mut remarks = Vec::new();
    match DiskMeasured::take(folder, disk_trial, MEASURED_SYNCS_MAX) {
        // Without a mount nobody knows what was measured.
        Ok(measured) => {
            if let Some(disk) = machine.disk.as_mut() {
                disk.measured = Some(measured);
            }
        }
        Err(error) => remarks.push(format!("The disk was not tried: {}: {error}.", folder.display())),
    }
    match measure::round_trip_us(ROUND_TRIP_TRIAL.min(disk_trial)) {
        Ok(round_trip_us) => machine.network.round_trip_us = Some(round_trip_us),
        Err(error) => remarks.push(format!("The loopback was not tried: {error}.")),
    }
    remarks
}

/// The ceiling of this machine for these body sizes, with the spool's probe below `folder`; sizes that tuner does not measure are
/// left out.
///
/// # Errors
/// What tuner says.
pub fn ceilings(
    folder: &Path,
    body_bytes: &[u64],
    probe: Duration,
    progress: &mut dyn FnMut(f64, &str),
) -> Result<Vec<Ceiling>, measure::MeasureError> {
    let sizes = body_bytes.iter().filter_map(|bytes| usize::try_from(*bytes).ok());
    let plan = Plan {
        body_bytes: sizes.filter(|bytes| *bytes <= BODY_BYTES_MAX).collect(),
        writers: CEILING_WRITERS.into(),
        length: probe,
    };
    Ok(measure::measure(folder, &plan, progress)?.ceilings)
}

/// CRC-32C in base 16 of the arguments that kumod is started with, folders and ports replaced by their names: equal for equal
/// configurations. There is no configuration file and no policy in a run of the laboratory; all else is kumod's default.
pub fn config_hash(durability: Promise) -> String {
    let arguments = kumod_arguments(OsStr::new("SPOOL"), OsStr::new("LOG"), OsStr::new("PORT"), durability);
    let bytes = arguments.iter().flat_map(|argument| argument.as_encoded_bytes().iter().copied().chain([0]));
    format!("{:08x}", crc32c::crc32c(&bytes.collect::<Vec<u8>>()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn another_promise_is_another_configuration() {
        let hashes = ["commit", "written"].map(|name| config_hash(Promise::named(name).unwrap()));
        assert_ne!(hashes[0], hashes[1]);
        assert!(hashes.iter().all(|hash| hash.len() == 8));
    }

    #[test]
    fn trials_fill_what_files_do_not_tell() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::probe(folder.path());
        let remarks = trials(&mut machine, folder.path(), Duration::ZERO);
        assert!(remarks.is_empty(), "{remarks:?}");
        assert!(machine.network.round_trip_us.unwrap() > 0.0);
        assert!(machine.disk.unwrap().measured.unwrap().syncs_per_s > 0.0);
        let mut machine = Machine::default();
        let remarks = trials(&mut machine, Path::new("/nowhere"), Duration::ZERO);
        assert!(remarks[0].contains("/nowhere"), "{remarks:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_ceiling_is_that_of_the_sizes_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let found =
            ceilings(folder.path(), &[1000, 20_000_000], Duration::from_millis(5), &mut |_, _| {}).unwrap();
        assert_eq!(found.iter().map(|ceiling| ceiling.body_bytes).collect::<Vec<_>>(), [1000]);
        assert!(found[0].mmh > 0.0);
    }
}
