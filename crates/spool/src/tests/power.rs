//! The power goes at every single operation of a history. Nothing acknowledged is lost, nothing deleted comes back,
//! nothing half-written appears. And the proof that this test can see: with one safety rule switched off it fails.

use super::random::Random;
use super::world::{Action, World, settings};
use crate::disk::memory::Faults;
use crate::options::Rules;

/// Actions of one history, and of what follows the power cut.
const ACTIONS: usize = 160;
const ACTIONS_AFTER: usize = 80;

/// How many seeds a search tries: `SPOOL_HISTORIES`, for runs longer than a test may take.
pub(super) fn histories() -> u64 {
    std::env::var("SPOOL_HISTORIES").ok().and_then(|number| number.parse().ok()).unwrap_or(60)
}

/// One history with a cut at the given operation. `Ok(false)`: it ended before that operation.
fn history(seed: u64, cut_at: u64, rules: Rules, faults: Faults) -> Result<bool, String> {
    let mut random = Random(seed);
    let mut world = World::new(seed, settings(rules));
    let begun = world.disk.operations();
    world.disk.set_faults(Faults { cut_at: Some(begun + cut_at), ..faults });
    for _ in 0..ACTIONS {
        if world.disk.is_off() {
            break;
        }
        match random.action() {
            Action::Reopen | Action::Cut => world.act(Action::Work)?,
            action => world.act(action)?,
        }
    }
    let was_cut = world.disk.is_off();
    world.cut(faults)?;
    for _ in 0..ACTIONS_AFTER {
        world.act(random.action())?;
    }
    world.flush();
    world.cut(faults)?;
    Ok(was_cut)
}

/// The first broken promise in many histories.
fn search(rules: Rules, faults: Faults) -> Option<String> {
    (0..histories()).find_map(|seed| {
        // Cuts spread over the history; a search need not try each of them.
        let cuts = [11, 23, 37, 52, 71, 97];
        let broken = |cut: &u64| history(seed, *cut, rules, faults).err();
        cuts.iter().find_map(|cut| broken(cut).map(|what| format!("seed {seed}, cut at {cut}: {what}")))
    })
}

#[test]
fn a_cut_at_every_operation_breaks_no_promise() {
    let mut cuts = 0;
    for seed in 0..8 {
        let mut cut_at = 1;
        while history(seed, cut_at, Rules::ALL, Faults::default())
            .unwrap_or_else(|broken| panic!("seed {seed}, power cut at operation {cut_at}: {broken}"))
        {
            cut_at += 1;
        }
        cuts += cut_at;
    }
    assert!(cuts > 150, "only {cuts} operations in all histories");
}

#[test]
fn many_histories_break_no_promise() {
    assert_eq!(search(Rules::ALL, Faults::default()), None);
}

#[test]
fn without_barriers_the_test_fails() {
    let broken = search(Rules::ALL, Faults { sync_ignored: true, ..Faults::default() });
    assert!(broken.is_some(), "a disk that ignores barriers was not noticed");
}

#[test]
fn without_generations_the_test_fails() {
    let broken = search(Rules { generation: false, ..Rules::ALL }, Faults::default());
    assert!(broken.is_some(), "records of an earlier generation were not noticed");
}

#[test]
fn without_checksums_the_test_fails() {
    let broken = search(Rules { checksums: false, ..Rules::ALL }, Faults::default());
    assert!(broken.is_some(), "torn records were not noticed");
}

#[test]
fn without_syncs_of_the_directory_the_test_fails() {
    let broken = search(Rules { names_synced: false, ..Rules::ALL }, Faults::default());
    assert!(broken.is_some(), "segments whose names were lost were not noticed");
}

#[test]
fn without_durable_wipes_the_test_fails() {
    let broken = search(Rules { wipes_synced: false, ..Rules::ALL }, Faults::default());
    assert!(broken.is_some(), "headers of wiped segments were lost and nobody noticed");
}

#[test]
fn without_pins_of_deletes_the_test_fails() {
    let broken = search(Rules { deletes_pin: false, ..Rules::ALL }, Faults::default());
    assert!(broken.is_some(), "the dead were raised and nobody noticed");
}
