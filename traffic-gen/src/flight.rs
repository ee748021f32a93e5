//! What a connection is doing and since when, for the worker that watches it.
//!
//! Timeouts cost the path one relaxed store: the worker looks once a second instead of setting a timer for
//! each read.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The stages of a connection that the watch tells apart, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Waits for its turn to connect, or for the time to try again.
    Waiting,
    /// Connects, or waits for the greeting and the reply to EHLO.
    Opening,
    /// Ready, and waits for a message to be due.
    Idle,
    /// A message has begun and has no final reply.
    InMessage,
    /// Has said QUIT.
    Quitting,
}

/// Shared by one connection and its worker.
#[derive(Debug)]
pub(crate) struct Flight {
    stage: AtomicU8,
    second: AtomicU32,
}

impl Flight {
    pub(crate) fn new(second: u32) -> Self {
        Self { stage: AtomicU8::new(Stage::Waiting as u8), second: AtomicU32::new(second) }
    }

    pub(crate) fn enter(&self, stage: Stage, second: u32) {
        self.second.store(second, Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// The peer has taken or given bytes.
    pub(crate) fn touch(&self, second: u32) {
        self.second.store(second, Ordering::Relaxed);
    }

    pub(crate) fn stage(&self) -> Stage {
        let stages = [Stage::Waiting, Stage::Opening, Stage::Idle, Stage::InMessage, Stage::Quitting];
        stages[usize::from(self.stage.load(Ordering::Relaxed)).min(stages.len() - 1)]
    }

    /// Seconds without a sign of life.
    pub(crate) fn silent_seconds(&self, second: u32) -> u32 {
        second.saturating_sub(self.second.load(Ordering::Relaxed))
    }
}
