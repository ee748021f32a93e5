//! Which records count, once all of them are known: the newest envelope and mark of each message that no delete has
//! ended and whose body is there. Sorts records instead of looking each up in a table: they lie almost in order.
//! Pure: no I/O, cannot fail. An envelope without a body is handed back, never dropped in silence.

use bytes::Bytes;

use super::Scanned;
use super::walk::{Entry, Kinds, Payloads};
use crate::index::{Index, Segment, SegmentState};
use crate::options::Rules;
use crate::types::{Id, Recovered};

/// Records whose sorting is worth a thread of its own.
const THREAD_RECORDS_MIN: usize = 1 << 14;

/// An envelope whose body is nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Orphan {
    pub(crate) id: Id,
    pub(crate) body: Id,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) envelope: Bytes,
}

/// What is alive.
pub(crate) struct Folded {
    pub(crate) index: Index,
    /// In the order of their ids.
    pub(crate) messages: Vec<Recovered>,
    pub(crate) orphans: Vec<Orphan>,
    /// In the order of their ids.
    pub(crate) deletes: Vec<(Id, Bytes)>,
    /// The sequence after the highest that was seen.
    pub(crate) next_sequence: u64,
    pub(crate) last_generation: u64,
}

/// Everything is dead, replaced, or alive.
pub(crate) fn fold(scanned: Vec<Scanned>, rules: Rules) -> Folded {
    let mut fold = Folding::gather(scanned, rules);
    let living = fold.sort_out_envelopes();
    fold.put_bodies(&living);
    fold.put_messages(&living);
    fold.put_deletes();
    fold.folded
}

/// A message that is alive, by positions in the sorted records.
struct Living {
    /// All envelope records with its id; the last is the newest.
    first: usize,
    end: usize,
    body: usize,
    mark: Option<usize>,
}

struct Folding {
    folded: Folded,
    /// Sorted by id and sequence; bodies only the newest of each id.
    kinds: Kinds,
    /// By number of the segment.
    payloads: Vec<Payloads>,
}

impl Folding {
    fn gather(scanned: Vec<Scanned>, rules: Rules) -> Self {
        let mut index = Index::new(rules);
        let (mut next_sequence, mut last_generation) = (0, 0);
        let mut kinds = Kinds::default();
        let counts = |at: usize| scanned.iter().map(|segment| segment.kept.each()[at].len()).sum();
        for (at, all) in kinds.each_mut().into_iter().enumerate() {
            all.reserve_exact(counts(at));
        }
        let mut payloads: Vec<Payloads> = Vec::new();
        for mut segment in scanned {
            let number = segment.header.number as usize;
            last_generation = last_generation.max(segment.header.generation);
            next_sequence = segment.runs.iter().map(|run| run.end).fold(next_sequence, u64::max);
            for (all, own) in kinds.each_mut().into_iter().zip(segment.kept.each_mut()) {
                all.append(own);
            }
            if payloads.len() <= number {
                payloads.resize_with(number + 1, Payloads::default);
            }
            payloads[number] = segment.payloads;
            let mut closed = Segment::new(segment.header, rules, segment.file, SegmentState::Closed);
            closed.written_bytes = closed.written_bytes.max(segment.end);
            index.put_segment(closed);
        }
        sort(&mut kinds);
        let folded = Folded {
            index,
            messages: Vec::new(),
            orphans: Vec::new(),
            deletes: Vec::new(),
            next_sequence,
            last_generation,
        };
        Self { folded, kinds, payloads }
    }

    fn payload(&self, entry: &Entry) -> Bytes {
        let payloads = self.payloads.get(entry.place().segment as usize);
        payloads.map_or_else(Bytes::new, |payloads| payloads.of(entry))
    }

    /// Notes what is deleted, finds what has no body, and returns the rest.
    fn sort_out_envelopes(&mut self) -> Vec<Living> {
        let Kinds { bodies, envelopes, marks, deletes } = &self.kinds;
        let (mut deletes, mut marks, mut bodies) =
            (Cursor::new(deletes), Cursor::new(marks), Cursor::new(bodies));
        let (mut living, mut copies, mut first) = (Vec::new(), Vec::new(), 0);
        for group in envelopes.chunk_by(|one, other| one.id == other.id) {
            let (start, end) = (first, first + group.len());
            first = end;
            let newest = &group[group.len() - 1];
            if let Some(delete) = deletes.newest(newest.id) {
                copies.clear();
                copies.extend(group.iter().map(|copy| copy.place().segment));
                let place = self.kinds.deletes[delete].place();
                self.folded.index.recover_deleted(newest.id, place, &copies);
                continue;
            }
            let mark = marks.newest(newest.id);
            match bodies.newest(newest.body) {
                Some(body) => living.push(Living { first: start, end, body, mark }),
                None => {
                    let (place, envelope) = (newest.place(), self.payload(newest));
                    let (segment, offset) = (place.segment, place.offset);
                    let orphan = Orphan { id: newest.id, body: newest.body, segment, offset, envelope };
                    self.folded.orphans.push(orphan);
                }
            }
        }
        living
    }

