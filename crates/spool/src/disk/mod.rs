//! The border to the disk: which file operations the spool needs, and who may perform them.
//! `Disk` is the directory, `File` one segment, `Lane` the way by which batches become durable while others are being
//! filled. Blocking calls belong to `Disk` and `File`; only `Lane` is used by the writer. Errors are the kernel's own.

mod host;
#[cfg(test)]
pub(crate) mod memory;
mod threads;
pub(crate) mod uring;
mod wake;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use host::{DAMAGED_DIR, HostDisk, make_directory};
pub(crate) use threads::ThreadsLane;
pub(crate) use uring::{AlignedBuffer, UringLane};
pub(crate) use wake::Waker;

/// Attempts at one write that makes no progress before it counts as failed.
pub(crate) const WRITE_ATTEMPTS_MAX: u32 = 64;

/// End of the name of a segment that is not written through yet; such a file is worth nothing after a crash.
pub(crate) const PREPARING_SUFFIX: &str = ".preparing";

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

/// A batch on its way. The lane owns the buffer until it hands back a [`Done`].
pub(crate) struct Write {
    pub(crate) token: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) offset: u64,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) bytes: usize,
    pub(crate) sync: bool,
}

/// A batch that came back.
pub(crate) struct Done {
    pub(crate) token: u64,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) result: io::Result<()>,
}

/// Writes batches, several at a time. Belongs to the writer's thread.
pub(crate) trait Lane {
    /// Starts a write. Failures come back as [`Done`].
    fn submit(&mut self, write: Write);
    /// Collects finished writes; with `block` it sleeps until there is one or the [`Waker`] fires.
    fn collect(&mut self, block: bool, done: &mut Vec<Done>);
}

/// Writes all of `bytes`: short writes are continued, EINTR and EAGAIN repeated.
pub(crate) fn write_through(file: &dyn File, bytes: &[u8], offset: u64, sync: bool) -> io::Result<()> {
    let mut written = 0;
    let mut attempts = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64, sync) {
            Ok(more) if written + more >= bytes.len() => return Ok(()),
            Ok(more) => {
                // A direct write must start at a block; what a short one left in a block is written again.
                let resume = written + more - (written + more) % crate::format::BLOCK_BYTES;
                attempts = if resume > written { 0 } else { attempts + 1 };
                written = resume.max(written);
            }
            Err(error) if is_transient(&error) => attempts += 1,
            Err(error) => return Err(error),
        }
        if attempts >= WRITE_ATTEMPTS_MAX {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "the write makes no progress"));
        }
    }
    Ok(())
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
