//! How long each step of a conversation took: one small histogram for each.
//!
//! A phase begins when its command was written and ends when its reply was read. With PIPELINING several
//! commands share one write and their replies often one read; their phases then have the same length, which
//! is recorded once and spread over them when somebody looks.

use std::fmt;

use hdrhistogram::Histogram;
use reports::latency::{LATENCY_US_MAX, LATENCY_US_MIN, record_ns};

/// Significant decimal digits kept: ten histograms for each worker should stay in a cache.
const SIGNIFICANT_DIGITS: u8 = 2;

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub(crate) enum Step {
    Connect,
    Banner,
    Ehlo,
    Tls,
    Auth,
    Mail,
    Rcpt,
    Data,
    FinalDot,
    Quit,
}

/// The steps whose length is the same where a whole message travels in one write and its replies in one read.
const TOGETHER: [Step; 3] = [Step::Mail, Step::Rcpt, Step::FinalDot];

/// The names of the steps in reports, in their order.
pub(crate) const NAMES: [&str; 10] =
    ["connect", "banner", "ehlo", "tls", "auth", "mail", "rcpt", "data", "final_dot", "quit"];

/// A histogram of microseconds for each step.
#[derive(Clone)]
pub struct Phases {
    histograms: [Histogram<u64>; NAMES.len()],
    /// What belongs to all of [`TOGETHER`] and is not in their histograms yet.
    together: Histogram<u64>,
}

impl Phases {
    /// All empty.
    pub fn new() -> Self {
        Self { histograms: std::array::from_fn(|_| empty()), together: empty() }
    }

    /// Records how long one step took, in nanoseconds.
    pub(crate) fn record(&mut self, step: Step, took_ns: u64) {
        record_ns(&mut self.histograms[step as usize], took_ns);
    }

    /// Records one length for MAIL, RCPT and the final dot alike.
    pub(crate) fn record_together(&mut self, took_ns: u64) {
        record_ns(&mut self.together, took_ns);
    }

    /// Gives each step its part of what was recorded for several.
    pub(crate) fn spread(&mut self) {
        if self.together.is_empty() {
            return;
        }
        for step in TOGETHER {
            add(&mut self.histograms[step as usize], &self.together);
        }
        self.together.reset();
    }

    /// Name and histogram of each step, in the order in which a conversation has them. Steps that did not
    /// happen have empty ones.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        NAMES.into_iter().zip(&self.histograms)
    }

    /// The histogram of one step, to add what another machine has recorded; `None` where no step has that name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Histogram<u64>> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.histograms.get_mut(at)
    }

    /// Adds the values of others.
    pub fn add(&mut self, other: &Self) {
        self.histograms.iter_mut().zip(&other.histograms).for_each(|(sum, part)| add(sum, part));
        add(&mut self.together, &other.together);
    }

    /// Forgets all values.
    pub fn reset(&mut self) {
        let all = self.histograms.iter_mut().chain([&mut self.together]);
        all.filter(|histogram| !histogram.is_empty()).for_each(Histogram::reset);
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.histograms.iter().chain([&self.together]).all(Histogram::is_empty)
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

fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    if !part.is_empty() {
        // All have the same bounds, which is the only thing that could be refused.
        sum.add(part).unwrap_or_default();
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_US_MIN, LATENCY_US_MAX, SIGNIFICANT_DIGITS).expect(
        "the bounds are constants that satisfy the crate's rules: 1 <= low, 2 * low <= high, digits <= 5",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_once_belongs_to_three_steps() {
        let (mut sum, mut part) = (Phases::new(), Phases::new());
        part.record(Step::Connect, 5_000);
        part.record(Step::Mail, 1_000_000);
        part.record_together(100_000);
        part.spread();
        sum.add(&part);
        sum.add(&part);
        let counts: Vec<_> = sum.iter().map(|(name, histogram)| (name, histogram.len())).collect();
        assert_eq!(
            counts.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
            [("connect", 2), ("mail", 4), ("rcpt", 2), ("final_dot", 2)]
        );
        sum.reset();
        assert!(sum.is_empty() && !part.is_empty());
    }
}
