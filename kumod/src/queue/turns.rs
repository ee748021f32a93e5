//! Which source of a pool is next: weighted round robin, smooth, so that a source of weight 3 beside one of weight 1 does not send
//! three times in a row what could be spread.
//!
//! Owns nothing but the counts. A source that cannot be used now is passed over, and its share is the others' for as long.

/// The sources of a pool by number, and whose turn it is.
#[derive(Clone, Debug)]
pub struct Turns {
    sources: Vec<Source>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    weight: i64,
    /// What it has saved up: its weight with each turn of the pool, less the weights of all with each of its own.
    credit: i64,
}

impl Turns {
    /// Sources with these weights. One of weight 0 never has a turn.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let sources = weights.into_iter().map(|weight| Source { weight: weight.into(), credit: 0 });
        Self { sources: sources.collect() }
    }

    /// The next source among those that can be used; `None` where none can.
    pub fn next(&mut self, is_usable: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut total, mut best) = (0, None);
        for at in 0..self.sources.len() {
            if self.sources[at].weight == 0 || !is_usable(at) {
                continue;
            }
            let source = &mut self.sources[at];
            source.credit += source.weight;
            total += source.weight;
            let credit = source.credit;
            if best.is_none_or(|best: usize| self.sources[best].credit < credit) {
                best = Some(at);
            }
        }
        let best = best?;
        self.sources[best].credit -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_are_spread_evenly() {
        let mut turns = Turns::new([3, 0, 1]);
        let order: Vec<usize> = std::iter::from_fn(|| turns.next(|_| true)).take(8).collect();
        assert_eq!(order, [0, 0, 2, 0, 0, 0, 2, 0]);
        assert_eq!(Turns::new([0, 0]).next(|_| true), None);
        assert_eq!(Turns::new([]).next(|_| true), None);
    }

    #[test]
    fn the_share_of_a_source_that_cannot_be_used_is_the_others() {
        let mut turns = Turns::new([5, 1, 1]);
        let without: Vec<usize> = std::iter::from_fn(|| turns.next(|at| at != 0)).take(4).collect();
        assert_eq!(without, [1, 2, 1, 2]);
        assert_eq!(turns.next(|_| false), None);
        let count = std::iter::from_fn(|| turns.next(|_| true)).take(70).filter(|at| *at == 0).count();
        assert_eq!(count, 50, "what it missed is not made up for");
    }

    proptest! {
        /// However the weights: after any number of turns nobody is a whole turn away from its share.
        #[test]
        fn shares_hold_at_every_moment(weights in proptest::collection::vec(0_u32..1000, 1..6), count in 1_u32..500) {
            let mut turns = Turns::new(weights.iter().copied());
            let total: u32 = weights.iter().sum();
            let mut had = vec![0_u32; weights.len()];
            for _ in 0..count {
                if let Some(at) = turns.next(|_| true) { had[at] += 1; }
            }
            for (had, weight) in had.iter().zip(&weights) {
                if total == 0 { prop_assert_eq!(*had, 0); continue; }
                let share = f64::from(count) * f64::from(*weight) / f64::from(total);
                prop_assert!((f64::from(*had) - share).abs() < weights.len() as f64, "{} of {}", had, share);
            }
        }
    }
}
