//! Chance that repeats: every number drawn depends on the seed, the rule and what it is drawn for.
//!
//! There is no generator whose state moves, so it does not matter in which order connections ask, nor on
//! which thread. Not for secrets.

/// The dice of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dice(u64);

/// A number drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draw(u64);

impl Dice {
    /// `rule` is the sum of its name.
    pub(super) fn new(seed: u64, rule: u64) -> Self {
        Self(mix(mix(seed) ^ rule))
    }

    /// `subject` names a connection or a message, `count` is the how-manieth decision of the rule about it.
    pub(super) fn draw(self, subject: u64, count: u64) -> Draw {
        Draw(mix(mix(self.0 ^ subject) ^ count))
    }
}

impl Draw {
    /// Whether the number is below another; `u64::MAX` times a probability is met with that probability.
    pub(super) fn is_below(self, bound: u64) -> bool {
        self.0 < bound
    }

    /// A further number for the same decision.
    pub(super) fn again(self) -> Self {
        Self(mix(self.0))
    }

    /// At least 0 and less than 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub(super) fn unit(self) -> f64 {
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Bytes, any of them.
    pub(super) fn fill(mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self = self.again();
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A sum of a text that is the same in every process (FNV-1a).
pub(super) fn sum(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finalizer of splitmix64: every bit of the input moves half of the bits of the output.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_even_and_depend_on_all_that_they_are_for() {
        let drawn = |seed, rule, subject| {
            (0..10_000)
                .filter(|&count| Dice::new(seed, rule).draw(subject, count).unit() < 0.1)
                .collect::<Vec<u64>>()
        };
        let first = drawn(1, 2, 3);
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert_eq!(first, drawn(1, 2, 3));
        for other in [drawn(2, 2, 3), drawn(1, 3, 3), drawn(1, 2, 4)] {
            assert_ne!(first, other);
        }
    }
}
