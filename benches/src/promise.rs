//! The durability of kumod's spool in a run, as an option and as a sentence.
//!
//! It owns the words; the promises themselves are the spool's. A name that the spool does not know has no promise.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use spool::Durability;

/// All durabilities, the default first.
const ALL: [Promise; 3] =
    [Promise(Durability::Commit), Promise(Durability::Written), Promise(Durability::Deferred)];

/// What a 250 of kumod promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promise(pub Durability);

impl Promise {
    /// The name on command lines and in records.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The promise that a record names.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|promise| promise.name() == name)
    }

    /// Whether what was acknowledged outlives the death of kumod.
    pub fn survives_a_crash(self) -> bool {
        self.0 != Durability::Deferred
    }
}

impl ValueEnum for Promise {
    fn value_variants<'a>() -> &'a [Self] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.0.promise()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_found_by_their_names() {
        assert!(ALL.into_iter().all(|promise| Promise::named(promise.name()) == Some(promise)));
        assert_eq!(Promise::named("perhaps"), None);
        assert_eq!(ALL[0], Promise::default());
        assert!(ALL[1].survives_a_crash() && !ALL[2].survives_a_crash());
    }
}
