//! A choice by weight that costs one random number and one look into a table.
//!
//! Walker's alias method: each column of the table holds at most two of the choices, so that the draw is a
//! column and a coin, however many choices there are. Shares are exact to one part in 2^32.

/// The table for one set of weights.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    columns: Vec<Column>,
}

/// The choice of the same number up to the threshold of the coin, the other one beyond it.
#[derive(Clone, Copy, Debug)]
struct Column {
    own_share: u32,
    other: u32,
}

impl Weights {
    /// The table for these weights, each finite and not negative. No weights at all, or a sum of 0, choose
    /// the first.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let whole = Column { own_share: u32::MAX, other: 0 };
        let mut columns = vec![whole; weights.len().max(1)];
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 || !sum.is_finite() {
            // Nothing to choose by: the first choice fills every column.
            columns.iter_mut().skip(1).for_each(|column| *column = Column { own_share: 0, other: 0 });
            return Self { columns };
        }
        let mut fill: Vec<f64> = weights.iter().map(|weight| weight / sum * weights.len() as f64).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..fill.len()).partition(|choice| fill[*choice] < 1.0);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            columns[poor] =
                Column { own_share: share(fill[poor]), other: u32::try_from(rich).unwrap_or(u32::MAX) };
            fill[rich] -= 1.0 - fill[poor];
            if fill[rich] < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        // What is left over is full up to an error of rounding.
        for choice in small.into_iter().chain(large) {
            columns[choice] = Column { own_share: u32::MAX, other: u32::try_from(choice).unwrap_or(0) };
        }
        Self { columns }
    }

    /// The choice that a random number of 64 bits stands for.
    #[inline]
    pub(crate) fn choose(&self, random: u64) -> usize {
        let (high, coin) = (random >> 32, random & 0xffff_ffff);
        let column = (high * self.columns.len() as u64) >> 32;
        let Ok(column) = usize::try_from(column) else { return 0 };
        let Column { own_share, other } = self.columns[column];
        if coin < u64::from(own_share) || own_share == u32::MAX { column } else { other as usize }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is between 0 and 1, and a cast from a float stays at the bounds"
)]
fn share(part: f64) -> u32 {
    (part * f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The exact share of each choice, read from the table.
    fn shares(table: &Weights) -> Vec<f64> {
        let mut shares = vec![0.0; table.columns.len()];
        for (choice, column) in table.columns.iter().enumerate() {
            let own = f64::from(column.own_share) / f64::from(u32::MAX);
            shares[choice] += own / table.columns.len() as f64;
            shares[column.other as usize] += (1.0 - own) / table.columns.len() as f64;
        }
        shares
    }

    #[test]
    fn nothing_to_choose_by_is_the_first() {
        for weights in [&[][..], &[0.0], &[0.0, 0.0], &[f64::INFINITY, 1.0]] {
            let table = Weights::new(weights);
            assert!([0, 1, u64::MAX / 2, u64::MAX].iter().all(|random| table.choose(*random) == 0));
        }
    }

    #[test]
    fn draws_follow_the_shares() {
        let table = Weights::new(&[60.0, 30.0, 10.0]);
        let mut random = fastrand::Rng::with_seed(1);
        let mut seen = [0u32; 3];
        (0..100_000).for_each(|_| seen[table.choose(random.u64(..))] += 1);
        for (seen, expected) in seen.into_iter().zip([60_000.0, 30_000.0, 10_000.0]) {
            assert!((f64::from(seen) - expected).abs() < 500.0, "{seen} of {expected}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_the_weights(weights in proptest::collection::vec(0.0f64..1e6, 1..50)) {
            let sum: f64 = weights.iter().sum();
            prop_assume!(sum > 0.0);
            for (share, weight) in shares(&Weights::new(&weights)).into_iter().zip(&weights) {
                prop_assert!((share - weight / sum).abs() < 1e-8, "{} for {}", share, weight / sum);
            }
        }

        #[test]
        fn every_number_is_a_choice(count in 1usize..100, random: u64) {
            let weights: Vec<f64> = (0..count).map(|at| at as f64).collect();
            prop_assert!(Weights::new(&weights).choose(random) < count);
        }
    }
}
