//! Sets of sequence numbers as ranges, with the arithmetic that an audit needs.

use serde::{Deserialize, Serialize};

/// Ranges shown in words.
const RANGES_SHOWN_MAX: usize = 8;

/// Inclusive ranges of sequence numbers, sorted, without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
        self.0.iter().map(|(first, last)| (last - first).saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// The ranges in ascending order.
    pub fn all(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// The highest number.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|range| range.1)
    }

    /// The numbers of `self` that `other` does not have.
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut holes = other.0.iter().copied().peekable();
        for &(first, last) in &self.0 {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut rest = Some(first);
            while let (Some(first), Some(&hole)) = (rest, holes.peek().filter(|hole| hole.0 <= last)) {
                if hole.0 > first {
                    left.push((first, hole.0 - 1));
                }
                if hole.1 >= last {
                    // The hole may reach into the next range.
                    rest = None;
                } else {
                    rest = Some(hole.1 + 1);
                    holes.next();
                }
            }
            if let Some(first) = rest {
                left.push((first, last));
            }
        }
        Self(left)
    }

    /// The numbers that both have.
    pub fn within(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// The numbers that either has.
    pub fn with(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect::<Vec<_>>().into()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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
    fn the_largest_numbers_do_not_wrap() {
        let all = ranges(&[(0, u64::MAX)]);
        assert_eq!((all.count(), all.last()), (u64::MAX, Some(u64::MAX)));
        assert_eq!(all.without(&ranges(&[(5, u64::MAX)])), ranges(&[(0, 4)]));
        assert_eq!(all.without(&ranges(&[(0, 4)])), ranges(&[(5, u64::MAX)]));
        assert_eq!(ranges(&[(u64::MAX, u64::MAX)]).without(&all), Ranges::default());
    }

    proptest! {
        #[test]
        fn the_arithmetic_is_that_of_sets(
            left in proptest::collection::vec((0u64..40, 0u64..6), 0..6),
            right in proptest::collection::vec((0u64..40, 0u64..6), 0..6),
        ) {
            let list = |pairs: &[(u64, u64)]| -> Vec<(u64, u64)> {
                pairs.iter().map(|(first, more)| (*first, first + more)).collect()
            };
            let set = |ranges: &Ranges| -> BTreeSet<u64> {
                ranges.all().iter().flat_map(|(first, last)| *first..=*last).collect()
            };
            let (left, right): (Ranges, Ranges) = (list(&left).into(), list(&right).into());
            prop_assert_eq!(set(&left.without(&right)), &set(&left) - &set(&right));
            prop_assert_eq!(set(&left.within(&right)), &set(&left) & &set(&right));
            prop_assert_eq!(set(&left.with(&right)), &set(&left) | &set(&right));
            prop_assert_eq!(left.count(), set(&left).len() as u64);
        }
    }
}
