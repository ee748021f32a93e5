//! A real directory: opening, zero-filling, renaming and syncing segment files.
//! Writes go past the page cache where the file system lets us and through it where not; reads always go through it.
//! Owns `damaged/`, where regions and files that failed their checks are kept for the operator.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{AlignedBuffer, Disk, Entry, File, PREPARING_SUFFIX, Space, write_through};
use crate::format::{BLOCK_BYTES, in_memory};

/// Folder inside the spool for what was set aside: damaged regions and segments, envelopes without a body.
pub const DAMAGED_DIR: &str = "damaged";

/// Bytes written at a time while a new segment is filled with zeros.
const FILL_BYTES: usize = 1 << 20;

/// The spool's directory on a file system of this host.
pub(crate) struct HostDisk {
    dir: PathBuf,
    direct: bool,
}

impl HostDisk {
    /// `direct`: whether the file system was seen to take O_DIRECT.
    pub(crate) fn new(dir: &Path, direct: bool) -> Self {
        Self { dir: dir.to_owned(), direct }
    }

    fn file(&self, path: PathBuf, opened: &Path, flags: OFlags) -> io::Result<HostFile> {
        let mode = Mode::RUSR | Mode::WUSR;
        let buffered = Arc::new(rustix::fs::open(opened, OFlags::RDWR | OFlags::CLOEXEC | flags, mode)?);
        Ok(HostFile { path, buffered, direct: RwLock::new(None), use_direct: self.direct })
    }

    fn create_as(&self, made: &Path, kept: &Path, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn File>> {
        let file = self.file(kept.to_owned(), made, OFlags::CREATE | OFlags::TRUNC)?;
        file.arm_from(made)?;
        file.fill(bytes, head)?;
        fs::rename(made, kept)?;
        Ok(Arc::new(file))
    }

    fn copy_as(&self, kept: &Path, made: &Path) -> io::Result<Arc<dyn File>> {
        let original = fs::File::open(kept)?;
        let file = self.file(kept.to_owned(), made, OFlags::CREATE | OFlags::TRUNC)?;
        let mut buffer = AlignedBuffer::new(FILL_BYTES)?;
        let mut offset = 0;
        loop {
            let filled = rustix::io::pread(&original, &mut buffer[..], offset)?;
            if filled == 0 {
                break;
            }
            write_through(&file, &buffer[..filled], offset, false)?;
            offset += filled as u64;
        }
        rustix::fs::fsync(&file.buffered)?;
        fs::rename(made, kept)?;
        sync_directory(&self.dir)?;
        Ok(Arc::new(file))
    }
}

/// Makes a directory with its parents. When it returns, the names of all those that were missing are durable: a spool whose
/// directory is gone after a power cut has lost everything.
pub(crate) fn make_directory(dir: &Path) -> io::Result<()> {
    let missing = dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).count();
    fs::create_dir_all(dir)?;
    for (depth, made) in dir.ancestors().enumerate() {
        let Some(parent) = made.parent() else { return Ok(()) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match sync_directory(parent) {
            Err(error) if depth < missing => return Err(error),
            // Whoever made it before us may have left it unsynced; where we may not look, we may not sync either.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

impl Disk for HostDisk {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: metadata.len(),
                is_file: metadata.is_file(),
            });
        }
        Ok(entries)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.dir.join(name);
        Ok(Arc::new(self.file(path.clone(), &path, OFlags::empty())?))
    }

    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn File>> {
        let preparing = self.dir.join(format!("{name}{PREPARING_SUFFIX}"));
        let made = self.create_as(&preparing, &self.dir.join(name), bytes, head);
        if made.is_err() {
            // What is left of it would only take room; the next start removes it if this does not.
            let _ = fs::remove_file(&preparing);
        }
        made
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.dir)
    }

    fn write_anew(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let preparing = self.dir.join(format!("{name}{PREPARING_SUFFIX}"));
        let made = self.copy_as(&self.dir.join(name), &preparing);
        if made.is_err() {
            // As in `create`.
            let _ = fs::remove_file(&preparing);
        }
        made
    }

    fn set_file_aside(&self, name: &str) -> io::Result<()> {
        let damaged = self.dir.join(DAMAGED_DIR);
        fs::create_dir_all(&damaged)?;
        let mut target = damaged.join(name);
        let mut copy = 1;
        while target.exists() {
            target = damaged.join(format!("{name}.{copy}"));
            copy += 1;
        }
        fs::rename(self.dir.join(name), target)?;
        sync_directory(&damaged)?;
        sync_directory(&self.dir)
    }

    fn set_bytes_aside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let damaged = self.dir.join(DAMAGED_DIR);
        fs::create_dir_all(&damaged)?;
        let target = damaged.join(name);
        if target.exists() {
            return Ok(());
        }
        fs::write(&target, bytes)?;
        fs::File::open(&target)?.sync_all()?;
        sync_directory(&damaged)
    }

    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.dir)?;
        // Some file systems (btrfs) have no fixed number of inodes and report none at all.
        let free_inodes = if found.f_files == 0 { u64::MAX } else { found.f_favail };
        Ok(Space { free_bytes: found.f_bavail.saturating_mul(found.f_frsize), free_inodes })
    }
}

