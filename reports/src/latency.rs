//! Latency histograms: made, summed up, written as interval logs and read back.
//!
//! It owns the unit (nanoseconds come in, microseconds are stored), the range (1 µs to 1 h, three
//! significant digits) and the `.hlog` format: HdrHistogram's interval log, version 1.3, with V2-deflate
//! histograms in base64, as the Java tools and `hdr-plot` read it. Intervals without a tag are the log's own
//! figures, and are what every reader takes unless it is told a tag; other figures of the same run stand
//! beside them under tags. It refuses files that are too large and lines that are no histogram, naming the
//! line. Values out of range are clamped, never dropped: a message that took longer than an hour still counts.

mod base64;

use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, IntervalLogWriterError, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use thiserror::Error;

use crate::run::Latency;

/// The smallest latency told apart, in microseconds.
pub const LATENCY_US_MIN: u64 = 1;

/// The largest latency, one hour, in microseconds; longer ones count as this.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Significant decimal digits kept.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// The largest interval log that is read, in bytes.
pub const HLOG_BYTES_MAX: u64 = 256 << 20;

/// The longest histogram in a log, in bytes of base64. One of ours cannot reach it.
pub const HISTOGRAM_TEXT_BYTES_MAX: usize = 4 << 20;

/// An empty histogram of microseconds, from [`LATENCY_US_MIN`] to [`LATENCY_US_MAX`]; about 200 KiB.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_US_MIN, LATENCY_US_MAX, SIGNIFICANT_DIGITS).expect(
        "the bounds are constants that satisfy the crate's rules: 1 <= low, 2 * low <= high, digits <= 5",
    )
}

/// Counts one latency given in nanoseconds, rounded to microseconds and clamped to the range.
pub fn record_ns(histogram: &mut Histogram<u64>, latency_ns: u64) {
    let latency_us = latency_ns.saturating_add(500) / 1000;
    histogram.saturating_record(latency_us.clamp(LATENCY_US_MIN, LATENCY_US_MAX));
}

/// The five numbers of `run.json`, in microseconds; all 0 for an empty histogram.
pub fn summary(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64;
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: histogram.max() as f64 }
}

/// One point of a percentile spectrum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpectrumPoint {
    /// The share of values at or below, 0 to 1.
    pub quantile: f64,
    /// The latency in microseconds.
    pub latency_us: f64,
}

impl SpectrumPoint {
    /// Where it stands on HDR's axis: 1/(1 - quantile). The largest of `count` values stands at `count`.
    pub fn inverse(&self, count: u64) -> f64 {
        let largest = count.max(1) as f64;
        if self.quantile >= 1.0 { largest } else { (1.0 / (1.0 - self.quantile)).min(largest) }
    }
}

/// The spectrum from the smallest to the largest value, `ticks` points per halving of the distance to
/// 100 % (HdrHistogram's own tools use 5); empty for an empty histogram. `ticks` of 0 counts as 1.
pub fn spectrum(histogram: &Histogram<u64>, ticks: u32) -> impl Iterator<Item = SpectrumPoint> + '_ {
    let points = (!histogram.is_empty()).then(|| histogram.iter_quantiles(ticks.max(1)));
    points.into_iter().flatten().map(|value| SpectrumPoint {
        quantile: value.quantile_iterated_to(),
        latency_us: value.value_iterated_to() as f64,
    })
}

/// Writes an interval log. One interval a second is the custom of this laboratory.
pub struct HlogWriter<W: Write> {
    writer: W,
    serializer: V2DeflateSerializer,
}

impl<W: Write> HlogWriter<W> {
    /// Begins a log. `start` is the time that the intervals count from; `comment` may name the run.
    pub fn new(mut writer: W, start: SystemTime, comment: &str) -> io::Result<Self> {
        let mut serializer = V2DeflateSerializer::new();
        let mut builder = IntervalLogWriterBuilder::new();
        // The Java reader takes the version from this comment; the unit is ours to tell.
        builder.add_comment("[Histogram log format version 1.3]");
        builder.add_comment("[Latency in microseconds]");
        if !comment.is_empty() {
            builder.add_comment(&format!("[{}]", comment.replace(['\r', '\n'], " ")));
        }
        builder.with_start_time(start).with_base_time(start);
        builder.begin_log_with(&mut writer, &mut serializer)?;
        writer.write_all(
            b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        )?;
        Ok(Self { writer, serializer })
    }

