//! SMTP to next hops: from a message that is due to an outcome for each recipient.
//!
//! `scheduled` finds out where a queue's mail goes, `ready` keeps what may go now, one `dispatcher` per connection sends it, and every
//! attempt ends in `settle`. A next hop that misbehaves costs its own mail time and nobody else's.

mod batches;
mod candidates;
mod classify;
mod command;
mod dial;
mod dispatcher;
mod expiry;
mod explain;
mod idle;
mod needs;
mod orders;
mod path;
mod proxy;
mod quiet;
mod ready;
mod rebind;
mod route;
mod scheduled;
mod security;
mod session;
mod socket;
mod sources;
mod stream;
mod wire;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::UnixMs;
use crate::config::OutboundSpec;
use crate::dns::Dns;
use crate::envelope::{MessageId, Outcome};
use crate::maillog::Timings;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::ports::{BoxFuture, Claims, Dispatch, Entry, MailStore, PermitSource, Shutdown, StoreError};
use crate::settle::{Attempt, Hop, Manner, Settle};
use crate::store::Allowances;

pub use explain::{EgressPath, Unresolved};
use idle::{IDLE_CONNECTIONS_MAX, IdleConnections};
use orders::Orders;
pub use orders::{Criteria, ORDER_DURATION, Order, OrderId, TooManyOrders, What};
use ready::ReadyQueue;
use scheduled::ScheduledQueue;
use security::Security;
pub use security::check_authorities;
use sources::Sources;

/// Messages of one queue taken from the store at once when its mail cannot go anywhere.
const CLAIM_MAX: usize = 256;
/// Queues taken from the store at once when they come to have due mail.
const DUE_QUEUES_MAX: usize = 1024;
/// Queues that have been empty for so long are forgotten (KumoMTA's `reap_interval`).
const REAP_INTERVAL: Duration = Duration::from_secs(600);
/// How often empty queues are looked for.
const REAP_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const SHARDS: usize = 16;

/// What outbound needs from the rest of the house.
pub struct Parts {
    /// Where due mail comes from and undelivered mail returns to.
    pub store: Arc<dyn MailStore>,
    /// The door out.
    pub settle: Settle,
    /// Names to hosts.
    pub dns: Dns,
    /// Queue and path configuration.
    pub policy: Policy,
    /// Rates and connection slots.
    pub permits: Arc<dyn PermitSource>,
    /// What warming sources may still send today.
    pub allowances: Allowances,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Next hop and port where nothing more exact is set.
    pub spec: OutboundSpec,
    /// The name for EHLO.
    pub hostname: String,
    /// How long new mail may wait for a place in its ready queue while it moves.
    pub inflow_delay_max: Duration,
    /// Says when to stop.
    pub shutdown: Shutdown,
}

/// The queues and the tasks that empty them.
pub struct Outbound {
    parts: Parts,
    scheduled: Shards<ScheduledQueue>,
    ready: Shards<ReadyQueue>,
    sources: Sources,
    security: Security,
    orders: Orders,
    idle: IdleConnections,
    /// Dispatchers at work; a stop waits for them.
    dispatchers: watch::Sender<usize>,
}

impl Outbound {
    /// Nothing runs until [`run`](Self::run) is called; what is offered before then waits.
    pub fn new(parts: Parts) -> Arc<Self> {
        let security = Security::new(Arc::clone(&parts.metrics), &parts.dns, &parts.spec);
        Arc::new(Self {
            parts,
            security,
            scheduled: Shards::new(),
            ready: Shards::new(),
            sources: Sources::default(),
            orders: Orders::default(),
            idle: IdleConnections::new(IDLE_CONNECTIONS_MAX),
            dispatchers: watch::Sender::new(0),
        })
    }

