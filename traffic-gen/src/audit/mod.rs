//! The audit: what was promised against what arrived, to the message.
//!
//! Owns the comparison of traffic-gen's report with sink's ledger. A message is promised when its final 250 was
//! read; it is lost when the sink does not have it. One that was refused, or whose reply was never read
//! (`unknown`), may arrive or not, both are right. Nothing is estimated: where a report or a ledger does not
//! say which messages it means, the audit says that it cannot tell.

mod ledger;
mod lists;
mod ranges;
mod sent;
mod source;
mod text;

use serde::Serialize;

pub use ledger::{BitmapError, Corruption, Duplicate, Ledger, Reorder};
use lists::Times;
pub use lists::{Listed, Lost};
pub use ranges::Ranges;
pub use sent::{CombineError, Sent, Share};
pub use source::{Source, SourceError};

/// What came of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Audit {
    /// The run.
    pub run_id: String,
    /// Messages whose final 250 was read, for one recipient at least.
    pub promised: u64,
    /// Different deliveries at the sink: pairs of message and recipient.
    pub delivered: u64,
    /// Promised deliveries that are not there; the least that it can be where `uncertain` says so.
    pub lost: u64,
    /// Which messages they belong to, and when their neighbours arrived.
    pub lost_messages: Vec<Lost>,
    /// Deliveries beyond the first.
    pub duplicated: u64,
    /// Which they were.
    pub duplicates: Vec<Duplicate>,
    /// Messages that arrived damaged.
    pub corrupted: u64,
    /// Which they were.
    pub corruptions: Vec<Corruption>,
    /// Messages that arrived after a later one of the same connection of traffic-gen.
    pub reordered: u64,
    /// Which they were.
    pub reorders: Vec<Reorder>,
    /// Messages that were refused and have arrived all the same.
    pub delivered_though_failed: Listed,
    /// Messages whose reply was never read and that have arrived.
    pub delivered_though_unknown: Listed,
    /// Numbers at the sink that were never sent.
    pub never_sent: Listed,
    /// What cannot be told, one sentence each; empty when the numbers above are the whole truth.
    pub uncertain: Vec<String>,
    /// One sentence each about what is not as it should be; empty when all is well.
    pub remarks: Vec<String>,
    /// The first arrival at the sink, in nanoseconds of its clock.
    pub first_ns: Option<u64>,
}

impl Audit {
    /// Compares what was promised with what arrived.
    pub fn of(sent: &Sent, ledger: &Ledger) -> Self {
        let begun = sent.begun();
        let mut audit = Self {
            run_id: sent.run_id.clone(),
            promised: sent.sent + sent.partial,
            delivered: ledger.distinct,
            duplicated: ledger.duplicated,
            duplicates: ledger.duplicates.clone(),
            corrupted: ledger.corrupted,
            corruptions: ledger.corruptions.clone(),
            reordered: ledger.reordered,
            reorders: ledger.reorders.clone(),
            first_ns: ledger.first_ns,
            never_sent: Listed::of(&ledger.had.without(&begun)),
            ..Self::default()
        };
        let there = |listed: &Option<Ranges>| {
            Listed::of(&listed.as_ref().map_or_else(Ranges::default, |listed| listed.within(&ledger.had)))
        };
        audit.delivered_though_failed = there(&sent.failed_sequences);
        audit.delivered_though_unknown = there(&sent.unknown_sequences);
        match sent.accepted() {
            Some(accepted) => audit.compare(sent, &accepted, ledger),
            None => audit.compare_counts(sent, ledger),
        }
        audit.note_strangers();
        if let Some((given, of)) = sent.parts_given() {
            audit.uncertain.push(format!(
                "Reports of {given} of the run's {of} parts were given: mail of the others looks as if never sent."
            ));
        }
        audit.note_limits(ledger);
        audit
    }