    /// Adds one interval that began `offset` after the start and lasted `length`.
    pub fn write(
        &mut self,
        histogram: &Histogram<u64>,
        offset: Duration,
        length: Duration,
    ) -> io::Result<()> {
        self.write_tagged(None, histogram, offset, length)
    }

    /// Adds one interval of the figures that the tag names. A tag with a blank, a comma or a line end is
    /// [`io::ErrorKind::InvalidInput`].
    pub fn write_tagged(
        &mut self,
        tag: Option<&str>,
        histogram: &Histogram<u64>,
        offset: Duration,
        length: Duration,
    ) -> io::Result<()> {
        let tag = tag.map(|tag| Tag::new(tag).ok_or(io::ErrorKind::InvalidInput)).transpose()?;
        // A builder without comments and times writes nothing by itself, so it can be made for each line.
        let builder = IntervalLogWriterBuilder::new();
        let mut log = builder.begin_log_with(&mut self.writer, &mut self.serializer)?;
        log.write_histogram(histogram, offset, length, tag).map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
        })
    }

    /// Flushes and gives the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// One interval of a log.
#[derive(Debug, Clone)]
pub struct Interval {
    /// When it began, counted from the log's base time.
    pub offset: Duration,
    /// How long it lasted.
    pub length: Duration,
    /// Its latencies in microseconds.
    pub histogram: Histogram<u64>,
}

