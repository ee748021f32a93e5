//! The spool itself, by each of its back ends.
//!
//! It owns an open spool with spare segments enough that none is made while it is measured. Where the host refuses the back end or
//! the mode, there is no contender and the reason is told.

use std::path::Path;

use spool::{Backend, OpenError, Options, Spool, WriteMode};

use super::appender::append_until;
use super::contender::Prepared;
use super::measure::{Edge, Load, Outcome, Stage, Way, merged};
use super::processor;
use crate::error::{Error, Result};

/// Size of a segment.
pub(super) const SEGMENT_BYTES: u64 = 64 << 20;
/// Segments beside those that hold what is alive: one that is written, its successor, and those that wait to be wiped.
const SEGMENTS_AROUND: u64 = 4;

/// A back end and a mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) backend: Backend,
    pub(super) mode: WriteMode,
}

/// Spare segments for `span_bytes` alive or not yet deleted. The spool makes new ones when half of them are in use, so there are
/// twice as many.
pub(super) fn spares_for(span_bytes: u64) -> u32 {
    let segments = 2 * (span_bytes.div_ceil(SEGMENT_BYTES) + SEGMENTS_AROUND);
    u32::try_from(segments).unwrap_or(u32::MAX)
}

pub(super) struct SpoolWay {
    spool: Spool,
    /// The thread "spool-writer" of this spool.
    writer: Option<u32>,
}

impl SpoolWay {
    /// `span_bytes` is the most that is alive or not yet deleted.
    pub(super) fn open(dir: &Path, choice: Choice, span_bytes: u64) -> Result<Prepared> {
        let mut options = Options::new(dir);
        options.segment_bytes = SEGMENT_BYTES;
        options.segments_spare = spares_for(span_bytes);
        (options.backend, options.mode) = (choice.backend, choice.mode);
        let before = processor::threads_named("spool-writer");
        let spool = match Spool::open(options) {
            Ok((spool, _)) => spool,
            Err(OpenError::Uring { reason, .. }) => return Ok(Prepared::Refused(reason)),
            Err(error) => return Err(Error::Peer(error.to_string())),
        };
        if let Some(reason) = spool.stats().fallback_reason {
            return Ok(Prepared::Refused(reason));
        }
        let writer =
            processor::threads_named("spool-writer").into_iter().find(|thread| !before.contains(thread));
        Ok(Prepared::Ready(Box::new(Self { spool, writer })))
    }

    fn look(&self) -> Edge {
        let stats = self.spool.stats();
        Edge {
            writer_cpu: self.writer.and_then(processor::of_thread),
            batches: stats.batches,
            batched: stats.appends,
            segments_made: stats.segments_made,
            ..Edge::of_process()
        }
    }
}

impl Way for SpoolWay {
    fn run(&mut self, load: &Load, stage: &Stage<'_>) -> Result<Outcome> {
        let window = stage.window();
        let together = load.mail.deletes_together(load.writers);
        let appender = || append_until(self.spool.clone(), load.mail, together, window);
        let tasks: Vec<_> = (0..load.writers).map(|_| stage.runtime.spawn(appender())).collect();
        let edges = stage.watch(window, || self.look());
        let mut tallies = Vec::with_capacity(tasks.len());
        for task in tasks {
            let tally = stage.runtime.block_on(task).map_err(|error| Error::Peer(error.to_string()))?;
            tallies.push(tally.map_err(|error| Error::Peer(error.to_string()))?);
        }
        Ok(Outcome { latencies: merged(tallies), length: stage.length, edges })
    }
}
