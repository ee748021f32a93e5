//! How far one sample lies from another, without belief in a bell curve.
//!
//! It owns Hodges and Lehmann's estimators and the ratio of medians. It refuses nothing.

use super::sample::{Sample, median_of};

/// The median of all differences `head - base`: the shift that fits best, which outliers hardly move.
pub fn hodges_lehmann(base: &Sample, head: &Sample) -> f64 {
    let mut differences = Vec::with_capacity(base.count() * head.count());
    for one in head.values() {
        differences.extend(base.values().iter().map(|other| one - other));
    }
    median_of(&mut differences)
}

/// The median of the means of all pairs of one sample, each value with itself too: the centre of paired differences.
pub fn walsh_median(sample: &Sample) -> f64 {
    let values = sample.values();
    let mut means = Vec::with_capacity(values.len() * (values.len() + 1) / 2);
    for (index, one) in values.iter().enumerate() {
        means.extend(values[index..].iter().map(|other| one + (other - one) / 2.0));
    }
    median_of(&mut means)
}

/// The median of `head` divided by that of `base`; `None` where the latter is not above 0.
pub fn median_ratio(base: &Sample, head: &Sample) -> Option<f64> {
    let below = base.median();
    (below > 0.0).then(|| head.median() / below)
}
