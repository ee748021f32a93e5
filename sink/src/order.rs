//! Whether the messages of each connection of the generator arrive in the order in which it sent them.
//!
//! Owns, for each run, the highest number that has arrived of each connection, shared by all workers, because a
//! relay may deliver two messages of one connection to two of them. A message is reordered when it
//! arrives for the first time after a message of the same connection (`conn` in its header) with a
//! higher number. One connection sends one message after the other, so such a message was overtaken on its
//! way; SMTP promises no order, so this is an observation and no fault.
//!
//! Connections are numbered by the sender, so only the first 65,536 of a run are watched; what comes
//! from others is counted as not watched.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use message::traffic::RunId;

/// Connections whose marks are allocated together, 8 KiB.
const BLOCK_CONNECTIONS: usize = 1024;

/// Blocks of a run: 65,536 connections are watched.
const BLOCKS_MAX: usize = 64;

/// Marks on one line of the processor's cache.
const MARKS_PER_LINE: usize = 8;

/// For each connection the highest number seen plus one; 0 before the first.
type Block = [AtomicU64; BLOCK_CONNECTIONS];

/// The highest numbers of one run.
#[derive(Debug)]
pub(crate) struct Order {
    blocks: [OnceLock<Box<Block>>; BLOCKS_MAX],
}

/// What was found out about one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    InOrder,
    /// The message of that higher number had arrived before.
    After(u64),
    /// The connection is not one of those that are watched.
    Unwatched,
}

impl Order {
    fn new() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS_MAX] }
    }

    /// Notes that a message has arrived for the first time.
    pub(crate) fn arrive(&self, connection: u64, sequence: u64) -> Place {
        let Some(mark) = self.mark(connection) else { return Place::Unwatched };
        let next = sequence.saturating_add(1);
        let before = mark.fetch_max(next, Ordering::Relaxed);
        if before > next { Place::After(before - 1) } else { Place::InOrder }
    }

    fn mark(&self, connection: u64) -> Option<&AtomicU64> {
        let connection = usize::try_from(connection).ok()?;
        let block = self.blocks.get(connection / BLOCK_CONNECTIONS)?;
        let block = block.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BLOCK_CONNECTIONS]));
        // Neighbours are served by different cores at the same time, so they stand on different lines.
        let place = connection % BLOCK_CONNECTIONS;
        let lines = BLOCK_CONNECTIONS / MARKS_PER_LINE;
        block.get(place % lines * MARKS_PER_LINE + place / lines)
    }
}

/// Gives all workers of a server the same [`Order`] for the same run; asked once per run and worker.
#[derive(Debug, Default)]
pub(crate) struct Orders(Mutex<HashMap<RunId, Weak<Order>>>);

impl Orders {
    /// The order of that run, which lives for as long as a worker remembers the run.
    pub(crate) fn of(&self, run: RunId) -> Arc<Order> {
        // Nothing here can panic half-way.
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = orders.get(&run).and_then(Weak::upgrade) {
            return order;
        }
        orders.retain(|_, order| order.strong_count() > 0);
        let order = Arc::new(Order::new());
        orders.insert(run, Arc::downgrade(&order));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overtaken_message_is_told_from_one_in_order() {
        let order = Order::new();
        assert_eq!(order.arrive(7, 10), Place::InOrder);
        assert_eq!(order.arrive(7, 30), Place::InOrder);
        assert_eq!(order.arrive(7, 20), Place::After(30));
        assert_eq!(order.arrive(8, 20), Place::InOrder);
        assert_eq!(order.arrive(7, 31), Place::InOrder);
    }

    #[test]
    fn each_connection_has_a_mark_of_its_own_and_strange_ones_have_none() {
        let order = Order::new();
        let last = (BLOCKS_MAX * BLOCK_CONNECTIONS) as u64 - 1;
        assert!((0..=last).all(|connection| order.arrive(connection, connection) == Place::InOrder));
        assert!(
            (1..=last).all(|connection| order.arrive(connection, connection - 1) == Place::After(connection))
        );
        assert_eq!(order.arrive(last + 1, 0), Place::Unwatched);
        assert_eq!(order.arrive(u64::MAX, 0), Place::Unwatched);
    }

    #[test]
    fn workers_share_a_run_and_a_forgotten_run_begins_anew() {
        let orders = Orders::default();
        let run = RunId::from_random(1);
        let first = orders.of(run);
        first.arrive(0, 9);
        assert_eq!(orders.of(run).arrive(0, 8), Place::After(9));
        assert_eq!(orders.of(RunId::from_random(2)).arrive(0, 8), Place::InOrder);
        drop(first);
        assert_eq!(orders.of(run).arrive(0, 8), Place::InOrder);
    }
}
