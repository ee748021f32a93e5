//! Ready queues: `source->site@protocol`, the messages that may go now and the dispatchers that take them.
//!
//! The order and the bounds are `queue::Ready`'s; this is the lock around it, the hand-over to idle dispatchers, and the site's
//! failures in a row.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::route::Site;
use super::scheduled::ScheduledQueue;
use super::{Outbound, dispatcher, lock};
use crate::config::PathConfig;
use crate::ports::Entry;
use crate::queue::{NamedRates, NamedSlots, Pushed, Ready};

/// A message in a ready queue, with the scheduled queue it came from.
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) queue: Arc<ScheduledQueue>,
}

/// How mail travels to a site, and the limits that hold there.
pub(super) struct Path {
    pub(super) config: PathConfig,
    pub(super) message_rates: NamedRates,
    pub(super) connection_rates: NamedRates,
    pub(super) slots: NamedSlots,
}

impl Path {
    pub(super) fn new(ready_queue: &str, config: PathConfig) -> Self {
        Self {
            message_rates: NamedRates::of_path(ready_queue, &config),
            connection_rates: NamedRates::of_connections(ready_queue, &config),
            slots: NamedSlots::of_path(ready_queue, &config),
            config,
        }
    }
}

/// An idle dispatcher: where to send it a message.
struct Idle {
    number: u64,
    hand: oneshot::Sender<Item>,
}

/// One ready queue.
pub(super) struct ReadyQueue {
    inner: Mutex<Inner>,
    /// Connections in a row that failed; any success starts again from 0.
    failures: AtomicU32,
    room: Notify,
}

struct Inner {
    ready: Ready<Item, Idle>,
    site: Arc<Site>,
    path: Arc<Path>,
    idle_number: u64,
    used: Instant,
    /// When a message last left.
    moved: Instant,
}

impl ReadyQueue {
    pub(super) fn new(site: Arc<Site>, path: Arc<Path>) -> Self {
        let now = Instant::now();
        let ready = Ready::new(path.config.max_ready, path.config.connection_limit.0);
        let inner = Inner { ready, site, path, idle_number: 0, used: now, moved: now };
        Self { inner: Mutex::new(inner), failures: AtomicU32::new(0), room: Notify::new() }
    }

    /// Takes what policy and DNS say now.
    pub(super) fn refresh(&self, site: Arc<Site>, path: Arc<Path>) {
        let mut inner = lock(&self.inner);
        inner.ready.set_limits(path.config.max_ready, path.config.connection_limit.0);
        inner.site = site;
        inner.path = path;
    }

    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&lock(&self.inner).site)
    }

    pub(super) fn path(&self) -> Arc<Path> {
        Arc::clone(&lock(&self.inner).path)
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.inner).ready.len()
    }

    pub(super) fn is_full(&self) -> bool {
        lock(&self.inner).ready.is_full()
    }

    pub(super) fn is_idle(&self, since: Duration) -> bool {
        let inner = lock(&self.inner);
        inner.ready.is_deserted() && inner.used.elapsed() > since
    }

    /// Waits until a message has left, for `delay_max` at most, and not at all when none has left for as long.
    pub(super) async fn wait_for_room(&self, delay_max: Duration) {
        let room = self.room.notified();
        {
            let inner = lock(&self.inner);
            if !inner.ready.is_full() || inner.moved.elapsed() > delay_max {
                return;
            }
        }
        let _ = tokio::time::timeout(delay_max, room).await;
    }

    /// The next message, if one is there.
    pub(super) fn try_next(&self) -> Option<Item> {
        self.take(&mut lock(&self.inner))
    }

    fn take(&self, inner: &mut Inner) -> Option<Item> {
        let was_full = inner.ready.is_full();
        let item = inner.ready.pop()?;
        inner.moved = Instant::now();
        if was_full {
            self.room.notify_one();
        }
        Some(item)
    }

    /// The next message; waits for one for `idle_max`.
    pub(super) async fn next(&self, idle_max: Duration) -> Option<Item> {
        let (number, mut hand) = {
            let mut inner = lock(&self.inner);
            if let Some(item) = self.take(&mut inner) {
                return Some(item);
            }
            let (sender, receiver) = oneshot::channel();
            inner.idle_number += 1;
            let number = inner.idle_number;
            inner.ready.park(Idle { number, hand: sender });
            (number, receiver)
        };
        if let Ok(item) = tokio::time::timeout(idle_max, &mut hand).await {
            return item.ok();
        }
        if lock(&self.inner).ready.unpark(|idle| idle.number == number).is_some() {
            return None;
        }
        // A push took our place in the same moment; its message is already on the way.
        hand.await.ok()
    }

    pub(super) fn connected(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Counts a connection that failed and says how many that makes in a row.
    pub(super) fn connect_failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Everything that waits.
    pub(super) fn drain(&self) -> Vec<Item> {
        let items = lock(&self.inner).ready.drain();
        self.room.notify_waiters();
        items
    }
}

/// Adds a message and sees to it that somebody takes it.
///
/// # Errors
/// Hands the message back when the queue is full.
pub(super) fn push(
    outbound: &Arc<Outbound>,
    ready: &Arc<ReadyQueue>,
    queue: &Arc<ScheduledQueue>,
    entry: Entry,
) -> Result<(), Entry> {
    let mut item = Item { entry, queue: Arc::clone(queue) };
    loop {
        let pushed = {
            let mut inner = lock(&ready.inner);
            inner.used = Instant::now();
            inner.ready.push(item)
        };
        match pushed {
            Err(item) => return Err(item.entry),
            Ok(Pushed::Queued) => return Ok(()),
            Ok(Pushed::Open) => {
                dispatcher::open(outbound, ready);
                return Ok(());
            }
            Ok(Pushed::Hand(idle, handed)) => match idle.hand.send(handed) {
                Ok(()) => return Ok(()),
                // That dispatcher ended in the same moment.
                Err(back) => item = back,
            },
        }
    }
}

/// A dispatcher of this queue has ended; another one opens where the messages that are left are worth it.
pub(super) fn closed(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>) {
    let again = lock(&ready.inner).ready.closed();
    if again {
        dispatcher::open(outbound, ready);
    }
}
