//! Random histories against the plain map, with orderly and disorderly reopening.

use proptest::prelude::*;

use super::world::{Action, World, settings, with_durability};
use crate::disk::memory::Faults;
use crate::options::Rules;
use crate::types::Durability;

fn play(seed: u64, words: &[(u64, u64)], faults: Faults) -> Result<World, String> {
    let mut world = World::new(seed, settings(Rules::ALL));
    world.disk.set_faults(faults);
    for (choice, value) in words {
        world.act(Action::of(*choice, *value))?;
    }
    world.flush();
    world.read_all()?;
    world.reopen()?;
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_a_plain_map(seed: u64, words in prop::collection::vec(any::<(u64, u64)>(), 1..250)) {
        play(seed, &words, Faults::default()).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn equals_a_plain_map_on_a_disk_with_short_writes(
        seed: u64,
        words in prop::collection::vec(any::<(u64, u64)>(), 1..150),
    ) {
        play(seed, &words, Faults { short_one_in: Some(3), ..Faults::default() }).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn durability_written_survives_the_death_of_the_process() {
    let mut world = World::new(7, with_durability(Durability::Written));
    for number in 0..40 {
        world.append(400 + number * 30, 2);
        world.act(Action::Delete(number as u8)).unwrap();
        world.flush();
    }
    // The process dies: what the kernel has is still there.
    world.reopen().unwrap();
    assert!(world.alive() > 0 && world.stats().barriers == 0);
}
