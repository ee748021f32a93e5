//! Maps by id that are small: entries lie in chunks, and a table of four-byte numbers finds them.
//! Owns the hash of ids. A map of the standard library doubles all of its entries when it grows and keeps room for as many
//! again; here only the numbers do. Cannot fail.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use hashbrown::HashTable;

use crate::types::Id;

/// Entries that are allocated together.
const CHUNK_ENTRIES: usize = 1024;

/// Ids are time-ordered, so their low bits are spread over the table by multiplications; nobody outside chooses them.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = (self.0 ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    fn write_usize(&mut self, _length: usize) {
        // The length prefix of a fixed array tells nothing.
    }
}

/// A map of the standard library, for what is few.
pub(crate) type IdMap<T> = HashMap<Id, T, BuildHasherDefault<IdHasher>>;

fn hash(id: Id) -> u64 {
    BuildHasherDefault::<IdHasher>::default().hash_one(id)
}

/// An entry that knows its id.
pub(crate) trait Entry: Copy {
    fn id(&self) -> Id;
}

/// Where an entry lies as long as it is there; used again after it was removed.
pub(crate) type Number = u32;

/// Entries by id and by number.
pub(crate) struct Table<T> {
    numbers: HashTable<Number>,
    chunks: Vec<Vec<T>>,
    free: Vec<Number>,
}

impl<T: Entry> Table<T> {
    pub(crate) fn new() -> Self {
        Self { numbers: HashTable::new(), chunks: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn contains(&self, id: Id) -> bool {
        self.number(id).is_some()
    }

    pub(crate) fn number(&self, id: Id) -> Option<Number> {
        self.numbers.find(hash(id), |number| self.at(*number).id() == id).copied()
    }

    pub(crate) fn get(&self, id: Id) -> Option<&T> {
        self.number(id).map(|number| self.at(number))
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.number(id).map(|number| self.at_mut(number))
    }

    /// The entry with this number, which must have been given out.
    pub(crate) fn at(&self, number: Number) -> &T {
        &self.chunks[number as usize / CHUNK_ENTRIES][number as usize % CHUNK_ENTRIES]
    }

    pub(crate) fn at_mut(&mut self, number: Number) -> &mut T {
        &mut self.chunks[number as usize / CHUNK_ENTRIES][number as usize % CHUNK_ENTRIES]
    }

    /// The id must not be there yet.
    pub(crate) fn insert(&mut self, entry: T) -> Number {
        let number = match self.free.pop() {
            Some(number) => {
                *self.at_mut(number) = entry;
                number
            }
            None => self.append(entry),
        };
        let Self { numbers, chunks, .. } = self;
        let rehash = |number: &Number| {
            hash(chunks[*number as usize / CHUNK_ENTRIES][*number as usize % CHUNK_ENTRIES].id())
        };
        numbers.insert_unique(hash(entry.id()), number, rehash);
        number
    }

    fn append(&mut self, entry: T) -> Number {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_ENTRIES) {
            self.chunks.push(Vec::with_capacity(CHUNK_ENTRIES));
        }
        let before = (self.chunks.len() - 1) * CHUNK_ENTRIES;
        let Some(chunk) = self.chunks.last_mut() else { return 0 };
        chunk.push(entry);
        // Four thousand million messages of at least 128 bytes do not fit any index in memory.
        Number::try_from(before + chunk.len() - 1).unwrap_or(Number::MAX)
    }

    pub(crate) fn remove(&mut self, id: Id) -> Option<T> {
        let Self { numbers, chunks, free } = self;
        let at = |number: Number| &chunks[number as usize / CHUNK_ENTRIES][number as usize % CHUNK_ENTRIES];
        let found = numbers.find_entry(hash(id), |number| at(*number).id() == id).ok()?;
        let (number, _) = found.remove();
        free.push(number);
        Some(*at(number))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.numbers.iter().map(|number| self.at(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Numbered(Id, usize);

    impl Entry for Numbered {
        fn id(&self) -> Id {
            self.0
        }
    }

    fn id(number: usize) -> Id {
        Id((number as u128).to_be_bytes())
    }

    #[test]
    fn entries_are_found_until_they_are_removed_and_their_places_are_used_again() {
        let mut table = Table::new();
        for round in 0..3 {
            let entries = (0..5000).map(|number| Numbered(id(round * 10_000 + number), number));
            let numbers: Vec<Number> = entries.clone().map(|entry| table.insert(entry)).collect();
            assert!(entries.clone().all(|entry| table.get(entry.0) == Some(&entry)));
            assert!(
                numbers.iter().all(|number| (*number as usize) < 5000),
                "round {round} used places again"
            );
            assert_eq!((table.len(), table.iter().count()), (5000, 5000));
            assert!(entries.clone().all(|entry| table.remove(entry.0) == Some(entry)));
            assert!(entries.clone().all(|entry| !table.contains(entry.0)));
            assert!(table.remove(id(round)).is_none());
        }
    }
}
