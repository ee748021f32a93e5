//! How far another machine's clock is from ours, found by asking it a few times.
//!
//! Of all exchanges the quickest counts: the other clock was read somewhere between its question and its
//! answer, so that half its round trip is how wrong the result can be.

use std::time::SystemTime;

use serde::Serialize;

/// How often the other clock is asked.
pub(crate) const EXCHANGES: usize = 16;

/// One exchange; our clock twice, the other one between, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    pub(crate) asked_ns: u64,
    pub(crate) theirs_ns: u64,
    pub(crate) answered_ns: u64,
}

/// What the other clock shows less what ours shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Offset {
    pub(crate) offset_ns: i64,
    /// How far from the truth that can be.
    pub(crate) uncertainty_ns: u64,
}

impl Offset {
    /// From the quickest of the exchanges; nothing where there was none.
    pub(crate) fn of(exchanges: &[Exchange]) -> Option<Self> {
        let length = |exchange: &Exchange| exchange.answered_ns.saturating_sub(exchange.asked_ns);
        let quickest = exchanges.iter().min_by_key(|exchange| length(exchange))?;
        let middle_ns = quickest.asked_ns + length(quickest) / 2;
        Some(Self {
            offset_ns: i64::try_from(i128::from(quickest.theirs_ns) - i128::from(middle_ns)).ok()?,
            uncertainty_ns: length(quickest).div_ceil(2),
        })
    }
}

/// Nanoseconds since 1970 by this machine's clock; 0 where it is set to a time before.
pub(crate) fn realtime_ns() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_truth_lies_within_the_uncertainty(
            offset_ns in -1_000_000_000_i64..1_000_000_000,
            ways in prop::collection::vec((0u64..50_000_000, 0u64..50_000_000), 1..20),
        ) {
            let start_ns = 1_700_000_000_000_000_000_u64;
            let exchanges: Vec<_> = ways
                .iter()
                .map(|(there_ns, back_ns)| Exchange {
                    asked_ns: start_ns,
                    theirs_ns: (start_ns + there_ns).saturating_add_signed(offset_ns),
                    answered_ns: start_ns + there_ns + back_ns,
                })
                .collect();
            let offset = Offset::of(&exchanges).unwrap();
            prop_assert!(offset.offset_ns.abs_diff(offset_ns) <= offset.uncertainty_ns);
            let quickest = ways.iter().map(|(there, back)| there + back).min().unwrap();
            prop_assert_eq!(offset.uncertainty_ns, quickest.div_ceil(2));
        }
    }

    #[test]
    fn nothing_is_known_without_an_exchange() {
        assert_eq!(Offset::of(&[]), None);
    }
}
