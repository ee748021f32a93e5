//! What sink reports about a run (`GET /ledger/<run>`), as far as an audit needs it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Ranges;

/// Sink's ledger of one run.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ledger {
    /// The run.
    #[serde(default)]
    pub run: String,
    /// Messages that arrived, each arrival counted.
    #[serde(default)]
    pub accepted: u64,
    /// Numbers that arrived.
    #[serde(default)]
    pub had: Ranges,
    /// Ranges of numbers that arrived for more than one recipient: first, last, recipients.
    #[serde(default)]
    pub several: Vec<(u64, u64, u64)>,
    /// Whether the lists end early.
    #[serde(default)]
    pub cut: bool,
    /// Whether `several` ends early.
    #[serde(skip)]
    pub several_cut: bool,
    /// The gaps below the highest number.
    #[serde(default)]
    pub missing: Vec<(u64, u64)>,
    /// For each gap when its neighbours arrived.
    #[serde(default)]
    pub missing_between_ns: Vec<(Option<u64>, u64)>,
    /// Different deliveries that arrived.
    #[serde(default)]
    pub distinct: u64,
    /// Deliveries beyond the first.
    #[serde(default)]
    pub duplicated: u64,
    /// Which they were.
    #[serde(default)]
    pub duplicates: Vec<Duplicate>,
    /// Messages that arrived with another checksum.
    #[serde(default)]
    pub corrupted: u64,
    /// Which they were.
    #[serde(default)]
    pub corruptions: Vec<Corruption>,
    /// Messages that arrived after a later one of the same connection.
    #[serde(default)]
    pub reordered: u64,
    /// Which they were.
    #[serde(default)]
    pub reorders: Vec<Reorder>,
    /// Messages whose order was not watched.
    #[serde(default)]
    pub order_unwatched: u64,
    /// Deliveries that the ledger had no room for.
    #[serde(default)]
    pub untracked: u64,
    /// The first delivery, nanoseconds of CLOCK_MONOTONIC.
    #[serde(default)]
    pub first_ns: Option<u64>,
    /// The last delivery, nanoseconds of CLOCK_MONOTONIC.
    #[serde(default)]
    pub last_ns: Option<u64>,
}

/// A delivery beyond the first. Times are those of the sink's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// The number of the message.
    pub seq: u64,
    /// CRC-32C of the recipient's address, in hexadecimal.
    pub recipient: String,
    /// When it arrived for the first time.
    pub first_ns: u64,
    /// The connection to the sink that brought it first, where that is known.
    pub first_connection: Option<u64>,
    /// When it arrived again.
    pub again_ns: u64,
    /// The connection to the sink that brought it again, where that is known.
    pub again_connection: Option<u64>,
}

/// A message whose body changed on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corruption {
    /// The number of the message.
    pub seq: u64,
    /// When it arrived.
    pub at_ns: u64,
    /// The connection to the sink that brought it.
    pub connection: u64,
    /// The CRC-32C that was promised, in hexadecimal.
    pub expected: String,
    /// The CRC-32C that arrived, in hexadecimal.
    pub found: String,
}

/// A message that was overtaken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reorder {
    /// The number of the message.
    pub seq: u64,
    /// The higher number of the same connection of traffic-gen that had arrived before.
    pub after: u64,
    /// That connection.
    pub conn: u64,
    /// When it arrived.
    pub at_ns: u64,
}

/// The answer to `GET /ledger/<run>?format=bitmap`.
#[derive(Deserialize)]
struct Bitmap {
    chunks: BTreeMap<String, String>,
}

/// Why a bitmap cannot be read. The sink sent something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink's bitmap is not one: chunks by their first number, each in base64")]
pub struct BitmapError;

