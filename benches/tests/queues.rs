//! The queues at a hundredth of their size: what memory they take, and that nobody waits longer than its turn.
//!
//! It owns no measurement of time: a debug build on a shared machine says nothing about that. Memory is counted for the whole
//! process, so there is one test.

use benches::allocator::Counting;
use benches::queues::{BYTES_PER_MESSAGE_MAX, BYTES_PER_QUEUE_MAX, ROUNDS_WAITED_MAX, Scheduled, Turns};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn memory_and_turns_are_within_their_limits() {
    let scheduled = Scheduled::measure(20_000, 500);
    assert!(scheduled.bytes_per_message <= BYTES_PER_MESSAGE_MAX, "{scheduled:?}");
    assert!(scheduled.bytes_per_queue <= BYTES_PER_QUEUE_MAX, "{scheduled:?}");
    let turns = Turns::measure(500);
    assert!(turns.rounds_waited_max <= ROUNDS_WAITED_MAX, "{turns:?}");
    assert!(turns.messages_waited_max > turns.queues / 2, "the others have their turns, too: {turns:?}");
}
