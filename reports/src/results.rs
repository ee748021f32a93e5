//! Results of many runs: run folders, folders of them, and files made of them, read as one.
//!
//! It owns the search for records and the format of a merged file: records, and the latency histograms that lay beside
//! them. It refuses what is no record by name, and goes on with the others; the caller decides whether that is enough.
//! Two records with one run id are the same run: the first stays.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::latency::{self, HlogError, Interval};
use crate::run::{RECORD_BYTES_MAX, RECORD_NAME, Record, RecordError, Run};

/// The most records that are read at once.
pub const RECORDS_MAX: usize = 10_000;

/// The version of a merged file.
pub const MERGED_VERSION: u32 = 1;

/// Which of the two latencies of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Until the final 250.
    Inject,
    /// Until the arrival at sink.
    EndToEnd,
}

impl Side {
    /// The name of the file in a run's folder.
    pub fn file(self, run: &Run) -> Option<&str> {
        match self {
            Self::Inject => run.hlog.inject.as_deref(),
            Self::EndToEnd => run.hlog.end_to_end.as_deref(),
        }
    }
}

/// Histograms by run name and side, as HdrHistogram's V2-deflate in base64.
type Embedded = BTreeMap<String, BTreeMap<Side, String>>;

/// One record and where its histograms are.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// The folder of its histogram files; `None` where it came from a merged file.
    pub folder: Option<PathBuf>,
    embedded: Embedded,
}

/// What was found, and what was refused.
#[derive(Debug, Default)]
pub struct Results {
    /// Records, in the order in which they were given; those of a folder by name.
    pub entries: Vec<Entry>,
    /// What could not be read.
    pub refused: Vec<ResultsError>,
}

/// Why a path gave no records.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// Host or operator: a record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Host: the path could not be looked at.
    #[error("{}: {source}; a run folder, a folder of run folders or a merged file is expected", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Operator: a folder without any run.
    #[error("{}: no {RECORD_NAME} in it nor in a folder below; a laboratory run leaves one", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// Operator: a merged file of another version.
    #[error("{}: field merged_version: {found} is unknown here, {MERGED_VERSION} is read", path.display())]
    MergedVersion {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
    /// Operator: more records than are read at once.
    #[error("more than {RECORDS_MAX} records; give a part of them")]
    TooMany,
}

#[derive(Serialize, Deserialize)]
struct Merged {
    merged_version: u64,
    records: Vec<serde_json::Value>,
    #[serde(default)]
    histograms: BTreeMap<String, Embedded>,
}

impl Entry {
    /// A record whose histogram files lie in `folder`.
    pub fn new(record: Record, folder: &Path) -> Self {
        Self { record, folder: Some(folder.to_owned()), embedded: Embedded::new() }
    }

    /// The intervals of one side of a run; `None` where no histograms were kept.
    ///
    /// # Errors
    /// The reason, as words: a file name that leads out of the folder, a file that is missing or broken.
    pub fn intervals(&self, run: &Run, side: Side) -> Result<Option<Vec<Interval>>, String> {
        let Some(file) = side.file(run) else {
            return Ok(None);
        };
        let Some(folder) = &self.folder else {
            let text = self.embedded.get(&run.name).and_then(|sides| sides.get(&side));
            let histogram = text.map(|text| latency::from_text(text)).transpose()?;
            let length = std::time::Duration::from_secs_f64(run.elapsed_s.clamp(0.0, 1e9));
            return Ok(histogram
                .map(|histogram| vec![Interval { offset: std::time::Duration::ZERO, length, histogram }]));
        };
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(format!("{file} is not a file name in the folder of the run"));
        }
        let intervals = latency::read_hlog(&folder.join(file)).map_err(|error| match error {
            HlogError::File { source, .. } => format!("{file}: {source}"),
            other => format!("{file}: {other}"),
        })?;
        Ok(Some(intervals))
    }

    /// The whole histogram of one side of a run.
    ///
    /// # Errors
    /// As [`Self::intervals`].
    pub fn histogram(&self, run: &Run, side: Side) -> Result<Option<Histogram<u64>>, String> {
        Ok(self.intervals(run, side)?.map(|intervals| latency::merge(&intervals)))
    }

    fn embed(&self) -> Embedded {
        let mut embedded = Embedded::new();
        for run in &self.record.runs {
            for side in [Side::Inject, Side::EndToEnd] {
                // What cannot be read is missing in the merged file as it is missing here.
                if let Ok(Some(histogram)) = self.histogram(run, side) {
                    embedded.entry(run.name.clone()).or_default().insert(side, latency::to_text(&histogram));
                }
            }
        }
        embedded
    }
}

