//! Durability `deferred`: what is deleted before anything else happens to it is never written; what lives is kept over an
//! orderly end, and its body can be read at any time.

use proptest::prelude::*;

use super::world::{Action, World, with_durability};
use crate::types::Durability;

fn world() -> World {
    World::new(31, with_durability(Durability::Deferred))
}

#[test]
fn a_message_that_is_delivered_at_once_is_never_written() {
    let mut world = world();
    let ids: Vec<_> = (0..20).flat_map(|_| world.append(2_000, 3)).collect();
    world.read_all().unwrap();
    let stats = world.stats();
    assert_eq!((stats.messages, stats.deferred_messages, stats.records), (60, 60, 0));
    assert!(stats.deferred_bytes > 40_000, "{stats:?}");
    world.delete_ids(&ids);
    world.flush();
    let stats = world.stats();
    assert_eq!((stats.messages, stats.deferred_bytes, stats.records), (0, 0, 0));
}

#[test]
fn a_mark_has_the_message_written_with_its_siblings() {
    let mut world = world();
    let ids = world.append(2_000, 3);
    world.delete_ids(&ids[..1]);
    world.mark(0);
    world.flush();
    let stats = world.stats();
    // A body, two envelopes and the mark.
    assert_eq!((stats.deferred_messages, stats.deferred_bytes, stats.records), (0, 0, 4));
    world.delete_ids(&ids[1..2]);
    world.flush();
    world.reopen().unwrap();
    assert_eq!(world.alive(), 1);
}

#[test]
fn what_has_no_room_in_memory_is_written() {
    let mut settings = with_durability(Durability::Deferred);
    settings.deferred_bytes_max = 10_000;
    let mut world = World::new(32, settings);
    for _ in 0..10 {
        world.append(2_000, 1);
    }
    world.flush();
    let stats = world.stats();
    assert!(stats.deferred_bytes <= 10_000 && stats.deferred_messages > 0 && stats.appends > 0, "{stats:?}");
    world.read_all().unwrap();
    world.reopen().unwrap();
    assert_eq!(world.alive(), 10);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_a_plain_map(seed: u64, words in prop::collection::vec(any::<(u64, u64)>(), 1..200)) {
        let mut settings = with_durability(Durability::Deferred);
        settings.deferred_bytes_max = 20_000;
        let mut world = World::new(seed, settings);
        for (choice, value) in words {
            world.act(Action::of(choice, value)).map_err(TestCaseError::fail)?;
        }
        world.flush();
        world.read_all().map_err(TestCaseError::fail)?;
        world.reopen().map_err(TestCaseError::fail)?;
    }
}
