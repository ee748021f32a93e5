//! Mann and Whitney's U: does one sample tend to lie above the other?
//!
//! It owns ranks with ties, the exact distribution for small samples without ties, and the normal approximation
//! with corrections for ties and continuity for the others. It refuses nothing.

use super::normal::two_sided;
use super::sample::Sample;

/// The exact distribution is used while the smaller sample has at most this many values and none repeats.
pub const EXACT_VALUES_MAX: usize = 8;

/// The exact distribution is counted up to this many values of the larger sample.
const EXACT_LARGER_MAX: usize = 200;

/// The outcome of the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which `head` lies above `base`; a tie counts half.
    pub u: f64,
    /// Two-sided probability of such a U or a more extreme one where both samples come from one source.
    pub probability: f64,
    /// Whether the probability was counted, not approximated.
    pub is_exact: bool,
}

/// Compares two samples.
pub fn mann_whitney(base: &Sample, head: &Sample) -> MannWhitney {
    let (m, n) = (head.count(), base.count());
    let (rank_sum, ties) = ranks(base, head);
    let u = rank_sum - (m * (m + 1)) as f64 / 2.0;
    let is_exact = ties == 0.0 && m.min(n) <= EXACT_VALUES_MAX && m.max(n) <= EXACT_LARGER_MAX;
    let probability = if is_exact { exact(u, m, n) } else { approximate(u, m, n, ties) };
    MannWhitney { u, probability, is_exact }
}

/// The sum of the ranks of `head` in both samples together, and the sum of t³ - t over groups of ties.
fn ranks(base: &Sample, head: &Sample) -> (f64, f64) {
    let of_base = base.values().iter().map(|value| (*value, false));
    let mut all: Vec<(f64, bool)> = of_base.chain(head.values().iter().map(|value| (*value, true))).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut rank_sum, mut ties, mut begin) = (0.0, 0.0, 0);
    // total_cmp puts -0 before 0, which are one value here.
    for group in all.chunk_by(|a, b| a.0 == b.0) {
        let size = group.len() as f64;
        let rank = begin as f64 + (size + 1.0) / 2.0;
        rank_sum += rank * group.iter().filter(|(_, is_head)| *is_head).count() as f64;
        ties += size.powi(3) - size;
        begin += group.len();
    }
    (rank_sum, ties)
}

fn approximate(u: f64, m: usize, n: usize, ties: f64) -> f64 {
    let (m, n) = (m as f64, n as f64);
    let all = m + n;
    let variance = m * n / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    // All values alike: nothing tells the samples apart.
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = (u - m * n / 2.0).abs() - 0.5;
    // Within half a step of the middle the correction would turn the sign.
    two_sided_above(distance / variance.sqrt())
}

fn two_sided_above(z: f64) -> f64 {
    if z <= 0.0 { 1.0 } else { two_sided(z) }
}

/// Counts the ways in which U can come about: the number of ways to reach u with m and n values is that
/// with one value fewer of either kind (Mann and Whitney 1947).
fn exact(u: f64, m: usize, n: usize) -> f64 {
    let (small, large) = (m.min(n), m.max(n));
    let largest = small * large;
    // ways[j][u] for the current i of `small`; shares, not counts, so that nothing overflows.
    let mut ways = vec![vec![0.0_f64; largest + 1]; large + 1];
    ways.iter_mut().for_each(|row| row[0] = 1.0);
    for i in 1..=small {
        let mut next = vec![vec![0.0_f64; largest + 1]; large + 1];
        next[0][0] = 1.0;
        for j in 1..=large {
            let (chosen, all) = (i as f64, (i + j) as f64);
            for at in 0..=i * j {
                let without_i = if at >= j { ways[j][at - j] } else { 0.0 };
                next[j][at] = without_i * chosen / all + next[j - 1][at] * j as f64 / all;
            }
        }
        ways = next;
    }
    let extreme = u.max(largest as f64 - u);
    let tail: f64 =
        ways[large].iter().enumerate().filter(|(at, _)| *at as f64 >= extreme).map(|(_, share)| share).sum();
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_separation_of_three_and_three() {
        let low = Sample::new(&[1.0, 2.0, 3.0]).unwrap();
        let high = Sample::new(&[4.0, 5.0, 6.0]).unwrap();
        let test = mann_whitney(&low, &high);
        assert_eq!(test.u, 9.0);
        assert!(test.is_exact);
        // Two of the twenty orders.
        assert!((test.probability - 0.1).abs() < 1e-12);
    }

    #[test]
    fn equal_values_tell_nothing() {
        let same = Sample::new(&[2.0; 9]).unwrap();
        assert_eq!(mann_whitney(&same, &same).probability, 1.0);
    }
}
