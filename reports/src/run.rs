//! `run.json`: what one laboratory run did, measured and found.
//!
//! It owns the field names (schema version 2) and the reading and writing of the file. It reads version 1 too, whose
//! records lack some fields. It refuses other versions and numbers that are negative or not finite. Every error names the
//! file and the field.

pub mod counter;

mod locate;
mod tier;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use tier::{Load, Skipped, Tier, TierSource, Workload};

use crate::machine::{Machine, numbers};
use crate::sample::ProcessSample;
use crate::software::Software;

/// The schema version that this crate writes.
pub const SCHEMA_VERSION: u32 = 2;

/// The oldest schema version that is read; what it did not have yet is unknown.
pub const SCHEMA_VERSION_OLDEST: u32 = 1;

/// The largest `run.json` that is read, in bytes. A full suite needs some tens of kilobytes.
pub const RECORD_BYTES_MAX: u64 = 64 << 20;

/// The name of the record inside a results folder.
pub const RECORD_NAME: &str = "run.json";

/// The label that two runs share which were measured one right after the other, to be compared with each other.
pub const PAIR_LABEL: &str = "pair";

/// The label that names generator and sink by their contents: what is measured in units of their work compares only where it is
/// the same.
pub const LOAD_PAIR_LABEL: &str = "load_pair";

/// Everything that is known about one laboratory run: the content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always [`SCHEMA_VERSION`]: an older record becomes one of this version when it is read.
    pub schema_version: u32,
    /// Identifies the run; also the name of its folder under `results/`.
    pub run_id: String,
    /// `quick`, `full`, or a name that the operator gave.
    pub suite: String,
    /// When the run began: RFC 3339, UTC.
    #[serde(default)]
    pub started_utc: String,
    /// When the run ended: RFC 3339, UTC.
    #[serde(default)]
    pub finished_utc: Option<String>,
    /// The command line, as typed.
    #[serde(default)]
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// What ran.
    pub software: Software,
    /// Results of `tuner check`, as tuner wrote them: objects with `name`, `status` and what else it knows.
    #[serde(default)]
    pub tuner: Vec<serde_json::Value>,
    /// The measurements.
    pub runs: Vec<Run>,
    /// Tiers that were asked for and not measured.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// Remarks of the audit and of the runner, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What a run exercised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// traffic-gen through kumod into sink.
    #[default]
    Kumod,
    /// traffic-gen straight into sink: what the generator and the sink can do without a relay.
    Direct,
    /// The floor: minimal programs that relay durably and do nothing else.
    Floor,
}

impl Kind {
    /// The word used in `run.json` and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kumod => "kumod",
            Self::Direct => "direct",
            Self::Floor => "floor",
        }
    }
}

/// Which of the two other programs held the measurement back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitedBy {
    /// traffic-gen used more CPU per message than sink did.
    Generator,
    /// sink used more CPU per message than traffic-gen did.
    Sink,
}

impl LimitedBy {
    /// The word used in `run.json` and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Sink => "sink",
        }
    }
}

/// One measurement: one workload through one set of programs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Run {
    /// Short and unique in the record, such as `kumod-100k`.
    pub name: String,
    /// What was exercised.
    pub kind: Kind,
    /// The hardware that it was given.
    pub tier: Tier,
    /// Whether the tier is the machine or a limit on it.
    #[serde(default)]
    pub tier_source: TierSource,
    /// Set in a step of a search for the highest rate.
    #[serde(default)]
    pub load: Option<Load>,
    /// What was sent.
    #[serde(default)]
    pub workload: Workload,
    /// What the operator or the laboratory wrote on it; runs of one interleaved pair share [`PAIR_LABEL`].
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Size of each message body in bytes.
    pub body_bytes: u64,
    /// What a 250 promised (`commit`, `written`, `deferred`); null where nothing is stored.
    pub durability: Option<String>,
    /// Messages that the plan asked for.
    pub messages: u64,
    /// Messages for which traffic-gen read the final 250.
    pub accepted: u64,
    /// Distinct messages that sink has.
    pub delivered: u64,
    /// Messages that were accepted and that sink does not have.
    pub lost: u64,
    /// Deliveries beyond the first of a message.
    pub duplicated: u64,
    /// Messages whose body arrived with another checksum.
    pub corrupted: u64,
    /// Connection lost before the final reply: the message may or may not have been accepted.
    #[serde(default)]
    pub unknown: u64,
    /// Messages that were refused.
    #[serde(default)]
    pub failed: u64,
    /// Seconds from the first intended send to the last delivery.
    pub elapsed_s: f64,
    /// Million messages per hour, by final 250s read.
    pub mmh_accepted: f64,
    /// Million messages per hour that reached sink, from the first intended send to the last delivery.
    pub mmh_delivered: f64,
    /// Latencies in microseconds.
    pub latency_us: LatencyPair,
    /// Set when the direct rate is under three times this one, so that the number says little.
    pub limited_by: Option<LimitedBy>,
    /// Whether generator, relay and sink ran on the same cores.
    pub shared_cores: bool,
    /// What each process used during the measurement.
    pub processes: Processes,
    /// Times that the spool waited for stable storage; null where unknown or nothing is stored.
    pub barriers: Option<u64>,
    /// How the spool wrote (`uring`, `threads`); null where nothing is stored.
    #[serde(default)]
    pub spool_backend: Option<String>,
    /// Connections that traffic-gen held open.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Messages delivered in each second of the run.
    #[serde(default)]
    pub rate_per_second: Vec<f64>,
    /// Histogram files beside `run.json`.
    #[serde(default)]
    pub hlog: HlogFiles,
    /// `mmh_delivered` divided by that of the floor at this body size.
    #[serde(default)]
    pub floor_ratio: Option<f64>,
    /// MMH of the direct run at this body size divided by `mmh_delivered`.
    #[serde(default)]
    pub direct_ratio: Option<f64>,
    /// Remarks, one sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whatever else was counted, by name: bytes, reply codes, allocations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, f64>,
}

