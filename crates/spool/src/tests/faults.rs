//! Writes that fail, disks that are full: what callers see, and what is still there afterwards.

use bytes::Bytes;

use super::random::Random;
use super::world::{Action, World, settings};
use crate::disk::Space;
use crate::disk::memory::Faults;
use crate::error::AppendError;
use crate::housekeeping::Outcome;
use crate::options::Rules;
use crate::spool::{changes_request, intake};
use crate::stats::Health;
use crate::types::{Change, Envelope, Id, Transaction};

fn world() -> World {
    World::new(11, settings(Rules::ALL))
}

#[test]
fn a_failed_write_is_repeated_elsewhere() {
    for fail_after in 1..30 {
        let mut world = world();
        let at = world.disk.operations() + fail_after;
        world.disk.set_faults(Faults { fail_at: [Some(at), None], ..Faults::default() });
        for number in 0..30 {
            world.append(500, 1);
            world.act(Action::Turn).unwrap();
            world.act(Action::Delete(number)).unwrap();
        }
        world.flush();
        // If it was a segment that could not be made, that is tried again with time.
        world.writer.shared().report(Outcome::Tick);
        world.flush();
        assert_eq!(world.writer.shared().condition.health(), Health::Ok, "failure at operation {fail_after}");
        world.read_all().unwrap();
        world.cut(Faults::default()).unwrap();
    }
}

#[test]
fn a_write_that_fails_twice_fails_the_spool() {
    let mut world = world();
    let kept = world.append(300, 1);
    world.flush();
    world.disk.set_faults(Faults { fail_one_in: Some(1), ..Faults::default() });
    let transaction = transaction(900, 901);
    let (request, mut pending) = intake(transaction).unwrap();
    let shared = std::sync::Arc::clone(world.writer.shared());
    shared.queue.try_push(request, &shared.waker).unwrap();
    world.flush();
    world.writer.turn(true);
    world.writer.turn(true);
    world.writer.turn(true);
    assert!(matches!(pending.0.try_recv().unwrap(), Err(AppendError::Failed { .. })));
    assert!(matches!(shared.condition.health(), Health::Failed { .. }));
    let refused = changes_request(&shared, vec![Change::Delete { id: kept[0], bytes: Bytes::new() }]);
    assert!(matches!(refused, Err(AppendError::Failed { .. })));
    world.cut(Faults::default()).unwrap();
    assert_eq!(world.alive(), 1);
}

fn transaction(body: u128, envelope: u128) -> Transaction {
    let (body, id) = (Id(body.to_be_bytes()), Id(envelope.to_be_bytes()));
    let envelopes = vec![Envelope { id, body, bytes: Bytes::from_static(b"envelope") }];
    Transaction { body: Some((body, vec![Bytes::from_static(b"body")])), envelopes }
}

