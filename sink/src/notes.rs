//! What was wrong with single messages of a run: which were doubled, damaged or overtaken, and when.
//!
//! Each list ends at [`NOTES_MAX`]; the counts beside them go on, so a reader sees that a list was cut. Good
//! mail never comes here.

use std::sync::Arc;

use serde::Serialize;

/// Notes of one kind that a worker keeps about one run.
pub(crate) const NOTES_MAX: usize = 10_000;

/// A list with a limit. Cloning is cheap; the next note after it copies the list.
#[derive(Clone, Debug)]
pub(crate) struct Notes<T>(Arc<Vec<T>>);

impl<T> Default for Notes<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Notes<T> {
    /// Keeps the note where there is room.
    pub(crate) fn add(&mut self, note: impl FnOnce() -> T) {
        if self.0.len() < NOTES_MAX {
            Arc::make_mut(&mut self.0).push(note());
        }
    }

    pub(crate) fn all(&self) -> &[T] {
        &self.0
    }
}

/// A delivery that had arrived before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The number of the message.
    pub seq: u64,
    /// CRC-32C of the recipient's address, `local@domain` with the domain in lower case, in hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub recipient: u32,
    /// The generator's connection, as the header says.
    pub conn: Option<u64>,
    /// The first arrival, in nanoseconds of `CLOCK_MONOTONIC`; to a thousandth of its distance from the
    /// first arrival among its 4096 neighbours, rounded down.
    pub first_ns: u64,
    /// The connection to the sink that brought it first; null where it was too long ago, or another worker had it.
    pub first_connection: Option<u64>,
    /// The arrival that was one too many.
    pub again_ns: u64,
    /// The connection to the sink that brought it again; null where another worker than the first had it.
    pub again_connection: Option<u64>,
}

/// A message whose body does not have the sum that its header promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Corruption {
    /// The number of the message.
    pub seq: u64,
    /// The generator's connection, as the header says.
    pub conn: u64,
    /// When it arrived, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The connection to the sink that brought it.
    pub connection: u64,
    /// The CRC-32C that the header promised, in hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub expected: u32,
    /// The CRC-32C of the body that arrived, in hexadecimal.
    #[serde(serialize_with = "hexadecimal")]
    pub found: u32,
}

/// A message that arrived after a later one of the same connection of the generator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reorder {
    /// The number of the message.
    pub seq: u64,
    /// The higher number that had arrived before.
    pub after: u64,
    /// The generator's connection, as both headers say.
    pub conn: u64,
    /// When it arrived, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The connection to the sink that brought it.
    pub connection: u64,
}

fn hexadecimal<S: serde::Serializer>(sum: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{sum:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_at_its_limit() {
        let mut notes = Notes::default();
        (0..NOTES_MAX + 10).for_each(|number| notes.add(|| number));
        assert_eq!((notes.all().len(), notes.all().last()), (NOTES_MAX, Some(&(NOTES_MAX - 1))));
    }

    #[test]
    fn sums_are_written_as_the_header_writes_them() {
        let corruption = Corruption { seq: 1, conn: 2, at_ns: 3, connection: 4, expected: 0xab, found: 1 };
        let json = serde_json::to_value(&corruption).unwrap();
        assert_eq!((&json["expected"], &json["found"]), (&"000000ab".into(), &"00000001".into()));
    }
}
