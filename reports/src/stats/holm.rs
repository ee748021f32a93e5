//! Holm's correction: several metrics, one chance of a false alarm.
//!
//! It owns that one step-down procedure (Holm 1979). It refuses nothing.

/// The adjusted probabilities, in the order of those given; each compares with the level directly.
pub fn holm(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let mut adjusted = vec![1.0; probabilities.len()];
    let mut largest = 0.0_f64;
    for (rank, index) in order.iter().enumerate() {
        let remaining = (probabilities.len() - rank) as f64;
        // What comes later is never more significant than what came before.
        largest = largest.max((probabilities[*index] * remaining).min(1.0));
        adjusted[*index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::holm;

    #[test]
    fn the_smallest_pays_for_all() {
        let adjusted = holm(&[0.01, 0.04, 0.03]);
        for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06]) {
            assert!((found - expected).abs() < 1e-12, "{adjusted:?}");
        }
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.7, 0.9]), [1.0, 1.0]);
    }
}
