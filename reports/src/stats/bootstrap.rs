//! Intervals by drawing again from what was measured.
//!
//! It owns the percentile and the BCa interval (Efron 1987) for a statistic of one or two samples. It refuses nothing:
//! where all draws agree, or a statistic is not finite, the interval is a point or the percentile one.

use super::normal::{normal_cdf, normal_quantile};
use super::random::Random;
use super::sample::{Sample, quantile_of_sorted};

/// The most draws; more would not change a digit that is shown.
pub const RESAMPLES_MAX: u32 = 100_000;

/// How the interval is taken from the draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The quantiles of the draws.
    Percentile,
    /// The same, corrected for bias and for a spread that depends on the value.
    BiasCorrected,
}

/// What to draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Draws; at most [`RESAMPLES_MAX`], at least 1.
    pub resamples: u32,
    /// The part of the draws inside, 0.95 for a 95 % interval.
    pub level: f64,
    /// The same seed gives the same interval.
    pub seed: u64,
    /// How the interval is taken.
    pub method: Method,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, level: 0.95, seed: 1, method: Method::BiasCorrected }
    }
}

/// An interval and the value it is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The statistic of what was measured.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Bootstrap {
    /// The interval of a statistic of one sample. The statistic may reorder the values it is given.
    pub fn of_one(&self, sample: &Sample, statistic: impl Fn(&mut [f64]) -> f64) -> Interval {
        self.interval(&[sample.values()], |drawn| statistic(&mut drawn[0]))
    }

    /// The interval of a statistic of two samples that were measured independently: `statistic(base, head)`.
    pub fn of_two(
        &self,
        base: &Sample,
        head: &Sample,
        statistic: impl Fn(&mut [f64], &mut [f64]) -> f64,
    ) -> Interval {
        self.interval(&[base.values(), head.values()], |drawn| match drawn {
            [base, head, ..] => statistic(base, head),
            _ => f64::NAN,
        })
    }

    fn interval(&self, samples: &[&[f64]], statistic: impl Fn(&mut [Vec<f64>]) -> f64) -> Interval {
        let mut drawn: Vec<Vec<f64>> = samples.iter().map(|sample| sample.to_vec()).collect();
        let estimate = statistic(&mut drawn);
        let mut random = Random::new(self.seed);
        let count = self.resamples.clamp(1, RESAMPLES_MAX);
        let mut draws: Vec<f64> = (0..count)
            .map(|_| {
                draw(&mut random, samples, &mut drawn);
                statistic(&mut drawn)
            })
            .filter(|value| value.is_finite())
            .collect();
        if draws.is_empty() || !estimate.is_finite() {
            return Interval { estimate, low: estimate, high: estimate };
        }
        draws.sort_unstable_by(f64::total_cmp);
        let outside = (1.0 - self.level.clamp(0.0, 1.0)) / 2.0;
        let (low, high) = match self.method {
            Method::Percentile => (outside, 1.0 - outside),
            Method::BiasCorrected => {
                let acceleration = acceleration(samples, &statistic);
                corrected(&draws, estimate, acceleration, outside)
            }
        };
        Interval { estimate, low: quantile_of_sorted(&draws, low), high: quantile_of_sorted(&draws, high) }
    }
}

fn draw(random: &mut Random, samples: &[&[f64]], drawn: &mut [Vec<f64>]) {
    for (sample, places) in samples.iter().zip(drawn) {
        places.iter_mut().for_each(|place| *place = sample[random.below(sample.len())]);
    }
}

/// The quantiles at which the corrected interval ends; the plain ones where nothing can be corrected.
fn corrected(draws: &[f64], estimate: f64, acceleration: f64, outside: f64) -> (f64, f64) {
    let below = draws.partition_point(|value| *value < estimate);
    let not_above = draws.partition_point(|value| *value <= estimate);
    let share = (below + not_above) as f64 / 2.0 / draws.len() as f64;
    let bias = normal_quantile(share);
    if !bias.is_finite() || !acceleration.is_finite() {
        return (outside, 1.0 - outside);
    }
    let end = |share: f64| {
        let z = bias + normal_quantile(share);
        normal_cdf(bias + z / (1.0 - acceleration * z))
    };
    (end(outside), end(1.0 - outside))
}

/// How the spread changes with the value, by leaving each measurement out once (Efron and Tibshirani, 14.15,
/// for several samples).
fn acceleration(samples: &[&[f64]], statistic: &impl Fn(&mut [Vec<f64>]) -> f64) -> f64 {
    let (mut cubes, mut squares) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let count = sample.len() as f64;
        let without: Vec<f64> = (0..sample.len())
            .map(|left_out| {
                let mut kept: Vec<Vec<f64>> = samples.iter().map(|sample| sample.to_vec()).collect();
                kept[index].remove(left_out);
                if kept[index].is_empty() { f64::NAN } else { statistic(&mut kept) }
            })
            .collect();
        let mean = without.iter().sum::<f64>() / count;
        for value in without {
            let influence = (count - 1.0) * (mean - value);
            cubes += influence.powi(3) / count.powi(3);
            squares += influence.powi(2) / count.powi(2);
        }
    }
    // Nothing depends on any measurement: no correction.
    if squares == 0.0 { 0.0 } else { cubes / (6.0 * squares.powf(1.5)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::median_of;

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let sample = Sample::new(&[1.0, 5.0, 2.0, 8.0, 3.0]).unwrap();
        let bootstrap = Bootstrap { resamples: 500, ..Bootstrap::default() };
        assert_eq!(bootstrap.of_one(&sample, median_of), bootstrap.of_one(&sample, median_of));
        let other = Bootstrap { seed: 2, method: Method::Percentile, ..bootstrap };
        let interval = other.of_one(&sample, median_of);
        assert!(interval.low <= interval.estimate && interval.estimate <= interval.high);
    }

    #[test]
    fn values_that_all_agree_give_a_point() {
        let sample = Sample::new(&[4.0; 6]).unwrap();
        let interval = Bootstrap::default().of_one(&sample, median_of);
        assert_eq!((interval.low, interval.high), (4.0, 4.0));
        let single = Sample::new(&[4.0]).unwrap();
        let interval = Bootstrap::default().of_two(&single, &single, |a, b| median_of(b) / median_of(a));
        assert_eq!((interval.low, interval.high), (1.0, 1.0));
    }
}
