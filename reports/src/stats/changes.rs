//! Change points of a series: where it began to be another.
//!
//! It owns a divisive search by energy distance (Székely and Rizzo 2004; Matteson and James 2014) with a permutation
//! test for each cut. It refuses nothing; of a series longer than [`SERIES_VALUES_MAX`] the newest values are looked at.

use super::random::Random;
use super::sample::median_of;

/// The most values of a series that are looked at; each test looks at the square of it.
pub const SERIES_VALUES_MAX: usize = 500;

/// What counts as a change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Changes {
    /// A cut that chance makes more often than this is none.
    pub probability_max: f64,
    /// Orders tried by chance for each cut.
    pub permutations: u32,
    /// Values on either side of a cut, at least; never under 2.
    pub segment_values_min: usize,
    /// Smaller relative changes of the median are not reported, 0.02 for 2 %.
    pub change_min: f64,
    /// The same seed gives the same answer.
    pub seed: u64,
}

impl Default for Changes {
    fn default() -> Self {
        Self { probability_max: 0.01, permutations: 499, segment_values_min: 3, change_min: 0.02, seed: 1 }
    }
}

/// A place where the series became another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// Index of the first value after the change.
    pub index: usize,
    /// Median from the change before (or the beginning) to this one.
    pub before: f64,
    /// Median from this change to the next (or the end).
    pub after: f64,
    /// How often chance makes a cut as deep.
    pub probability: f64,
}

impl ChangePoint {
    /// `after / before - 1`; 0 where `before` is 0.
    pub fn relative(&self) -> f64 {
        if self.before == 0.0 { 0.0 } else { self.after / self.before - 1.0 }
    }
}

impl Changes {
    /// The change points of a series of finite values, oldest first; empty where there are too few.
    pub fn find(&self, series: &[f64]) -> Vec<ChangePoint> {
        let skipped = series.len().saturating_sub(SERIES_VALUES_MAX);
        let series = &series[skipped..];
        let mut random = Random::new(self.seed);
        let mut cuts = Vec::new();
        self.divide(series, 0, &mut random, &mut cuts);
        cuts.sort_by_key(|cut| cut.0);
        let mut points = described(series, &cuts);
        // A small step is dropped with its cut, and its neighbours are measured again without it.
        while let Some(weak) = points.iter().position(|point| point.relative().abs() < self.change_min) {
            cuts.remove(weak);
            points = described(series, &cuts);
        }
        points.iter_mut().for_each(|point| point.index += skipped);
        points
    }

    fn divide(&self, part: &[f64], begin: usize, random: &mut Random, cuts: &mut Vec<(usize, f64)>) {
        let values_min = self.segment_values_min.max(2);
        let Some((cut, depth)) = deepest(part, values_min) else {
            return;
        };
        let mut shuffled = part.to_vec();
        let as_deep = (0..self.permutations).filter(|_| {
            random.shuffle(&mut shuffled);
            deepest(&shuffled, values_min).is_some_and(|(_, by_chance)| by_chance >= depth)
        });
        let probability = (1 + as_deep.count()) as f64 / (1.0 + f64::from(self.permutations));
        if depth <= 0.0 || probability > self.probability_max {
            return;
        }
        cuts.push((begin + cut, probability));
        self.divide(&part[..cut], begin, random, cuts);
        self.divide(&part[cut..], begin + cut, random, cuts);
    }
}

fn described(series: &[f64], cuts: &[(usize, f64)]) -> Vec<ChangePoint> {
    let median = |from: usize, to: usize| median_of(&mut series[from..to].to_vec());
    (0..cuts.len())
        .map(|at| {
            let (index, probability) = cuts[at];
            let from = at.checked_sub(1).map_or(0, |before| cuts[before].0);
            let to = cuts.get(at + 1).map_or(series.len(), |next| next.0);
            ChangePoint { index, before: median(from, index), after: median(index, to), probability }
        })
        .collect()
}

/// The cut with the largest energy distance between both sides, and that distance.
fn deepest(part: &[f64], values_min: usize) -> Option<(usize, f64)> {
    let count = part.len();
    if count < 2 * values_min {
        return None;
    }
    let distance = |a: usize, b: usize| (part[a] - part[b]).abs();
    let total: f64 = (0..count).map(|a| (a + 1..count).map(|b| distance(a, b)).sum::<f64>()).sum();
    let (mut within_left, mut within_right) = (0.0, total);
    let mut best: Option<(usize, f64)> = None;
    for moved in 0..count - values_min {
        // The value goes from the right side to the left.
        within_left += (0..moved).map(|a| distance(a, moved)).sum::<f64>();
        within_right -= (moved + 1..count).map(|b| distance(moved, b)).sum::<f64>();
        let cut = moved + 1;
        if cut < values_min {
            continue;
        }
        let (left, right) = (cut as f64, (count - cut) as f64);
        let between = total - within_left - within_right;
        let energy = 2.0 * between / (left * right)
            - 2.0 * within_left / (left * (left - 1.0))
            - 2.0 * within_right / (right * (right - 1.0));
        let depth = energy * left * right / (left + right);
        if best.is_none_or(|(_, deepest)| depth > deepest) {
            best = Some((cut, depth));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values around `level` that repeat without a trend.
    fn around(level: f64, count: usize) -> impl Iterator<Item = f64> {
        let mut random = Random::new(level.to_bits());
        (0..count).map(move |_| level * (1.0 + 0.02 * (random.unit() - 0.5)))
    }

    #[test]
    fn a_step_is_found_where_it_is() {
        let series: Vec<f64> = around(100.0, 20).chain(around(110.0, 15)).chain(around(90.0, 12)).collect();
        let found = Changes::default().find(&series);
        assert_eq!(found.iter().map(|point| point.index).collect::<Vec<_>>(), [20, 35]);
        assert!((found[0].relative() - 0.1).abs() < 0.02, "{found:?}");
        assert!(found[1].relative() < -0.15, "{found:?}");
        assert!(found.iter().all(|point| point.probability <= 0.01));
    }

    #[test]
    fn noise_and_small_steps_are_no_changes() {
        let noise: Vec<f64> = around(100.0, 60).collect();
        assert_eq!(Changes::default().find(&noise), []);
        let small: Vec<f64> = (0..40).map(|n| if n < 20 { 100.0 } else { 101.0 }).collect();
        assert_eq!(Changes::default().find(&small), []);
        let told = Changes { change_min: 0.005, ..Changes::default() }.find(&small);
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn short_and_constant_series_have_none() {
        for series in [&[][..], &[1.0], &[1.0, 2.0, 3.0], &[5.0; 40]] {
            assert_eq!(Changes::default().find(series), []);
        }
    }

    #[test]
    fn of_a_long_series_the_newest_are_looked_at() {
        let changes = Changes { permutations: 99, ..Changes::default() };
        let series: Vec<f64> = (0..600)
            .map(|n| {
                if n < 50 {
                    1.0
                } else if n < 400 {
                    10.0
                } else {
                    20.0
                }
            })
            .collect();
        let found = changes.find(&series);
        assert_eq!(found.iter().map(|point| point.index).collect::<Vec<_>>(), [400]);
    }
}
