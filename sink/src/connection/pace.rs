//! So many bytes a second, for a connection that is to be slow.
//!
//! Time is cut into tenths of a second: a piece goes at once, then the pace waits for as long as the piece
//! is worth.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How many pieces there are in a second.
const PIECES_PER_SECOND: u32 = 10;

/// One direction of one connection.
pub(super) struct Pace {
    bytes_per_s: u32,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u32) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), wait: None }
    }

    /// Ready when the next piece may go.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        Poll::Ready(())
    }

    /// The largest piece, in bytes.
    pub(super) fn piece_bytes(&self) -> usize {
        usize::try_from(self.bytes_per_s / PIECES_PER_SECOND).unwrap_or(usize::MAX).max(1)
    }

    /// So many bytes have gone.
    pub(super) fn spend(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let worth = Duration::from_secs(1).mul_f64(f64::from(bytes) / f64::from(self.bytes_per_s));
        self.wait = Some(Box::pin(sleep(worth)));
    }
}
