//! Gunther's Universal Scalability Law: throughput by processors, with its confidence band.
//!
//! C(N) = λN / (1 + σ(N-1) + κN(N-1)): λ is the rate of one processor, σ what must wait in line, κ what must be agreed upon.
//! It owns the fit by least squares with σ and κ at least 0. It refuses fewer than three different N, and a band of
//! fewer points than [`SCALING_POINTS_MIN`], since three points lie on such a curve whatever they are.

use super::random::Random;
use super::sample::quantile_of_sorted;

/// A band says something from this many points on: one more than the curve has parameters.
pub const SCALING_POINTS_MIN: usize = 4;

/// Steps of the search at most; it ends within a dozen where there is something to find.
const STEPS_MAX: u32 = 200;

/// A fitted curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// λ, the rate of one processor.
    pub single: f64,
    /// σ, at least 0.
    pub contention: f64,
    /// κ, at least 0.
    pub coherence: f64,
}

impl Scaling {
    /// The rate with `processors`, which may be a fraction.
    pub fn at(&self, processors: f64) -> f64 {
        let n = processors;
        self.single * n / (1.0 + self.contention * (n - 1.0) + self.coherence * n * (n - 1.0))
    }

    /// The number of processors beyond which more of them slow it down; `None` where there is no such number.
    pub fn peak(&self) -> Option<f64> {
        let square = (1.0 - self.contention) / self.coherence;
        (self.coherence > 0.0 && square > 0.0).then(|| square.sqrt())
    }
}

/// One place of the band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BandPoint {
    /// Processors.
    pub processors: f64,
    /// The lower end.
    pub low: f64,
    /// The fitted rate.
    pub fitted: f64,
    /// The upper end.
    pub high: f64,
}

/// The curve through points (processors, rate); `None` with fewer than three different numbers of processors, or
/// where a number is not above 0.
pub fn fit(points: &[(f64, f64)]) -> Option<Scaling> {
    let is_positive = |value: f64| value.is_finite() && value > 0.0;
    if !points.iter().all(|(n, rate)| is_positive(*n) && is_positive(*rate)) {
        return None;
    }
    let mut processors: Vec<f64> = points.iter().map(|(n, _)| *n).collect();
    processors.sort_unstable_by(f64::total_cmp);
    processors.dedup();
    if processors.len() < 3 {
        return None;
    }
    // At most one, so that the search does not depend on the unit of the rate.
    let largest = points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let scaled: Vec<(f64, f64)> = points.iter().map(|(n, rate)| (*n, rate / largest)).collect();
    // The best of the curves with none, one or both of σ and κ held at 0: the bounds without a solver for bounds.
    let free = [[true, true, true], [true, true, false], [true, false, true], [true, false, false]];
    let found = free.iter().filter_map(|free| search(&scaled, *free));
    let (line, _) = found.min_by(|a, b| a.1.total_cmp(&b.1))?;
    let [a, b, c] = line;
    Some(Scaling { single: largest / a, contention: b / a, coherence: c / a })
}

/// With q = a + b(N-1) + cN(N-1) the law is N/q, where a = 1/λ, b = σ/λ, c = κ/λ.
fn basis(n: f64) -> [f64; 3] {
    [1.0, n - 1.0, n * (n - 1.0)]
}

fn divisor(line: [f64; 3], n: f64) -> f64 {
    basis(n).iter().zip(line).map(|(u, part)| u * part).sum()
}

/// The sum of squared errors; infinite where the law has no meaning.
fn squares(points: &[(f64, f64)], line: [f64; 3]) -> f64 {
    let is_allowed = line[0] > 0.0 && line[1] >= 0.0 && line[2] >= 0.0;
    if !is_allowed || points.iter().any(|(n, _)| divisor(line, *n) <= 0.0) {
        return f64::INFINITY;
    }
    points.iter().map(|(n, rate)| (rate - n / divisor(line, *n)).powi(2)).sum()
}

