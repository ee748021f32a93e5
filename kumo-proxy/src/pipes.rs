//! Pipes that bytes pass through without being copied, kept for the next who needs one.
//!
//! A connection holds a pipe only while bytes are on their way, so that ten thousand idle ones cost no descriptors. A pipe goes back
//! only when it is empty. Where the host has no descriptors left, whoever asked copies instead.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes that a pipe holds, where the host allows so much.
pub const PIPE_BYTES: usize = 1 << 20;
/// Empty pipes that are kept.
const KEPT_MAX: usize = 256;

/// A pipe.
#[derive(Debug)]
pub struct Pipe {
    /// Where bytes come out.
    pub read: OwnedFd,
    /// Where they go in.
    pub write: OwnedFd,
}

/// The pipes that nobody uses.
#[derive(Debug, Default)]
pub struct Pipes(Mutex<Vec<Pipe>>);

impl Pipes {
    /// An empty one.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn take(&self) -> io::Result<Pipe> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(Pipe::new, Ok)
    }

    /// Gives one back, which must be empty.
    pub fn give(&self, pipe: Pipe) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(pipe);
        }
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user without privileges has a budget for all pipes; a smaller one works, too.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write })
    }
}
