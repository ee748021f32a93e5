//! Whether a run was in a steady state: the slope of what was seen second by second.
//!
//! A least-squares line is laid through the rates and through the 99th percentiles of the measured seconds.
//! A line that rises or falls by more than a named share of the mean over the whole window, and by more than
//! chance explains, is a trend: the figures of such a run depend on when one stops. Fewer than
//! [`SECONDS_MIN`] seconds say nothing and count as not steady.

use serde::Serialize;

/// Seconds without which no trend can be told.
pub const SECONDS_MIN: usize = 5;

/// How much the rate may change along the line, as a share of its mean.
pub const RATE_CHANGE_MAX: f64 = 0.05;

/// How much the 99th percentile may change along the line, as a share of its mean.
pub const P99_CHANGE_MAX: f64 = 0.5;

/// A change of the 99th percentile below this is no trend, in microseconds: schedulers and timers make it. A
/// server that falls behind by one part in a hundred lets it grow by ten milliseconds every second.
pub const P99_CHANGE_US_MIN: f64 = 20_000.0;

/// How many standard errors from level a slope must be to be more than chance.
const STANDARD_ERRORS_MIN: f64 = 3.0;

/// What one measured second looked like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Messages sent in it, per second.
    pub rate_per_s: f64,
    /// The 99th percentile of its latencies, in microseconds; 0 where nothing was sent.
    pub p99_us: f64,
}

/// What the lines through the seconds say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Steadiness {
    /// Seconds looked at.
    pub seconds: usize,
    /// How much the rate changed along the line, as a share of its mean; negative where it fell.
    pub rate_change: f64,
    /// The same for the 99th percentile of the latency.
    pub p99_change: f64,
    /// Whether neither is a trend.
    pub steady: bool,
}

impl Steadiness {
    /// Looks at the measured seconds in their order.
    pub fn of(seconds: &[Seen]) -> Self {
        let rates = Line::through(seconds.iter().map(|second| second.rate_per_s));
        let p99 = Line::through(seconds.iter().map(|second| second.p99_us));
        let rate_is_level = !rates.is_a_slope() || rates.change_share().abs() <= RATE_CHANGE_MAX;
        let p99_is_level = !p99.is_a_slope()
            || p99.change_share().abs() <= P99_CHANGE_MAX
            || p99.change().abs() < P99_CHANGE_US_MIN;
        Self {
            seconds: seconds.len(),
            rate_change: rates.change_share(),
            p99_change: p99.change_share(),
            steady: seconds.len() >= SECONDS_MIN && rate_is_level && p99_is_level,
        }
    }
}

/// The least-squares line through values one step apart.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    count: f64,
    mean: f64,
    slope: f64,
    slope_error: f64,
}

impl Line {
    fn through(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        if count < 3.0 {
            return Self::default();
        }
        let mean = values.clone().sum::<f64>() / count;
        let middle = (count - 1.0) / 2.0;
        let at = |index: usize| index as f64 - middle;
        let spread: f64 = values.clone().enumerate().map(|(index, _)| at(index).powi(2)).sum();
        let together: f64 = values.clone().enumerate().map(|(index, value)| at(index) * (value - mean)).sum();
        let slope = together / spread;
        let rest: f64 =
            values.enumerate().map(|(index, value)| (value - mean - slope * at(index)).powi(2)).sum();
        Self { count, mean, slope, slope_error: (rest / (count - 2.0) / spread).sqrt() }
    }

    /// From the first value to the last, along the line.
    fn change(&self) -> f64 {
        self.slope * (self.count - 1.0)
    }

    fn change_share(&self) -> f64 {
        if self.mean > 0.0 { self.change() / self.mean } else { 0.0 }
    }

    fn is_a_slope(&self) -> bool {
        self.slope.abs() > STANDARD_ERRORS_MIN * self.slope_error
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(of: impl Fn(f64) -> (f64, f64)) -> Vec<Seen> {
        let seen = |second: u32| {
            let (rate_per_s, p99_us) = of(f64::from(second));
            Seen { rate_per_s, p99_us }
        };
        (0..10).map(seen).collect()
    }

    #[test]
    fn a_level_run_is_steady_and_a_queue_that_grows_is_not() {
        assert!(Steadiness::of(&seconds(|_| (5_000.0, 4_000.0))).steady);
        // Latency from the intended time grows by half a second each second where a third is not served.
        let growing = Steadiness::of(&seconds(|second| (5_000.0, 500_000.0 * (second + 1.0))));
        assert!(!growing.steady && growing.p99_change > 1.0, "{growing:?}");
        let tiring = Steadiness::of(&seconds(|second| (5_000.0 - 100.0 * second, 4_000.0)));
        assert!(!tiring.steady && tiring.rate_change < -0.1, "{tiring:?}");
    }

    #[test]
    fn a_short_look_says_nothing() {
        assert!(!Steadiness::of(&seconds(|_| (5_000.0, 4_000.0))[..SECONDS_MIN - 1]).steady);
        assert!(!Steadiness::of(&[]).steady);
    }

    #[test]
    fn small_latencies_may_wander() {
        let wandering = Steadiness::of(&seconds(|second| (5_000.0, 200.0 + 1_000.0 * second)));
        assert!(wandering.steady && wandering.p99_change > P99_CHANGE_MAX, "{wandering:?}");
    }

    proptest! {
        #[test]
        fn noise_alone_is_seldom_called_a_trend(seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut noise = |share: f64| 1.0 + share * (random.f64() * 2.0 - 1.0);
            let mut steady = 0;
            for _ in 0..100 {
                let seen: Vec<_> = (0..10)
                    .map(|_| Seen { rate_per_s: 5_000.0 * noise(0.03), p99_us: 100_000.0 * noise(0.5) })
                    .collect();
                steady += u32::from(Steadiness::of(&seen).steady);
            }
            prop_assert!(steady >= 90, "{steady} of 100");
        }
    }
}
