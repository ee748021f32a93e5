//! Looking at the bytes of one segment without a spool around them: for tools, tests and fuzzing.
//! Runs the very code that recovery runs. Refuses bytes without a valid segment header; never panics, always ends.

use std::io;
use std::os::fd::OwnedFd;
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
    let end = header.segment_bytes.min(bytes.len() as u64);
    let file: Arc<dyn File> = Arc::new(Held(bytes.to_vec()));
    let scanned = scan_records(file, header, end, Rules::ALL);
    Ok(ScanSummary {
        generation: header.generation,
        records: scanned.records,
        committed: scanned.kept.len() as u64,
        payload_bytes: scanned.kept.iter().map(|kept| u64::from(kept.payload_bytes)).sum(),
        gaps: scanned.gaps.len() as u64,
        sealed: scanned.sealed,
    })
}

/// A file that is only read, from memory.
struct Held(Vec<u8>);

impl File for Held {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let length = buffer.len().min(self.0.len() - from);
        buffer[..length].copy_from_slice(&self.0[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64, _sync: bool) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write_slices_at(&self, _slices: &[io::IoSlice<'_>], _offset: u64, _sync: bool) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }

    fn arm(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn retire(&self) {}
}
