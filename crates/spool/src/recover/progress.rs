//! How far a scan has come, told about once a second.
//! Owns the counters that the scanning threads share; telling is left to the caller and must be quick. Cannot fail.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::SegmentFile;

/// Time between two words about a long scan. A scan that is shorter says nothing.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How far a scan has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// Segments read to their end.
    pub segments_done: u64,
    /// Segments that there are.
    pub segments: u64,
    /// Bytes of files read.
    pub bytes_done: u64,
    /// Bytes of files that there are.
    pub bytes: u64,
}

impl ScanProgress {
    /// The part of the bytes that is done, from 0 to 100.
    pub fn percent(&self) -> u64 {
        let percent = u128::from(self.bytes_done) * 100 / u128::from(self.bytes.max(1));
        u64::try_from(percent).unwrap_or(100).min(100)
    }
}

impl fmt::Display for ScanProgress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments_done, segments, bytes_done, bytes } = self;
        let percent = self.percent();
        write!(formatter, "{segments_done} of {segments} segments, {bytes_done} of {bytes} bytes, {percent}%")
    }
}

/// What the threads of one scan count together.
pub(crate) struct Progress<'a> {
    segments: u64,
    bytes: u64,
    segments_done: AtomicU64,
    bytes_done: AtomicU64,
    interval: Duration,
    told: Mutex<Instant>,
    tell: &'a (dyn Fn(ScanProgress) + Sync),
}

impl<'a> Progress<'a> {
    pub(crate) fn new(
        files: &[SegmentFile],
        interval: Duration,
        tell: &'a (dyn Fn(ScanProgress) + Sync),
    ) -> Self {
        Self {
            segments: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            segments_done: AtomicU64::new(0),
            bytes_done: AtomicU64::new(0),
            interval,
            told: Mutex::new(Instant::now()),
            tell,
        }
    }

    /// A segment was read to its end.
    pub(crate) fn segment_done(&self, bytes: u64) {
        let segments_done = self.segments_done.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes_done = self.bytes_done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= self.interval {
            *told = Instant::now();
            (self.tell)(ScanProgress {
                segments_done,
                segments: self.segments,
                bytes_done,
                bytes: self.bytes,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn files() -> Vec<SegmentFile> {
        (1..=4).map(|number| SegmentFile { number, name: String::new(), bytes: 100 }).collect()
    }

    #[test]
    fn a_long_scan_says_how_far_it_is() {
        let told = Mutex::new(Vec::new());
        let tell = |progress: ScanProgress| told.lock().unwrap().push(progress);
        let progress = Progress::new(&files(), Duration::ZERO, &tell);
        (0..4).for_each(|_| progress.segment_done(100));
        let told = told.into_inner().unwrap();
        assert_eq!(told.iter().map(ScanProgress::percent).collect::<Vec<_>>(), [25, 50, 75, 100]);
        assert_eq!(told[2].to_string(), "3 of 4 segments, 300 of 400 bytes, 75%");
    }

    #[test]
    fn a_short_scan_says_nothing() {
        let tell = |progress: ScanProgress| panic!("{progress}");
        let progress = Progress::new(&files(), Duration::from_secs(3600), &tell);
        (0..4).for_each(|_| progress.segment_done(100));
    }
}
