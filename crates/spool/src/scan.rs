//! Reads one segment and yields the records that verify, in the order in which they lie.
//! Owns the walk over padding, torn writes, damage and what an earlier generation left behind. Refuses to believe any
//! byte that no checksum covers. Read errors count as damage of the block they hit; it never panics and always ends.

use std::ops::Range;

use crate::disk::{File, read_through};
use crate::format::{
    BLOCK_BYTES, RECORD_ALIGN_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordHeader, Seed, in_memory,
};

/// Bytes read at a time; a longer record makes the window as long as itself.
const WINDOW_BYTES: usize = 1 << 20;
const ZERO_BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A record that verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) header: RecordHeader,
    pub(crate) offset: u64,
}

impl Found {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.header.stride_bytes()
    }
}

/// A walk over one segment.
pub(crate) struct Scanner<'f> {
    window: Window<'f>,
    seed: Seed,
    offset: u64,
    /// Regions that a valid header claims and whose payload does not verify.
    pub(crate) broken: Vec<Range<u64>>,
    /// Blocks that could not be read.
    pub(crate) unreadable: u64,
}

impl<'f> Scanner<'f> {
    /// `bytes`: how far the segment reaches.
    pub(crate) fn new(file: &'f dyn File, seed: Seed, bytes: u64) -> Self {
        Self::from(file, seed, bytes, BLOCK_BYTES as u64)
    }

    /// Begins at a record or a block.
    pub(crate) fn from(file: &'f dyn File, seed: Seed, bytes: u64, offset: u64) -> Self {
        let window = Window { file, end: bytes, start: 0, held: Vec::new() };
        Self { window, seed, offset, broken: Vec::new(), unreadable: 0 }
    }

    /// The next record that verifies, with its payload.
    pub(crate) fn next(&mut self) -> Option<(Found, &[u8])> {
        let found = loop {
            if self.offset + RECORD_HEADER_BYTES as u64 > self.window.end {
                return None;
            }
            match self.look() {
                Look::Record(found) => break found,
                Look::Broken(end) => {
                    self.broken.push(self.offset..end);
                    self.offset = end;
                }
                Look::Nothing => self.seek(),
                Look::Unreadable => {
                    self.unreadable += 1;
                    self.offset = next_block(self.offset);
                }
            }
        };
        self.offset = found.end();
        let start = found.offset + RECORD_HEADER_BYTES as u64;
        let payload = self.window.bytes(start, found.header.payload_bytes as usize).unwrap_or(&[]);
        Some((found, payload))
    }

    fn look(&mut self) -> Look {
        let (offset, seed, end) = (self.offset, self.seed, self.window.end);
        let Some(bytes) = self.window.bytes(offset, RECORD_HEADER_BYTES) else { return Look::Unreadable };
        let Some(header) = RecordHeader::decode(bytes, seed) else { return Look::Nothing };
        let found = Found { header, offset };
        let length = header.payload_bytes as usize;
        if offset + RECORD_HEADER_BYTES as u64 + length as u64 > end {
            return Look::Nothing;
        }
        let payload = self.window.bytes(offset + RECORD_HEADER_BYTES as u64, length);
        match payload {
            Some(payload) if header.verifies(payload, seed) => Look::Record(found),
            _ => Look::Broken(found.end()),
        }
    }

    /// Moves on to the next place where a record may begin.
    fn seek(&mut self) {
        self.offset += RECORD_ALIGN_BYTES as u64;
        while self.offset < self.window.end {
            let to_block = in_memory(next_block(self.offset - 1) - self.offset);
            let length = if to_block == 0 { BLOCK_BYTES } else { to_block };
            let length = length.min(in_memory(self.window.end - self.offset));
            let Some(bytes) = self.window.bytes(self.offset, length) else { return };
            if let Some(at) = magic_in(bytes) {
                self.offset += at as u64;
                return;
            }
            self.offset += length as u64;
        }
    }
}

enum Look {
    Record(Found),
    /// A valid header whose payload is not what was written; the region ends there.
    Broken(u64),
    Nothing,
    Unreadable,
}

fn magic_in(bytes: &[u8]) -> Option<usize> {
    // Most of what is searched is zero or a whole block without a record; comparing blocks is as fast as memory.
    if bytes == &ZERO_BLOCK[..bytes.len()] {
        return None;
    }
    let at = bytes.chunks_exact(RECORD_ALIGN_BYTES).position(|chunk| chunk.starts_with(&RECORD_MAGIC));
    at.map(|chunks| chunks * RECORD_ALIGN_BYTES)
}

fn next_block(offset: u64) -> u64 {
    (offset + 1).next_multiple_of(BLOCK_BYTES as u64)
}

/// The part of the file that is in memory.
struct Window<'f> {
    file: &'f dyn File,
    end: u64,
    start: u64,
    held: Vec<u8>,
}

impl Window<'_> {
    /// `None` where the file cannot be read, or ends too early.
    fn bytes(&mut self, offset: u64, length: usize) -> Option<&[u8]> {
        let held = self.start..self.start + self.held.len() as u64;
        if !(held.start <= offset && offset + length as u64 <= held.end) {
            self.load(offset, length)?;
        }
        let from = in_memory(offset - self.start);
        self.held.get(from..from + length)
    }

    fn load(&mut self, offset: u64, length: usize) -> Option<()> {
        let want = length.max(WINDOW_BYTES).min(in_memory(self.end - offset.min(self.end)));
        self.held.resize(want, 0);
        self.start = offset;
        let filled = match read_through(self.file, &mut self.held, offset) {
            Ok(filled) => filled,
            // One bad sector fails a whole window: ask again for no more than is needed.
            Err(_) if length < want => {
                self.held.truncate(length);
                read_through(self.file, &mut self.held, offset).unwrap_or(0)
            }
            Err(_) => 0,
        };
        self.held.truncate(filled);
        (filled >= length).then_some(())
    }
}