#[test]
fn histories_with_failing_writes_and_power_cuts_break_no_promise() {
    for seed in 0..super::power::histories() {
        let faults = Faults { fail_one_in: Some(40), short_one_in: Some(5), ..Faults::default() };
        let mut random = Random(seed);
        let mut world = World::new(seed, settings(Rules::ALL));
        world.writes_fail = true;
        world.disk.set_faults(faults);
        let result = (0..200).try_for_each(|_| {
            if matches!(world.writer.shared().condition.health(), Health::Failed { .. }) {
                return world.cut(faults);
            }
            match random.action() {
                Action::Reopen => world.act(Action::Turn),
                action => world.act(action),
            }
        });
        result.and_then(|()| world.cut(faults)).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

/// Actions of a history in which one operation fails.
const ACTIONS: usize = 120;

/// `Ok(false)`: the history ended before that operation.
fn failing_at(seed: u64, operation: u64, fail_is_full: bool) -> Result<bool, String> {
    let mut random = Random(seed);
    let mut world = World::new(seed, settings(Rules::ALL));
    world.writes_fail = true;
    let at = world.disk.operations() + operation;
    world.disk.set_faults(Faults { fail_at: [Some(at), None], fail_is_full, ..Faults::default() });
    for _ in 0..ACTIONS {
        match random.action() {
            Action::Cut => world.act(Action::Work)?,
            action => world.act(action)?,
        }
    }
    let failed = world.disk.operations() >= at || world.disk.faults().fail_at[0].is_none();
    world.cut(Faults::default())?;
    Ok(failed)
}

#[test]
fn an_error_of_any_operation_breaks_no_promise() {
    for (seed, fail_is_full) in (0..8).map(|seed| (seed, seed % 2 == 1)) {
        let mut operation = 1;
        while failing_at(seed, operation, fail_is_full)
            .unwrap_or_else(|broken| panic!("seed {seed}, error at operation {operation}: {broken}"))
        {
            operation += 1;
        }
        assert!(operation > 15, "only {operation} operations in a history");
    }
}

#[test]
fn a_full_disk_refuses_bodies_and_takes_deletes() {
    let mut world = world();
    let ids: Vec<_> = (0..4).flat_map(|_| world.append(3_000, 1)).collect();
    world.flush();
    world.disk.set_faults(Faults { no_space: true, ..Faults::default() });
    for _ in 0..12 {
        world.append(3_000, 1);
    }
    world.flush();
    let health = world.writer.shared().condition.health();
    assert!(matches!(health, Health::DiskFloor { .. }), "{health:?}");
    let before = world.alive();
    world.delete_ids(&ids);
    world.flush();
    assert_eq!(world.alive(), before - ids.len(), "deletes are taken");
    world.disk.set_faults(Faults::default());
    world.writer.shared().report(Outcome::Tick);
    world.flush();
    assert_eq!(world.writer.shared().condition.health(), Health::Ok);
    world.append(3_000, 1);
    world.flush();
    world.cut(Faults::default()).unwrap();
    assert_eq!(world.alive(), before - ids.len() + 1);
}

#[test]
fn the_floor_in_bytes_and_inodes_is_seen() {
    let mut settings = settings(Rules::ALL);
    (settings.free_bytes_min, settings.free_inodes_min) = (1000, 10);
    let world = World::new(1, settings);
    let shared = world.writer.shared();
    for (free_bytes, free_inodes, is_full) in [(999, 10, true), (1000, 9, true), (1000, 10, false)] {
        world.disk.set_space(Space { free_bytes, free_inodes });
        shared.look_at_space();
        let full = Health::DiskFloor { free_bytes, free_inodes };
        assert_eq!(shared.condition.health(), if is_full { full } else { Health::Ok });
    }
}

#[test]
fn rules_about_ids_are_kept() {
    let mut world = world();
    let shared = std::sync::Arc::clone(world.writer.shared());
    let mut answer = |transaction| {
        let (request, mut pending) = intake(transaction)?;
        shared.queue.try_push(request, &shared.waker).unwrap();
        world.flush();
        (0..6).for_each(|_| assert!(world.writer.turn(true)));
        pending.0.try_recv().unwrap()
    };
    let id = |number: u128| Id(number.to_be_bytes());
    assert!(answer(transaction(900, 901)).is_ok());
    assert_eq!(answer(transaction(900, 902)), Err(AppendError::IdInUse(id(900))));
    assert_eq!(answer(transaction(903, 901)), Err(AppendError::IdInUse(id(901))));
    let mut unknown = transaction(904, 905);
    unknown.body = None;
    assert_eq!(answer(unknown), Err(AppendError::UnknownBody(id(904))));
    let mut alone = transaction(906, 907);
    alone.envelopes[0].body = id(900);
    assert_eq!(answer(alone), Err(AppendError::BodyWithoutEnvelope(id(906))));
    let mut twice = transaction(908, 909);
    twice.envelopes.push(twice.envelopes[0].clone());
    assert_eq!(answer(twice), Err(AppendError::IdInUse(id(909))));
}