/// Why a log was not read.
#[derive(Debug, Error)]
pub enum HlogError {
    /// Host: the file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Operator: the file is larger than a log may be.
    #[error("{}: {bytes} bytes, more than a log may have ({HLOG_BYTES_MAX})", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Operator: not an interval log of V2 histograms.
    #[error("interval {interval}: {reason}; an HdrHistogram interval log with V2 histograms is expected")]
    Content {
        /// Number of the interval, from 1.
        interval: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads the intervals without a tag of a log: ours or any other that holds microseconds.
pub fn read_hlog(path: &Path) -> Result<Vec<Interval>, HlogError> {
    read_hlog_tagged(path, None)
}

/// Reads the intervals of a log that have that tag, or those without one.
pub fn read_hlog_tagged(path: &Path, tag: Option<&str>) -> Result<Vec<Interval>, HlogError> {
    let file_error = |source| HlogError::File { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(file_error)?.len();
    if bytes > HLOG_BYTES_MAX {
        return Err(HlogError::TooLarge { path: path.to_owned(), bytes });
    }
    parse_hlog_tagged(&fs::read(path).map_err(file_error)?, tag)
}

/// Reads the intervals without a tag from memory.
pub fn parse_hlog(log: &[u8]) -> Result<Vec<Interval>, HlogError> {
    parse_hlog_tagged(log, None)
}

fn parse_hlog_tagged(log: &[u8], tag: Option<&str>) -> Result<Vec<Interval>, HlogError> {
    let mut deserializer = Deserializer::new();
    let mut intervals = Vec::new();
    let mut intervals_seen = 0;
    for entry in IntervalLogIterator::new(log) {
        let interval = intervals_seen + 1;
        let content = |reason: String| HlogError::Content { interval, reason };
        let LogEntry::Interval(entry) = entry.map_err(|error| content(format!("{error:?}")))? else {
            continue;
        };
        intervals_seen = interval;
        if entry.tag().map(|tag| tag.as_str()) != tag {
            continue;
        }
        let histogram = decode(&mut deserializer, entry.encoded_histogram())
            .map_err(|reason| content(reason.to_string()))?;
        intervals.push(Interval { offset: entry.start_timestamp(), length: entry.duration(), histogram });
    }
    Ok(intervals)
}

/// A histogram as V2-deflate in base64: what stands in a line of a log.
pub fn to_text(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing into memory fails only where a count does not fit, and ours are of 64 bits.
    if V2DeflateSerializer::new().serialize(histogram, &mut bytes).is_err() {
        return String::new();
    }
    base64::encode(&bytes)
}

/// The histogram of such a text.
///
/// # Errors
/// What is wrong with it, as words.
pub fn from_text(text: &str) -> Result<Histogram<u64>, String> {
    decode(&mut Deserializer::new(), text)
}

/// The sum of all intervals.
pub fn merge<'i>(intervals: impl IntoIterator<Item = &'i Interval>) -> Histogram<u64> {
    let mut sum = new_histogram();
    // Logs of other tools may reach beyond an hour.
    sum.auto(true);
    for interval in intervals {
        // Adding fails only where the sum may not grow, and this one may.
        sum.add(&interval.histogram).unwrap_or_default();
    }
    sum
}

fn decode(deserializer: &mut Deserializer, text: &str) -> Result<Histogram<u64>, String> {
    if text.len() > HISTOGRAM_TEXT_BYTES_MAX {
        return Err(format!("{} bytes of base64, more than {HISTOGRAM_TEXT_BYTES_MAX}", text.len()));
    }
    let bytes = base64::decode(text).ok_or("not base64")?;
    deserializer.deserialize(&mut Cursor::new(bytes)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64) -> Histogram<u64> {
        let mut histogram = new_histogram();
        for n in 1..=1000_u64 {
            record_ns(&mut histogram, (n * 7919 + seed) * 1000);
        }
        histogram
    }

    #[test]
    fn values_are_rounded_and_clamped() {
        let mut histogram = new_histogram();
        for latency_ns in [0, 1, 499, 1_499, 1_500, u64::MAX] {
            record_ns(&mut histogram, latency_ns);
        }
        assert_eq!(histogram.len(), 6);
        assert_eq!(histogram.count_at(1), 4);
        assert_eq!(histogram.count_at(2), 1);
        assert!(histogram.equivalent(histogram.max(), LATENCY_US_MAX));
    }

    #[test]
    fn summary_of_nothing_is_zero() {
        assert_eq!(summary(&new_histogram()), Latency::default());
        assert_eq!(spectrum(&new_histogram(), 5).count(), 0);
    }

    #[test]
    fn log_round_trips() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut writer = HlogWriter::new(Vec::new(), start, "run\nname").unwrap();
        for second in 0..3_u64 {
            writer.write(&sample(second), Duration::from_secs(second), Duration::from_secs(1)).unwrap();
        }
        let log = writer.finish().unwrap();
        let text = std::str::from_utf8(&log).unwrap();
        assert!(text.contains("#[StartTime: 1700000000.000 (seconds since epoch)]\n"));
        assert!(text.contains("#[BaseTime: 1700000000.000 (seconds since epoch)]\n"));
        assert!(text.contains("#[run name]\n"));
        // The Java tools name their V2-deflate histograms by this prefix.
        assert_eq!(text.matches(",HISTF").count(), 3);

        let intervals = parse_hlog(&log).unwrap();
        assert_eq!(intervals.len(), 3);
        assert_eq!(intervals[2].offset, Duration::from_secs(2));
        for (seed, interval) in (0..).zip(&intervals) {
            assert_eq!(interval.histogram, sample(seed));
        }
        let sum = merge(&intervals);
        assert_eq!(sum.len(), 3000);
        assert_eq!(summary(&sum).p50, summary(&sample(1)).p50);
    }

    #[test]
    fn tagged_intervals_stand_beside_the_others() {
        let mut writer = HlogWriter::new(Vec::new(), SystemTime::UNIX_EPOCH, "").unwrap();
        let (offset, length) = (Duration::ZERO, Duration::from_secs(1));
        writer.write(&sample(0), offset, length).unwrap();
        writer.write_tagged(Some("raw"), &sample(1), offset, length).unwrap();
        let refused = writer.write_tagged(Some("two words"), &sample(2), offset, length).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let log = writer.finish().unwrap();
        let of = |tag| parse_hlog_tagged(&log, tag).unwrap();
        assert_eq!((of(None).len(), &of(None)[0].histogram), (1, &sample(0)));
        assert_eq!((of(Some("raw")).len(), &of(Some("raw"))[0].histogram), (1, &sample(1)));
        assert!(of(Some("lag")).is_empty());
    }

    #[test]
    fn spectrum_ends_at_the_largest() {
        let histogram = sample(0);
        let points: Vec<_> = spectrum(&histogram, 5).collect();
        let last = points.last().unwrap();
        assert_eq!(last.quantile, 1.0);
        assert_eq!(last.latency_us, summary(&histogram).max);
        assert_eq!(last.inverse(histogram.len()), 1000.0);
        assert!(points.windows(2).all(|pair| pair[0].latency_us <= pair[1].latency_us));
    }

    #[test]
    fn foreign_lines_are_refused_by_number() {
        let bad = parse_hlog(b"0.000,1.000,5.000,!!!!\n").unwrap_err();
        assert!(bad.to_string().starts_with("interval 1: not base64"), "{bad}");
        let bad = parse_hlog(b"0.000,1.000,5.000,AAAA\n").unwrap_err();
        assert!(bad.to_string().starts_with("interval 1: "), "{bad}");
        assert!(parse_hlog(b"\0\xff").is_err());
        assert!(parse_hlog(b"").unwrap().is_empty());
    }
}
