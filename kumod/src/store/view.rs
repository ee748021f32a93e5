//! A spool seen from outside the process that has it: what the commands of an operator look at.
//!
//! Reads and never writes. Envelopes and marks are decoded one at a time, so that a long queue costs no more memory than the
//! spool's own list of it. What cannot be decoded or read is named; nothing is repaired here.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use spool::{Access, Examination, ReadError, ScanProgress};

use super::OpenStoreError;
use super::local::{self, SEGMENTS_DIR};
use crate::envelope::{Envelope, Mark, MessageId};

/// The segments of a spool, read as they are.
pub struct View {
    segments: PathBuf,
    found: Examination,
}

/// One message that waits for delivery.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The message.
    pub envelope: Envelope,
    /// What earlier attempts left.
    pub mark: Mark,
}

/// A message whose envelope or mark this version cannot read.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The message.
    pub id: MessageId,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a body was not read.
#[derive(Clone, Debug)]
pub enum Unread {
    /// It left the spool since it was looked at.
    Gone,
    /// It is not what was written; the text names segment and offset.
    Damaged(String),
}

/// Finds the segments below the folder that was configured; the folder of the segments itself will do, too.
///
/// # Errors
/// Neither of the two holds a spool.
pub fn segments_dir(folder: &Path) -> Result<PathBuf, OpenStoreError> {
    let below = folder.join(SEGMENTS_DIR);
    if below.is_dir() {
        return Ok(below);
    }
    let refuse = |reason: String| OpenStoreError::new(folder, reason);
    let entries = std::fs::read_dir(folder)
        .map_err(|error| refuse(format!("it cannot be read: {error}; name the folder with --spool")))?;
    let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    if names.any(|name| name.ends_with(".segment")) {
        return Ok(folder.to_owned());
    }
    Err(refuse("there is no spool in it; name the folder that kumod was started with".to_owned()))
}

/// Compacts the spool in `folder` as far as it can be, and says what came of it.
///
/// # Errors
/// A process has the spool, or it cannot be opened or written.
pub fn compact(folder: &Path) -> Result<spool::Compacted, OpenStoreError> {
    let segments = segments_dir(folder)?;
    let refuse = |reason: String| OpenStoreError::new(&segments, reason);
    let (spool, _) = spool::Spool::open(local::options(segments.clone()))?;
    let compacted = spool.compact().map_err(|error| refuse(error.to_string()))?;
    spool.close().map_err(|error| refuse(error.to_string()))?;
    Ok(compacted)
}

impl View {
    /// Reads the spool in `folder`; `progress` hears about it once a second when it takes long.
    ///
    /// # Errors
    /// There is no spool, it cannot be read, or, with [`Access::Quiet`], a process has it.
    pub fn open(
        folder: &Path,
        access: Access,
        progress: &(dyn Fn(ScanProgress) + Sync),
    ) -> Result<Self, OpenStoreError> {
        let segments = segments_dir(folder)?;
        let found = spool::examine(&segments, access, progress)?;
        Ok(Self { segments, found })
    }

    /// The folder of the segments.
    pub fn dir(&self) -> &Path {
        &self.segments
    }

    /// What the spool's own examination found.
    pub fn found(&self) -> &Examination {
        &self.found
    }

    /// The messages that wait, in the order of their ids.
    pub fn messages(&self) -> impl Iterator<Item = Result<Stored, Undecodable>> {
        self.found.messages.iter().map(|message| {
            let decoded = local::decode(message).map(|(envelope, mark)| Stored { envelope, mark });
            decoded.map_err(|error| Undecodable { id: MessageId(message.id.0), reason: error.to_string() })
        })
    }

    /// Envelopes that were set aside because their body is gone, as far as they can be read.
    pub fn set_aside_envelopes(&self) -> Vec<Envelope> {
        let folder = self.segments.join(spool::DAMAGED_DIR);
        let names =
            self.found.set_aside.iter().map(|file| &file.name).filter(|name| name.ends_with(".envelope"));
        let read = names.filter_map(|name| std::fs::read(folder.join(name)).ok());
        read.filter_map(|bytes| Envelope::decode(&Bytes::from(bytes)).ok()).collect()
    }

    /// A body, verified.
    ///
    /// # Errors
    /// See [`Unread`].
    pub fn read_body(&self, id: MessageId) -> Result<Bytes, Unread> {
        self.found.read_body(spool::Id(id.0)).map_err(|error| match error {
            ReadError::NotFound(_) => Unread::Gone,
            damaged => Unread::Damaged(damaged.to_string()),
        })
    }
}
