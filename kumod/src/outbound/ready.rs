//! Ready queues: `source->site@protocol`, the messages that may go now and the dispatchers that take them.
//!
//! Turns and bounds are `queue::Ready`'s; this is the lock around it, the hand-over to idle dispatchers, the filling of flows from the
//! store, and the site's failures in a row.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::orders::Orders;
use super::path::Path;
use super::quiet::Quiet;
use super::route::Site;
use super::scheduled::{self, ScheduledQueue};
use super::{Outbound, dispatcher, lock};
use crate::clock::UnixMs;
use crate::ports::Entry;
use crate::queue::{FlowKey, Ready, Step, Ticket, cost_of};

/// A body is not kept in memory for a message whose queue pauses for longer than this.
const BODY_KEPT_MAX: Duration = Duration::from_secs(1);

/// A message in a ready queue, with the scheduled queue it came from.
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) queue: Arc<ScheduledQueue>,
}

impl Item {
    fn cost(&self) -> u32 {
        cost_of(self.entry.claimed.envelope.message_bytes())
    }

    /// When it is too old to be sent.
    pub(super) fn expires(&self) -> UnixMs {
        self.queue.expiry(&self.entry.claimed.envelope)
    }

    fn ticket(self) -> Ticket<Self> {
        Ticket { flow: self.queue.key(), priority: self.queue.priority(), cost: self.cost(), entry: self }
    }
}

/// An idle dispatcher: where to send it a message.
struct Idle {
    number: u64,
    hand: oneshot::Sender<Item>,
}

/// What the orders made of a ready queue.
pub(super) enum Held {
    AsBefore,
    /// Nothing is to be sent; this was to be.
    Now(Vec<Item>),
    NoMore,
}

/// One ready queue.
pub(super) struct ReadyQueue {
    /// `source->site@protocol`.
    name: Box<str>,
    inner: Mutex<Inner>,
    /// Connections in a row that failed; any success starts again from 0.
    failures: AtomicU32,
    /// Until then (Unix milliseconds) its source has been chosen as often as it may be; 0 where it never was.
    chosen_enough_until: AtomicU64,
    /// Addresses of the site that did not answer lately.
    pub(super) quiet: Quiet,
    room: Notify,
    /// Clients that wait for room.
    waiting: AtomicUsize,
}

struct Inner {
    ready: Ready<Item, Idle>,
    site: Arc<Site>,
    path: Arc<Path>,
    idle_number: u64,
    used: Instant,
    /// Before this no message here is too old.
    expires_first: UnixMs,
    /// When a message last left.
    moved: Instant,
}

