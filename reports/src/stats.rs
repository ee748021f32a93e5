//! Statistics for judging runs on noisy machines: pure functions over numbers that were measured.
//!
//! It owns the arithmetic and nothing of what the numbers mean. It refuses samples that are empty, too large
//! or hold something that is not a number, once, when a [`Sample`] is made; after that nothing fails. What is
//! random is seeded: the same numbers and the same seed give the same answer on every machine.

mod bootstrap;
mod changes;
mod holm;
mod normal;
mod random;
mod ranks;
mod sample;
mod scaling;
mod shift;

pub use bootstrap::{Bootstrap, Interval, Method, RESAMPLES_MAX};
pub use changes::{ChangePoint, Changes, SERIES_VALUES_MAX};
pub use holm::holm;
pub use normal::{normal_cdf, normal_quantile};
pub use random::Random;
pub use ranks::{EXACT_VALUES_MAX, MannWhitney, mann_whitney};
pub use sample::{SAMPLE_VALUES_MAX, Sample, Unusable, median_of, quantile_of_sorted};
pub use scaling::{BandPoint, SCALING_POINTS_MIN, Scaling, band, fit};
pub use shift::{hodges_lehmann, median_ratio, walsh_median};
