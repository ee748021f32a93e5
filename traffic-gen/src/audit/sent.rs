//! What traffic-gen reports (`--json`), as far as an audit needs it, and several reports of one run as one.

use std::collections::{BTreeMap, BTreeSet};

use reports::run::Latency;
use serde::{Deserialize, Serialize};

use super::Ranges;
use crate::content::PerMessage;

/// The part of a run that one process sent: of all messages, numbered from 0, every `of`-th from `index` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Which part, below `of`.
    pub index: u64,
    /// Parts altogether, at least 1.
    pub of: u64,
    /// Messages begun; where a report is of one part only, it is what the report counts.
    #[serde(default)]
    pub begun: Option<u64>,
}

/// What one run of traffic-gen says about itself.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Sent {
    /// Names the run in sink's ledger.
    pub run_id: String,
    /// Final 250s read.
    pub sent: u64,
    /// Messages refused.
    pub failed: u64,
    /// Messages accepted for some of their recipients and refused for the others.
    #[serde(default)]
    pub partial: u64,
    /// Connections lost before the final reply, in messages.
    pub unknown: u64,
    /// Deliveries promised; none in reports that do not count them.
    #[serde(default)]
    pub recipients_accepted: Option<u64>,
    /// Of the messages in `partial`: the number, and which recipient it was refused for.
    #[serde(default)]
    pub refused_recipients: Vec<(u64, u64)>,
    /// From the first intended send to the last reply, in seconds.
    #[serde(default)]
    pub elapsed_s: f64,
    /// Million messages per hour, by final 250s, whatever limited them.
    #[serde(default)]
    pub mmh_observed: f64,
    /// Why traffic-gen takes itself for the limit; empty where it does not.
    #[serde(default)]
    pub generator_limited: Vec<String>,
    /// From the intended send to the final 250, in microseconds.
    #[serde(default)]
    pub latency_us: Option<Latency>,
    /// The first intended send, nanoseconds of CLOCK_MONOTONIC; none where nothing was sent.
    #[serde(default)]
    pub first_sent_ns: Option<u64>,
    /// Connections held open.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Recipients of each message; none means one.
    #[serde(default)]
    pub recipients_per_message: Option<PerMessage>,
    /// Numbers that were refused.
    #[serde(default)]
    pub failed_sequences: Option<Ranges>,
    /// Numbers whose reply was never read.
    #[serde(default)]
    pub unknown_sequences: Option<Ranges>,
    /// The part of the run that this process had; none means all of it.
    #[serde(default)]
    pub share: Option<Share>,
    /// The parts of a run whose reports were put together; then `share` says nothing.
    #[serde(default)]
    pub shares: Vec<Share>,
}

/// Why several reports cannot be one. The operator gave the wrong files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Two reports speak of the same messages.
    #[error(
        "two reports of run {run} both claim message {sequence}: give each report once, and only parts of one run \
         together"
    )]
    Overlap {
        /// The run.
        run: String,
        /// The first number that both have.
        sequence: u64,
    },
    /// Two reports of one run do not agree on what a message is.
    #[error("the reports of run {0} differ in the recipients of each message: they are not of one run")]
    Recipients(String),
}

impl Sent {
    /// The numbers of all messages begun.
    pub fn begun(&self) -> Ranges {
        self.parts().flat_map(numbers).collect::<Vec<_>>().into()
    }

    fn begun_count(&self) -> u64 {
        [self.sent, self.failed, self.partial, self.unknown].into_iter().fold(0, u64::saturating_add)
    }

    /// How many parts of the run are here, and how many there were; `None` where that is all of them.
    pub(super) fn parts_given(&self) -> Option<(u64, u64)> {
        let parts: BTreeSet<(u64, u64)> = self.parts().map(|part| (part.of, part.index)).collect();
        let of = parts.first()?.0;
        let given = parts.len() as u64;
        (given < of).then_some((given, of))
    }

    /// The numbers that got a 250, for one recipient at least, where they are known one by one.
    pub fn accepted(&self) -> Option<Ranges> {
        let all = self.begun();
        if self.failed + self.unknown == 0 {
            return Some(all);
        }
        let listed = |count: u64, list: &Option<Ranges>| match list {
            Some(list) => (list.count() == count).then(|| list.clone()),
            None => (count == 0).then(Ranges::default),
        };
        let failed = listed(self.failed, &self.failed_sequences)?;
        let unknown = listed(self.unknown, &self.unknown_sequences)?;
        Some(all.without(&failed).without(&unknown))
    }

    /// Recipients that each message has at least and at most, 1 or more.
    pub fn recipients(&self) -> (u64, u64) {
        self.recipients_per_message.map_or((1, 1), |PerMessage { min, max }| {
            let (min, max) = (min.max(1) as u64, max.max(1) as u64);
            (min, max.max(min))
        })
    }

