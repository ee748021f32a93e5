//! A place in a schedule: which message of a share comes next, and when it is due.
//!
//! Two cursors that start alike walk alike, so that one can release messages and another can say later when
//! they were due. Even shares divide the messages of a schedule among them one by one; shares of a Poisson
//! process are Poisson processes themselves, each from a seed of its own, and together are one with the rate
//! of the whole.

use std::sync::Arc;

use crate::clock::NS_PER_SECOND;
use crate::integral::Integral;
use crate::schedule::Arrivals;

/// Messages of a Poisson process that are walked over in one call.
const STEPS_MAX: u64 = 4_096;

/// Which messages of a schedule belong to a share: every `stride`-th from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) offset: u64,
    pub(crate) stride: u64,
}

/// The next message of one share.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    integral: Arc<Integral>,
    slice: Slice,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// Messages of this share that are behind us.
    Constant { passed: u64 },
    /// The area under the schedule at which the next message lies, and where the ones after come from.
    Poisson { area: f64, random: fastrand::Rng },
}

impl Cursor {
    pub(crate) fn new(integral: Arc<Integral>, arrivals: Arrivals, slice: Slice, seed: u64) -> Self {
        let place = match arrivals {
            Arrivals::Constant => Place::Constant { passed: 0 },
            Arrivals::Poisson => {
                let mut random = fastrand::Rng::with_seed(mixed(seed ^ mixed(slice.offset + 1)));
                Place::Poisson { area: gap(&mut random, slice), random }
            }
        };
        Self { integral, slice, place }
    }

    /// When the next message is due, counted from the start of the schedule; `None` where none follows.
    pub(crate) fn peek(&self) -> Option<u64> {
        match &self.place {
            Place::Constant { passed } => self.due_ns(*passed),
            Place::Poisson { area, .. } => self.integral.seconds(*area).map(whole_ns),
        }
    }

    /// Passes the next message and says when it is due.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let due_ns = self.peek()?;
        match &mut self.place {
            Place::Constant { passed } => *passed += 1,
            Place::Poisson { area, random } => *area += gap(random, self.slice),
        }
        Some(due_ns)
    }

    /// Passes what is due by that time, at most `limit` messages, and says how many they were. It may be fewer
    /// where arrivals are drawn; then [`Cursor::peek`] is not after that time.
    pub(crate) fn advance(&mut self, elapsed_ns: u64, limit: u64) -> u64 {
        if let Place::Constant { passed } = self.place {
            let more = self.due_by(elapsed_ns).saturating_sub(passed).min(limit);
            self.place = Place::Constant { passed: passed + more };
            return more;
        }
        let limit = limit.min(STEPS_MAX);
        let mut more = 0;
        while more < limit && self.peek().is_some_and(|due_ns| due_ns <= elapsed_ns) {
            self.take();
            more += 1;
        }
        more
    }

    /// When an even message of this share is due.
    fn due_ns(&self, number: u64) -> Option<u64> {
        let of_all = number.checked_mul(self.slice.stride)?.checked_add(self.slice.offset)?;
        self.integral.seconds(of_all as f64).map(whole_ns)
    }

    /// How many even messages of this share are due by that time.
    fn due_by(&self, elapsed_ns: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and an area is positive"
        )]
        let of_all = self.integral.due(elapsed_ns as f64 / NS_PER_SECOND as f64) as u64;
        let mut number =
            of_all.saturating_add(1).saturating_sub(self.slice.offset).div_ceil(self.slice.stride);
        // The estimate may be off by the rounding of the area and of the time.
        while number > 0 && self.due_ns(number - 1).is_none_or(|due_ns| due_ns > elapsed_ns) {
            number -= 1;
        }
        while self.due_ns(number).is_some_and(|due_ns| due_ns <= elapsed_ns) {
            number += 1;
        }
        number
    }
}

/// The area between two messages of a share: exponential, with the share's stride as its mean.
fn gap(random: &mut fastrand::Rng, slice: Slice) -> f64 {
    // 1 - u is never 0, so the logarithm is finite.
    -(1.0 - random.f64()).ln() * slice.stride as f64
}

/// Spreads a number over all bits, so that neighbouring seeds have nothing in common (splitmix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