/// Both latencies of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LatencyPair {
    /// From the intended send to the final 250.
    pub inject: Option<Latency>,
    /// From the intended send to the arrival at sink.
    pub end_to_end: Option<Latency>,
}

/// A distribution in five numbers, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// The largest.
    pub max: f64,
}

/// What each process used; null where there was no such process or it could not be read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Processes {
    /// The relay: kumod, or the floor's relay.
    pub kumod: Option<ProcessUse>,
    /// The receiver.
    pub sink: Option<ProcessUse>,
    /// The generator.
    pub traffic_gen: Option<ProcessUse>,
}

/// CPU, memory and writes of one process over a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessUse {
    /// User and system time in seconds.
    pub cpu_s: f64,
    /// Peak resident set size in bytes.
    pub rss_peak_bytes: u64,
    /// Bytes that it caused to be written to storage.
    pub write_bytes: u64,
}

impl ProcessUse {
    /// The difference between two samples of one process; the peak is the later one's.
    pub fn between(first: &ProcessSample, last: &ProcessSample) -> Self {
        let written = last.write_bytes.unwrap_or(0).saturating_sub(first.write_bytes.unwrap_or(0));
        Self {
            cpu_s: (last.cpu_s() - first.cpu_s()).max(0.0),
            rss_peak_bytes: last.rss_peak_bytes,
            write_bytes: written,
        }
    }
}

/// Names of the interval logs of a run: plain file names, in the folder of `run.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HlogFiles {
    /// Latency until the final 250.
    pub inject: Option<String>,
    /// Latency until the arrival at sink.
    pub end_to_end: Option<String>,
}

impl Run {
    /// Whether every message that was accepted arrived exactly once and unharmed.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.corrupted == 0
    }

    /// Whether its rate is what was reached, and not a part of that which was offered.
    pub fn is_at_full_rate(&self) -> bool {
        self.load.is_none()
    }

    /// CPU microseconds that a process spent on each delivered message.
    pub fn cpu_us_per_message(&self, process: Option<ProcessUse>) -> Option<f64> {
        let process = process?;
        (self.delivered > 0).then(|| process.cpu_s * 1e6 / self.delivered as f64)
    }

    /// Barriers for each delivered message; below one where commits were shared.
    pub fn barriers_per_message(&self) -> Option<f64> {
        let barriers = self.barriers?;
        (self.delivered > 0).then(|| barriers as f64 / self.delivered as f64)
    }
}

/// Million messages per hour: `messages` in `elapsed_s` seconds; 0 where no time passed.
pub fn mmh(messages: u64, elapsed_s: f64) -> f64 {
    if elapsed_s > 0.0 { messages as f64 / elapsed_s * 3600.0 / 1e6 } else { 0.0 }
}

/// Why a record was not read or written.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Host: the file could not be read or written.
    #[error("{}: {source}; is it the folder of a laboratory run?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Operator: the file is larger than any record.
    #[error("{}: {bytes} bytes, more than a record may have ({RECORD_BYTES_MAX})", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Operator: not JSON, or a field is missing or of the wrong kind.
    #[error("{}: field {field}: {source}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Path of the field, such as `runs[2].body_bytes`.
        field: String,
        /// What is wrong with it, with line and column.
        source: serde_json::Error,
    },
    /// Operator: a number that no measurement can have.
    #[error("{}: field {field}: {value} is not a finite number of at least 0", path.display())]
    Number {
        /// The file.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// The number found.
        value: f64,
    },
    /// Operator: written by another version of the laboratory.
    #[error(
        "{}: field schema_version: {found} is unknown here, {SCHEMA_VERSION_OLDEST} to {SCHEMA_VERSION} are read; \
         use the reports program of the version that wrote it", path.display()
    )]
    SchemaVersion {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: u64,
    },
}

