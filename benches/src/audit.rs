//! The audit: what was promised against what arrived, by sequence number.
//!
//! It owns the reports of traffic-gen and sink as far as the laboratory needs them, and the arithmetic between them. A
//! message is promised when traffic-gen read its final 250; it is lost when sink does not have it. A message whose reply was
//! never read (`unknown`) may arrive or not, both are right. Nothing is estimated: where the numbers of promised messages
//! are not known one by one, the audit says so in a remark.

use reports::run::Latency;
use serde::Deserialize;

/// Ranges of lost numbers shown in a remark.
const RANGES_SHOWN_MAX: usize = 8;

/// Inclusive ranges of sequence numbers, sorted, without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<(u64, u64)>")]
pub struct Ranges(Vec<(u64, u64)>);

impl From<Vec<(u64, u64)>> for Ranges {
    fn from(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }
}

impl Ranges {
    /// The first `count` numbers, from 0.
    pub fn first(count: u64) -> Self {
        Self(count.checked_sub(1).map(|last| (0, last)).into_iter().collect())
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The numbers of `self` that `other` does not have.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.0.iter().copied().peekable();
        for &(mut first, last) in &self.0 {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            while let Some(&(hole_first, hole_last)) = holes.peek().filter(|hole| hole.0 <= last) {
                if hole_first > first {
                    left.push((first, hole_first - 1));
                }
                first = hole_last.saturating_add(1);
                if hole_last > last {
                    break;
                }
                holes.next();
            }
            if first <= last {
                left.push((first, last));
            }
        }
        Self(left)
    }

    /// The first few ranges in words.
    pub fn shown(&self) -> String {
        let word = |(first, last): &(u64, u64)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        let mut words: Vec<String> = self.0.iter().take(RANGES_SHOWN_MAX).map(word).collect();
        if self.0.len() > RANGES_SHOWN_MAX {
            words.push(format!("and {} more ranges", self.0.len() - RANGES_SHOWN_MAX));
        }
        words.join(", ")
    }
}

/// What traffic-gen reports (`--json`), as far as it is needed here.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Sent {
    /// Names the run in sink's ledger.
    pub run_id: String,
    /// Final 250s read.
    pub sent: u64,
    /// Messages refused.
    pub failed: u64,
    /// Connections lost before the final reply, in messages.
    pub unknown: u64,
    /// From the first intended send to the last reply, in seconds.
    pub elapsed_s: f64,
    /// Million messages per hour, by final 250s, whatever limited them.
    pub mmh_observed: f64,
    /// Why traffic-gen takes itself for the limit; empty where it does not.
    #[serde(default)]
    pub generator_limited: Vec<String>,
    /// From the intended send to the final 250, in microseconds.
    pub latency_us: Option<Latency>,
    /// The first intended send, nanoseconds of CLOCK_MONOTONIC; none where nothing was sent.
    pub first_sent_ns: Option<u64>,
    /// Connections held open.
    #[serde(default)]
    pub connections: Option<u64>,
    /// Numbers that were refused.
    #[serde(default)]
    pub failed_sequences: Option<Ranges>,
    /// Numbers whose reply was never read.
    #[serde(default)]
    pub unknown_sequences: Option<Ranges>,
}

impl Sent {
    /// The numbers that got a 250, where they are known one by one.
    pub fn accepted(&self) -> Option<Ranges> {
        let all = Ranges::first(self.sent + self.failed + self.unknown);
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
}

/// What sink reports about a run (`GET /ledger/<run>`).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Ledger {
    /// Numbers that arrived.
    #[serde(default)]
    pub had: Ranges,
    /// Different messages that arrived.
    #[serde(default)]
    pub distinct: u64,
    /// Deliveries beyond the first of a message.
    #[serde(default)]
    pub duplicated: u64,
    /// Messages that arrived with another checksum.
    #[serde(default)]
    pub corrupted: u64,
    /// Deliveries that the ledger had no room for.
    #[serde(default)]
    pub untracked: u64,
    /// The last delivery, nanoseconds of CLOCK_MONOTONIC.
    #[serde(default)]
    pub last_ns: Option<u64>,
}

/// The verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Different messages at the sink.
    pub delivered: u64,
    /// Messages that got a 250 and are not there.
    pub lost: u64,
    /// Deliveries beyond the first.
    pub duplicated: u64,
    /// Messages that arrived damaged.
    pub corrupted: u64,
    /// One sentence each; empty when all is well.
    pub remarks: Vec<String>,
}

impl Audit {
    /// Compares what was promised with what arrived.
    pub fn of(sent: &Sent, ledger: &Ledger) -> Self {
        let mut remarks = Vec::new();
        let lost = match sent.accepted() {
            Some(accepted) => {
                let lost = accepted.without(&ledger.had);
                if lost.count() > 0 {
                    remarks.push(format!("Lost sequence numbers: {}.", lost.shown()));
                }
                lost.count()
            }
            None => {
                let missing = Ranges::first(sent.sent + sent.failed + sent.unknown).without(&ledger.had);
                let least = sent.sent.saturating_sub(ledger.had.count());
                let most = missing.count().min(sent.sent);
                if most > least {
                    remarks.push(format!(
                        "Refused and unanswered messages are not known one by one: lost is from {least} to {most}."
                    ));
                }
                least
            }
        };
        let strange = ledger.had.without(&Ranges::first(sent.sent + sent.failed + sent.unknown));
        if strange.count() > 0 {
            remarks.push(format!("Sink has numbers that were never sent: {}.", strange.shown()));
        }
        if ledger.untracked > 0 {
            let untracked = ledger.untracked;
            remarks.push(format!(
                "Sink's ledger had no room for {untracked} deliveries; some may be called lost."
            ));
        }
        let Ledger { distinct, duplicated, corrupted, .. } = *ledger;
        Self { delivered: distinct, lost, duplicated, corrupted, remarks }
    }

