//! Lists of messages in a verdict: bounded, with the count beside them, and with times where the ledger has them.

use serde::Serialize;

use super::{Ledger, Ranges};

/// Ranges that a verdict lists.
const RANGES_LISTED_MAX: usize = 100_000;

/// Some numbers, and how many they are altogether.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// How many there are.
    pub count: u64,
    /// First and last of each range; the first hundred thousand of them.
    pub sequences: Vec<(u64, u64)>,
}

/// A range of lost messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// When the nearest number below arrived, in nanoseconds of the sink's clock; none where there is none.
    pub after_ns: Option<u64>,
    /// When the nearest number above arrived; none where there is none.
    pub before_ns: Option<u64>,
}

impl Listed {
    pub(super) fn of(numbers: &Ranges) -> Self {
        let sequences = numbers.all().iter().take(RANGES_LISTED_MAX).copied().collect();
        Self { count: numbers.count(), sequences }
    }

    /// The first few ranges in words.
    pub fn shown(&self) -> String {
        Ranges::from(self.sequences.clone()).shown()
    }
}

/// When the neighbours of a gap in the ledger arrived.
pub(super) struct Times<'a> {
    ledger: &'a Ledger,
}

impl<'a> Times<'a> {
    pub(super) fn of(ledger: &'a Ledger) -> Self {
        Self { ledger }
    }

    /// The lost numbers with what is known about when they should have come.
    pub(super) fn lost(&self, lost: &Ranges) -> Vec<Lost> {
        lost.all().iter().take(RANGES_LISTED_MAX).map(|range| self.around(*range)).collect()
    }

    fn around(&self, (first, last): (u64, u64)) -> Lost {
        let Ledger { missing, missing_between_ns, had, last_ns, .. } = self.ledger;
        let gap = missing.partition_point(|gap| gap.1 < first);
        let inside = missing.get(gap).is_some_and(|gap| gap.0 <= first && last <= gap.1);
        let (after_ns, before_ns) = match missing_between_ns.get(gap) {
            Some((below, above)) if inside => (*below, Some(*above)),
            // Behind the last number that arrived at all.
            _ if had.last().is_some_and(|highest| highest < first) => (*last_ns, None),
            _ => (None, None),
        };
        Lost { first, last, after_ns, before_ns }
    }
}
