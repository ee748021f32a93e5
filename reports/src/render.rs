//! The page: one HTML file that needs no network and holds all that the records say.
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
mod tiers;
mod view;
mod words;

use std::path::Path;

use crate::results::Entry;
use crate::run::Record;

/// The page for a record; `folder` holds its histogram files.
pub fn page(record: &Record, folder: &Path) -> String {
    page::render(record, folder)
}

/// The page for many records. With one record it is that record's page.
pub fn page_of(entries: &[Entry]) -> String {
    page::render_all(entries)
}

/// A page with a list of runs: table rows and complaints that are HTML already.
#[cfg(feature = "serve")]
pub(crate) fn list_page(rows: &str, complaints: &str) -> String {
    page::list(rows, complaints)
}
