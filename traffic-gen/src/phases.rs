//! How long each step of a conversation took: one small histogram for each.
//!
//! A phase begins when its command was written and ends when its reply was read. With PIPELINING several
//! commands share one write and their replies often one read; their phases then have the same length.

use std::fmt;

use hdrhistogram::Histogram;
use reports::latency::{LATENCY_US_MAX, LATENCY_US_MIN};

/// Significant decimal digits kept: ten histograms for each worker should stay in a cache.
const SIGNIFICANT_DIGITS: u8 = 2;

/// The names of the steps in reports, in their order.
pub(crate) const NAMES: [&str; 10] =
    ["connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "final_dot", "quit"];

/// A histogram of microseconds for each step.
#[derive(Clone)]
pub struct Phases {
    histograms: [Histogram<u64>; NAMES.len()],
}

impl Phases {
    /// All empty.
    pub fn new() -> Self {
        Self { histograms: std::array::from_fn(|_| empty()) }
    }

    /// Name and histogram of each step, in the order in which a conversation has them. Steps that did not
    /// happen have empty ones.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        NAMES.into_iter().zip(&self.histograms)
    }

    /// Adds the values of others.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.histograms.iter_mut().zip(&other.histograms) {
            // All have the same bounds, which is the only thing that could be refused.
            sum.add(part).unwrap_or_default();
        }
    }

    /// Forgets all values.
    pub fn reset(&mut self) {
        self.histograms.iter_mut().for_each(Histogram::reset);
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.histograms.iter().all(Histogram::is_empty)
    }
}

impl Default for Phases {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Phases {
    /// How many values each step has.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter().map(|(name, histogram)| (name, histogram.len()))).finish()
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_US_MIN, LATENCY_US_MAX, SIGNIFICANT_DIGITS).expect(
        "the bounds are constants that satisfy the crate's rules: 1 <= low, 2 * low <= high, digits <= 5",
    )
}