    /// Those of the numbers that were promised to so many recipients at least: the recipients, then the numbers.
    /// `None` where the report does not list all of its partial messages.
    pub(super) fn by_recipients(&self, accepted: &Ranges) -> Option<Vec<(u64, Ranges)>> {
        let mut refused: BTreeMap<u64, u64> = BTreeMap::new();
        for (sequence, _) in &self.refused_recipients {
            *refused.entry(*sequence).or_default() += 1;
        }
        if refused.len() as u64 != self.partial {
            return None;
        }
        let wanted = self.recipients().0;
        let mut groups: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (sequence, count) in &refused {
            // It was accepted for one recipient, or it would not be partial.
            groups.entry(wanted.saturating_sub(*count).max(1)).or_default().push((*sequence, *sequence));
        }
        let partial: Ranges =
            refused.keys().map(|sequence| (*sequence, *sequence)).collect::<Vec<_>>().into();
        let partly = groups.into_iter().map(|(wanted, numbers)| (wanted, accepted.within(&numbers.into())));
        Some(std::iter::once((wanted, accepted.without(&partial))).chain(partly).collect())
    }

    /// Puts the reports of the parts of one run together; reports of other runs stay apart. The order of the runs
    /// is that of their first reports.
    ///
    /// # Errors
    /// [`CombineError`] where two reports cannot be parts of one run.
    pub fn combine(reports: Vec<Self>) -> Result<Vec<Self>, CombineError> {
        let mut runs: Vec<Self> = Vec::new();
        for report in reports {
            match runs.iter_mut().find(|run| run.run_id == report.run_id) {
                Some(run) => run.add(&report)?,
                None => runs.push(report),
            }
        }
        Ok(runs)
    }

    fn add(&mut self, other: &Self) -> Result<(), CombineError> {
        let both = self.begun().within(&other.begun());
        if let Some((sequence, _)) = both.all().first() {
            return Err(CombineError::Overlap { run: self.run_id.clone(), sequence: *sequence });
        }
        if self.recipients() != other.recipients() {
            return Err(CombineError::Recipients(self.run_id.clone()));
        }
        self.shares = self.parts().chain(other.parts()).collect();
        self.share = None;
        self.sent += other.sent;
        self.failed += other.failed;
        self.partial += other.partial;
        self.recipients_accepted =
            self.recipients_accepted.zip(other.recipients_accepted).map(|(one, more)| one + more);
        self.refused_recipients.extend_from_slice(&other.refused_recipients);
        self.unknown += other.unknown;
        self.elapsed_s = self.elapsed_s.max(other.elapsed_s);
        self.first_sent_ns = self.first_sent_ns.into_iter().chain(other.first_sent_ns).min();
        self.failed_sequences = joined(&self.failed_sequences, &other.failed_sequences);
        self.unknown_sequences = joined(&self.unknown_sequences, &other.unknown_sequences);
        Ok(())
    }

    /// The parts with what was begun of each.
    fn parts(&self) -> impl Iterator<Item = Share> {
        let all = self.begun_count();
        let whole = Share { index: 0, of: 1, begun: None };
        let one = self.shares.is_empty().then(|| self.share.unwrap_or(whole));
        let one = one.map(|share| Share { begun: Some(all), ..share });
        one.into_iter().chain(self.shares.clone())
    }
}

/// The numbers of one part, one range each where other parts lie between them.
fn numbers(part: Share) -> impl Iterator<Item = (u64, u64)> {
    let (count, of) = (part.begun.unwrap_or(0), part.of.max(1));
    let dense = (of == 1 && count > 0).then(|| (part.index, part.index.saturating_add(count - 1)));
    let apart = (0..if of == 1 { 0 } else { count })
        .map(move |step| part.index.saturating_add(step.saturating_mul(of)))
        .map(|number| (number, number));
    dense.into_iter().chain(apart)
}

fn joined(one: &Option<Ranges>, other: &Option<Ranges>) -> Option<Ranges> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.with(other)),
        (one, other) => one.clone().or_else(|| other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(index: u64, of: u64, sent: u64) -> Sent {
        let share = Some(Share { index, of, begun: None });
        Sent { run_id: "r".to_owned(), sent, share, ..Sent::default() }
    }

    #[test]
    fn parts_of_a_run_are_one_run() {
        let whole = Sent::combine(vec![part(0, 3, 4), part(2, 3, 3), part(1, 3, 4)]).unwrap();
        assert_eq!(whole.len(), 1);
        assert_eq!((whole[0].sent, whole[0].begun()), (11, vec![(0, 10)].into()));
        let gap = Sent::combine(vec![part(0, 2, 3), part(1, 2, 1)]).unwrap();
        assert_eq!(gap[0].begun(), vec![(0, 2), (4, 4)].into());
    }

    #[test]
    fn a_report_made_of_parts_has_the_numbers_of_each() {
        let parts = [(0, 3), (1, 1)].map(|(index, begun)| Share { index, of: 2, begun: Some(begun) });
        let whole = Sent { shares: parts.to_vec(), ..part(0, 1, 4) };
        assert_eq!((whole.begun(), whole.parts_given()), (vec![(0, 2), (4, 4)].into(), None));
    }

    #[test]
    fn the_same_report_twice_is_refused() {
        let error = Sent::combine(vec![part(0, 1, 4), part(0, 1, 4)]).unwrap_err().to_string();
        assert!(error.contains("run r both claim message 0"), "{error}");
        let other = Sent { run_id: "s".to_owned(), ..part(0, 1, 4) };
        assert_eq!(Sent::combine(vec![part(0, 1, 4), other]).unwrap().len(), 2);
    }
}
