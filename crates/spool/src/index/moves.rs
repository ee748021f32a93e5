//! Records that change their place (compaction, batches written again after a failure), and records that recovery found.
//! A copy counts against deletes from the moment it may be on the disk; it counts as the record from the moment it is
//! durable.

use super::{Body, Index, Message, Move, PackedPlace, Place, Segment, SegmentState};
use crate::format::{BLOCK_BYTES, Kind, in_memory};
use crate::types::Id;

impl Index {
    /// Whether the record at `place` is the one that counts.
    pub(crate) fn is_current(&self, kind: Kind, id: Id, place: Place) -> bool {
        self.current(kind, id) == Some(place)
    }

    fn current(&self, kind: Kind, id: Id) -> Option<Place> {
        match kind {
            Kind::Body => self.bodies.get(id).map(|body| body.place),
            Kind::Envelope => self.messages.get(id).map(|message| message.place),
            Kind::Mark => self.messages.get(id).and_then(|message| message.mark).map(PackedPlace::place),
            Kind::Delete => self.deleted.get(&id).map(|deleted| deleted.place),
            Kind::Seal => None,
        }
    }

    /// A copy is about to be written to `to`: from now on a delete has to guard against it.
    pub(crate) fn begin_move(&mut self, kind: Kind, id: Id, to: Place) {
        if kind == Kind::Envelope {
            self.older.entry(id).or_default().push(to.segment);
            self.note_envelope(id, to.segment);
        }
    }

    /// The copy is durable: if the original still counts, the copy counts in its place from now on.
    pub(crate) fn finish_move(&mut self, moved: &Move, sequence: u64) {
        let Move { kind, id, from, to } = *moved;
        if !self.is_current(kind, id, from) {
            return;
        }
        if kind == Kind::Envelope
            && let Some(older) = self.older.get_mut(&id)
        {
            // The two change places: the original is the further copy now.
            if let Some(at) = older.iter().position(|segment| *segment == to.segment) {
                older[at] = from.segment;
            }
        }
        if kind == Kind::Delete
            && let Some(deleted) = self.deleted.get_mut(&id)
        {
            deleted.elsewhere += std::mem::take(&mut deleted.own);
        }
        self.set_current(kind, id, to);
        self.hold(to);
        self.release(from, sequence);
    }

    fn set_current(&mut self, kind: Kind, id: Id, to: Place) {
        match kind {
            Kind::Body => set(self.bodies.get_mut(id), |body| body.place = to),
            Kind::Envelope => set(self.messages.get_mut(id), |message| message.place = to),
            Kind::Mark => set(self.messages.get_mut(id), |message| message.mark = PackedPlace::of(to)),
            Kind::Delete => set(self.deleted.get_mut(&id), |deleted| deleted.place = to),
            Kind::Seal => {}
        }
    }

    /// A record of a failed batch is written again from memory. What lies at `from` may or may not be on the disk, so it
    /// counts as a copy until its segment is gone. Rare, hence the plain searches.
    pub(crate) fn relocate(&mut self, moved: &Move, sequence: u64) {
        let Move { kind, id, from, to } = *moved;
        match kind {
            Kind::Envelope => self.relocate_envelope(id, to),
            Kind::Delete => self.relocate_delete(id, from, to),
            Kind::Body | Kind::Mark | Kind::Seal => {}
        }
        self.finish_move(moved, sequence);
    }

    fn relocate_envelope(&mut self, id: Id, to: Place) {
        self.note_envelope(id, to.segment);
        if let Some(deleted) = self.deleted.get_mut(&id) {
            deleted.elsewhere += u32::from(deleted.place.segment != to.segment);
            deleted.own += u32::from(deleted.place.segment == to.segment);
        } else if self.messages.contains(id) {
            self.older.entry(id).or_default().push(to.segment);
        }
    }

    fn relocate_delete(&mut self, id: Id, from: Place, to: Place) {
        if self.deleted.contains_key(&id) {
            return;
        }
        // Envelope and delete went down together; now the one may be on the disk without the other.
        let left_behind = vec![from.segment; self.copies_in(from.segment, id)];
        self.guard(id, to, left_behind.iter());
    }