impl Record {
    /// Reads `run.json`; `path` is the file or the folder that holds it.
    pub fn load(path: &Path) -> Result<Self, RecordError> {
        let path = if path.is_dir() { path.join(RECORD_NAME) } else { path.to_owned() };
        let file_error = |source| RecordError::File { path: path.clone(), source };
        let bytes = fs::metadata(&path).map_err(file_error)?.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge { path, bytes });
        }
        let text = fs::read_to_string(&path).map_err(file_error)?;
        Self::parse(&text, &path)
    }

    /// Reads a record from text; `path` only names it in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RecordError> {
        // The version comes first: in a record of another version any other complaint would mislead.
        let version: Version =
            serde_json::from_str(text).map_err(|source| field_error(text, path, source))?;
        if !(u64::from(SCHEMA_VERSION_OLDEST)..=u64::from(SCHEMA_VERSION)).contains(&version.schema_version) {
            return Err(RecordError::SchemaVersion { path: path.to_owned(), found: version.schema_version });
        }
        let mut record: Self =
            serde_json::from_str(text).map_err(|source| field_error(text, path, source))?;
        record.schema_version = SCHEMA_VERSION;
        record.check(path)?;
        Ok(record)
    }

    /// Writes the record, whole or not at all: to a file beside it, which then takes its name.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        self.check(path)?;
        let file_error = |source| RecordError::File { path: path.to_owned(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| file_error(error.into()))?;
        text.push('\n');
        let beside = path.with_extension("json.part");
        fs::write(&beside, text).map_err(file_error)?;
        fs::rename(&beside, path).map_err(file_error)
    }

    /// Counts are unsigned by type; the measured numbers must be checked.
    fn check(&self, path: &Path) -> Result<(), RecordError> {
        let of_machine = numbers::of(&self.machine).into_iter();
        let of_machine = of_machine.map(|(name, value)| (format!("machine.{name}"), value));
        let of_runs = self.runs.iter().enumerate().flat_map(|(index, run)| {
            measured(run).into_iter().map(move |(name, value)| (format!("runs[{index}].{name}"), value))
        });
        let mut all = of_machine.chain(of_runs);
        match all.find(|(_, value)| !value.is_finite() || *value < 0.0) {
            Some((field, value)) => Err(RecordError::Number { path: path.to_owned(), field, value }),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Version {
    schema_version: u64,
}

fn field_error(text: &str, path: &Path, source: serde_json::Error) -> RecordError {
    let field = locate::field_at(text, source.line(), source.column());
    RecordError::Field { path: path.to_owned(), field, source }
}

/// Every measured number of a run with the path of its field.
fn measured(run: &Run) -> Vec<(String, f64)> {
    let mut numbers: Vec<(String, f64)> = vec![
        ("tier.cpus".into(), run.tier.cpus),
        ("tier.memory_gib".into(), run.tier.memory_gib),
        ("elapsed_s".into(), run.elapsed_s),
        ("mmh_accepted".into(), run.mmh_accepted),
        ("mmh_delivered".into(), run.mmh_delivered),
    ];
    let load =
        run.load.map(|load| [("load.percent", load.percent), ("load.offered_per_s", load.offered_per_s)]);
    numbers.extend(load.into_iter().flatten().map(|(name, value)| (name.into(), value)));
    numbers.extend(run.floor_ratio.map(|ratio| ("floor_ratio".into(), ratio)));
    numbers.extend(run.direct_ratio.map(|ratio| ("direct_ratio".into(), ratio)));
    numbers
        .extend(run.rate_per_second.iter().enumerate().map(|(i, n)| (format!("rate_per_second[{i}]"), *n)));
    for (name, latency) in [("inject", run.latency_us.inject), ("end_to_end", run.latency_us.end_to_end)] {
        let Some(latency) = latency else { continue };
        let Latency { p50, p90, p99, p99_9, max } = latency;
        let five = [("p50", p50), ("p90", p90), ("p99", p99), ("p99_9", p99_9), ("max", max)];
        numbers.extend(five.map(|(field, value)| (format!("latency_us.{name}.{field}"), value)));
    }
    let Processes { kumod, sink, traffic_gen } = run.processes;
    for (name, process) in [("kumod", kumod), ("sink", sink), ("traffic_gen", traffic_gen)] {
        numbers.extend(process.map(|process| (format!("processes.{name}.cpu_s"), process.cpu_s)));
    }
    numbers.extend(run.counters.iter().map(|(name, value)| (format!("counters.{name}"), *value)));
    numbers
}
