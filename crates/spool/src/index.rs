//! What is alive, where it lies, and which segments may go.
//! Owns the recycling rules: a segment counts as alive while it holds a living body, envelope or mark, or a delete
//! whose envelope can still be read from another segment. A segment may go once nothing in it is alive and what emptied
//! it is durable. Pure bookkeeping in memory: no I/O, cannot fail; ids that are not alive are skipped.

mod moves;

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::disk::File;
use crate::error::AppendError;
use crate::format::{BLOCK_BYTES, Kind, Seed, SegmentHeader, record_stride_bytes};
use crate::options::Rules;
pub(crate) use crate::table::IdMap;
use crate::table::{Entry, Number, Table};
use crate::types::{Id, Transaction};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) payload_bytes: u32,
}

impl Place {
    fn stride_bytes(self) -> u64 {
        record_stride_bytes(u64::from(self.payload_bytes))
    }
}

/// As [`Place`]; no segment has the number 0, so that "nowhere" needs no room.
#[derive(Clone, Copy, Debug)]
struct PackedPlace {
    segment: NonZeroU32,
    offset: u32,
    payload_bytes: u32,
}

impl PackedPlace {
    fn of(place: Place) -> Option<Self> {
        let Place { segment, offset, payload_bytes } = place;
        NonZeroU32::new(segment).map(|segment| Self { segment, offset, payload_bytes })
    }

    fn place(self) -> Place {
        Place { segment: self.segment.get(), offset: self.offset, payload_bytes: self.payload_bytes }
    }
}

#[derive(Clone, Copy, Debug)]
struct Body {
    id: Id,
    place: Place,
    envelopes: u32,
}

impl Entry for Body {
    fn id(&self) -> Id {
        self.id
    }
}

#[derive(Clone, Copy, Debug)]
struct Message {
    id: Id,
    body: Number,
    place: Place,
    mark: Option<PackedPlace>,
}

impl Entry for Message {
    fn id(&self) -> Id {
        self.id
    }
}

// A million queued messages should cost little memory: these two, and ten bytes for each in the tables of numbers.
const _: () = assert!(size_of::<Body>() == 32 && size_of::<Message>() == 44);

#[derive(Clone, Copy, Debug)]
struct Deleted {
    place: Place,
    /// Copies of the envelope in other segments: while there is one, the delete is alive.
    elsewhere: u32,
    /// Copies of the envelope in the delete's own segment, which go when it goes.
    own: u32,
}

/// A living record that is being written again elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) kind: Kind,
    pub(crate) id: Id,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

/// What a segment is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Written through, of a fresh generation, empty.
    Spare,
    /// Batches go there.
    Active,
    /// Full, or left behind by an earlier process.
    Closed,
    /// A write to it failed: no more writes; removed when it is empty.
    Poisoned,
    /// Being wiped or removed.
    Leaving,
}

pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) seed: Seed,
    pub(crate) file: Arc<dyn File>,
    pub(crate) state: SegmentState,
    /// Batches on their way to it.
    pub(crate) in_flight: u32,
    pub(crate) live_records: u32,
    pub(crate) live_bytes: u64,
    /// How far it was written, its first block included.
    pub(crate) written_bytes: u64,
    /// Compaction has been through it once; what is alive in it since could not be read.
    pub(crate) compacted: bool,
    /// A write to it failed.
    pub(crate) poisoned: bool,
    /// Written to without a barrier since it was last synced.
    pub(crate) unsynced: bool,
    /// Sequence of the latest record that made something in here dead.
    emptied_by: u64,
    /// Noted in [`Index::emptied`].
    listed: bool,
    /// Every envelope written here, dead or alive: what deletes elsewhere have to outlive.
    envelopes: Vec<Id>,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, rules: Rules, file: Arc<dyn File>, state: SegmentState) -> Self {
        let seed = header.seed(rules);
        Self {
            header,
            seed,
            file,
            state,
            in_flight: 0,
            live_records: 0,
            live_bytes: 0,
            written_bytes: BLOCK_BYTES as u64,
            compacted: false,
            poisoned: false,
            unsynced: false,
            emptied_by: 0,
            listed: false,
            envelopes: Vec::new(),
        }
    }

    /// No more batches begin here, and nothing in it is alive.
    fn is_empty(&self) -> bool {
        let closed = matches!(self.state, SegmentState::Closed | SegmentState::Poisoned);
        closed && self.live_records == 0
    }
}