    fn copies_in(&self, segment: u32, id: Id) -> usize {
        let copies = |segment: &Segment| segment.envelopes.iter().filter(|other| **other == id).count();
        self.segment(segment).map_or(0, copies)
    }

    /// Takes back what was to be written to a segment of its own. The segment can go at once.
    pub(crate) fn forget_segment(&mut self, number: u32) {
        let in_it = self.messages.iter().filter(|message| message.place.segment == number);
        let ids: Vec<Id> = in_it.map(|message| message.id).collect();
        for id in ids {
            let Some(message) = self.messages.remove(id) else { continue };
            self.release(message.place, 0);
            self.release_body(message.body, 0);
        }
    }

    // What compaction asks.

    /// The oldest closed segment that is mostly dead. Deletes guard against older segments, so emptying the oldest lets
    /// those after it go.
    pub(crate) fn oldest_mostly_dead(&self, segment_bytes: u64) -> Option<u32> {
        let candidate = |segment: &&Segment| {
            segment.state == SegmentState::Closed
                && !segment.compacted
                && segment.in_flight == 0
                && segment.live_records > 0
                && segment.header.segment_bytes <= segment_bytes
                && segment.live_bytes * 2 < segment.header.segment_bytes
        };
        let oldest = self.segments().filter(candidate).min_by_key(|segment| segment.header.generation);
        oldest.map(|segment| segment.header.number)
    }

    /// The oldest closed segment of which at least one part in eight is dead.
    pub(crate) fn oldest_worth_copying(&self, segment_bytes: u64, until_generation: u64) -> Option<u32> {
        let candidate = |segment: &&Segment| {
            let written = segment.written_bytes - BLOCK_BYTES as u64;
            segment.state == SegmentState::Closed
                && !segment.compacted
                && segment.in_flight == 0
                && segment.live_records > 0
                && segment.header.generation < until_generation
                && segment.header.segment_bytes <= segment_bytes
                && written.saturating_sub(segment.live_bytes) * 8 >= written
        };
        let oldest = self.segments().filter(candidate).min_by_key(|segment| segment.header.generation);
        oldest.map(|segment| segment.header.number)
    }

    /// Segments in use, and how many the living bytes need.
    pub(crate) fn occupancy(&self, segment_bytes: u64) -> (usize, usize) {
        let in_use = |segment: &&Segment| {
            matches!(segment.state, SegmentState::Active | SegmentState::Closed | SegmentState::Poisoned)
        };
        let room = segment_bytes - BLOCK_BYTES as u64;
        (self.segments().filter(in_use).count(), in_memory(self.live_bytes.div_ceil(room)))
    }

    // What recovery puts in; sequences are compared there.

    pub(crate) fn recover_body(&mut self, id: Id, place: Place) {
        self.bodies.insert(Body { id, place, envelopes: 0 });
        self.hold(place);
    }

    /// The body must be there already. `copies`: the segments of all envelope records with this id, the current one included.
    pub(crate) fn recover_message(
        &mut self,
        id: Id,
        body: Id,
        place: Place,
        mark: Option<Place>,
        copies: &[u32],
    ) {
        let Some(body) = self.bodies.number(body) else { return };
        self.bodies.at_mut(body).envelopes += 1;
        self.messages.insert(Message { id, body, place, mark: mark.and_then(PackedPlace::of) });
        self.hold(place);
        if let Some(mark) = mark {
            self.hold(mark);
        }
        let mut older = copies.to_vec();
        if let Some(at) = older.iter().position(|segment| *segment == place.segment) {
            older.swap_remove(at);
        }
        if !older.is_empty() {
            self.older.insert(id, older);
        }
        copies.iter().for_each(|segment| self.note_envelope(id, *segment));
    }

    pub(crate) fn recover_deleted(&mut self, id: Id, place: Place, copies: &[u32]) {
        self.guard(id, place, copies.iter());
        copies.iter().for_each(|segment| self.note_envelope(id, *segment));
    }
}

fn set<T>(entry: Option<&mut T>, change: impl FnOnce(&mut T)) {
    if let Some(entry) = entry {
        change(entry);
    }
}
