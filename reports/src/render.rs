//! The page: one HTML file that needs no network and holds all that the record says.
//!
//! It owns the words, the tables and the charts. It refuses histogram files outside the run's folder, and
//! says on the page when one is missing or unreadable; the chart then shows the five recorded percentiles.
//! A record that was loaded can always be drawn: a page with warnings is worth more than no page.

mod charts;
mod facts;
mod format;
mod page;
mod series;
mod tables;
mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::run::{Record, RecordError};

/// The name of the page inside a results folder.
pub const PAGE_NAME: &str = "index.html";

/// Why no page was written.
#[derive(Debug, Error)]
pub enum RenderError {
    /// Operator: the record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Host: the page could not be written.
    #[error("{}: {source}; the page needs a folder that can be written to", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The page for a record; `folder` holds its histogram files.
pub fn page(record: &Record, folder: &Path) -> String {
    page::render(record, folder)
}

/// Reads the record in `folder` and writes its page to `to`, or else beside the record. Gives the path.
pub fn write_page(folder: &Path, to: Option<&Path>) -> Result<PathBuf, RenderError> {
    let record = Record::load(folder)?;
    // A record given by its own name has its histograms beside it.
    let folder = if folder.is_dir() { folder } else { folder.parent().unwrap_or_else(|| Path::new(".")) };
    let path = to.map_or_else(|| folder.join(PAGE_NAME), Path::to_owned);
    let write = |source| RenderError::Write { path: path.clone(), source };
    fs::write(&path, page(&record, folder)).map_err(write)?;
    Ok(path)
}
