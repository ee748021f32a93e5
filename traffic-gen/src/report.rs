//! What came of a run. Field names are a promise: programs read the JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use reports::latency::{new_histogram, summary};
use reports::run::Latency;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::tally::Tally;

/// The result of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The name that every message carries.
    pub run_id: String,
    /// The server, as the operator wrote it.
    pub target: String,
    /// What recipients and bodies were made from.
    pub seed: u64,
    /// Bytes of each body; the mean where they differ.
    pub body_bytes: u64,
    /// Connections asked for.
    pub concurrency: usize,
    /// Messages per second asked for; null in a closed loop.
    pub rate_per_s: Option<f64>,
    /// Messages asked for; null where the time was the limit.
    pub message_count: Option<u64>,
    /// Final 250 read.
    pub sent: u64,
    /// Final refusal read.
    pub failed: u64,
    /// Connection lost before the final reply.
    pub unknown: u64,
    /// First and last of each run of refused messages; shorter than `failed` where there were over a million.
    #[serde(default)]
    pub failed_sequences: Vec<[u64; 2]>,
    /// The same for `unknown`.
    #[serde(default)]
    pub unknown_sequences: Vec<[u64; 2]>,
    /// Due by the schedule and never begun; always 0 in a closed loop.
    pub behind: u64,
    /// From the first (intended) send to the last final reply, in seconds.
    pub elapsed_s: f64,
    /// Million messages per hour, counting `sent`.
    pub mmh: f64,
    /// To the final 250: from the intended time with a rate, else from the first byte of MAIL.
    pub latency_us: Latency,
    /// The first intended send, `CLOCK_MONOTONIC`; null where nothing was begun.
    pub first_sent_ns: Option<u64>,
    /// The last final reply, `CLOCK_MONOTONIC`; null where nothing was begun.
    pub last_reply_ns: Option<u64>,
    /// Messages sent in each second since the start of the run.
    pub per_second: Vec<u64>,
    /// Connections opened.
    pub connections: u64,
    /// Connections that were lost, refused or timed out.
    pub connections_lost: u64,
    /// Bytes of header and body of the messages sent.
    pub bytes: u64,
    /// Final replies by their code.
    pub reply_codes: BTreeMap<u16, u64>,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Whether a signal ended the run.
    pub interrupted: bool,
    /// All latencies of messages sent, in microseconds.
    #[serde(skip, default = "new_histogram")]
    pub latency: Histogram<u64>,
}

impl Report {
    pub(crate) fn new(
        plan: &Plan,
        body_bytes: f64,
        total: Tally,
        latency: Histogram<u64>,
        behind: u64,
        interrupted: bool,
    ) -> Self {
        let begun = total.sent + total.failed + total.unknown > 0;
        let elapsed_ns = if begun { total.last_reply_ns.saturating_sub(total.first_sent_ns) } else { 0 };
        let elapsed_s = elapsed_ns as f64 / 1e9;
        Self {
            run_id: plan.run_id.to_string(),
            target: plan.target.name.clone(),
            seed: plan.seed,
            body_bytes: rounded(body_bytes),
            concurrency: plan.concurrency,
            rate_per_s: plan.rate_per_second,
            message_count: plan.message_count,
            sent: total.sent,
            failed: total.failed,
            unknown: total.unknown,
            failed_sequences: total.failed_sequences.ranges(),
            unknown_sequences: total.unknown_sequences.ranges(),
            behind,
            elapsed_s,
            mmh: if elapsed_ns > 0 { mmh(total.sent as f64 / elapsed_s) } else { 0.0 },
            latency_us: summary(&latency),
            first_sent_ns: begun.then_some(total.first_sent_ns),
            last_reply_ns: begun.then_some(total.last_reply_ns),
            per_second: total.per_second,
            connections: total.connections_opened,
            connections_lost: total.connections_lost,
            bytes: total.bytes,
            reply_codes: total.reply_codes,
            errors: total.errors,
            interrupted,
            latency,
        }
    }

    /// Messages asked for and never begun.
    pub fn unsent(&self) -> u64 {
        let begun = self.sent + self.failed + self.unknown;
        self.message_count.map_or(0, |count| count.saturating_sub(begun))
    }

    /// 0 where every message was sent, 130 after a signal, else 1. A run that sent nothing is no success.
    pub fn exit_code(&self) -> u8 {
        if self.interrupted {
            130
        } else {
            u8::from(self.failed + self.unknown + self.unsent() > 0 || self.sent == 0)
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of sizes is not negative, and a cast from a float stays at the bounds"
)]
fn rounded(bytes: f64) -> u64 {
    bytes.round() as u64
}

/// Million messages per hour.
pub(crate) fn mmh(messages_per_second: f64) -> f64 {
    messages_per_second * 3600.0 / 1e6
}