/// Everything that is known without reading a disk.
pub(crate) struct Index {
    rules: Rules,
    bodies: Table<Body>,
    messages: Table<Message>,
    deleted: IdMap<Deleted>,
    /// Segments of further copies of an envelope, for the few that have any.
    older: IdMap<Vec<u32>>,
    /// By number; numbers of removed files are used again.
    segments: Vec<Option<Segment>>,
    /// Segments that became empty since they were last looked at.
    emptied: Vec<u32>,
    pub(crate) live_bytes: u64,
}

impl Index {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            bodies: Table::new(),
            messages: Table::new(),
            deleted: IdMap::default(),
            older: IdMap::default(),
            segments: Vec::new(),
            emptied: Vec::new(),
            live_bytes: 0,
        }
    }

    pub(crate) fn messages(&self) -> usize {
        self.messages.len()
    }

    // Segments.

    pub(crate) fn segment(&self, number: u32) -> Option<&Segment> {
        self.segments.get(number as usize).and_then(Option::as_ref)
    }

    pub(crate) fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.segments.get_mut(number as usize).and_then(Option::as_mut)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().flatten()
    }

    pub(crate) fn put_segment(&mut self, segment: Segment) {
        let number = segment.header.number as usize;
        if self.segments.len() <= number {
            self.segments.resize_with(number + 1, || None);
        }
        self.segments[number] = Some(segment);
    }

    /// The lowest number that no segment has; `taken` are numbers promised to files in preparation.
    pub(crate) fn free_number(&self, taken: &[u32]) -> u32 {
        let free = |number: &u32| self.segment(*number).is_none() && !taken.contains(number);
        (1..u32::MAX).find(free).unwrap_or(u32::MAX)
    }

    /// Segments that are closed, empty, and emptied by something durable. Each is named once; the rest stay noted.
    pub(crate) fn take_reclaimable(&mut self, durable_sequence: u64, out: &mut Vec<u32>) {
        let waits = self.rules.reuse_waits;
        let Self { emptied, segments, .. } = self;
        emptied.retain(|number| {
            let Some(segment) = segments.get_mut(*number as usize).and_then(Option::as_mut) else {
                return false;
            };
            let ripe = segment.in_flight == 0 && (segment.emptied_by <= durable_sequence || !waits);
            if segment.is_empty() && ripe {
                segment.state = SegmentState::Leaving;
                out.push(*number);
            }
            segment.listed = segment.is_empty();
            segment.listed
        });
    }

    /// To be called when a segment is closed, and when something in it died.
    pub(crate) fn note_empty(&mut self, number: u32) {
        let Some(segment) = self.segment_mut(number) else { return };
        if segment.is_empty() && !segment.listed {
            segment.listed = true;
            self.emptied.push(number);
        }
    }

    /// Files whose writes had no barrier yet; they have to be synced before anything is wiped.
    pub(crate) fn take_unsynced(&mut self) -> Vec<Arc<dyn File>> {
        let unsynced = self.segments.iter_mut().flatten().filter(|segment| segment.unsynced);
        unsynced
            .map(|segment| {
                // What is on its way now may miss the sync.
                segment.unsynced = segment.in_flight > 0;
                Arc::clone(&segment.file)
            })
            .collect()
    }

    /// The segment's contents are gone for good: deletes that guarded against them are free to go, too.
    pub(crate) fn segment_gone(&mut self, number: u32) {
        let Some(segment) = self.segments.get_mut(number as usize).and_then(Option::take) else { return };
        for id in segment.envelopes {
            if let Some(deleted) = self.deleted.get_mut(&id) {
                deleted.elsewhere -= 1;
                if deleted.elsewhere == 0 {
                    let place = deleted.place;
                    self.deleted.remove(&id);
                    self.release(place, 0);
                }
            } else if let Some(older) = self.older.get_mut(&id) {
                older.retain(|copy| *copy != number);
                if older.is_empty() {
                    self.older.remove(&id);
                }
            }
        }
    }

    fn hold(&mut self, place: Place) {
        self.live_bytes += place.stride_bytes();
        if let Some(segment) = self.segment_mut(place.segment) {
            segment.live_records += 1;
            segment.live_bytes += place.stride_bytes();
        }
    }

    fn release(&mut self, place: Place, sequence: u64) {
        self.live_bytes -= place.stride_bytes();
        let Some(segment) = self.segment_mut(place.segment) else { return };
        segment.live_records -= 1;
        segment.live_bytes -= place.stride_bytes();
        segment.emptied_by = segment.emptied_by.max(sequence);
        self.note_empty(place.segment);
    }

    fn note_envelope(&mut self, id: Id, segment: u32) {
        if let Some(segment) = self.segment_mut(segment) {
            segment.envelopes.push(id);
        }
    }

    // Records, in the order in which they are written.

    /// Whether the transaction keeps the rules about ids.
    pub(crate) fn check(&self, transaction: &Transaction) -> Result<(), AppendError> {
        let own = transaction.body.as_ref().map(|(id, _)| *id);
        if let Some(id) = own {
            if self.bodies.contains(id) {
                return Err(AppendError::IdInUse(id));
            }
            if !transaction.envelopes.iter().any(|envelope| envelope.body == id) {
                return Err(AppendError::BodyWithoutEnvelope(id));
            }
        }
        for envelope in &transaction.envelopes {
            if self.messages.contains(envelope.id) || self.deleted.contains_key(&envelope.id) {
                return Err(AppendError::IdInUse(envelope.id));
            }
            if own != Some(envelope.body) && !self.bodies.contains(envelope.body) {
                return Err(AppendError::UnknownBody(envelope.body));
            }
        }
        Ok(())
    }

    pub(crate) fn is_alive(&self, id: Id) -> bool {
        self.messages.contains(id)
    }

    pub(crate) fn has_body(&self, id: Id) -> bool {
        self.bodies.contains(id)
    }

    pub(crate) fn body_place(&self, id: Id) -> Option<Place> {
        self.bodies.get(id).map(|body| body.place)
    }

    /// Where a living body or a message's newest envelope lies; records of other kinds are not looked up by id.
    pub(crate) fn place_of(&self, kind: Kind, id: Id) -> Option<Place> {
        match kind {
            Kind::Body => self.body_place(id),
            Kind::Envelope => self.messages.get(id).map(|message| message.place),
            _ => None,
        }
    }

    pub(crate) fn add_body(&mut self, id: Id, place: Place) {
        self.bodies.insert(Body { id, place, envelopes: 0 });
        self.hold(place);
    }

    /// The body was found by [`Index::check`].
    pub(crate) fn add_envelope(&mut self, id: Id, body: Id, place: Place) {
        let Some(body) = self.bodies.number(body) else { return };
        self.bodies.at_mut(body).envelopes += 1;
        self.messages.insert(Message { id, body, place, mark: None });
        self.hold(place);
        self.note_envelope(id, place.segment);
    }

    pub(crate) fn mark(&mut self, id: Id, place: Place, sequence: u64) {
        let Some(message) = self.messages.get_mut(id) else { return };
        let before = std::mem::replace(&mut message.mark, PackedPlace::of(place));
        self.hold(place);
        if let Some(before) = before {
            self.release(before.place(), sequence);
        }
    }

    pub(crate) fn rewrite(&mut self, id: Id, body: Id, place: Place, sequence: u64) {
        let (Some(body), Some(message)) = (self.bodies.number(body), self.messages.get_mut(id)) else {
            return;
        };
        let before = std::mem::replace(message, Message { body, place, ..*message });
        self.bodies.at_mut(body).envelopes += 1;
        self.hold(place);
        self.note_envelope(id, place.segment);
        self.older.entry(id).or_default().push(before.place.segment);
        self.release(before.place, sequence);
        self.release_body(before.body, sequence);
    }

    /// `place` is where the delete record lies.
    pub(crate) fn delete(&mut self, id: Id, place: Place, sequence: u64) {
        let Some(message) = self.messages.remove(id) else { return };
        let older = self.older.remove(&id).unwrap_or_default();
        let newest = [message.place.segment];
        self.guard(id, place, newest.iter().chain(&older));
        self.release(message.place, sequence);
        if let Some(mark) = message.mark {
            self.release(mark.place(), sequence);
        }
        self.release_body(message.body, sequence);
    }

    /// A delete is alive as long as another segment still holds what it deletes.
    fn guard<'c>(&mut self, id: Id, place: Place, copies: impl Iterator<Item = &'c u32>) {
        let (mut own, mut elsewhere) = (0, 0);
        for segment in copies {
            own += u32::from(*segment == place.segment);
            elsewhere += u32::from(*segment != place.segment);
        }
        if elsewhere > 0 && self.rules.deletes_pin {
            self.deleted.insert(id, Deleted { place, elsewhere, own });
            self.hold(place);
        }
    }

    fn release_body(&mut self, number: Number, sequence: u64) {
        let body = self.bodies.at_mut(number);
        body.envelopes -= 1;
        if body.envelopes == 0 {
            let Body { id, place, .. } = *body;
            self.bodies.remove(id);
            self.release(place, sequence);
        }
    }
}