impl ReadyQueue {
    pub(super) fn new(name: &str, site: Arc<Site>, path: Arc<Path>) -> Self {
        let now = Instant::now();
        let mut ready = Ready::new(path.config.max_ready, path.config.connection_limit.0);
        ready.set_aggressive(path.config.aggressive_connection_opening);
        let expires_first = UnixMs(u64::MAX);
        let inner = Inner { ready, site, path, idle_number: 0, used: now, expires_first, moved: now };
        Self {
            name: name.into(),
            inner: Mutex::new(inner),
            failures: AtomicU32::new(0),
            chosen_enough_until: AtomicU64::new(0),
            quiet: Quiet::default(),
            room: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Takes what policy and DNS say now.
    pub(super) fn refresh(&self, site: Arc<Site>, path: Arc<Path>) {
        let mut inner = self.lock();
        inner.ready.set_limits(path.config.max_ready, path.config.connection_limit.0);
        inner.ready.set_aggressive(path.config.aggressive_connection_opening);
        inner.site = site;
        inner.path = path;
        // The rules of a queue may have changed, too.
        inner.expires_first = UnixMs(0);
    }

    /// Whether nothing may be sent.
    pub(super) fn is_held(&self) -> bool {
        self.lock().ready.is_held()
    }

    /// Holds the queue, or lets go of it, as the orders say now.
    pub(super) fn heed(&self, orders: &Orders) -> Held {
        let mut inner = self.lock();
        // Asked under the lock, so that whoever asks last is right.
        let held = orders.hold_ready(&self.name, &inner.path.source.name);
        if held == inner.ready.is_held() {
            return Held::AsBefore;
        }
        inner.ready.set_held(held);
        if !held {
            return Held::NoMore;
        }
        let (items, _) = inner.ready.rounds.take_if(|_| true);
        drop(inner);
        self.room.notify_waiters();
        Held::Now(items)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.lock().site)
    }

    pub(super) fn path(&self) -> Arc<Path> {
        Arc::clone(&self.lock().path)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().ready.rounds.len()
    }

    pub(super) fn is_full_for(&self, flow: FlowKey) -> bool {
        self.lock().ready.is_full_for(flow)
    }

    pub(super) fn is_idle(&self, since: Duration) -> bool {
        let inner = self.lock();
        inner.ready.is_deserted() && inner.used.elapsed() > since
    }

    /// Waits until a message has left, for `delay_max` at most, and not at all when none has left for as long.
    pub(super) async fn wait_for_room(&self, flow: FlowKey, delay_max: Duration) {
        let room = self.room.notified();
        {
            let inner = self.lock();
            if !inner.ready.is_full_for(flow) || inner.moved.elapsed() > delay_max {
                return;
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = tokio::time::timeout(delay_max, room).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// The next message in turn, if one is there.
    pub(super) fn try_next(self: &Arc<Self>, outbound: &Arc<Outbound>) -> Option<Item> {
        let taken = self.take(&mut self.lock());
        taken.map(|taken| filled(outbound, self, taken))
    }

    fn take(&self, inner: &mut Inner) -> Option<(Item, bool)> {
        let taken = inner.ready.pop()?;
        inner.moved = Instant::now();
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.room.notify_one();
        }
        Some(taken)
    }

    /// The next message in turn; waits for one until `patience` ends.
    pub(super) async fn next(
        self: &Arc<Self>,
        outbound: &Arc<Outbound>,
        patience: impl Future<Output = ()>,
    ) -> Option<Item> {
        let parked = {
            let mut inner = self.lock();
            self.take(&mut inner).ok_or_else(|| park(&mut inner))
        };
        let (number, mut hand) = match parked {
            Ok(taken) => return Some(filled(outbound, self, taken)),
            Err(parked) => parked,
        };
        tokio::select! {
            item = &mut hand => return item.ok(),
            () = patience => {}
        }
        if self.lock().ready.unpark(|idle| idle.number == number).is_some() {
            return None;
        }
        // A push took our place in the same moment; its message is already on the way.
        hand.await.ok()
    }

    /// Its source has been chosen as often as it may be until then.
    pub(super) fn note_chosen_enough(&self, until: UnixMs) {
        self.chosen_enough_until.store(until.0, Ordering::Relaxed);
    }

    /// Whether another source is to be chosen, if there is one.
    pub(super) fn is_chosen_enough(&self) -> bool {
        match self.chosen_enough_until.load(Ordering::Relaxed) {
            0 => false,
            until => UnixMs::now().0 < until,
        }
    }

    pub(super) fn connected(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Counts a connection that failed and says how many that makes in a row.
    pub(super) fn connect_failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Everything that waits. What the store has for the same queues comes next.
    pub(super) fn drain(self: &Arc<Self>, outbound: &Arc<Outbound>) -> Vec<Item> {
        let taken = self.lock().ready.rounds.take_if(|_| true);
        self.freed(outbound, taken)
    }

    /// What has waited too long.
    pub(super) fn take_expired(self: &Arc<Self>, outbound: &Arc<Outbound>, now: UnixMs) -> Vec<Item> {
        let mut first = UnixMs(u64::MAX);
        let is_expired = |item: &Item| {
            let expires = item.expires();
            if expires >= now {
                first = first.min(expires);
            }
            expires < now
        };
        let taken = {
            let mut inner = self.lock();
            if inner.expires_first >= now {
                return Vec::new();
            }
            let taken = inner.ready.rounds.take_if(is_expired);
            inner.expires_first = first;
            taken
        };
        self.freed(outbound, taken)
    }

    /// Tells those who wait for the places that are free now.
    fn freed(
        self: &Arc<Self>,
        outbound: &Arc<Outbound>,
        (items, low): (Vec<Item>, Vec<FlowKey>),
    ) -> Vec<Item> {
        self.room.notify_waiters();
        for flow in low {
            if let Some(item) = items.iter().find(|item| item.queue.key() == flow) {
                scheduled::pull(outbound, &item.queue, self);
            }
        }
        items
    }

    /// What waits of one scheduled queue, which no longer feeds this one.
    pub(super) fn remove(&self, flow: FlowKey) -> Vec<Item> {
        self.lock().ready.rounds.remove(flow)
    }

    /// How many messages to claim for a flow; see [`Rounds::begin_pull`](crate::queue::Rounds::begin_pull).
    pub(super) fn begin_pull(&self, flow: FlowKey) -> usize {
        let mut inner = self.lock();
        inner.used = Instant::now();
        inner.ready.begin_pull(flow)
    }

    /// A pull for another source of the same queue left mail in the store. Whether to pull for this one now.
    pub(super) fn note_more(&self, flow: FlowKey) -> bool {
        self.lock().ready.rounds.note_more(flow)
    }

    /// A pull has ended; whether to pull again.
    pub(super) fn end_pull(&self, flow: FlowKey, more: bool) -> bool {
        self.lock().ready.rounds.end_pull(flow, more)
    }
}

fn park(inner: &mut Inner) -> (u64, oneshot::Receiver<Item>) {
    let (sender, receiver) = oneshot::channel();
    inner.idle_number += 1;
    let number = inner.idle_number;
    inner.ready.park(Idle { number, hand: sender });
    (number, receiver)
}

/// A message that was taken; its flow is filled if it runs low.
fn filled(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>, (item, low): (Item, bool)) -> Item {
    if low {
        scheduled::pull(outbound, &item.queue, ready);
    }
    item
}

/// Adds a new message and sees to it that somebody takes it.
///
/// # Errors
/// Hands the message back when the queue is full.
pub(super) fn push(
    outbound: &Arc<Outbound>,
    ready: &Arc<ReadyQueue>,
    queue: &Arc<ScheduledQueue>,
    entry: Entry,
) -> Result<(), Entry> {
    let item = Item { entry, queue: Arc::clone(queue) };
    let (expires, ticket) = (item.expires(), item.ticket());
    let pushed = {
        let mut inner = ready.lock();
        inner.used = Instant::now();
        inner.expires_first = inner.expires_first.min(expires);
        inner.ready.push(ticket)
    };
    match pushed {
        Ok(step) => {
            follow(outbound, ready, step);
            Ok(())
        }
        Err(item) => Err(item.entry),
    }
}

/// As [`push`] for mail from the store, behind which more of its queue may wait there.
///
/// # Errors
/// Hands the message back when the queue is full.
pub(super) fn place_if_room(
    outbound: &Arc<Outbound>,
    ready: &Arc<ReadyQueue>,
    queue: &Arc<ScheduledQueue>,
    entry: Entry,
) -> Result<(), Entry> {
    if !ready.lock().ready.has_room(queue.key()) {
        return Err(entry);
    }
    place(outbound, ready, queue, entry);
    Ok(())
}

/// As [`push`] for a message for which a place was found before. If the queue is held by now, it goes back to the store.
pub(super) fn place(
    outbound: &Arc<Outbound>,
    ready: &Arc<ReadyQueue>,
    queue: &Arc<ScheduledQueue>,
    entry: Entry,
) {
    let item = Item { entry, queue: Arc::clone(queue) };
    let (expires, ticket) = (item.expires(), item.ticket());
    let step = {
        let mut inner = ready.lock();
        if inner.ready.is_held() {
            drop(inner);
            return outbound.postpone(ticket.entry.entry, Duration::ZERO);
        }
        inner.expires_first = inner.expires_first.min(expires);
        inner.ready.place(ticket)
    };
    follow(outbound, ready, step);
}

/// Puts a message back whose scheduled queue may send nothing until then, and lets other queues pass.
pub(super) fn pause(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>, mut item: Item, until: UnixMs) {
    let wait = until.since(UnixMs::now());
    if wait > BODY_KEPT_MAX {
        item.entry.body = None;
    }
    let (flow, cost, queue) = (item.queue.key(), item.cost(), Arc::clone(&item.queue));
    let beyond = ready.lock().ready.rounds.pause(flow, cost, item);
    beyond.into_iter().for_each(|item| outbound.postpone(item.entry, Duration::ZERO));
    let (outbound, ready) = (Arc::clone(outbound), Arc::clone(ready));
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let low = ready.lock().ready.rounds.resume(flow);
        wake(&outbound, &ready);
        if low {
            scheduled::pull(&outbound, &queue, &ready);
        }
    });
}

/// Gives idle dispatchers work, and opens connections, as long as there is mail that may go.
pub(super) fn wake(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>) {
    loop {
        let step = ready.lock().ready.step();
        let is_over = matches!(step, Step::Queued);
        follow(outbound, ready, step);
        if is_over {
            return;
        }
    }
}

fn follow(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>, mut step: Step<Item, Idle>) {
    loop {
        match step {
            Step::Queued => return,
            Step::Open => return dispatcher::open(outbound, ready),
            Step::Hand { idle, entry, low } => {
                let item = filled(outbound, ready, (entry, low));
                match idle.hand.send(item) {
                    Ok(()) => return,
                    // That dispatcher ended in the same moment.
                    Err(back) => step = ready.lock().ready.place(back.ticket()),
                }
            }
        }
    }
}

/// A dispatcher of this queue has ended; another one opens where the messages that are left are worth it.
pub(super) fn closed(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>) {
    let again = ready.lock().ready.closed();
    if again {
        dispatcher::open(outbound, ready);
    }
}