    /// True when nothing was lost or damaged. A second delivery is counted, not a failure: it is what a crash
    /// may cause.
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.corrupted == 0
    }

    /// True when each promised message arrived once and as it was sent, nothing else did, and this is certain.
    /// The order of arrival is not asked for: SMTP promises none.
    pub fn is_clean(&self) -> bool {
        self.is_sound() && self.duplicated == 0 && self.never_sent.count == 0 && self.uncertain.is_empty()
    }

    /// The numbers of all promised messages are known.
    fn compare(&mut self, sent: &Sent, accepted: &Ranges, ledger: &Ledger) {
        let judged = ledger.judged(accepted);
        if judged.count() < accepted.count() {
            let unjudged = accepted.count() - judged.count();
            self.uncertain.push(format!(
                "Sink's ledger was cut: whether {unjudged} messages arrived cannot be told; ask the sink itself, \
                 not a file."
            ));
        }
        let Some(groups) = sent.by_recipients(&judged) else {
            self.compare_counts(sent, ledger);
            return;
        };
        let mut all = Ranges::default();
        for (wanted, numbers) in groups {
            let lost = numbers.without(&ledger.had);
            self.lost = self.lost.saturating_add(lost.count().saturating_mul(wanted));
            if wanted > 1 {
                self.compare_recipients(wanted, &numbers.without(&lost), ledger);
            }
            all = all.with(&lost);
        }
        if all.count() > 0 {
            self.lost_messages.extend(Times::of(ledger).lost(&all));
            self.remarks.push(format!("Lost sequence numbers: {}.", all.shown()));
        }
        if sent.recipients().1 > sent.recipients().0 {
            self.compare_deliveries(sent, &judged, ledger);
        }
    }

    /// Some messages may have arrived for a part of their recipients.
    fn compare_recipients(&mut self, wanted: u64, arrived: &Ranges, ledger: &Ledger) {
        if ledger.cut || ledger.several_cut {
            self.uncertain.push(format!(
                "Sink's ledger was cut: whether each message arrived for all of {wanted} recipients cannot be told."
            ));
            return;
        }
        let (incomplete, short) = ledger.incomplete(arrived, wanted);
        self.lost += short;
        if short > 0 {
            self.lost_messages.extend(Times::of(ledger).lost(&incomplete));
            self.remarks.push(format!(
                "Lost {short} deliveries of messages that arrived for some of {wanted} recipients: {}.",
                incomplete.shown()
            ));
        }
    }

    /// Messages had different numbers of recipients: which had how many is not in the report, the sum is.
    fn compare_deliveries(&mut self, sent: &Sent, accepted: &Ranges, ledger: &Ledger) {
        let (least, most) = sent.recipients();
        let Some(promised) = sent.recipients_accepted.filter(|_| !ledger.cut && !ledger.several_cut) else {
            self.uncertain.push(format!(
                "Messages had {least} to {most} recipients: whether all of them got theirs cannot be told."
            ));
            return;
        };
        let short = promised.saturating_sub(ledger.deliveries(&accepted.within(&ledger.had)));
        if short > self.lost {
            self.uncertain.push(format!(
                "Messages had {least} to {most} recipients: {short} deliveries are lost, and of {} of them it \
                 cannot be told to which messages they belong.",
                short - self.lost
            ));
            self.lost = short;
        }
    }

    /// The least that must have been lost follows from the counts alone.
    fn compare_counts(&mut self, sent: &Sent, ledger: &Ledger) {
        let missing = sent.begun().without(&ledger.had);
        let promised = sent.sent + sent.partial;
        self.lost = promised.saturating_sub(ledger.had.count());
        let most = missing.count().min(promised);
        if most > self.lost {
            let least = self.lost;
            let sentence = format!(
                "Refused and unanswered messages are not known one by one: lost is from {least} to {most}."
            );
            self.uncertain.push(sentence.clone());
            self.remarks.push(sentence);
        }
    }

    fn note_strangers(&mut self) {
        if self.never_sent.count > 0 {
            self.remarks.push(format!("Sink has numbers that were never sent: {}.", self.never_sent.shown()));
        }
    }

    /// What the ledger had no room for.
    fn note_limits(&mut self, ledger: &Ledger) {
        if ledger.untracked > 0 {
            let sentence = format!(
                "Sink's ledger had no room for {} deliveries; some may be called lost.",
                ledger.untracked
            );
            self.uncertain.push(sentence.clone());
            self.remarks.push(sentence);
        }
        if ledger.order_unwatched > 0 {
            self.remarks.push(format!(
                "The order of {} messages was not watched: traffic-gen had more connections than the sink watches.",
                ledger.order_unwatched
            ));
        }
    }
}

#[cfg(test)]
mod tests;