impl Ledger {
    /// Takes the numbers from the bitmap, which has all of them where the ranges were cut.
    ///
    /// # Errors
    /// [`BitmapError`] where the text is not such a bitmap; the ledger is then as before.
    pub fn complete(&mut self, bitmap: &str) -> Result<(), BitmapError> {
        let bitmap: Bitmap = serde_json::from_str(bitmap).map_err(|_| BitmapError)?;
        let mut numbers = Vec::new();
        for (first, bits) in &bitmap.chunks {
            let first: u64 = first.parse().map_err(|_| BitmapError)?;
            let bits = STANDARD.decode(bits).map_err(|_| BitmapError)?;
            let set = (0..bits.len() * 8).filter(|bit| bits[bit / 8] >> (bit % 8) & 1 == 1);
            for bit in set {
                let number = first.checked_add(bit as u64).ok_or(BitmapError)?;
                match numbers.last_mut() {
                    Some((_, last)) if *last + 1 == number => *last = number,
                    _ => numbers.push((number, number)),
                }
            }
        }
        self.had = numbers.into();
        // The bitmap does not say for how many recipients a number arrived.
        self.several_cut = self.cut;
        self.cut = false;
        Ok(())
    }

    /// Those of the numbers about which the ledger knows: all, unless its ranges were cut.
    pub(super) fn judged(&self, numbers: &Ranges) -> Ranges {
        if !self.cut {
            return numbers.clone();
        }
        let known = self.had.last().map_or_else(Ranges::default, |last| Ranges::from(vec![(0, last)]));
        numbers.within(&known)
    }

    /// How many deliveries those numbers, all of which have arrived, stand for.
    pub(super) fn deliveries(&self, arrived: &Ranges) -> u64 {
        let beyond = |(recipients, numbers): (u64, Ranges)| {
            arrived.within(&numbers).count().saturating_mul(recipients.saturating_sub(1))
        };
        self.by_recipients().map(beyond).fold(arrived.count(), u64::saturating_add)
    }

    /// The numbers that arrived for several recipients, by how many these were.
    fn by_recipients(&self) -> impl Iterator<Item = (u64, Ranges)> {
        let mut groups: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for (first, last, recipients) in &self.several {
            groups.entry(*recipients).or_default().push((*first, *last));
        }
        groups.into_iter().map(|(recipients, ranges)| (recipients, ranges.into()))
    }

    /// Those of the arrived numbers that arrived for fewer recipients than wanted, and how many deliveries
    /// they lack.
    pub(super) fn incomplete(&self, arrived: &Ranges, wanted: u64) -> (Ranges, u64) {
        let mut single = arrived.clone();
        let mut incomplete = Ranges::default();
        let mut short = 0;
        for (recipients, numbers) in self.by_recipients() {
            let numbers = arrived.within(&numbers);
            single = single.without(&numbers);
            if recipients < wanted {
                short += numbers.count() * (wanted - recipients);
                incomplete = incomplete.with(&numbers);
            }
        }
        (incomplete.with(&single), short + single.count() * (wanted - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_has_what_the_ranges_left_out() {
        let mut ledger = Ledger { cut: true, had: vec![(0, 0)].into(), ..Ledger::default() };
        assert_eq!(ledger.judged(&Ranges::first(10)).count(), 1);
        // Bits 0 and 3 of the first byte, bit 0 of the second; then the last of a chunk and the first of the next.
        let text =
            r#"{"run":"r","chunk_numbers":16,"chunks":{"0":"CQE=","16":"AIA=","32":"AQA="},"untracked":0}"#;
        ledger.complete(text).unwrap();
        assert_eq!(ledger.had, vec![(0, 0), (3, 3), (8, 8), (31, 32)].into());
        assert_eq!(ledger.judged(&Ranges::first(10)).count(), 10);
        assert_eq!(ledger.complete("{}"), Err(BitmapError));
        assert_eq!(ledger.complete(r#"{"chunks":{"x":""}}"#), Err(BitmapError));
    }

    #[test]
    fn messages_that_reached_a_part_of_their_recipients_are_found() {
        let had = Ranges::first(10);
        let ledger = Ledger { several: vec![(0, 3, 3), (4, 5, 2)], had: had.clone(), ..Ledger::default() };
        // 4 and 5 lack one recipient each, 6 to 9 two.
        assert_eq!(ledger.incomplete(&had, 3), (vec![(4, 9)].into(), 10));
        assert_eq!(ledger.incomplete(&Ranges::first(4), 3), (Ranges::default(), 0));
    }
}
