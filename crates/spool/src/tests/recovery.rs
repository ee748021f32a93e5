//! What recovery makes of segments that were damaged at rest, cut short, copied or foreign.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use super::world::{World, settings};
use crate::disk::memory::{Faults, MemoryDisk};
use crate::disk::{Disk, Entry, File, Space};
use crate::examine::examine_bytes;
use crate::format::BLOCK_BYTES;
use crate::inspect::scan_segment_bytes;
use crate::options::Rules;
use crate::recover::{recover, segment_name};

/// A spool with eight messages in its first segments, closed in order.
fn written() -> World {
    let mut world = World::new(21, settings(Rules::ALL));
    for _ in 0..8 {
        world.append(2_000, 1);
        world.flush();
    }
    world
}

/// The name of the segment that holds the first message.
fn first_segment(world: &World) -> String {
    let full = |number: &u32| {
        let contents = world.disk.contents(&segment_name(*number));
        contents.is_some_and(|bytes| scan_segment_bytes(&bytes).unwrap().sealed)
    };
    segment_name((1..20).find(full).unwrap())
}

#[test]
fn a_flipped_bit_is_set_aside_and_the_rest_is_read() {
    let world = written();
    let name = first_segment(&world);
    // Somewhere in the second body of the segment.
    world.disk.edit(&name, |bytes| bytes[BLOCK_BYTES + 4096 + 300] ^= 4);
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    let found = &fold.recovery;
    assert_eq!((found.damaged, found.orphans, found.messages.len()), (1, 1, 7));
    let aside = world.disk.aside();
    let names: Vec<&String> = aside.keys().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    // The envelope says who was to get what the body said.
    assert!(names[0].ends_with(".envelope") && aside[names[0]].starts_with(b"envelope "), "{names:?}");
    assert!(names[1].starts_with(&name[..8]) && names[1].ends_with(".bytes"), "{names:?}");
    // A second look finds the same and keeps one copy.
    assert_eq!(recover(&world.disk, Rules::ALL).unwrap().recovery.damaged, 1);
    assert_eq!(world.disk.aside().len(), 2);
}

/// Three messages share a body; the bytes of one envelope are changed. The other two were promised, too.
#[test]
fn damage_to_one_envelope_takes_no_other_message_with_it() {
    let mut world = World::new(22, settings(Rules::ALL));
    world.append(500, 3);
    world.flush();
    for _ in 0..3 {
        world.append(3_000, 1);
        world.flush();
    }
    let name = first_segment(&world);
    world.disk.edit(&name, |bytes| {
        let second = bytes.windows(9).enumerate().filter(|(_, bytes)| *bytes == b"envelope ").nth(2).unwrap();
        let at = second.0;
        bytes[at] ^= 1;
    });
    let recovery = recover(&world.disk, Rules::ALL).unwrap().recovery;
    assert!(recovery.damaged == 1 && recovery.orphans == 0, "{recovery:?}");
    assert_eq!(recovery.messages.len(), world.alive() - 1);
}

#[test]
fn zeros_where_records_were_are_damage_and_not_a_torn_tail() {
    let world = written();
    let name = first_segment(&world);
    world.disk.edit(&name, |bytes| bytes[BLOCK_BYTES + 4096..].fill(0));
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    assert_eq!((fold.recovery.damaged, fold.recovery.torn), (1, 0));
    assert!(fold.recovery.messages.len() < 8);
}

#[test]
fn a_segment_without_its_header_is_set_aside_whole() {
    let world = written();
    let name = first_segment(&world);
    world.disk.edit(&name, |bytes| bytes[..64].fill(0xff));
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    assert_eq!(fold.recovery.damaged, 1);
    assert!(world.disk.aside().contains_key(&name) && world.disk.contents(&name).is_none());
}

#[test]
fn a_segment_cut_short_gives_what_is_left() {
    let world = written();
    let name = first_segment(&world);
    world.disk.edit(&name, |bytes| bytes.truncate(BLOCK_BYTES + 4096));
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    assert_eq!(fold.recovery.damaged, 1);
    assert!(!fold.recovery.messages.is_empty() && fold.recovery.messages.len() < 8);
}

/// Cut where a record ends: what is missing leaves no half of anything behind.
#[test]
fn a_segment_cut_between_two_records_is_damaged() {
    let world = written();
    let name = first_segment(&world);
    let end = {
        let bytes = world.disk.contents(&name).unwrap();
        // The second batch begins at the block behind the first one.
        (1..).map(|block| BLOCK_BYTES * block).find(|at| *at > BLOCK_BYTES && bytes[*at] == 0xa7).unwrap()
    };
    world.disk.edit(&name, |bytes| bytes.truncate(end));
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    assert_eq!((fold.recovery.damaged, fold.recovery.messages.len()), (1, 6));
}

/// A disk that does one thing wrong with one file.
struct Faulty<'a> {
    disk: &'a MemoryDisk,
    name: &'a str,
    open_error: Option<i32>,
    sync_error: Option<i32>,
    /// No file can be made.
    full: bool,
}