    fn put_bodies(&mut self, living: &[Living]) {
        let mut named = vec![false; self.kinds.bodies.len()];
        living.iter().for_each(|message| named[message.body] = true);
        for (body, _) in self.kinds.bodies.iter().zip(named).filter(|(_, named)| *named) {
            self.folded.index.recover_body(body.id, body.place());
        }
    }

    fn put_messages(&mut self, living: &[Living]) {
        self.folded.messages.reserve_exact(living.len());
        let mut copies = Vec::new();
        for message in living {
            let group = &self.kinds.envelopes[message.first..message.end];
            let newest = &group[group.len() - 1];
            let mark = message.mark.map(|mark| &self.kinds.marks[mark]);
            copies.clear();
            copies.extend(group.iter().map(|copy| copy.place().segment));
            let mark_place = mark.map(Entry::place);
            self.folded.index.recover_message(newest.id, newest.body, newest.place(), mark_place, &copies);
            let recovered = Recovered {
                id: newest.id,
                body: newest.body,
                envelope: self.payload(newest),
                marks: mark.map(|mark| self.payload(mark)).into_iter().collect(),
                body_bytes: u64::from(self.kinds.bodies[message.body].payload_bytes),
            };
            self.folded.messages.push(recovered);
        }
    }

    fn put_deletes(&mut self) {
        let groups = self.kinds.deletes.chunk_by(|one, other| one.id == other.id);
        let newest = groups.filter_map(|group| group.last());
        self.folded.deletes = newest.map(|delete| (delete.id, self.payload(delete))).collect();
    }
}

/// By id, older before newer; of bodies only the newest stays.
fn sort(kinds: &mut Kinds) {
    let [bodies, envelopes, marks, deletes] = kinds.each_mut();
    let is_worth_a_thread = bodies.len() >= THREAD_RECORDS_MIN;
    let mut sort_bodies = || {
        bodies.sort_unstable_by_key(|entry| (entry.id, std::cmp::Reverse(entry.sequence)));
        bodies.dedup_by_key(|entry| entry.id);
    };
    let sort_small = || {
        [envelopes, marks, deletes]
            .into_iter()
            .for_each(|small| small.sort_unstable_by_key(|entry| (entry.id, entry.sequence)));
    };
    if is_worth_a_thread {
        std::thread::scope(|scope| {
            scope.spawn(sort_bodies);
            sort_small();
        });
    } else {
        sort_bodies();
        sort_small();
    }
}

/// Looks ids up in sorted records. Ids are mostly asked for in order, so the search goes on from where the last one ended.
struct Cursor<'a> {
    entries: &'a [Entry],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(entries: &'a [Entry]) -> Self {
        Self { entries, at: 0 }
    }

    /// The position of the last record with this id.
    fn newest(&mut self, id: Id) -> Option<usize> {
        if self.at > 0 && self.entries[self.at - 1].id > id {
            self.at = 0;
        }
        // Doubling steps find the end of the stretch to be searched.
        let mut step = 1;
        while self.entries.get(self.at + step - 1).is_some_and(|entry| entry.id <= id) {
            self.at += step;
            step *= 2;
        }
        let stretch = &self.entries[self.at..self.entries.len().min(self.at + step)];
        self.at += stretch.partition_point(|entry| entry.id <= id);
        self.at.checked_sub(1).filter(|found| self.entries[*found].id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ids: &[u128]) -> Vec<Entry> {
        ids.iter().map(|id| Entry { id: Id(id.to_be_bytes()), ..Entry::default() }).collect()
    }

    #[test]
    fn ids_are_found_in_any_order_of_asking() {
        let entries = entries(&[2, 2, 5, 9, 9, 9, 12, 40, 41, 42, 90]);
        let mut cursor = Cursor::new(&entries);
        let asked = [1, 2, 5, 3, 9, 90, 2, 41, 41, 40, 100, 9, 0, 12, 90, 2];
        for id in asked {
            let expected = entries.iter().rposition(|entry| entry.id == Id(u128::to_be_bytes(id)));
            assert_eq!(cursor.newest(Id(u128::to_be_bytes(id))), expected, "{id}");
        }
    }
}
