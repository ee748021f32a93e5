//! What a worker has counted. Its own connections write it, and the reporter looks at it once a second.
//!
//! Only final replies count: nothing is added when a message begins.

use std::collections::BTreeMap;

use crate::clock::NS_PER_SECOND;
use crate::sequences::Sequences;
use crate::start::Times;

/// Seconds that are counted one by one, a week; later replies count for the last of them.
const SECONDS_MAX: usize = 7 * 86_400;

/// Kinds of error told apart; what comes after counts as `other`.
const ERROR_KINDS_MAX: usize = 64;

/// Messages by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Accepted for all recipients.
    pub(crate) sent: u64,
    /// Accepted for no recipient.
    pub(crate) failed: u64,
    /// Accepted for some recipients.
    pub(crate) partial: u64,
    /// Without a final reply for at least one recipient.
    pub(crate) unknown: u64,
    /// Bytes of header and body of the messages sent.
    pub(crate) bytes: u64,
}

impl Counts {
    /// Messages that have begun and ended.
    pub(crate) fn ended(&self) -> u64 {
        self.sent + self.failed + self.partial + self.unknown
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.partial += other.partial;
        self.unknown += other.unknown;
        self.bytes += other.bytes;
    }
}

/// Counts of one worker, or of all.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Of the whole run.
    pub(crate) all: Counts,
    /// Of the messages that count for the figures.
    pub(crate) measured: Counts,
    /// Messages sent while the figures were taken, whenever they were due.
    pub(crate) accepted_in_window: u64,
    /// Recipients that a message was accepted for.
    pub(crate) recipients_accepted: u64,
    /// Of the messages counted in `partial`: the message and the number of the recipient it was refused for.
    pub(crate) refused_recipients: Sequences<[u64; 2]>,
    /// The messages counted in `failed`.
    pub(crate) failed_sequences: Sequences,
    /// The messages counted in `unknown`.
    pub(crate) unknown_sequences: Sequences,
    pub(crate) connections_opened: u64,
    pub(crate) connections_lost: u64,
    pub(crate) connections_open: u64,
    /// Connections to a server that does not offer what was asked for.
    pub(crate) connections_unfit: u64,
    /// Connections that this host had no port for.
    pub(crate) without_port: u64,
    /// Connections that this host had no file or memory for.
    pub(crate) without_file: u64,
    pub(crate) first_sent_ns: u64,
    pub(crate) last_reply_ns: u64,
    /// Messages sent in each second since the start of the run.
    pub(crate) per_second: Vec<u64>,
    /// Final replies by their code.
    pub(crate) reply_codes: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

/// The times of one message, `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begun {
    /// When it was due, which is what the message says; in a closed loop when it began.
    pub(crate) meant_ns: u64,
    /// When MAIL was written.
    pub(crate) begun_ns: u64,
    /// When it was due and a connection stood ready; in a closed loop when it began.
    pub(crate) ready_ns: u64,
}

/// The end of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Final {
    pub(crate) sequence: u64,
    /// Recipients that it was for, and those for which it was accepted.
    pub(crate) recipients: u32,
    pub(crate) accepted: u32,
    pub(crate) bytes: u64,
    pub(crate) begun: Begun,
    pub(crate) reply_ns: u64,
    /// How long MAIL, RCPT and the final dot took, where that is the same.
    pub(crate) together_ns: Option<u64>,
}