struct FaultyFile(Arc<dyn File>, i32);

impl File for FaultyFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64, sync: bool) -> io::Result<usize> {
        self.0.write_at(bytes, offset, sync)
    }
    fn write_slices_at(&self, slices: &[IoSlice<'_>], offset: u64, sync: bool) -> io::Result<usize> {
        self.0.write_slices_at(slices, offset, sync)
    }
    fn sync(&self) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(self.1))
    }
    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }
    fn arm(&self) -> io::Result<()> {
        self.0.arm()
    }
    fn retire(&self) {}
}

impl Disk for Faulty<'_> {
    fn list(&self) -> io::Result<Vec<Entry>> {
        self.disk.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        match (self.open_error, self.sync_error) {
            (Some(code), _) if name == self.name => Err(io::Error::from_raw_os_error(code)),
            (_, Some(code)) if name == self.name => Ok(Arc::new(FaultyFile(self.disk.open(name)?, code))),
            _ => self.disk.open(name),
        }
    }
    fn create(&self, name: &str, bytes: u64, head: &[u8]) -> io::Result<Arc<dyn File>> {
        self.disk.create(name, bytes, head)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }
    fn write_anew(&self, name: &str) -> io::Result<Arc<dyn File>> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { self.disk.write_anew(name) }
    }
    fn set_file_aside(&self, name: &str) -> io::Result<()> {
        self.disk.set_file_aside(name)
    }
    fn set_bytes_aside(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk.set_bytes_aside(name, bytes)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;

#[test]
fn a_segment_that_the_disk_does_not_give_back_does_not_stop_the_others() {
    let world = written();
    let name = first_segment(&world);
    let faulty =
        Faulty { disk: &world.disk, name: &name, open_error: Some(EIO), sync_error: None, full: false };
    let fold = recover(&faulty, Rules::ALL).unwrap();
    assert_eq!((fold.recovery.damaged, fold.recovery.messages.is_empty()), (1, false));
    assert!(world.disk.aside().contains_key(&name), "it is kept, and its number is free");
    let next = recover(&world.disk, Rules::ALL).unwrap().next_sequence;
    assert!(fold.next_sequence > next, "it may have held an opening of its own");
}

/// Out of descriptors, say: the segment is sound, and without it what it deletes would come back.
#[test]
fn an_error_that_is_not_of_the_disk_stops_recovery_and_changes_nothing() {
    let world = written();
    let name = first_segment(&world);
    let faulty =
        Faulty { disk: &world.disk, name: &name, open_error: Some(EMFILE), sync_error: None, full: false };
    let error = recover(&faulty, Rules::ALL).err().unwrap();
    assert_eq!(error.raw_os_error(), Some(EMFILE));
    assert!(world.disk.aside().is_empty());
    assert_eq!(recover(&world.disk, Rules::ALL).unwrap().recovery.messages.len(), 8);
}

#[test]
fn a_segment_that_cannot_be_synced_is_written_anew() {
    let world = written();
    let name = first_segment(&world);
    let faulty =
        Faulty { disk: &world.disk, name: &name, open_error: None, sync_error: Some(EIO), full: false };
    let recovery = recover(&faulty, Rules::ALL).unwrap().recovery;
    assert_eq!((recovery.damaged, recovery.messages.len()), (0, 8));
    // Where that fails, too, nothing may be concluded from it, and so nothing from the others.
    let error = recover(&Faulty { full: true, ..faulty }, Rules::ALL).err().unwrap();
    assert!(error.to_string().contains(&name), "{error}");
}

#[test]
fn foreign_files_are_left_alone_and_named() {
    let world = written();
    world.disk.put_file("README", b"hands off".to_vec());
    world.disk.put_file("1.segment", b"not by our naming".to_vec());
    world.disk.put_file("00000099.segment.preparing", vec![0; 100]);
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    assert_eq!(fold.recovery.foreign, ["1.segment", "README"]);
    assert_eq!(fold.recovery.messages.len(), 8);
    assert!(world.disk.contents("README").is_some());
    assert!(world.disk.contents("00000099.segment.preparing").is_none(), "unfinished segments go");
}

#[test]
fn a_copy_of_a_segment_under_another_number_raises_nobody() {
    let mut world = written();
    let name = first_segment(&world);
    let copy = world.disk.contents(&name).unwrap();
    world.delete(&[0, 1, 2, 3, 4, 5, 6, 7]);
    world.flush();
    world.disk.put_file("00000077.segment", copy);
    let fold = recover(&world.disk, Rules::ALL).unwrap();
    assert_eq!((fold.recovery.messages.len(), fold.recovery.damaged), (0, 1));
}

#[test]
fn delete_records_are_handed_back_while_they_are_in_the_log() {
    let mut world = written();
    let ids = world.append(100, 1);
    world.flush();
    world.delete_ids(&ids);
    world.flush();
    world.cut(Faults::default()).unwrap();
    assert!(world.recovery.deletes.iter().any(|(id, bytes)| *id == ids[0] && bytes.as_ref() == b"delivered"));
}

#[test]
fn the_order_of_messages_is_that_of_their_ids() {
    let mut world = written();
    world.cut(Faults::default()).unwrap();
    assert!(world.recovery.messages.is_sorted_by_key(|message| message.id));
}

/// A sealed segment, as it lies on the disk.
fn segment() -> Vec<u8> {
    let world = written();
    world.disk.contents(&first_segment(&world)).unwrap()
}

/// Steps that write, damage, copy and drop segments of a small spool, as the fuzz target does it with any bytes.
#[derive(Clone, Debug)]
enum Step {
    Flip(prop::sample::Index, prop::sample::Index, u8),
    Zero(prop::sample::Index, prop::sample::Index, u16),
    Cut(prop::sample::Index, prop::sample::Index),
    /// The contents of one segment under the number of another.
    Copy(prop::sample::Index, u32),
    Drop(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), at(), 1_u8..).prop_map(|(file, place, bits)| Step::Flip(file, place, bits)),
        2 => (at(), at(), 1_u16..).prop_map(|(file, place, bytes)| Step::Zero(file, place, bytes)),
        1 => (at(), at()).prop_map(|(file, place)| Step::Cut(file, place)),
        1 => (at(), 1_u32..12).prop_map(|(file, number)| Step::Copy(file, number)),
        1 => at().prop_map(Step::Drop),
    ]
}

