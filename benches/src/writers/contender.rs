//! The contenders: their names, and how each is prepared before the clock starts.
//!
//! It owns the list. Preparing writes every extent through that can be written beforehand. A back end that the host refuses is no
//! error; its reason stands beside the table.

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;
use spool::{Backend, WriteMode};

use super::ceiling::{self, Overwrites};
use super::files::Files;
use super::measure::Way;
use super::spools::{self, Choice, SpoolWay};
use super::tokio_log::{self, TokioLog};
use crate::error::Result;

/// A way of writing, in the order of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Contender {
    /// 4 MiB overwrites, one at a time: the disk's bandwidth.
    #[serde(rename = "overwrites-4m")]
    #[value(name = "overwrites-4m")]
    LargeOverwrites,
    /// 4 KiB overwrites, one at a time: what one barrier costs.
    #[serde(rename = "overwrites-4k")]
    #[value(name = "overwrites-4k")]
    SmallOverwrites,
    /// The spool by io_uring, past the page cache.
    SpoolUring,
    /// The spool by io_uring, through the page cache.
    SpoolUringBuffered,
    /// The spool by threads calling pwritev2, past the page cache.
    SpoolThreads,
    /// The spool by the tokio-uring runtime, past the page cache.
    SpoolTokioUring,
    /// A log over tokio's files with group commit.
    TokioFs,
    /// A file per message, file and directory synced.
    FilesSynced,
    /// A file per message, nothing synced: not durable.
    Files,
}

impl Contender {
    /// What the tables call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::LargeOverwrites => "overwrites of 4 MiB, one at a time",
            Self::SmallOverwrites => "overwrites of 4 KiB, one at a time",
            Self::SpoolUring => "spool, io_uring, direct",
            Self::SpoolUringBuffered => "spool, io_uring, buffered",
            Self::SpoolThreads => "spool, threads, direct",
            Self::SpoolTokioUring => "spool, tokio-uring, direct",
            Self::TokioFs => "log over tokio::fs",
            Self::FilesSynced => "file per message, synced",
            Self::Files => "file per message, not synced",
        }
    }

    /// Bytes of one append, with bodies of so many.
    pub fn append_bytes(self, body_bytes: u64) -> u64 {
        self.own_piece_bytes().map_or(body_bytes, |bytes| bytes as u64)
    }

    fn own_piece_bytes(self) -> Option<usize> {
        match self {
            Self::LargeOverwrites => Some(4 << 20),
            Self::SmallOverwrites => Some(4 << 10),
            _ => None,
        }
    }

    fn spool_choice(self) -> Option<Choice> {
        let (backend, mode) = match self {
            Self::SpoolUring => (Backend::Uring, WriteMode::Direct),
            Self::SpoolUringBuffered => (Backend::Uring, WriteMode::Buffered),
            Self::SpoolThreads => (Backend::Threads, WriteMode::Direct),
            #[cfg(feature = "tokio-uring")]
            Self::SpoolTokioUring => (Backend::TokioUring, WriteMode::Direct),
            _ => return None,
        };
        Some(Choice { backend, mode })
    }

    /// Bytes of disk that it needs; `span_bytes` is the most that is alive or not yet deleted.
    pub(super) fn disk_bytes(self, span_bytes: u64) -> u64 {
        match self {
            Self::LargeOverwrites | Self::SmallOverwrites => ceiling::FILE_BYTES,
            Self::TokioFs => tokio_log::RING_BYTES,
            // What is removed is freed a little later.
            Self::FilesSynced | Self::Files => 2 * span_bytes,
            _ => u64::from(spools::spares_for(span_bytes)) * spools::SEGMENT_BYTES,
        }
    }

    /// Makes everything that can be made before the clock starts.
    pub(super) fn prepare(self, folder: &Path, span_bytes: u64) -> Result<Prepared> {
        let place =
            folder.join(self.to_possible_value().map_or_else(String::new, |value| value.get_name().into()));
        if let Some(choice) = self.spool_choice() {
            return SpoolWay::open(&place, choice, span_bytes);
        }
        Ok(match (self, self.own_piece_bytes()) {
            (_, Some(bytes)) => Prepared::Ready(Box::new(Overwrites::new(&place, bytes)?)),
            (Self::TokioFs, _) => Prepared::Ready(Box::new(TokioLog::new(&place)?)),
            (Self::FilesSynced, _) => Prepared::Ready(Box::new(Files::new(&place, true)?)),
            (Self::Files, _) => Prepared::Ready(Box::new(Files::new(&place, false)?)),
            _ => Prepared::Refused(
                "it is built with the feature tokio-uring only, as ./scripts/bench does".into(),
            ),
        })
    }
}

/// What came of preparing a contender.
pub(super) enum Prepared {
    Ready(Box<dyn Way>),
    /// Why the host does not allow it.
    Refused(String),
}
