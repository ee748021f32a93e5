//! The memory of 4096 neighbouring sequence numbers: for each the fingerprint of one recipient and the time
//! of its first arrival.
//!
//! A time takes 16 bits, so that a message costs six bytes in all: it counts from the first arrival in the
//! chunk, exactly up to two milliseconds and to a thousandth of itself beyond.

/// Sequence numbers in one chunk.
pub(super) const NUMBERS: usize = 4096;

/// Bits of a packed time that hold its leading digits; the other five hold how far they were shifted.
const DIGIT_BITS: u32 = 11;

const DIGITS_MASK: u16 = (1 << DIGIT_BITS) - 1;

/// What a slot without a recipient holds.
pub(super) const NOBODY: u32 = 0;

#[derive(Clone, Debug)]
pub(super) struct Chunk {
    first_us: u64,
    recipients: [u32; NUMBERS],
    arrived: [u16; NUMBERS],
}

impl Chunk {
    /// An empty chunk whose first delivery arrives now.
    pub(super) fn new(now_ns: u64) -> Self {
        Self { first_us: now_ns / 1_000, recipients: [NOBODY; NUMBERS], arrived: [0; NUMBERS] }
    }

    pub(super) fn recipient(&self, offset: usize) -> u32 {
        self.recipients[offset]
    }

    /// When the recipient of that slot was first served, in nanoseconds, rounded down.
    pub(super) fn arrived_ns(&self, offset: usize) -> u64 {
        (self.first_us + unpack(self.arrived[offset])) * 1_000
    }

    pub(super) fn set(&mut self, offset: usize, recipient: u32, now_ns: u64) {
        self.recipients[offset] = recipient;
        self.arrived[offset] = pack((now_ns / 1_000).saturating_sub(self.first_us));
    }
}

/// Microseconds in 16 bits, rounded down. What is longer than 50 days counts as that.
fn pack(us: u64) -> u16 {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(DIGIT_BITS);
    match (u16::try_from(us >> shift), u16::try_from(shift)) {
        (Ok(digits), Ok(shift)) if shift < 32 => shift << DIGIT_BITS | digits,
        _ => u16::MAX,
    }
}

fn unpack(packed: u16) -> u64 {
    u64::from(packed & DIGITS_MASK) << (packed >> DIGIT_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_times_are_exact_and_endless_ones_stay_within_bounds() {
        assert!((0..2048).all(|us| unpack(pack(us)) == us));
        let fifty_days_us = 50 * 86_400 * 1_000_000;
        assert!(unpack(pack(u64::MAX)) > fifty_days_us);
    }

    proptest! {
        #[test]
        fn a_time_is_kept_to_a_thousandth_and_never_grows(us in 0u64..4_000_000_000_000) {
            let kept = unpack(pack(us));
            prop_assert!(kept <= us && us - kept <= us / 1_000);
        }
    }
}