/// One segment: a descriptor for reading, and one past the page cache while batches are written to it.
struct HostFile {
    path: PathBuf,
    buffered: Arc<OwnedFd>,
    direct: RwLock<Option<Arc<OwnedFd>>>,
    use_direct: bool,
}

impl HostFile {
    /// Writes every block, so that later writes are pure overwrites and need no second flush for the journal.
    fn fill(&self, bytes: u64, head: &[u8]) -> io::Result<()> {
        // Only a hint for one contiguous extent: file systems without it are filled all the same.
        match rustix::fs::fallocate(&self.buffered, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Err(error) if error == Errno::NOSPC => return Err(error.into()),
            _ => {}
        }
        let mut buffer = AlignedBuffer::new(FILL_BYTES)?;
        buffer[..head.len()].copy_from_slice(head);
        let mut offset = 0;
        while offset < bytes {
            let length = in_memory((bytes - offset).min(FILL_BYTES as u64));
            write_through(self, &buffer[..length], offset, false)?;
            buffer[..head.len()].fill(0);
            offset += length as u64;
        }
        rustix::fs::fsync(&self.buffered)?;
        Ok(())
    }

    fn arm_from(&self, path: &Path) -> io::Result<()> {
        if self.use_direct {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::DIRECT;
            let opened = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
            *self.direct.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        }
        Ok(())
    }

    fn write_fd(&self, bytes: &[u8], offset: u64) -> Arc<OwnedFd> {
        let block = BLOCK_BYTES as u64;
        let aligned = bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
            && bytes.len().is_multiple_of(BLOCK_BYTES)
            && offset.is_multiple_of(block);
        let direct = if aligned { self.direct_fd() } else { None };
        direct.unwrap_or_else(|| Arc::clone(&self.buffered))
    }

    fn direct_fd(&self) -> Option<Arc<OwnedFd>> {
        self.direct.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl File for HostFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(u64::try_from(rustix::fs::fstat(&self.buffered)?.st_size).unwrap_or(0))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.buffered, buffer, offset)?)
    }

    fn write_at(&self, bytes: &[u8], offset: u64, sync: bool) -> io::Result<usize> {
        let descriptor = self.write_fd(bytes, offset);
        if sync {
            write_synced(descriptor.as_fd(), bytes, offset)
        } else {
            Ok(rustix::io::pwrite(&descriptor, bytes, offset)?)
        }
    }

    fn write_slices_at(&self, slices: &[io::IoSlice<'_>], offset: u64, sync: bool) -> io::Result<usize> {
        let flags = if sync { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        match rustix::io::pwritev2(&self.buffered, slices, offset, flags) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let written = rustix::io::pwritev(&self.buffered, slices, offset)?;
                if sync {
                    rustix::fs::fdatasync(&self.buffered)?;
                }
                Ok(written)
            }
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.buffered)?)
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        Some(self.direct_fd().unwrap_or_else(|| Arc::clone(&self.buffered)))
    }

    fn arm(&self) -> io::Result<()> {
        self.arm_from(&self.path)
    }

    fn retire(&self) {
        *self.direct.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// One write with its own barrier; where the file system does not know RWF_DSYNC, a write and an fdatasync.
fn write_synced(descriptor: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<usize> {
    let slices = [io::IoSlice::new(bytes)];
    match rustix::io::pwritev2(descriptor, &slices, offset, ReadWriteFlags::DSYNC) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let written = rustix::io::pwrite(descriptor, bytes, offset)?;
            rustix::fs::fdatasync(descriptor)?;
            Ok(written)
        }
        other => Ok(other?),
    }
}
