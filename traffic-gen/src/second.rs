//! What somebody who watches a run is told, once a second.
//!
//! Owns the picture of one second, not the time at which it is taken. Every second is told, whether it counts
//! for the figures or not, and says which of the two.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::phases::Phases;

/// Which part of a run a second belongs to, by how it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Before the figures: connections are opened, or messages begin that do not count.
    WarmUp,
    /// What the figures are about.
    Measured,
    /// Nothing begins any more; replies are waited for.
    Drain,
}

/// What an [`Observer`] sees of one second.
#[derive(Debug)]
pub struct Second<'a> {
    /// When it began, counted from the first connection that was opened.
    pub offset: Duration,
    /// How long it was; the last one is shorter.
    pub length: Duration,
    /// Which part of the run it belongs to.
    pub window: Window,
    /// Latencies of the messages accepted in it, in microseconds: from the intended time in an open loop, else
    /// from the first byte of MAIL.
    pub latency: &'a Histogram<u64>,
    /// The same messages from the first byte of MAIL.
    pub raw: &'a Histogram<u64>,
    /// How late messages began that were answered in it, in microseconds; empty in a closed loop.
    pub lag: &'a Histogram<u64>,
    /// By how much a thread that sleeps for a millisecond overslept, in microseconds.
    pub hiccup: &'a Histogram<u64>,
    /// How long the steps took whose replies were read in it.
    pub phases: &'a Phases,
    /// Messages sent so far.
    pub sent: u64,
    /// Messages refused so far.
    pub failed: u64,
    /// Messages refused for some of their recipients so far.
    pub partial: u64,
    /// Messages lost sight of so far.
    pub unknown: u64,
    /// Messages begun and not answered.
    pub in_flight: u64,
    /// Connections open now.
    pub connections: u64,
    /// Messages due by the schedule so far; 0 in a closed loop.
    pub due: u64,
    /// Processors that this process kept busy in this second.
    pub cpu_cores: f64,
    /// Final replies so far, by their code.
    pub reply_codes: &'a BTreeMap<u16, u64>,
    /// What went wrong so far, by kind.
    pub errors: &'a BTreeMap<String, u64>,
}

/// Watches a run, once a second, on the thread that runs it.
pub trait Observer {
    /// One second is over, or the rest of one at the end.
    fn second(&mut self, second: &Second<'_>);
}