/// Levenberg and Marquardt's descent over the free parameters, from the mean rate of one processor.
fn search(points: &[(f64, f64)], free: [bool; 3]) -> Option<([f64; 3], f64)> {
    let mean = points.iter().map(|(n, rate)| rate / n).sum::<f64>() / points.len() as f64;
    let mut line = [1.0 / mean, 0.0, 0.0];
    let small = [0.0, 0.01, 1e-4];
    for at in (1..3).filter(|at| free[*at]) {
        line[at] = line[0] * small[at];
    }
    let mut error = squares(points, line);
    let mut damping = 1e-3;
    for _ in 0..STEPS_MAX {
        let Some(step) = step(points, line, free, damping) else { break };
        let mut next = line;
        next.iter_mut().zip(step).for_each(|(part, change)| *part += change);
        let next_error = squares(points, next);
        if next_error <= error {
            let gain = error - next_error;
            (line, error) = (next, next_error);
            damping = (damping / 10.0).max(1e-12);
            if gain <= error * 1e-15 {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    error.is_finite().then_some((line, error))
}

/// One damped step: (JᵀJ + damping·diag) x = Jᵀr over the free parameters.
fn step(points: &[(f64, f64)], line: [f64; 3], free: [bool; 3], damping: f64) -> Option<[f64; 3]> {
    let mut normal = [[0.0; 4]; 3];
    for (n, rate) in points {
        let q = divisor(line, *n);
        let residual = rate - n / q;
        let slope = basis(*n).map(|u| -n * u / (q * q));
        for row in 0..3 {
            for column in 0..3 {
                normal[row][column] += slope[row] * slope[column];
            }
            normal[row][3] += slope[row] * residual;
        }
    }
    for at in 0..3 {
        normal[at][at] *= 1.0 + damping;
        if !free[at] {
            normal[at] = [0.0; 4];
            normal.iter_mut().for_each(|row| row[at] = 0.0);
            normal[at][at] = 1.0;
        }
    }
    solve(normal)
}

/// Gauss's elimination with pivots; `None` where the rows depend on each other.
fn solve(mut rows: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        rows.swap(column, pivot);
        if rows[column][column].abs() < f64::MIN_POSITIVE {
            return None;
        }
        for row in (0..3).filter(|row| *row != column) {
            let factor = rows[row][column] / rows[column][column];
            let above = rows[column];
            rows[row].iter_mut().zip(above).for_each(|(value, part)| *value -= factor * part);
        }
    }
    Some([0, 1, 2].map(|at| rows[at][3] / rows[at][at]))
}

/// The fitted rates at `processors` with a band that holds `level` of the curves fitted to points made from the
/// fitted curve and errors drawn from those measured; `None` where [`fit`] has none or there are too few points.
pub fn band(
    points: &[(f64, f64)],
    processors: &[f64],
    level: f64,
    resamples: u32,
    seed: u64,
) -> Option<Vec<BandPoint>> {
    let fitted = fit(points).filter(|_| points.len() >= SCALING_POINTS_MIN)?;
    let errors = errors(points, &fitted);
    let mut random = Random::new(seed);
    let mut curves = Vec::new();
    for _ in 0..resamples.max(1) {
        let drawn: Vec<(f64, f64)> = points
            .iter()
            .map(|(n, _)| {
                let rate = fitted.at(*n) * (1.0 + errors[random.below(errors.len())]);
                // A rate is never 0 or less, whatever the errors.
                (*n, rate.max(f64::MIN_POSITIVE))
            })
            .collect();
        curves.extend(fit(&drawn));
    }
    let outside = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    let at = |n: f64| {
        let mut rates: Vec<f64> = curves.iter().map(|curve| curve.at(n)).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let end = |share| quantile_of_sorted(&rates, share);
        BandPoint { processors: n, low: end(outside), fitted: fitted.at(n), high: end(1.0 - outside) }
    };
    (!curves.is_empty()).then(|| processors.iter().map(|n| at(*n)).collect())
}

/// Relative errors of the points, without their mean, widened for the three parameters that hid a part of them.
fn errors(points: &[(f64, f64)], fitted: &Scaling) -> Vec<f64> {
    let relative: Vec<f64> = points.iter().map(|(n, rate)| rate / fitted.at(*n) - 1.0).collect();
    let count = relative.len() as f64;
    let mean = relative.iter().sum::<f64>() / count;
    let widened = (count / (count - 3.0).max(1.0)).sqrt();
    relative.iter().map(|error| (error - mean) * widened).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: Scaling = Scaling { single: 2.5, contention: 0.08, coherence: 0.004 };

    fn points_of(curve: &Scaling, errors: &[f64]) -> Vec<(f64, f64)> {
        let processors = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0];
        processors.iter().zip(errors.iter().cycle()).map(|(n, e)| (*n, curve.at(*n) * (1.0 + e))).collect()
    }

    #[test]
    fn a_known_curve_is_found_again() {
        let found = fit(&points_of(&CURVE, &[0.0])).unwrap();
        assert!((found.single - CURVE.single).abs() < 1e-6, "{found:?}");
        assert!((found.contention - CURVE.contention).abs() < 1e-6, "{found:?}");
        assert!((found.coherence - CURVE.coherence).abs() < 1e-6, "{found:?}");
        let peak = found.peak().unwrap();
        assert!((peak - (0.92_f64 / 0.004).sqrt()).abs() < 1e-3, "{peak}");
    }

    #[test]
    fn a_straight_line_has_no_peak_and_no_negative_parts() {
        let line = Scaling { single: 3.0, contention: 0.0, coherence: 0.0 };
        let found = fit(&points_of(&line, &[0.01, -0.02, 0.005])).unwrap();
        assert!(found.contention >= 0.0 && found.coherence >= 0.0, "{found:?}");
        assert!(fit(&points_of(&line, &[0.0])).unwrap().at(32.0) > 90.0);
    }

    #[test]
    fn the_band_holds_the_curve_and_widens_outside() {
        let points = points_of(&CURVE, &[0.02, -0.015, 0.01, -0.02, 0.005, 0.01]);
        let band = band(&points, &[4.0, 64.0], 0.95, 400, 7).unwrap();
        for place in &band {
            assert!(place.low <= place.fitted && place.fitted <= place.high, "{place:?}");
            let truth = CURVE.at(place.processors);
            assert!(place.low <= truth && truth <= place.high, "{place:?} {truth}");
        }
        let width = |place: &BandPoint| (place.high - place.low) / place.fitted;
        assert!(width(&band[1]) > width(&band[0]));
    }

    #[test]
    fn too_little_is_refused() {
        assert_eq!(fit(&[(1.0, 1.0), (2.0, 2.0)]), None);
        assert_eq!(fit(&[(1.0, 1.0), (2.0, 2.0), (2.0, 2.1)]), None);
        assert_eq!(fit(&[(1.0, 1.0), (2.0, 0.0), (4.0, 3.0)]), None);
        let three = [(1.0, 1.0), (2.0, 1.9), (4.0, 3.2)];
        assert!(fit(&three).is_some());
        assert_eq!(band(&three, &[8.0], 0.95, 10, 1), None);
    }
}
