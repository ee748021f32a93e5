//! The border to the disk: which file operations the spool needs, and who may perform them.
//! `Disk` is the directory, `File` one segment, `Lane` the way by which batches become durable while others are being
//! filled. Blocking calls belong to `Disk` and `File`; only `Lane` is used by the writer. Errors are the kernel's own.

mod host;
pub(crate) mod ladder;
#[cfg(test)]
pub(crate) mod memory;
mod progress;
mod threads;
#[cfg(feature = "tokio-uring")]
mod tokio_uring;
pub(crate) mod uring;
mod wake;

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

pub use host::DAMAGED_DIR;
pub(crate) use host::{HostDisk, make_directory};
pub(crate) use progress::{Next, Progress};
pub(crate) use threads::ThreadsLane;
#[cfg(feature = "tokio-uring")]
pub(crate) use tokio_uring::TokioUringLane;
pub(crate) use uring::{AlignedBuffer, Barrier, UringLane};
pub(crate) use wake::Waker;

/// End of the name of a segment that is not written through yet; such a file is worth nothing after a crash.
pub(crate) const PREPARING_SUFFIX: &str = ".preparing";

/// Shorter parts of a body are cheaper to copy than to write from where they lie.
pub(crate) const GATHER_BYTES_MIN: usize = 4096;

/// One entry of the spool's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) is_file: bool,
}

/// What the file system has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) free_bytes: u64,
    pub(crate) free_inodes: u64,
}

/// The directory of segments. Every call may block.
pub(crate) trait Disk: Send + Sync {
    fn list(&self) -> io::Result<Vec<Entry>>;
    /// Opens an existing segment for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Makes a file of `bytes` bytes that begins with `head` and is zero elsewhere. When it returns, the contents are
    /// durable; the name is so after [`Disk::sync_names`]. Before, there is at most a file whose name ends in
    /// [`PREPARING_SUFFIX`].
    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn File>>;
    /// The file may come back with a power cut until [`Disk::sync_names`] was called.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// When it returns, every file made or removed before stays made or removed.
    fn sync_names(&self) -> io::Result<()>;
    /// Puts a copy of an existing file, in new blocks and durable, in its place. The file itself is left as it is unless
    /// every byte of it could be read and the copy is durable.
    fn write_anew(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Moves a whole file into `damaged/`, durably.
    fn set_file_aside(&self, name: &str) -> io::Result<()>;
    /// Keeps a copy of a damaged region in `damaged/`, once.
    fn set_bytes_aside(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    fn space(&self) -> io::Result<Space>;
}

/// One segment file.
pub(crate) trait File: Send + Sync {
    fn bytes(&self) -> io::Result<u64>;
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// May be short. With `sync` the bytes are on stable storage when it returns.
    fn write_at(&self, bytes: &[u8], offset: u64, sync: bool) -> io::Result<usize>;
    /// As [`File::write_at`], from several places of memory, through the page cache.
    fn write_slices_at(&self, slices: &[IoSlice<'_>], offset: u64, sync: bool) -> io::Result<usize>;
    fn sync(&self) -> io::Result<()>;
    /// The descriptor to write batches with, for lanes that go around `write_at`.
    fn descriptor(&self) -> Option<Arc<OwnedFd>>;
    /// Batches will be written to it.
    fn arm(&self) -> io::Result<()>;
    /// No batch will be written to it until it is armed again.
    fn retire(&self);
    /// Tells files of the memory disk apart.
    #[cfg(test)]
    fn identity(&self) -> Option<u64> {
        None
    }
}

/// A stretch of a batch that is written from several places.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Of the batch's own buffer.
    Own(Range<usize>),
    /// Of a caller's body, which is not copied.
    Lent(Bytes),
}

/// What a batch is written from.
pub(crate) struct Load {
    pub(crate) buffer: AlignedBuffer,
    /// Empty: all of it lies in the buffer, from its beginning.
    pub(crate) pieces: Vec<Piece>,
    /// Length on the disk.
    pub(crate) bytes: usize,
}

impl Load {
    /// The stretches from `written` on, in order.
    pub(crate) fn slices(&self, written: usize) -> impl Iterator<Item = &[u8]> {
        let whole = self.pieces.is_empty().then(|| &self.buffer[..self.bytes]);
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Own(range) => &self.buffer[range.clone()],
            Piece::Lent(bytes) => &bytes[..],
        });
        let mut skip = written;
        whole.into_iter().chain(pieces).filter_map(move |slice| {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            (skipped < slice.len()).then(|| &slice[skipped..])
        })
    }

    /// Where a byte of the batch lies in the buffer; `None` if it was lent.
    pub(crate) fn in_buffer(&self, at: usize) -> Option<usize> {
        let mut before = 0;
        for piece in &self.pieces {
            let length = match piece {
                Piece::Own(range) => range.len(),
                Piece::Lent(bytes) => bytes.len(),
            };
            if at < before + length {
                let Piece::Own(range) = piece else { return None };
                return Some(range.start + at - before);
            }
            before += length;
        }
        self.pieces.is_empty().then_some(at)
    }
}

/// A batch on its way. The lane owns the load until it hands back a [`Done`].
pub(crate) struct Write {
    pub(crate) token: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) offset: u64,
    pub(crate) load: Load,
    pub(crate) sync: bool,
}

/// A batch that came back.
pub(crate) struct Done {
    pub(crate) token: u64,
    pub(crate) load: Load,
    pub(crate) result: io::Result<()>,
}

/// Writes a batch to its place, from wherever it lies.
pub(crate) fn write_load(write: &Write) -> io::Result<()> {
    let Write { file, offset, load, sync, .. } = write;
    if load.pieces.is_empty() {
        return write_through(&**file, &load.buffer[..load.bytes], *offset, *sync);
    }
    let mut progress = Progress::new(load.bytes, 1, false);
    loop {
        let slices: Vec<IoSlice<'_>> = load.slices(progress.written()).map(IoSlice::new).collect();
        let answer = file.write_slices_at(&slices, *offset + progress.written() as u64, *sync);
        if let Next::Over(result) = progress.wrote(answer) {
            return result;
        }
    }
}

/// Writes batches, several at a time. Belongs to the writer's thread.
pub(crate) trait Lane {
    /// Starts a write. Failures come back as [`Done`].
    fn submit(&mut self, write: Write);
    /// Parts of bodies from this length on are written from where they lie; `None`: everything is copied into the buffer.
    fn gather_bytes_min(&self) -> Option<usize>;
    /// Collects finished writes; with `block` it sleeps until there is one or the [`Waker`] fires.
    fn collect(&mut self, block: bool, done: &mut Vec<Done>);
}

/// Writes all of `bytes`: short writes are continued, EINTR and EAGAIN repeated.
pub(crate) fn write_through(file: &dyn File, bytes: &[u8], offset: u64, sync: bool) -> io::Result<()> {
    // A direct write must start at a block; what a short one left in a block is written again.
    let mut progress = Progress::new(bytes.len(), crate::format::BLOCK_BYTES, false);
    loop {
        let written = progress.written();
        let answer = file.write_at(&bytes[written..], offset + written as u64, sync);
        if let Next::Over(result) = progress.wrote(answer) {
            return result;
        }
    }
}

/// Reads until `buffer` is full or the file ends; returns the bytes read.
pub(crate) fn read_through(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}
