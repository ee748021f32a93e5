//! How the cost of an operation is taken: warmed up, in rounds of equal length, the median told with its extremes.
//!
//! It owns the looks at clock and allocator around the work. What an operation fails with is handed on.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Operation, Spent};
use crate::allocator::{Asked, asked_by_this_thread, asked_by_thread};
use crate::error::Result;
use crate::writers::limits::Spread;

/// How thoroughly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effort {
    /// How often each operation is measured, at least 1.
    pub rounds: u32,
    /// How long each time, about.
    pub round: Duration,
}

/// What one operation costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Operations in each round.
    pub operations: u64,
    /// Nanoseconds of one.
    pub ns: Spread,
    /// Allocations of one.
    pub allocations: Spread,
    /// Bytes allocated for one.
    pub bytes: Spread,
}

/// Warms up until it is known how many operations fill a round, then measures.
///
/// # Errors
/// What the operation fails with.
pub fn cost(operation: &mut dyn Operation, effort: Effort) -> Result<Cost> {
    let operations = operations_in(operation, effort.round)?;
    let rounds: Vec<Spent> =
        (0..effort.rounds.max(1)).map(|_| operation.run(operations)).collect::<Result<_>>()?;
    let each = |value: fn(&Spent) -> f64| {
        let values = rounds.iter().map(|spent| value(spent) / spent.operations.max(1) as f64);
        // There is a round at least.
        Spread::of(values).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
    };
    Ok(Cost {
        operations,
        ns: each(|spent| spent.elapsed.as_secs_f64() * 1e9),
        allocations: each(|spent| spent.asked.allocations as f64),
        bytes: each(|spent| spent.asked.bytes as f64),
    })
}

/// How many operations take about so long. Ends after a try that took a quarter of it at least.
///
/// # Errors
/// What the operation fails with.
pub fn operations_in(operation: &mut dyn Operation, length: Duration) -> Result<u64> {
    /// Beyond it no try is longer, however quick the operation is.
    const OPERATIONS_MAX: u64 = 1 << 40;
    let mut operations = operation.operations_min().max(1);
    loop {
        let spent = operation.run(operations)?;
        if spent.elapsed >= length / 4 || operations >= OPERATIONS_MAX {
            let each = spent.elapsed.as_secs_f64() / spent.operations.max(1) as f64;
            let fill = length.as_secs_f64() / each.max(1e-12);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and a float stops at the largest number"
            )]
            return Ok((fill.round() as u64).clamp(operation.operations_min().max(1), OPERATIONS_MAX));
        }
        operations *= 4;
    }
}

/// What this thread spends on doing it so often.
pub(super) fn repeatedly<T>(operations: u64, mut once: impl FnMut() -> T) -> Spent {
    by_this_thread(operations, || {
        for _ in 0..operations {
            black_box(once());
        }
    })
}

/// What this thread spends on `work`.
pub(super) fn by_this_thread(operations: u64, work: impl FnOnce()) -> Spent {
    let (before, begun) = (asked_by_this_thread(), Instant::now());
    work();
    let elapsed = begun.elapsed();
    Spent { operations, elapsed, asked: between(before, asked_by_this_thread()) }
}

/// What all threads spend while `work` is done, on it or on anything else.
pub(super) fn by_all_threads<T>(operations: u64, work: impl FnOnce() -> Result<T>) -> Result<(Spent, T)> {
    let (before, begun) = (asked_by_all(), Instant::now());
    let result = work()?;
    let elapsed = begun.elapsed();
    Ok((Spent { operations, elapsed, asked: between(before, asked_by_all()) }, result))
}

fn asked_by_all() -> Asked {
    asked_by_thread().into_iter().fold(Asked::default(), |sum, (_, asked)| Asked {
        allocations: sum.allocations + asked.allocations,
        bytes: sum.bytes + asked.bytes,
    })
}

/// What was asked for from one look to the next.
pub(super) fn between(before: Asked, after: Asked) -> Asked {
    Asked {
        allocations: after.allocations.saturating_sub(before.allocations),
        bytes: after.bytes.saturating_sub(before.bytes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// Takes a microsecond each, and one allocation of ten bytes; one of the rounds is disturbed.
    struct Clockwork {
        runs: Vec<u64>,
    }

    impl Operation for Clockwork {
        fn run(&mut self, operations: u64) -> Result<Spent> {
            self.runs.push(operations);
            let slow = if self.runs.len() == 8 { 3 } else { 1 };
            let elapsed = Duration::from_micros(operations * slow);
            Ok(Spent {
                operations,
                elapsed,
                asked: Asked { allocations: operations, bytes: 10 * operations },
            })
        }

        fn operations_min(&self) -> u64 {
            10
        }
    }

    #[test]
    fn a_round_is_as_long_as_asked_and_the_median_is_told() {
        let mut clockwork = Clockwork { runs: Vec::new() };
        let effort = Effort { rounds: 3, round: Duration::from_millis(40) };
        let cost = cost(&mut clockwork, effort).unwrap();
        // Fewer than a quarter of a round would say too little.
        assert_eq!(clockwork.runs, [10, 40, 160, 640, 2560, 10_240, 40_000, 40_000, 40_000]);
        assert_eq!(cost.operations, 40_000);
        assert_eq!(cost.ns, Spread { median: 1000.0, min: 1000.0, max: 3000.0 });
        assert_eq!((cost.allocations.max, cost.bytes.max), (1.0, 10.0));
    }

    #[test]
    fn nothing_is_done_fewer_times_than_is_worth_it() {
        let mut clockwork = Clockwork { runs: Vec::new() };
        assert_eq!(operations_in(&mut clockwork, Duration::from_nanos(1)).unwrap(), 10);
    }
}