fn whole_ns(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and a time since the start is positive"
    )]
    let ns = (seconds * NS_PER_SECOND as f64) as u64;
    ns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schedule::Stage;

    fn cursor(text: &str, arrivals: Arrivals, offset: u64, stride: u64, seed: u64) -> Cursor {
        let integral = Arc::new(Integral::new(&Stage::parse_list(text).unwrap()));
        Cursor::new(integral, arrivals, Slice { offset, stride }, seed)
    }

    fn all(mut cursor: Cursor) -> Vec<u64> {
        std::iter::from_fn(|| cursor.take()).collect()
    }

    /// A schedule of a few seconds with fewer than some ten thousand messages.
    fn schedules() -> impl Strategy<Value = String> {
        let stage = (0u32..5_000, 0u32..5_000, 1u32..3_000)
            .prop_map(|(from, to, length_ms)| format!("{from}>{to}:{length_ms}ms"));
        proptest::collection::vec(stage, 1..4).prop_map(|stages| format!("1:1s,{}", stages.join(",")))
    }

    proptest! {
        #[test]
        fn shares_together_are_the_schedule(text in schedules(), shares in 1u64..9) {
            let whole = all(cursor(&text, Arrivals::Constant, 0, 1, 0));
            let mut parts: Vec<u64> = (0..shares)
                .flat_map(|offset| all(cursor(&text, Arrivals::Constant, offset, shares, 0)))
                .collect();
            parts.sort_unstable();
            prop_assert_eq!(parts, whole);
        }

        #[test]
        fn what_is_released_is_what_is_taken(
            text in schedules(),
            poisson in any::<bool>(),
            looks in proptest::collection::vec(0u64..2_000_000_000, 1..8),
        ) {
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Constant };
            let mut releasing = cursor(&text, arrivals, 1, 3, 7);
            let mut taking = releasing.clone();
            let mut elapsed_ns = 0;
            for look in looks {
                elapsed_ns += look;
                loop {
                    let more = releasing.advance(elapsed_ns, 1_000);
                    for _ in 0..more {
                        prop_assert!(taking.take().is_some_and(|due_ns| due_ns <= elapsed_ns));
                    }
                    if releasing.peek().is_none_or(|due_ns| due_ns > elapsed_ns) {
                        break;
                    }
                }
                prop_assert_eq!(taking.peek(), releasing.peek());
            }
        }

        #[test]
        fn an_even_rate_is_exact(interval_ns in 1u64..1_000_000_000, shares in 1u64..9, elapsed_ns in 0u64..10_000_000_000) {
            let integral = Arc::new(Integral::new(&[Stage {
                from_per_s: 1e9 / interval_ns as f64,
                to_per_s: 1e9 / interval_ns as f64,
                length: None,
            }]));
            let due: u64 = (0..shares)
                .map(|offset| {
                    let slice = Slice { offset, stride: shares };
                    Cursor::new(Arc::clone(&integral), Arrivals::Constant, slice, 0).advance(elapsed_ns, u64::MAX)
                })
                .sum();
            // A float has no more digits than that.
            prop_assert!(due.abs_diff(elapsed_ns / interval_ns + 1) <= 1);
        }
    }

    /// Messages in each tenth of a second.
    fn tenths(times: &[u64]) -> Vec<f64> {
        let mut tenths = vec![0.0; 1_000];
        times.iter().for_each(|due_ns| tenths[usize::try_from(due_ns / 100_000_000).unwrap()] += 1.0);
        tenths
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn covariance(left: &[f64], right: &[f64]) -> f64 {
        let (of_left, of_right) = (mean(left), mean(right));
        let products: Vec<f64> =
            left.iter().zip(right).map(|(left, right)| (left - of_left) * (right - of_right)).collect();
        mean(&products)
    }

    #[test]
    fn poisson_arrivals_have_the_rate_the_spread_and_independent_shares() {
        let share = |offset, seed| all(cursor("1k:100s", Arrivals::Poisson, offset, 4, seed));
        let counts: Vec<Vec<f64>> = (0..4).map(|offset| tenths(&share(offset, 1))).collect();
        for (at, counts_of_one) in counts.iter().enumerate() {
            // 25 messages in a tenth, and as much variance: both are known to about one in a hundred.
            let (mean, variance) = (mean(counts_of_one), covariance(counts_of_one, counts_of_one));
            assert!((24.0..26.0).contains(&mean) && (21.0..29.0).contains(&variance), "{mean} {variance}");
            for other in &counts[..at] {
                let correlation = covariance(counts_of_one, other) / 25.0;
                assert!(correlation.abs() < 0.12, "{correlation}");
            }
        }
        assert_eq!(share(2, 1), share(2, 1));
        assert_ne!(share(2, 1), share(2, 2));
        assert_ne!(share(1, 1), share(2, 1));
    }

    #[test]
    fn poisson_arrivals_follow_a_ramp() {
        let times = all(cursor("0>2k:100s", Arrivals::Poisson, 0, 1, 3));
        let early = times.iter().filter(|due_ns| **due_ns < 50_000_000_000).count();
        // Half of the time of a ramp from 0 has a quarter of its hundred thousand messages.
        assert!((98_500..101_500).contains(&times.len()), "{}", times.len());
        assert!((24_200..25_800).contains(&early), "{early}");
    }
}
