//! What the charts draw: runs in groups of one body size, latency spectra, rates.
//!
//! It owns the reading of histogram files for the page. It refuses file names that lead out of the run's
//! folder. Where a file cannot be read it falls back to the five recorded percentiles and says so.

use std::path::{Component, Path};

use crate::latency;
use crate::run::{Kind, Latency, Record, Run};

/// Points drawn of one rate line at most; longer runs are averaged down to it.
const RATE_POINTS_MAX: usize = 240;

/// Points of a spectrum for each halving of the distance to 100 %.
const SPECTRUM_TICKS: u32 = 5;

/// Seconds in which few values fall do not draw a tail: HDR's axis ends here at the latest.
const INVERSE_MAX: f64 = 1e6;

/// A run with what its lines need.
pub(super) struct Drawn<'r> {
    pub(super) run: &'r Run,
    /// Points (1/(1 - quantile), microseconds).
    pub(super) inject: Vec<(f64, f64)>,
    /// Points (1/(1 - quantile), microseconds).
    pub(super) end_to_end: Vec<(f64, f64)>,
    /// Points (seconds since the start, messages per second).
    pub(super) rate: Vec<(f64, f64)>,
}

/// All runs of one body size, kumod first.
pub(super) struct Group<'r> {
    pub(super) body_bytes: u64,
    pub(super) runs: Vec<Drawn<'r>>,
}

/// The runs of a record by body size, and what could not be read.
pub(super) fn groups<'r>(record: &'r Record, folder: &Path) -> (Vec<Group<'r>>, Vec<String>) {
    let mut complaints = Vec::new();
    let mut groups: Vec<Group<'r>> = Vec::new();
    for run in ordered(record) {
        let drawn = draw(run, folder, &mut complaints);
        match groups.last_mut().filter(|group| group.body_bytes == run.body_bytes) {
            Some(group) => group.runs.push(drawn),
            None => groups.push(Group { body_bytes: run.body_bytes, runs: vec![drawn] }),
        }
    }
    (groups, complaints)
}

/// Runs by body size, then kumod, floor, direct, then as recorded.
pub(super) fn ordered(record: &Record) -> Vec<&Run> {
    let mut runs: Vec<&Run> = record.runs.iter().collect();
    runs.sort_by_key(|run| (run.body_bytes, place(run.kind)));
    runs
}

/// The order in which kinds stand side by side.
fn place(kind: Kind) -> u8 {
    match kind {
        Kind::Kumod => 0,
        Kind::Floor => 1,
        Kind::Direct => 2,
    }
}

fn draw<'r>(run: &'r Run, folder: &Path, complaints: &mut Vec<String>) -> Drawn<'r> {
    let mut points = |file: Option<&String>, latency: Option<Latency>| {
        let read = file.map(|file| spectrum(folder, file)).transpose();
        let points = read.unwrap_or_else(|reason| {
            complaints
                .push(format!("{}: {reason}. The chart shows the five recorded percentiles.", run.name));
            None
        });
        points.unwrap_or_else(|| recorded(latency, run.delivered))
    };
    Drawn {
        run,
        inject: points(run.hlog.inject.as_ref(), run.latency_us.inject),
        end_to_end: points(run.hlog.end_to_end.as_ref(), run.latency_us.end_to_end),
        rate: rate(&run.rate_per_second),
    }
}

fn spectrum(folder: &Path, file: &str) -> Result<Vec<(f64, f64)>, String> {
    let mut parts = Path::new(file).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if !is_plain {
        return Err(format!("{file} is not a file name in the folder of the run"));
    }
    let intervals = latency::read_hlog(&folder.join(file)).map_err(|error| match error {
        latency::HlogError::File { source, .. } => format!("{file}: {source}"),
        other => format!("{file}: {other}"),
    })?;
    let sum = latency::merge(&intervals);
    let mut points: Vec<(f64, f64)> = latency::spectrum(&sum, SPECTRUM_TICKS)
        .map(|point| (point.inverse(sum.len()).min(INVERSE_MAX), point.latency_us.max(1.0)))
        .collect();
    // The last steps of the iteration share one value and one place.
    points.dedup();
    Ok(points)
}

/// The spectrum as far as five numbers tell it.
fn recorded(latency: Option<Latency>, values: u64) -> Vec<(f64, f64)> {
    let Some(Latency { p50, p90, p99, p99_9, max }) = latency else {
        return Vec::new();
    };
    let largest = (values as f64).clamp(1000.0, INVERSE_MAX);
    let points = [(2.0, p50), (10.0, p90), (100.0, p99), (1000.0, p99_9), (largest, max)];
    points.into_iter().map(|(x, us)| (x, us.max(1.0))).collect()
}

/// The middle of each second and its rate, averaged where there are too many.
fn rate(per_second: &[f64]) -> Vec<(f64, f64)> {
    let width = per_second.len().div_ceil(RATE_POINTS_MAX).max(1);
    let chunks = per_second.chunks(width).enumerate();
    chunks
        .map(|(index, chunk)| {
            let middle = (index * width) as f64 + chunk.len() as f64 / 2.0;
            (middle, chunk.iter().sum::<f64>() / chunk.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_averaged() {
        let points = rate(&vec![3.0; 3600]);
        assert_eq!(points.len(), RATE_POINTS_MAX);
        assert!(points.iter().all(|(_, rate)| *rate == 3.0));
        assert_eq!(rate(&[1.0, 2.0]), [(0.5, 1.0), (1.5, 2.0)]);
        assert!(rate(&[]).is_empty());
    }

    #[test]
    fn files_elsewhere_are_refused() {
        for file in ["../run.hlog", "/etc/passwd", "a/b.hlog", "..", ""] {
            let refused = spectrum(Path::new("/nowhere"), file).err().unwrap_or_default();
            assert!(refused.contains("not a file name"), "{file}: {refused}");
        }
    }
}
