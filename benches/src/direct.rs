//! What direct writes ask for: aligned memory, and a file whose every extent was written before the clock starts.
//!
//! It owns both makers. Memory made here is never given back, so it is made a few times in the life of a program. A refusal
//! of the host names the file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{During, Result};

/// What O_DIRECT asks of addresses, offsets and lengths.
pub(crate) const ALIGN_BYTES: usize = 4096;
/// Bytes written at a time while a file is written through.
const FILL_BYTES: usize = 4 * 1024 * 1024;

/// `bytes` bytes at an aligned address, never given back.
pub(crate) fn aligned(bytes: usize) -> &'static mut [u8] {
    let memory = vec![0_u8; bytes + ALIGN_BYTES].leak();
    let start = memory.as_ptr().align_offset(ALIGN_BYTES);
    let memory = &mut memory[start..start + bytes];
    // Touching every page now keeps page faults out of the measured time.
    memory.fill(1);
    memory
}

/// The file, opened for direct writes, every extent of its `bytes` bytes written. `bytes` is a multiple of 4 MiB.
pub(crate) fn open_written(path: &Path, bytes: u64) -> Result<File> {
    let describe = || format!("prepare {}", path.display());
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).custom_flags(flags);
    let mut file = options.open(path).during(describe)?;
    if file.metadata().during(describe)?.len() != bytes {
        let chunk = aligned(FILL_BYTES);
        for _ in 0..bytes / FILL_BYTES as u64 {
            file.write_all(chunk).during(describe)?;
        }
        file.sync_all().during(describe)?;
    }
    Ok(file)
}