fn apply(segments: &mut Vec<(u32, Vec<u8>)>, step: &Step) {
    let (Step::Flip(file, ..)
    | Step::Zero(file, ..)
    | Step::Cut(file, _)
    | Step::Copy(file, _)
    | Step::Drop(file)) = step;
    if segments.is_empty() {
        return;
    }
    let chosen = file.index(segments.len());
    let bytes = &mut segments[chosen].1;
    match step {
        Step::Flip(_, place, bits) if !bytes.is_empty() => {
            let at = place.index(bytes.len());
            bytes[at] ^= bits;
        }
        Step::Zero(_, place, length) if !bytes.is_empty() => {
            let at = place.index(bytes.len());
            let end = bytes.len().min(at + usize::from(*length));
            bytes[at..end].fill(0);
        }
        Step::Cut(_, place) => bytes.truncate(place.index(bytes.len() + 1)),
        Step::Copy(_, number) => {
            let copy = bytes.clone();
            segments.retain(|(other, _)| other != number);
            segments.push((*number, copy));
        }
        Step::Drop(_) => drop(segments.remove(chosen)),
        Step::Flip(..) | Step::Zero(..) => {}
    }
}

/// All segments of a spool with marks, rewrites and deletes, as they lie on the disk.
fn lively() -> &'static Vec<(u32, Vec<u8>)> {
    static SEGMENTS: OnceLock<Vec<(u32, Vec<u8>)>> = OnceLock::new();
    SEGMENTS.get_or_init(|| {
        let mut world = written();
        world.append(300, 3);
        world.mark(1);
        world.rewrite(2);
        world.delete(&[3, 4]);
        world.flush();
        world.append(5_000, 1);
        world.flush();
        let contents = |number| Some((number, world.disk.contents(&segment_name(number))?));
        (1..20).filter_map(contents).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// The twin of the fuzz target: recovery of any bytes ends, and invents nothing.
    #[test]
    fn any_damage_is_survived(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40), cut: prop::sample::Index) {
        let whole = segment();
        let sound = scan_segment_bytes(&whole).unwrap();
        let mut bytes = whole.clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(whole.len()) + 1);
        if let Ok(found) = scan_segment_bytes(&bytes) {
            prop_assert!(found.committed <= sound.committed && found.payload_bytes <= sound.payload_bytes);
            prop_assert!(found.committed <= found.records);
        }
    }

    /// Whatever is done to them: every message that is found was written, and so was its body.
    #[test]
    fn any_directory_is_survived(steps in prop::collection::vec(step(), 0..12)) {
        let mut segments = lively().clone();
        let sound = examine_bytes(&segments);
        prop_assert!(sound.is_sound() && sound.messages.len() > 8);
        steps.iter().for_each(|step| apply(&mut segments, step));
        let found = examine_bytes(&segments);
        let holds = |text: &[u8]| {
            lively().iter().any(|(_, bytes)| bytes.windows(text.len()).any(|found| found == text))
        };
        for message in &found.messages {
            prop_assert!(holds(&message.envelope) && message.marks.iter().all(|mark| holds(mark)));
            let body = found.read_body(message.body).unwrap();
            prop_assert!(body.len() as u64 == message.body_bytes && holds(&body));
        }
        prop_assert!(found.orphans.iter().all(|orphan| holds(&orphan.envelope)));
    }

    #[test]
    fn noise_is_no_record(noise in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let mut bytes = segment()[..64].to_vec();
        bytes.resize(BLOCK_BYTES, 0);
        bytes.extend(noise);
        prop_assert_eq!(scan_segment_bytes(&bytes).unwrap().records, 0);
    }
}
