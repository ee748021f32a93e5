//! A file of `tuner measure --json`, given to a page whose records lack a ceiling.
//!
//! It owns the reading of that file, as far as the page needs it, and the rule that a ceiling stands only beside runs of
//! the host that it was measured on. It refuses other versions, numbers that are none, and a file that fits no record. Every
//! error names the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::machine::{Ceiling, Machine, numbers};
use crate::results::Entry;

/// The version of `tuner measure --json` that is read.
pub const MEASURE_VERSION: u64 = 1;

/// The largest such file that is read, in bytes. One has a few kilobytes.
pub const MEASURE_BYTES_MAX: u64 = 4 << 20;

/// What a machine can do at most, and which machine that is.
#[derive(Debug, Clone, PartialEq)]
pub struct Ceilings {
    path: PathBuf,
    /// The hash of the host; `None` is unknown.
    host: Option<String>,
    ceilings: Vec<Ceiling>,
}

/// Why a file gave no ceiling.
#[derive(Debug, Error)]
pub enum CeilingError {
    /// Host: the file could not be read.
    #[error("{}: {source}; the file of `tuner measure --json FILE` is expected", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Operator: the file is something else.
    #[error("{}: {reason}; the file of `tuner measure --json FILE` is expected", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Operator: the ceiling of another machine says nothing about these runs.
    #[error("{}: measured on host {host}, and no record is of that host; measure where the runs were made", path.display())]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// The hash of the host in it.
        host: String,
    },
}

#[derive(Deserialize)]
struct Version {
    schema_version: u64,
}

#[derive(Deserialize)]
struct Measured {
    machine: Machine,
    ceilings: Vec<Ceiling>,
}

impl Ceilings {
    /// Reads the file.
    ///
    /// # Errors
    /// [`CeilingError::File`] and [`CeilingError::Content`].
    pub fn load(path: &Path) -> Result<Self, CeilingError> {
        let file = |source| CeilingError::File { path: path.to_owned(), source };
        let bytes = fs::metadata(path).map_err(file)?.len();
        if bytes > MEASURE_BYTES_MAX {
            let reason = format!("{bytes} bytes, more than such a file may have ({MEASURE_BYTES_MAX})");
            return Err(CeilingError::Content { path: path.to_owned(), reason });
        }
        let text = fs::read_to_string(path).map_err(file)?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CeilingError> {
        let content = |reason| CeilingError::Content { path: path.to_owned(), reason };
        // The version comes first, as in a record.
        let Version { schema_version } =
            serde_json::from_str(text).map_err(|error| content(error.to_string()))?;
        if schema_version != MEASURE_VERSION {
            return Err(content(format!(
                "schema_version {schema_version} is unknown here, {MEASURE_VERSION} is read"
            )));
        }
        let Measured { machine, ceilings } =
            serde_json::from_str(text).map_err(|error| content(error.to_string()))?;
        let only = Machine { ceilings, ..Machine::default() };
        if let Some((name, value)) =
            numbers::of(&only).into_iter().find(|(_, value)| !value.is_finite() || *value < 0.0)
        {
            return Err(content(format!("field {name}: {value} is not a finite number of at least 0")));
        }
        Ok(Self { path: path.to_owned(), host: machine.host, ceilings: only.ceilings })
    }

    /// Gives the ceilings to all records of this host, in place of what they had. What is unknown counts as equal.
    ///
    /// # Errors
    /// [`CeilingError::OtherHost`] when no record is of it.
    pub fn apply(&self, entries: &mut [Entry]) -> Result<(), CeilingError> {
        let is_ours = |entry: &Entry| match (&self.host, &entry.record.machine.host) {
            (Some(here), Some(there)) => here == there,
            _ => true,
        };
        let mut given = 0;
        for entry in entries.iter_mut().filter(|entry| is_ours(entry)) {
            entry.record.machine.ceilings.clone_from(&self.ceilings);
            given += 1;
        }
        match &self.host {
            Some(host) if given == 0 => {
                Err(CeilingError::OtherHost { path: self.path.clone(), host: host.clone() })
            }
            _ => Ok(()),
        }
    }
}
