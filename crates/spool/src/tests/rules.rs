//! Each recycling rule by itself, in a history made for it, and what happens without it.

use super::world::{Action, World, settings};
use crate::disk::memory::Faults;
use crate::inspect::scan_segment_bytes;
use crate::options::Rules;
use crate::recover::segment_name;
use crate::types::Durability;

/// More than fits into a segment of 16 KiB together with another of its kind.
const FILLER_BYTES: usize = 7_000;

fn filler(world: &mut World) -> crate::types::Id {
    let ids = world.append(FILLER_BYTES, 1);
    world.flush();
    ids[0]
}

/// A message is deleted; then everything else in the delete's segment dies, while the message's own segment lives on.
fn delete_outlived(rules: Rules) -> Result<(), String> {
    let mut world = World::new(1, settings(rules));
    let stays = world.append(100, 1);
    let dies = world.append(100, 1);
    let first = filler(&mut world);
    // The next segment begins with the delete.
    let second = filler(&mut world);
    world.delete_ids(&dies);
    world.flush();
    let third = filler(&mut world);
    world.delete_ids(&[first, second]);
    world.flush();
    let fourth = filler(&mut world);
    world.delete_ids(&[third, fourth]);
    world.flush();
    assert_eq!(world.alive(), stays.len());
    world.cut(Faults::default())
}

#[test]
fn a_delete_lives_as_long_as_what_it_deletes_can_be_read() {
    delete_outlived(Rules::ALL).unwrap();
    let broken = delete_outlived(Rules { deletes_pin: false, ..Rules::ALL });
    assert!(broken.unwrap_err().contains("came back from the dead"));
}

/// The only living record of a segment is an envelope; it is written again, and while that is on its way, housekeeping
/// does whatever it is told to. Then the power goes.
fn emptied_by_something_in_flight(seed: u64, rules: Rules) -> Result<(), String> {
    let mut world = World::new(seed, settings(rules));
    world.append(100, 1);
    let before = filler(&mut world);
    let shared_after = filler(&mut world);
    // A second envelope for the first body, in another segment than the body.
    world.share(0);
    world.flush();
    let after = filler(&mut world);
    world.delete_ids(&[before, shared_after, after]);
    world.flush();
    world.disk.set_faults(Faults { hold: true, ..Faults::default() });
    world.rewrite(1);
    for _ in 0..8 {
        world.act(Action::Turn)?;
        world.act(Action::Work)?;
    }
    world.cut(Faults::default())
}

#[test]
fn a_segment_is_used_again_only_after_what_emptied_it_is_durable() {
    for seed in 0..50 {
        emptied_by_something_in_flight(seed, Rules::ALL).unwrap();
    }
    let hasty = Rules { reuse_waits: false, ..Rules::ALL };
    let broken = (0..50).find_map(|seed| emptied_by_something_in_flight(seed, hasty).err());
    assert!(broken.unwrap().contains("is lost"));
}

/// That the rule is needed is shown in `power`, by histories that fail without it.
#[test]
fn what_an_earlier_generation_left_behind_is_not_read() {
    let mut world = World::new(3, settings(Rules::ALL));
    for _ in 0..3 {
        // They fill a segment; the next begins with their deletes.
        let ids: Vec<_> = (0..6).flat_map(|_| world.append(1_500, 1)).collect();
        world.flush();
        world.delete_ids(&ids);
        world.flush();
    }
    assert!(world.stats().segments_recycled > 1, "{:?}", world.stats());
    // Each opening begins another segment and covers only the first block of what lay there.
    for _ in 0..8 {
        world.append(100, 1);
        world.flush();
        world.cut(Faults::default()).unwrap();
        // What was deleted is not even seen.
        assert!(world.recovery.deletes.is_empty() && world.recovery.records <= 2 * 8);
    }
}

