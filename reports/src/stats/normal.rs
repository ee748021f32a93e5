//! The normal distribution, to about the precision of a double.
//!
//! It owns both directions. It refuses nothing: beyond what a double can tell apart the answer is 0, 1 or infinite.

use std::f64::consts::PI;

/// Beyond this the series would lose digits, and the continued fraction converges fast.
const SERIES_END: f64 = 2.5;

/// Terms of the series, or depth of the fraction: more change no digit.
const TERMS: u32 = 120;

/// The share of a standard normal distribution at or below `z`.
pub fn normal_cdf(z: f64) -> f64 {
    if z.abs() < SERIES_END {
        return 0.5 + density(z) * series(z);
    }
    let tail = density(z) * fraction(z.abs());
    if z > 0.0 { 1.0 - tail } else { tail }
}

fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / (2.0 * PI).sqrt()
}

/// z + z³/3 + z⁵/(3·5) + ...
fn series(z: f64) -> f64 {
    let mut term = z;
    let mut sum = z;
    for k in 1..TERMS {
        term *= z * z / f64::from(2 * k + 1);
        sum += term;
    }
    sum
}

/// 1/(z + 1/(z + 2/(z + 3/(z + ...)))), from the bottom up.
fn fraction(z: f64) -> f64 {
    1.0 / (1..TERMS).rev().fold(z, |below, k| z + f64::from(k) / below)
}

/// Where `share` of a standard normal distribution lies at or below; infinite at 0 and 1.
pub fn normal_quantile(share: f64) -> f64 {
    if share <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if share >= 1.0 {
        return f64::INFINITY;
    }
    // From the symmetric half, so that small tails keep their digits; then Newton from a rough start.
    let tail = share.min(1.0 - share);
    let rough = (-2.0 * tail.ln()).sqrt();
    let mut z = -(rough - (2.30753 + 0.27061 * rough) / (1.0 + (0.99229 + 0.04481 * rough) * rough));
    for _ in 0..8 {
        let error = (normal_cdf(z) - tail) / density(z);
        // Halley's correction; the second derivative of the distribution is -z times the density.
        z -= error / (1.0 + z * error / 2.0);
    }
    if share > 0.5 { -z } else { z }
}

/// The two-sided probability of a value at least as far from 0 as `z`.
pub(super) fn two_sided(z: f64) -> f64 {
    (2.0 * normal_cdf(-z.abs())).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_agree_with_tables() {
        for (z, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-1.959_963_984_540_054, 0.025),
            (2.575_829_303_548_900_4, 0.995),
            (-4.0, 3.167_124_183_311_992e-5),
            (-8.0, 6.220_960_574_271_785e-16),
        ] {
            assert!((normal_cdf(z) - share).abs() <= share * 1e-12, "{z}: {}", normal_cdf(z));
            assert!((normal_quantile(share) - z).abs() < 1e-9, "{share}: {}", normal_quantile(share));
        }
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
    }
}