impl Results {
    /// Reads every path: a run folder, a `run.json`, a folder of run folders, or a merged file.
    pub fn gather<P: AsRef<Path>>(paths: &[P]) -> Self {
        let mut results = Self::default();
        for path in paths {
            results.add(path.as_ref());
        }
        let mut seen = std::collections::BTreeSet::new();
        results.entries.retain(|entry| seen.insert(entry.record.run_id.clone()));
        results
    }

    fn add(&mut self, path: &Path) {
        let found = if path.is_dir() { below(path) } else { Ok(vec![path.to_owned()]) };
        let files = match found {
            Ok(files) => files,
            Err(error) => return self.refused.push(error),
        };
        for file in files {
            if self.entries.len() >= RECORDS_MAX {
                return self.refused.push(ResultsError::TooMany);
            }
            match read(&file) {
                Ok(entries) => self.entries.extend(entries),
                Err(error) => self.refused.push(error),
            }
        }
    }

    /// All runs, each with its record.
    pub fn runs(&self) -> impl Iterator<Item = (&Entry, &Run)> {
        self.entries.iter().flat_map(|entry| entry.record.runs.iter().map(move |run| (entry, run)))
    }

    /// One JSON text of all records and their histograms, which [`Self::gather`] reads again.
    pub fn merged(&self) -> String {
        let merged = Merged {
            merged_version: u64::from(MERGED_VERSION),
            records: self
                .entries
                .iter()
                .map(|entry| serde_json::to_value(&entry.record).unwrap_or_default())
                .collect(),
            histograms: self
                .entries
                .iter()
                .map(|entry| (entry.record.run_id.clone(), entry.embed()))
                .filter(|(_, embedded)| !embedded.is_empty())
                .collect(),
        };
        let mut text = serde_json::to_string(&merged).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The records of a folder: its own, or those one level below, by name.
fn below(folder: &Path) -> Result<Vec<PathBuf>, ResultsError> {
    if folder.join(RECORD_NAME).is_file() {
        return Ok(vec![folder.join(RECORD_NAME)]);
    }
    let error = |source| ResultsError::Path { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)?.take(RECORDS_MAX) {
        let file = entry.map_err(error)?.path().join(RECORD_NAME);
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort_unstable();
    if files.is_empty() { Err(ResultsError::Nothing { path: folder.to_owned() }) } else { Ok(files) }
}

fn read(path: &Path) -> Result<Vec<Entry>, ResultsError> {
    let error = |source| ResultsError::Path { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(error)?.len();
    if bytes > RECORD_BYTES_MAX {
        return Err(RecordError::TooLarge { path: path.to_owned(), bytes }.into());
    }
    let text = fs::read_to_string(path).map_err(error)?;
    // A record has no such field; whatever else is no merged file is told as what is wrong with a record.
    if !text.contains("\"merged_version\"") {
        let record = Record::parse(&text, path)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        return Ok(vec![Entry::new(record, folder)]);
    }
    unmerge(&text, path)
}

fn unmerge(text: &str, path: &Path) -> Result<Vec<Entry>, ResultsError> {
    let field = |source| RecordError::Field { path: path.to_owned(), field: "(top)".to_owned(), source };
    let mut merged: Merged = serde_json::from_str(text).map_err(field)?;
    if merged.merged_version != u64::from(MERGED_VERSION) {
        return Err(ResultsError::MergedVersion { path: path.to_owned(), found: merged.merged_version });
    }
    let mut entries = Vec::new();
    for (index, value) in merged.records.iter().enumerate() {
        let name = PathBuf::from(format!("{}, records[{index}]", path.display()));
        let record = Record::parse(&value.to_string(), &name)?;
        let embedded = merged.histograms.remove(&record.run_id).unwrap_or_default();
        entries.push(Entry { record, folder: None, embedded });
    }
    Ok(entries)
}
