//! The bell of the writer: an eventfd that producers ring only while the writer is about to sleep.
//! Owns the flag that makes ringing rare. Failing to ring cannot lose work, since the writer looks at the queue again
//! after it has raised the flag.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Shared by everyone who has work for the writer.
#[derive(Debug)]
pub(crate) struct Waker {
    bell: OwnedFd,
    sleeping: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { bell: eventfd(0, EventfdFlags::CLOEXEC)?, sleeping: AtomicBool::new(false) })
    }

    /// Called after work was put where the writer will find it. One system call if the writer sleeps, none otherwise.
    pub(crate) fn notify(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Rings whether the writer sleeps or not.
    pub(crate) fn ring(&self) {
        // The counter of an eventfd overflows after 2^64 - 2 rings without a read; nothing else can fail here.
        let _ = rustix::io::write(self.bell.as_fd(), &1_u64.to_ne_bytes());
    }

    /// The writer is about to sleep and must look at its queues once more after this.
    pub(crate) fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Sleeps until somebody rings.
    pub(crate) fn wait(&self) {
        let mut count = [0; 8];
        // EINTR counts as a ring: the caller looks and sleeps again.
        let _ = rustix::io::read(self.bell.as_fd(), &mut count);
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.bell.as_raw_fd()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
