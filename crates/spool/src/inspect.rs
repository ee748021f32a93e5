//! Looking at the bytes of segments without a spool around them: for tools, tests and fuzzing.
//! Runs the very code that recovery runs, on files that can only be read. Refuses bytes without a valid segment header;
//! never panics, always ends.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::disk::File;
use crate::format::SegmentHeader;
use crate::options::Rules;
use crate::recover::scan_records;

/// What a scan found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanSummary {
    /// Generation of the segment.
    pub generation: u64,
    /// Records that verified.
    pub records: u64,
    /// Those of them that belong to a complete transaction.
    pub committed: u64,
    /// Bytes of payload in committed records.
    pub payload_bytes: u64,
    /// Regions between valid records where something is missing, and a tail without a seal.
    pub gaps: u64,
    /// The segment was closed in order.
    pub sealed: bool,
}

/// Scans the contents of a segment file.
///
/// # Errors
/// Says what is wrong with the segment's header.
pub fn scan_segment_bytes(bytes: &[u8]) -> Result<ScanSummary, &'static str> {
    let header = SegmentHeader::decode(bytes)?;
    let file: Arc<dyn File> = Arc::new(ReadOnly(bytes.to_vec()));
    let scanned = scan_records(file, header, bytes.len() as u64, Rules::ALL);
    let committed = || scanned.kept.each().into_iter().flatten();
    Ok(ScanSummary {
        generation: header.generation,
        records: scanned.records,
        committed: committed().count() as u64,
        payload_bytes: committed().map(|kept| u64::from(kept.payload_bytes)).sum(),
        gaps: scanned.gaps.len() as u64,
        sealed: scanned.sealed,
    })
}

/// Bytes that can be read from any place.
pub(crate) trait Source: Send + Sync {
    fn bytes(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for Vec<u8> {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let length = buffer.len().min(self.len() - from);
        buffer[..length].copy_from_slice(&self[from..from + length]);
        Ok(length)
    }
}

impl Source for std::fs::File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// A segment that is only read; what would change it is refused.
pub(crate) struct ReadOnly<S>(pub(crate) S);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl<S: Source> File for ReadOnly<S> {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64, _sync: bool) -> io::Result<usize> {
        refused()
    }

    fn write_slices_at(&self, _slices: &[IoSlice<'_>], _offset: u64, _sync: bool) -> io::Result<usize> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    fn arm(&self) -> io::Result<()> {
        refused()
    }

    fn retire(&self) {}
}