    /// True when nothing was lost or damaged. A second delivery is counted, not a failure: it is what a crash may cause.
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.corrupted == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        list.to_vec().into()
    }

    #[test]
    fn ranges_are_joined_and_counted() {
        assert_eq!(ranges(&[(5, 9), (0, 3), (4, 4), (20, 10)]), ranges(&[(0, 9)]));
        assert_eq!(ranges(&[(0, 3), (5, 5)]).count(), 5);
        assert_eq!(Ranges::first(0).count(), 0);
        assert_eq!(Ranges::first(3), ranges(&[(0, 2)]));
        assert_eq!(ranges(&[(0, 3), (5, 5)]).shown(), "0-3, 5");
    }

    #[test]
    fn without_agrees_with_sets() {
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..500 {
            let mut list = |count| -> Vec<(u64, u64)> {
                (0..count).map(|_| (draw(40), draw(6))).map(|(first, more)| (first, first + more)).collect()
            };
            let (left, right) = (list(4), list(5));
            let set = |list: &[(u64, u64)]| -> std::collections::BTreeSet<u64> {
                list.iter().flat_map(|(first, last)| *first..=*last).collect()
            };
            let expected: Vec<(u64, u64)> =
                set(&left).difference(&set(&right)).map(|number| (*number, *number)).collect();
            assert_eq!(Ranges::from(left).without(&right.into()).count(), expected.len() as u64);
        }
        assert_eq!(ranges(&[(0, 9)]).without(&ranges(&[(3, 4), (8, 20)])), ranges(&[(0, 2), (5, 7)]));
        assert_eq!(ranges(&[(0, 4), (6, 9)]).without(&ranges(&[(3, 7)])), ranges(&[(0, 2), (8, 9)]));
    }

    fn sent(sent: u64, unknown: u64, unknown_sequences: Option<Ranges>) -> Sent {
        Sent { sent, unknown, unknown_sequences, ..Sent::default() }
    }

    fn ledger(had: &[(u64, u64)]) -> Ledger {
        let had = ranges(had);
        Ledger { distinct: had.count(), had, ..Ledger::default() }
    }

    #[test]
    fn all_there_is_sound() {
        let audit = Audit::of(&sent(100, 0, None), &ledger(&[(0, 99)]));
        assert_eq!(audit, Audit { delivered: 100, ..Audit::default() });
        assert!(audit.is_sound());
    }

    #[test]
    fn a_missing_number_is_lost_and_named() {
        let audit = Audit::of(&sent(100, 0, None), &ledger(&[(0, 49), (51, 98)]));
        assert_eq!(audit.lost, 2);
        assert!(!audit.is_sound());
        assert_eq!(audit.remarks, ["Lost sequence numbers: 50, 99."]);
    }

    #[test]
    fn an_unanswered_message_may_arrive_or_not() {
        let unknown = Some(ranges(&[(90, 92)]));
        for had in [&[(0_u64, 89_u64)][..], &[(0, 92)], &[(0, 90)]] {
            assert_eq!(Audit::of(&sent(90, 3, unknown.clone()), &ledger(had)).lost, 0);
        }
        assert_eq!(Audit::of(&sent(90, 3, unknown), &ledger(&[(0, 88), (90, 92)])).lost, 1);
    }

    #[test]
    fn without_numbers_the_least_is_told_and_said() {
        let audit = Audit::of(&sent(90, 3, None), &ledger(&[(0, 85)]));
        assert_eq!(audit.lost, 4);
        assert_eq!(
            audit.remarks,
            ["Refused and unanswered messages are not known one by one: lost is from 4 to 7."]
        );
        // When everything arrived, there is nothing to be in doubt about.
        assert_eq!(Audit::of(&sent(90, 3, None), &ledger(&[(0, 92)])).remarks, Vec::<String>::new());
    }

    #[test]
    fn numbers_from_nowhere_are_remarked() {
        let audit = Audit::of(&sent(10, 0, None), &ledger(&[(0, 11)]));
        assert_eq!(audit.remarks, ["Sink has numbers that were never sent: 10-11."]);
    }

    #[test]
    fn reports_are_read_with_fields_that_are_not_needed() {
        let sent: Sent = serde_json::from_str(
            r#"{"run_id":"r","sent":2,"failed":0,"unknown":1,"elapsed_s":1.5,"mmh":null,"mmh_observed":0.1,
                "generator_limited":["it was busy"],"first_sent_ns":7,"more":true,
                "latency_us":null,"unknown_sequences":[[1,1]]}"#,
        )
        .unwrap();
        assert_eq!(sent.accepted().unwrap(), ranges(&[(0, 0), (2, 2)]));
        let ledger: Ledger = serde_json::from_str(
            r#"{"run":"r","had":[[0,0],[2,2]],"missing":[[1,1]],"distinct":2,"duplicated":0,"corrupted":0,"last_ns":9}"#,
        )
        .unwrap();
        assert!(Audit::of(&sent, &ledger).is_sound());
    }
}
