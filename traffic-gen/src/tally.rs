//! What a worker has counted. Its own connections write it, and the reporter takes the last second's part
//! out of it once a second.
//!
//! Only final replies count: nothing is added when a message begins.

use crate::sequences::Sequences;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use reports::latency::{new_histogram, record_ns};

use crate::clock::NS_PER_SECOND;

/// Seconds that are counted one by one, a week; later replies count for the last of them.
const SECONDS_MAX: usize = 7 * 86_400;

/// Kinds of error told apart; what comes after counts as `other`.
const ERROR_KINDS_MAX: usize = 64;

/// Counts of one worker, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    /// The messages counted in `failed`.
    pub(crate) failed_sequences: Sequences,
    /// The messages counted in `unknown`.
    pub(crate) unknown_sequences: Sequences,
    /// Bytes of header and body of the messages sent.
    pub(crate) bytes: u64,
    pub(crate) connections_opened: u64,
    pub(crate) connections_lost: u64,
    pub(crate) connections_open: u64,
    pub(crate) first_sent_ns: u64,
    pub(crate) last_reply_ns: u64,
    /// Messages sent in each second since the start of the run.
    pub(crate) per_second: Vec<u64>,
    /// Final replies by their code.
    pub(crate) reply_codes: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Latency of the messages sent since the last [`Tally::turn`].
    pub(crate) latency: Histogram<u64>,
}

/// The end of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Final {
    pub(crate) sequence: u64,
    pub(crate) code: u16,
    pub(crate) positive: bool,
    pub(crate) bytes: u64,
    /// What `sent` said: the intended time, or the time of MAIL.
    pub(crate) sent_ns: u64,
    pub(crate) reply_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            sent: 0,
            failed: 0,
            unknown: 0,
            failed_sequences: Sequences::default(),
            unknown_sequences: Sequences::default(),
            bytes: 0,
            connections_opened: 0,
            connections_lost: 0,
            connections_open: 0,
            first_sent_ns: u64::MAX,
            last_reply_ns: 0,
            per_second: Vec::new(),
            reply_codes: BTreeMap::new(),
            errors: BTreeMap::new(),
            latency: new_histogram(),
        }
    }

    /// Counts a message that was answered. The latency is that of accepted messages only: refusals are
    /// often quicker.
    pub(crate) fn answered(&mut self, message: &Final, start_ns: u64) {
        *self.reply_codes.entry(message.code).or_insert(0) += 1;
        self.first_sent_ns = self.first_sent_ns.min(message.sent_ns);
        self.last_reply_ns = self.last_reply_ns.max(message.reply_ns);
        if !message.positive {
            self.failed += 1;
            self.failed_sequences.add(message.sequence);
            return;
        }
        self.sent += 1;
        self.bytes += message.bytes;
        record_ns(&mut self.latency, message.reply_ns.saturating_sub(message.sent_ns));
        let second = message.reply_ns.saturating_sub(start_ns) / NS_PER_SECOND;
        let second = usize::try_from(second).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += 1;
    }

    /// Counts a message whose answer will never be read.
    pub(crate) fn lost(&mut self, sequence: u64, sent_ns: u64, now_ns: u64) {
        self.unknown += 1;
        self.unknown_sequences.add(sequence);
        self.first_sent_ns = self.first_sent_ns.min(sent_ns);
        self.last_reply_ns = self.last_reply_ns.max(now_ns);
    }

    /// Counts a message that could not be offered to the server, such as one above its size limit.
    pub(crate) fn refused_here(&mut self, sequence: u64, sent_ns: u64) {
        self.failed += 1;
        self.failed_sequences.add(sequence);
        self.first_sent_ns = self.first_sent_ns.min(sent_ns);
        self.last_reply_ns = self.last_reply_ns.max(sent_ns);
    }

    pub(crate) fn error(&mut self, kind: &str) {
        if let Some(count) = self.errors.get_mut(kind) {
            *count += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(kind.to_owned(), 1);
        } else {
            *self.errors.entry("other".to_owned()).or_insert(0) += 1;
        }
    }

    /// Takes out the latencies since the last turn; `empty` comes in their place.
    pub(crate) fn turn(&mut self, empty: &mut Histogram<u64>) {
        std::mem::swap(&mut self.latency, empty);
    }

    /// Adds everything except the latencies.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.failed_sequences.add_all(&other.failed_sequences);
        self.unknown_sequences.add_all(&other.unknown_sequences);
        self.bytes += other.bytes;
        self.connections_opened += other.connections_opened;
        self.connections_lost += other.connections_lost;
        self.connections_open += other.connections_open;
        self.first_sent_ns = self.first_sent_ns.min(other.first_sent_ns);
        self.last_reply_ns = self.last_reply_ns.max(other.last_reply_ns);
        if self.per_second.len() < other.per_second.len() {
            self.per_second.resize(other.per_second.len(), 0);
        }
        self.per_second.iter_mut().zip(&other.per_second).for_each(|(sum, count)| *sum += count);
        other
            .reply_codes
            .iter()
            .for_each(|(code, count)| *self.reply_codes.entry(*code).or_insert(0) += count);
        other.errors.iter().for_each(|(kind, count)| *self.errors.entry(kind.clone()).or_insert(0) += count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_but_its_latency_does_not() {
        let mut tally = Tally::new();
        let refused =
            Final { sequence: 0, code: 550, positive: false, bytes: 10, sent_ns: 1_000, reply_ns: 2_000 };
        tally.answered(&refused, 0);
        tally.answered(&Final { code: 250, positive: true, reply_ns: 1_500_000_000, ..refused }, 0);
        tally.lost(1, 500, 3_000);
        assert_eq!((tally.sent, tally.failed, tally.unknown, tally.bytes), (1, 1, 1, 10));
        assert_eq!((tally.latency.len(), tally.first_sent_ns, tally.last_reply_ns), (1, 500, 1_500_000_000));
        assert_eq!(tally.per_second, [0, 1]);
        assert_eq!(tally.reply_codes, BTreeMap::from([(250, 1), (550, 1)]));
    }

    #[test]
    fn kinds_of_error_are_bounded() {
        let mut tally = Tally::new();
        (0..1_000).for_each(|kind| tally.error(&kind.to_string()));
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(tally.errors.values().sum::<u64>(), 1_000);
    }
}
