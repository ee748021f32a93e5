//! A tier as the operator writes it.
//!
//! It owns the notation `CPUSxGIB` and its limits. It refuses what is no number, too small for any program, or larger than any
//! machine, and says what is expected instead.

use std::fmt;
use std::str::FromStr;

use reports::run::Tier;

/// The least share of a processor that can be asked for; below, a program does not start within reason.
pub const CPUS_MIN: f64 = 0.1;
/// The most processors that can be asked for.
pub const CPUS_MAX: f64 = 1024.0;
/// The least memory, in GiB.
pub const MEMORY_GIB_MIN: f64 = 0.0625;
/// The most memory, in GiB.
pub const MEMORY_GIB_MAX: f64 = 65_536.0;

/// A tier that was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Processors, perhaps a fraction.
    pub cpus: f64,
    /// GiB of memory, perhaps a fraction.
    pub memory_gib: f64,
}

impl Wanted {
    /// As the record names it.
    pub fn tier(self) -> Tier {
        Tier { cpus: self.cpus, memory_gib: self.memory_gib }
    }

    /// Bytes of memory.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most MEMORY_GIB_MAX")]
    pub fn memory_bytes(self) -> u64 {
        // Whole pages: the kernel rounds down to them.
        (self.memory_gib * f64::from(1 << 30) / 4096.0).round() as u64 * 4096
    }

    /// Processors that it takes to have so many: half a one needs one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most CPUS_MAX")]
    pub fn cores(self) -> usize {
        self.cpus.ceil() as usize
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}x{}", self.cpus, self.memory_gib)
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str, min: f64, max: f64| {
            // Digits and a point alone: a float may also be written as `inf` or `1e3`.
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            digits.parse().ok().filter(|value| is_plain && (min..=max).contains(value))
        };
        let both = text.split_once(['x', 'X']).and_then(|(cpus, memory)| {
            let cpus = number(cpus, CPUS_MIN, CPUS_MAX)?;
            Some(Self { cpus, memory_gib: number(memory, MEMORY_GIB_MIN, MEMORY_GIB_MAX)? })
        });
        both.ok_or_else(|| {
            format!(
                "{text}: a tier is CPUs x GiB of memory, such as 0.5x1 or 2x4, with {CPUS_MIN} to {CPUS_MAX} CPUs and \
                 {MEMORY_GIB_MIN} to {MEMORY_GIB_MAX} GiB"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_tier_is_read_as_it_is_shown(cpus in 1_u32..10_000, memory in 1_u32..100_000) {
            let wanted = Wanted { cpus: f64::from(cpus) / 10.0, memory_gib: f64::from(memory) / 8.0 };
            let again = wanted.to_string().parse::<Wanted>();
            if wanted.cpus <= CPUS_MAX && wanted.memory_gib >= MEMORY_GIB_MIN {
                prop_assert_eq!(again.unwrap(), wanted);
                prop_assert!(wanted.cores() as f64 >= wanted.cpus && (wanted.cores() as f64) < wanted.cpus + 1.0);
                prop_assert_eq!(wanted.memory_bytes() % 4096, 0);
            } else {
                prop_assert!(again.is_err());
            }
        }

        #[test]
        fn nothing_typed_is_too_strange(text in ".{0,12}") {
            match text.parse::<Wanted>() {
                Ok(wanted) => prop_assert!((CPUS_MIN..=CPUS_MAX).contains(&wanted.cpus)),
                Err(error) => prop_assert!(error.starts_with(&text) && error.contains("0.5x1"), "{}", error),
            }
        }
    }

    #[test]
    fn processors_stand_before_memory() {
        let wanted: Wanted = "0.5x1".parse().unwrap();
        assert_eq!((wanted.cpus, wanted.memory_gib, wanted.cores()), (0.5, 1.0, 1));
        assert_eq!(wanted.memory_bytes(), 1 << 30);
        assert_eq!("16X64".parse::<Wanted>().unwrap().to_string(), "16x64");
        for wrong in [
            "", "2", "x", "2x", "x4", "0x1", "1x0", "-1x2", "1e1x2", "infx2", "NaNx1", "2x4x8", "2,4",
            "2 x 4",
        ] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
    }
}
