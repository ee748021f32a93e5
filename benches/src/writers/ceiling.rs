//! What the disk can do at all: overwrites of one size past the page cache, each with its own barrier, one after another.
//!
//! It owns a file whose extents were all written before. It stores nothing; its numbers are what the others are measured
//! against.

use std::fs::File;
use std::io::IoSlice;
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;
use reports::latency::new_histogram;
use rustix::io::ReadWriteFlags;

use super::files::joined;
use super::measure::{Edge, Load, Outcome, Stage, Way, Window};
use crate::direct::{aligned, open_written};
use crate::error::{During, Error, Result};

/// Length of the file that is overwritten from end to end.
pub(super) const FILE_BYTES: u64 = 256 << 20;

pub(super) struct Overwrites {
    file: File,
    piece: &'static [u8],
    offset: u64,
}

impl Overwrites {
    /// `piece_bytes` is a multiple of a block.
    pub(super) fn new(path: &Path, piece_bytes: usize) -> Result<Self> {
        Ok(Self { file: open_written(path, FILE_BYTES)?, piece: aligned(piece_bytes), offset: 0 })
    }

    fn overwrite_until(&mut self, window: Window) -> Result<Histogram<u64>> {
        let mut tally = new_histogram();
        loop {
            let begun = Instant::now();
            if begun >= window.until {
                return Ok(tally);
            }
            self.overwrite()?;
            window.note(&mut tally, begun, Instant::now());
        }
    }

    fn overwrite(&mut self) -> Result<()> {
        let (offset, bytes) = (self.offset, self.piece.len());
        let written =
            rustix::io::pwritev2(&self.file, &[IoSlice::new(self.piece)], offset, ReadWriteFlags::DSYNC)
                .during(|| format!("overwrite {bytes} bytes at {offset}"))?;
        if written != bytes {
            return Err(Error::Peer(format!("the disk took {written} of {bytes} bytes")));
        }
        self.offset = (offset + bytes as u64) % FILE_BYTES;
        Ok(())
    }
}

impl Way for Overwrites {
    fn run(&mut self, _load: &Load, stage: &Stage<'_>) -> Result<Outcome> {
        let window = stage.window();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.overwrite_until(window));
            let edges = stage.watch(window, Edge::of_process);
            Ok(Outcome { latencies: joined(thread.join())?, length: stage.length, edges })
        })
    }
}
