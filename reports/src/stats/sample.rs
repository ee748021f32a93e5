//! Numbers that are fit for statistics, their median and their quantiles.
//!
//! It owns the check that nothing after it has to repeat. It refuses no values, too many, and values that are
//! not finite, naming the place.

use thiserror::Error;

/// The most values in a sample; pairwise statistics look at the square of it.
pub const SAMPLE_VALUES_MAX: usize = 2_000;

/// Why numbers are no sample.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum Unusable {
    /// Operator: nothing was measured.
    #[error("no values; at least one measurement is needed")]
    Empty,
    /// Operator: more values than are compared pairwise.
    #[error("{count} values, more than a sample may have ({SAMPLE_VALUES_MAX}); leave the older ones out")]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// Operator: a value that no measurement gives.
    #[error("value {position} is {value}, which is not a finite number")]
    NotFinite {
        /// Its place, from 1.
        position: usize,
        /// What stands there.
        value: f64,
    },
}

/// At least one finite number, in the order in which they were measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    values: Vec<f64>,
}

impl Sample {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Unusable`], with the place of the value.
    pub fn new(values: &[f64]) -> Result<Self, Unusable> {
        if values.is_empty() {
            return Err(Unusable::Empty);
        }
        if values.len() > SAMPLE_VALUES_MAX {
            return Err(Unusable::TooMany { count: values.len() });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Unusable::NotFinite { position: index + 1, value: values[index] });
        }
        Ok(Self { values: values.to_vec() })
    }

    /// The values, as they were given.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How many there are; never 0.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// The middle value, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        median_of(&mut self.values.clone())
    }

    /// The value at a quantile from 0 to 1, interpolated between neighbours (Hyndman and Fan's type 7).
    pub fn quantile(&self, quantile: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        quantile_of_sorted(&sorted, quantile)
    }
}

/// The median; reorders the values. 0 where there are none.
pub fn median_of(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let is_odd = !values.len().is_multiple_of(2);
    let middle = values.len() / 2;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if is_odd {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower + (upper - lower) / 2.0
}

/// The quantile of values in ascending order, interpolated; 0 where there are none.
pub fn quantile_of_sorted(sorted: &[f64], quantile: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = quantile.clamp(0.0, 1.0) * last as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the last index")]
    let lower = place.floor() as usize;
    let upper = (lower + 1).min(last);
    sorted[lower] + (sorted[upper] - sorted[lower]) * (place - lower as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median_of(&mut [3.0]), 3.0);
        assert_eq!(median_of(&mut [3.0, 1.0]), 2.0);
        assert_eq!(median_of(&mut [9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median_of(&mut [4.0, 1.0, 9.0, 2.0]), 3.0);
        assert_eq!(median_of(&mut []), 0.0);
    }

    #[test]
    fn what_is_no_sample_is_refused_by_place() {
        assert_eq!(Sample::new(&[]), Err(Unusable::Empty));
        let error = Sample::new(&[1.0, f64::NAN]).unwrap_err();
        assert!(error.to_string().starts_with("value 2 is NaN"), "{error}");
        let error = Sample::new(&vec![0.0; SAMPLE_VALUES_MAX + 1]).unwrap_err();
        assert!(error.to_string().contains("2001 values"), "{error}");
    }
}