    /// Feeds due messages into the queues until the process stops.
    pub async fn run(self: Arc<Self>) {
        let mut shutdown = self.parts.shutdown.clone();
        tokio::spawn(expiry::run(Arc::clone(&self)));
        let mut reap = tokio::time::interval(REAP_CHECK_INTERVAL);
        while !shutdown.is_stopping() {
            // Whoever is told of a queue must claim from it, so this is not part of the select.
            self.feed().await;
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.until_due() => {}
                _ = reap.tick() => self.reap(),
            }
        }
    }

    /// Has the queues filled that have come to have due mail.
    async fn feed(self: &Arc<Self>) {
        while !self.parts.shutdown.is_stopping() {
            let due = self.parts.store.due_queues(UnixMs::now(), DUE_QUEUES_MAX);
            for name in &due {
                scheduled::stir(self, &self.queue(name));
            }
            if due.len() < DUE_QUEUES_MAX {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Those of claimed messages that can be sent; the others are set aside.
    fn readable(&self, queue: &str, claims: Claims) -> impl Iterator<Item = Entry> {
        for (id, error) in &claims.unreadable {
            self.set_aside(*id, queue, error);
        }
        claims.messages.into_iter().map(|claimed| Entry { claimed, body: None })
    }

    fn queue(&self, name: &str) -> Arc<ScheduledQueue> {
        self.scheduled.get_or_insert(name, || ScheduledQueue::new(name, &self.parts.hostname, &self.orders))
    }

    async fn until_due(&self) {
        let changed = self.parts.store.due_changed();
        let now = UnixMs::now();
        match self.parts.store.next_due() {
            Some(due) if due <= now => {}
            Some(due) => {
                tokio::select! {
                    () = tokio::time::sleep(due.since(now)) => {}
                    () = changed => {}
                }
            }
            None => changed.await,
        }
    }

    fn offer_entry(self: &Arc<Self>, entry: Entry) {
        if let Some(scheduling) = &entry.claimed.envelope.scheduling {
            let (now, expires) = (UnixMs::now(), scheduling.expires.unwrap_or(UnixMs(u64::MAX)));
            // What is not to be sent before it expires is looked at then.
            let due = scheduling.adjust(now).min(expires.max(now));
            if due > now {
                return self.postpone(entry, due.since(now));
            }
        }
        let queue = self.queue(&entry.claimed.envelope.queue);
        scheduled::offer(self, &queue, entry);
    }

    /// Gives a message back to the store, unattempted, for a short while.
    fn postpone(&self, entry: Entry, delay: Duration) {
        let due = UnixMs::now().after(delay);
        let claimed = entry.claimed;
        self.parts.store.release(&claimed.envelope, claimed.mark, claimed.lease, due);
    }

    /// Takes a message whose body is damaged out of the queue. It is neither sent nor given up: its envelope stays in the spool,
    /// and the next start sets that aside for an operator, as the damaged bytes were when they were read.
    fn set_aside(&self, id: MessageId, queue: &str, error: &StoreError) {
        tracing::error!(
            %id,
            %error,
            queue,
            "a message is set aside: it cannot be read from the spool and is not sent"
        );
        self.parts.metrics.spool_messages_set_aside.inc();
        self.parts.metrics.message_count.dec();
    }

    /// Ends an attempt that never got as far as a connection.
    async fn fail(&self, queue: &ScheduledQueue, entry: Entry, outcome: Outcome, site: &str) {
        self.end(queue, entry, outcome, site, Manner::Attempt).await;
    }

    async fn end(&self, queue: &ScheduledQueue, entry: Entry, outcome: Outcome, site: &str, manner: Manner) {
        let attempt = Attempt {
            queue_config: queue.rules_for(&entry.claimed.envelope),
            claimed: entry.claimed,
            outcomes: vec![outcome],
            hop: Hop { site: site.into(), ..Hop::default() },
            at: UnixMs::now(),
            timings: Timings::default(),
            manner,
        };
        self.parts.settle.submit(attempt).await;
    }

    fn reap(&self) {
        self.scheduled.retain(|queue| !queue.is_idle(REAP_INTERVAL));
        self.ready.retain(|queue| !queue.is_idle(REAP_INTERVAL));
    }

    /// Waits until every dispatcher has finished the message at hand and gone. Only of use when the process is stopping.
    pub async fn finished(&self) {
        // The sender is this struct's own, so waiting cannot fail.
        let _ = self.dispatchers.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Messages in ready queues.
    pub fn ready_count(&self) -> usize {
        self.ready.sum(ReadyQueue::len)
    }
}

/// The handle that intake holds.
pub struct Dispatcher(pub Arc<Outbound>);

impl Dispatch for Dispatcher {
    fn admit<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, ()> {
        let queue = self.0.scheduled.get(queue);
        match queue.and_then(|queue| queue.full_ready_queue().map(|ready| (queue.key(), ready))) {
            None => Box::pin(std::future::ready(())),
            Some((flow, ready)) => {
                Box::pin(async move { ready.wait_for_room(flow, self.0.parts.inflow_delay_max).await })
            }
        }
    }

    fn offer(&self, entry: Entry) {
        self.0.offer_entry(entry);
    }

    fn queued(&self) -> usize {
        usize::try_from(self.0.parts.metrics.message_count.get()).unwrap_or(0)
    }
}

/// A map by name, in parts, so that no lock is on every message's way.
struct Shards<T> {
    hasher: RandomState,
    parts: [Mutex<HashMap<Arc<str>, Arc<T>>>; SHARDS],
}

impl<T> Shards<T> {
    fn new() -> Self {
        Self { hasher: RandomState::new(), parts: Default::default() }
    }

    fn part(&self, name: &str) -> MutexGuard<'_, HashMap<Arc<str>, Arc<T>>> {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a shard")]
        let index = self.hasher.hash_one(name) as usize % SHARDS;
        lock(&self.parts[index])
    }

    fn get(&self, name: &str) -> Option<Arc<T>> {
        self.part(name).get(name).cloned()
    }

    fn get_or_insert(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut part = self.part(name);
        if let Some(found) = part.get(name) {
            return Arc::clone(found);
        }
        let made = Arc::new(make());
        part.insert(name.into(), Arc::clone(&made));
        made
    }

    fn retain(&self, keep: impl Fn(&T) -> bool) {
        for part in &self.parts {
            lock(part).retain(|_, item| Arc::strong_count(item) > 1 || keep(item));
        }
    }

    /// All of them, as they are now.
    fn all(&self) -> Vec<Arc<T>> {
        self.parts.iter().flat_map(|part| lock(part).values().cloned().collect::<Vec<_>>()).collect()
    }

    fn sum(&self, count: impl Fn(&T) -> usize) -> usize {
        self.parts.iter().map(|part| lock(part).values().map(|item| count(item)).sum::<usize>()).sum()
    }
}

/// What the locks here guard is whole after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