/// A process that syncs nothing dies; another one, which does, finds what it wrote in the kernel's cache. Then the power
/// goes.
fn found_in_a_cache(seed: u64, rules: Rules) -> Result<(), String> {
    let mut settings = settings(rules);
    settings.durability = Durability::Written;
    let mut world = World::new(seed, settings);
    world.append(500, 2);
    world.flush();
    world.settings.durability = Durability::Commit;
    world.die()?;
    assert_eq!(world.alive(), 2);
    world.cut(Faults::default())
}

#[test]
fn nothing_is_concluded_from_what_is_not_durable() {
    for seed in 0..20 {
        found_in_a_cache(seed, Rules::ALL).unwrap();
    }
    let hasty = Rules { opening_syncs: false, ..Rules::ALL };
    let broken = (0..20).find_map(|seed| found_in_a_cache(seed, hasty).err());
    assert!(broken.unwrap().contains("is lost"));
}

#[test]
fn nothing_is_written_behind_what_an_earlier_process_left() {
    let mut world = World::new(9, settings(Rules::ALL));
    world.append(500, 1);
    world.flush();
    let left: Vec<_> = (1..4).filter_map(|number| world.disk.contents(&segment_name(number))).collect();
    let used = |contents: &Vec<u8>| scan_segment_bytes(contents).is_ok_and(|found| found.records > 0);
    let left: Vec<_> = left.into_iter().filter(used).collect();
    assert_eq!(left.len(), 1);
    world.cut(Faults::default()).unwrap();
    world.append(500, 1);
    world.flush();
    let now: Vec<_> = (1..9).filter_map(|number| world.disk.contents(&segment_name(number))).collect();
    assert!(now.contains(&left[0]), "the segment is as it was left");
    assert_eq!(now.iter().filter(|contents| used(contents)).count(), 2);
}

#[test]
fn emptied_segments_are_recycled_and_surplus_ones_removed() {
    let mut world = World::new(4, settings(Rules::ALL));
    let ids: Vec<_> = (0..60).flat_map(|_| world.append(3_000, 1)).collect();
    world.flush();
    let grown = world.stats();
    assert!(grown.segments > 15, "{grown:?}");
    ids.chunks(10).for_each(|ids| world.delete_ids(ids));
    world.flush();
    let shrunk = world.stats();
    let kept = shrunk.segments + shrunk.segments_spare;
    assert!(shrunk.segments_recycled > 0 && kept <= 3 * 2 + 2, "{shrunk:?}");
    world.reopen().unwrap();
}

#[test]
fn one_old_message_does_not_pin_the_log() {
    let mut world = World::new(5, settings(Rules::ALL));
    let old = world.append(500, 2);
    let mut before = Vec::new();
    for _ in 0..40 {
        let ids: Vec<_> = (0..3).flat_map(|_| world.append(2_000, 1)).collect();
        world.flush();
        // What is deleted lies in an earlier segment than the delete, so each segment guards against the one before.
        world.delete_ids(&std::mem::replace(&mut before, ids));
        world.flush();
    }
    world.delete_ids(&before);
    world.flush();
    let stats = world.stats();
    assert!(stats.compacted_bytes > 0, "{stats:?}");
    assert!(stats.segments + stats.segments_spare <= 12, "{stats:?}");
    assert_eq!(world.alive(), old.len());
    world.read_all().unwrap();
    world.cut(Faults::default()).unwrap();
}

#[test]
fn a_transaction_larger_than_a_segment_gets_one_of_its_own() {
    let mut world = World::new(6, settings(Rules::ALL));
    let ids: Vec<_> = (0..3).flat_map(|_| world.append(40_000, 2)).collect();
    world.flush();
    world.read_all().unwrap();
    world.reopen().unwrap();
    assert_eq!(world.alive(), ids.len());
    world.delete_ids(&ids);
    world.flush();
    let largest = world.stats();
    assert!(largest.segments + largest.segments_spare <= 8, "their segments are removed: {largest:?}");
    world.cut(Faults::default()).unwrap();
}