impl Final {
    /// Whether it was accepted for all recipients.
    pub(crate) fn is_sent(&self) -> bool {
        self.accepted == self.recipients
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            all: Counts::default(),
            measured: Counts::default(),
            accepted_in_window: 0,
            recipients_accepted: 0,
            refused_recipients: Sequences::default(),
            failed_sequences: Sequences::default(),
            unknown_sequences: Sequences::default(),
            connections_opened: 0,
            connections_lost: 0,
            connections_open: 0,
            connections_unfit: 0,
            without_port: 0,
            without_file: 0,
            first_sent_ns: u64::MAX,
            last_reply_ns: 0,
            per_second: Vec::new(),
            reply_codes: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    /// Counts the final reply to one recipient.
    pub(crate) fn replied(&mut self, code: u16) {
        *self.reply_codes.entry(code).or_insert(0) += 1;
    }

    /// Counts a message that was answered.
    pub(crate) fn answered(&mut self, message: &Final, times: &Times) {
        let counts = times.counts(message.begun.meant_ns);
        self.seen(message.begun.meant_ns, message.reply_ns);
        self.recipients_accepted += u64::from(message.accepted);
        if !message.is_sent() {
            let one = u64::from(message.accepted == 0);
            self.all.add(&Counts { failed: one, partial: 1 - one, ..Counts::default() });
            if counts {
                self.measured.add(&Counts { failed: one, partial: 1 - one, ..Counts::default() });
            }
            if message.accepted == 0 {
                self.failed_sequences.add(message.sequence);
            }
            return;
        }
        let one = Counts { sent: 1, bytes: message.bytes, ..Counts::default() };
        self.all.add(&one);
        if counts {
            self.measured.add(&one);
        }
        self.accepted_in_window += u64::from(times.has(message.reply_ns));
        let second = message.reply_ns.saturating_sub(times.start_ns) / NS_PER_SECOND;
        let second = usize::try_from(second).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += 1;
    }

    /// Counts a message whose answer will never be read.
    pub(crate) fn lost(&mut self, sequence: u64, meant_ns: u64, now_ns: u64, times: &Times) {
        self.all.unknown += 1;
        self.measured.unknown += u64::from(times.counts(meant_ns));
        self.unknown_sequences.add(sequence);
        self.seen(meant_ns, now_ns);
    }

    /// Counts a message that could not be offered to the server, such as one above its size limit.
    pub(crate) fn refused_here(&mut self, sequence: u64, meant_ns: u64, times: &Times) {
        self.all.failed += 1;
        self.measured.failed += u64::from(times.counts(meant_ns));
        self.failed_sequences.add(sequence);
        self.seen(meant_ns, meant_ns);
    }

    fn seen(&mut self, meant_ns: u64, end_ns: u64) {
        self.first_sent_ns = self.first_sent_ns.min(meant_ns);
        self.last_reply_ns = self.last_reply_ns.max(end_ns);
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

    /// Adds what somebody sees who looks once a second: everything but the lists.
    pub(crate) fn add_counts(&mut self, other: &Self) {
        self.all.add(&other.all);
        self.measured.add(&other.measured);
        self.accepted_in_window += other.accepted_in_window;
        self.recipients_accepted += other.recipients_accepted;
        self.connections_opened += other.connections_opened;
        self.connections_lost += other.connections_lost;
        self.connections_open += other.connections_open;
        self.connections_unfit += other.connections_unfit;
        self.without_port += other.without_port;
        self.without_file += other.without_file;
        self.first_sent_ns = self.first_sent_ns.min(other.first_sent_ns);
        self.last_reply_ns = self.last_reply_ns.max(other.last_reply_ns);
        other
            .reply_codes
            .iter()
            .for_each(|(code, count)| *self.reply_codes.entry(*code).or_insert(0) += count);
        other.errors.iter().for_each(|(kind, count)| *self.errors.entry(kind.clone()).or_insert(0) += count);
    }

    /// Adds everything.
    pub(crate) fn add(&mut self, other: &Self) {
        self.add_counts(other);
        self.failed_sequences.add_all(&other.failed_sequences);
        self.unknown_sequences.add_all(&other.unknown_sequences);
        self.refused_recipients.add_all(&other.refused_recipients);
        if self.per_second.len() < other.per_second.len() {
            self.per_second.resize(other.per_second.len(), 0);
        }
        self.per_second.iter_mut().zip(&other.per_second).for_each(|(sum, count)| *sum += count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Begun = Begun { meant_ns: 1_000, begun_ns: 1_000, ready_ns: 1_000 };

    fn refused() -> Final {
        Final {
            sequence: 0,
            recipients: 2,
            accepted: 0,
            bytes: 10,
            begun: BEGUN,
            reply_ns: 2_000,
            together_ns: None,
        }
    }

    #[test]
    fn every_end_counts_once() {
        let (mut tally, times) = (Tally::new(), Times { until_ns: u64::MAX, ..Times::default() });
        tally.answered(&refused(), &times);
        tally.answered(&Final { accepted: 2, reply_ns: 1_500_000_000, ..refused() }, &times);
        tally.answered(&Final { accepted: 1, ..refused() }, &times);
        tally.lost(1, 500, 3_000, &times);
        assert_eq!(tally.all, Counts { sent: 1, failed: 1, partial: 1, unknown: 1, bytes: 10 });
        assert_eq!((tally.all.ended(), tally.recipients_accepted), (4, 3));
        assert_eq!((tally.measured, tally.accepted_in_window), (tally.all, 1));
        assert_eq!((tally.first_sent_ns, tally.last_reply_ns), (500, 1_500_000_000));
        assert_eq!(tally.per_second, [0, 1]);
    }

    #[test]
    fn a_message_belongs_to_the_window_in_which_it_was_due() {
        let (mut tally, times) = (Tally::new(), Times { start_ns: 0, from_ns: 1_001, until_ns: 3_000 });
        let accepted = Final { accepted: 2, ..refused() };
        // Due in the warm-up and answered after it: work of the window, not a message of it.
        tally.answered(&accepted, &times);
        tally.lost(1, 1_000, 2_000, &times);
        tally.refused_here(2, 1_000, &times);
        assert_eq!((tally.measured, tally.accepted_in_window), (Counts::default(), 1));
        // Due in the window and answered after its end.
        let late = Begun { meant_ns: 2_999, ..BEGUN };
        tally.answered(&Final { begun: late, reply_ns: 5_000, ..accepted }, &times);
        assert_eq!((tally.measured.sent, tally.accepted_in_window, tally.all.sent), (1, 1, 2));
    }

    #[test]
    fn kinds_of_error_are_bounded() {
        let mut tally = Tally::new();
        (0..1_000).for_each(|kind| tally.error(&kind.to_string()));
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(tally.errors.values().sum::<u64>(), 1_000);
    }
}
