//! What recovery makes of segments that were damaged at rest, cut short, copied or foreign.

use proptest::prelude::*;

use super::world::{World, settings};
use crate::disk::memory::Faults;
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
    assert_eq!((fold.recovery.damaged, fold.recovery.messages.len()), (1, 7));
    let aside = world.disk.aside();
    assert_eq!(aside.len(), 1);
    assert!(aside.keys().all(|kept| kept.starts_with(&name[..8]) && kept.ends_with(".bytes")));
    // A second look finds the same and keeps one copy.
    assert_eq!(recover(&world.disk, Rules::ALL).unwrap().recovery.damaged, 1);
    assert_eq!(world.disk.aside().len(), 1);
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

    #[test]
    fn noise_is_no_record(noise in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let mut bytes = segment()[..64].to_vec();
        bytes.resize(BLOCK_BYTES, 0);
        bytes.extend(noise);
        prop_assert_eq!(scan_segment_bytes(&bytes).unwrap().records, 0);
    }
}
