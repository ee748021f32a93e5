//! What operators, and kumod itself, order of the queues: suspend, bounce, cancel; `rebind` has a file of its own. HTTP calls these; so do the tests.
//!
//! An order is heeded by every queue that it is about, and by those that come to be while it stands; when it ends, what it held is looked
//! after at once. Nothing here waits for mail: what has to be taken out of the store is taken out by a task of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::orders::{Bounce, Criteria, Hold, Order, OrderId, SourceFault, TooManyOrders, What};
use super::ready::{Held, ReadyQueue};
use super::scheduled::ScheduledQueue;
use super::{Outbound, ready, scheduled};
use crate::clock::UnixMs;
use crate::config::SourceConfig;
use crate::ports::{Entry, Wanted};
use crate::queue::QueueName;

impl Outbound {
    /// Sends nothing of the scheduled queues that are meant, for so long.
    ///
    /// # Errors
    /// There are too many orders.
    pub fn suspend(
        self: &Arc<Self>,
        criteria: Criteria,
        reason: &str,
        duration: Duration,
    ) -> Result<OrderId, TooManyOrders> {
        self.order(What::Suspend(criteria), reason, duration, false)
    }

    /// Sends nothing from a ready queue, `source->site@protocol`, for so long. Other sources of the pool go on.
    ///
    /// # Errors
    /// There are too many orders.
    pub fn suspend_ready_queue(
        self: &Arc<Self>,
        name: &str,
        reason: &str,
        duration: Duration,
    ) -> Result<OrderId, TooManyOrders> {
        self.order(What::SuspendReadyQueue(name.to_owned()), reason, duration, false)
    }

    /// Gives up what is in the scheduled queues that are meant, and what comes into them for so long. Without `suppress_logging` each message
    /// leaves an AdminBounce record. How many they were, [`orders`](Self::orders) says.
    ///
    /// # Errors
    /// There are too many orders.
    pub fn bounce(
        self: &Arc<Self>,
        criteria: Criteria,
        reason: &str,
        duration: Duration,
        suppress_logging: bool,
    ) -> Result<OrderId, TooManyOrders> {
        let id = self.order(What::Bounce(criteria.clone()), reason, duration, suppress_logging)?;
        let outbound = Arc::clone(self);
        tokio::spawn(async move { outbound.bounce_stored(&criteria).await });
        Ok(id)
    }

    /// Ends an order before its time. What it suspended goes on; what it bounced is gone. `false`: there is none of this id.
    pub fn cancel(self: &Arc<Self>, id: OrderId) -> bool {
        let is_known = self.orders.remove(id);
        if is_known {
            tracing::info!(%id, "an order is over");
            self.heed_all();
        }
        is_known
    }

    /// The orders that stand, those first that end first.
    pub fn orders(&self) -> Vec<Order> {
        self.orders.list()
    }

    /// A source's address is not on this host.
    pub(super) fn source_unplumbed(self: &Arc<Self>, source: &SourceConfig) {
        let (name, rule) = (&source.name, &source.suspend_when_unplumbed);
        if self.orders.is_last_straw(name, SourceFault::Unplumbed, rule, Instant::now()) {
            self.suspend_source(name, "its address is not on this host", rule.duration);
        }
    }

    /// A source's proxy does not serve. Without a rule for that the source is tried again with its next message.
    pub(super) fn source_proxy_failed(self: &Arc<Self>, source: &SourceConfig) {
        let Some(rule) = &source.suspend_when_proxy_unhealthy else { return };
        if self.orders.is_last_straw(&source.name, SourceFault::Proxy, rule, Instant::now()) {
            self.suspend_source(&source.name, "its proxy does not serve", rule.duration);
        }
    }

    /// Sends nothing from a source for so long.
    pub(super) fn suspend_source(self: &Arc<Self>, source: &str, reason: &str, duration: Duration) {
        if let Err(error) = self.order(What::SuspendSource(source.to_owned()), reason, duration, false) {
            tracing::error!(%error, source, reason, "an egress source cannot be suspended");
        }
    }

    pub(super) fn order(
        self: &Arc<Self>,
        what: What,
        reason: &str,
        duration: Duration,
        suppress_logging: bool,
    ) -> Result<OrderId, TooManyOrders> {
        let until = UnixMs::now().after(duration);
        let (id, is_new) = self.orders.add(&what, reason, until, suppress_logging)?;
        if is_new {
            tracing::warn!(%id, ?what, reason, until = until.rfc3339(), "{}", what.said());
            self.heed_all();
            let outbound = Arc::clone(self);
            tokio::spawn(async move {
                while let Some(left) = outbound.orders.remaining(id, UnixMs::now()) {
                    tokio::time::sleep(left).await;
                }
                outbound.cancel(id);
            });
        }
        Ok(id)
    }

    fn heed_all(self: &Arc<Self>) {
        self.heed(self.ready.all());
        for queue in self.scheduled.all() {
            match queue.heed(&self.orders) {
                None => {}
                Some(None) => scheduled::stir(self, &queue),
                // Goes back to the store, where those look for it that give it up, and finds it again when it may be sent.
                Some(Some(_)) => {
                    for item in queue.withdraw() {
                        self.postpone(item.entry, Duration::ZERO);
                    }
                }
            }
        }
        self.orders.changed.notify_waiters();
    }

    /// Holds and lets go of ready queues as the orders say now.
    pub(super) fn heed(self: &Arc<Self>, queues: Vec<Arc<ReadyQueue>>) {
        let mut resumed = Vec::new();
        for ready in queues {
            match ready.heed(&self.orders) {
                Held::AsBefore => {}
                Held::Now(items) => {
                    for item in items {
                        scheduled::offer(self, &item.queue, item.entry);
                    }
                }
                Held::NoMore => resumed.push(ready),
            }
        }
        if !resumed.is_empty() {
            resumed.iter().for_each(|ready| ready::wake(self, ready));
            for queue in self.scheduled.all() {
                if queue.feeds(&resumed) {
                    scheduled::stir(self, &queue);
                }
            }
        }
    }

    /// Gives up what waits in the store of the queues that are meant, due or not.
    async fn bounce_stored(self: &Arc<Self>, criteria: &Criteria) {
        let mut from = Some(0);
        while let Some(at) = from.filter(|_| !self.parts.shutdown.is_stopping()) {
            let mut born_before = |queue: &str| criteria.mean(queue).then_some(UnixMs(u64::MAX));
            let wanted = Wanted { due_only: false, born_before: &mut born_before };
            let withdrawn = self.parts.store.withdraw(at, wanted).await;
            for (name, claims) in withdrawn.claims {
                let queue = self.queue(&name);
                for entry in self.readable(&name, claims) {
                    match queue.hold() {
                        Some(Hold::Bounced(bounce)) => self.give_up(&queue, entry, &bounce).await,
                        // The order was cancelled meanwhile.
                        _ => self.postpone(entry, Duration::ZERO),
                    }
                }
            }
            from = withdrawn.next;
        }
    }

    /// Ends a message by order.
    pub(super) async fn give_up(&self, queue: &ScheduledQueue, entry: Entry, bounce: &Bounce) {
        bounce.count(queue.text());
        self.end(queue, entry, bounce.outcome.clone(), "", bounce.manner).await;
    }
}

impl Criteria {
    /// Whether a queue of this name is meant.
    pub(super) fn mean(&self, text: &str) -> bool {
        text.parse::<QueueName>().is_ok_and(|name| self.hold_for(text, &name))
    }
}
