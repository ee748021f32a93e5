//! A dispatcher: one connection to one site, taking messages from its ready queue until there are none.
//!
//! Each message it takes ends in `settle`, goes back to the store, or is set aside because its body is damaged; there is no fourth way.

mod connecting;
mod rates;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::batches::Batches;
use super::dial::DialError;
use super::path::Path;
use super::ready::{Item, ReadyQueue};
use super::session::{Connection, Letter, Sent};
use super::{Outbound, classify, ready, scheduled};
use crate::clock::UnixMs;
use crate::config::{SourceConfig, UNSPECIFIED};
use crate::envelope::{Envelope, Outcome};
use crate::maillog::Timings;
use crate::ports::{Rate, Shutdown, StoreError};
use crate::settle::{Attempt, Hop, Manner};
use connecting::NextHost;
use rates::Permitted;

/// Pause before a dispatcher without a free slot gives up its place.
const SLOT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A connection that has had nothing to do for so long gives back what memory it can, and is one of those of which there may be too many.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// A message is older than its `max_age` so long after it was exactly as old.
const EXPIRY_TICK: Duration = Duration::from_millis(1);

/// How long a message waits whose body could not be read for a reason that will pass.
const READ_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Starts a dispatcher, which the ready queue has counted already.
pub(super) fn open(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>) {
    outbound.dispatchers.send_modify(|count| *count += 1);
    let source = Some(Arc::clone(&ready.path().source)).filter(|source| source.name != UNSPECIFIED);
    let dispatcher = Dispatcher {
        outbound: Arc::clone(outbound),
        ready: Arc::clone(ready),
        source,
        connection: None,
        next_host: NextHost::default(),
        is_over: false,
        timings: Timings::default(),
    };
    tokio::spawn(dispatcher.run());
}

/// However a dispatcher ends, it is counted.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.outbound.dispatchers.send_modify(|count| *count -= 1);
    }
}

struct Dispatcher {
    outbound: Arc<Outbound>,
    ready: Arc<ReadyQueue>,
    /// For the record, where it has a name of its own.
    source: Option<Arc<SourceConfig>>,
    /// Boxed, because it is handed on and on.
    connection: Option<Box<Connection>>,
    next_host: NextHost,
    /// Nothing more is to be sent: a connection was lost, and the path wants it so.
    is_over: bool,
    /// Of the attempt at hand.
    timings: Timings,
}

impl Dispatcher {
    async fn run(mut self) {
        let path = self.ready.path();
        let permits = Arc::clone(&self.outbound.parts.permits);
        if permits.take_slots(&path.slots.limits()).await {
            let mut shutdown = self.outbound.parts.shutdown.clone();
            while !self.is_over
                && let Some(item) = self.next(&mut shutdown).await
            {
                self.take(item).await;
            }
            self.disconnect().await;
            permits.release(&path.slots.keys());
        } else {
            tokio::time::sleep(SLOT_RETRY_DELAY).await;
        }
        if !self.outbound.parts.shutdown.is_stopping() {
            ready::closed(&self.outbound, &self.ready);
        }
    }

    /// The next message, or `None` when the process is stopping, or nothing came for the idle time.
    async fn next(&mut self, shutdown: &mut Shutdown) -> Option<Item> {
        if shutdown.is_stopping() {
            return None;
        }
        if let Some(item) = self.ready.try_next(&self.outbound) {
            return Some(item);
        }
        let idle_max = self.ready.path().config.idle_timeout;
        let grace = idle_max.min(IDLE_GRACE);
        tokio::select! {
            item = self.ready.next(&self.outbound, tokio::time::sleep(grace)) => {
                if item.is_some() {
                    return item;
                }
            }
            () = shutdown.wait() => return None,
        }
        let mut is_gone = false;
        let connection = self.connection.as_deref_mut();
        if connection.is_none() && self.next_host.is_the_first() {
            return None;
        }
        let patience = until_given_up(&self.outbound, connection, idle_max - grace, &mut is_gone);
        let item = tokio::select! {
            item = self.ready.next(&self.outbound, patience) => item,
            () = shutdown.wait() => return None,
        };
        if is_gone {
            self.connection = None;
        }
        item
    }

    async fn take(&mut self, item: Item) {
        let (path, rules) = (self.ready.path(), item.queue.rules());
        self.timings = Timings::default();
        let permitted = self.permitted(&item, &rules, &path).await;
        let item = match permitted {
            Permitted::Since(now) => {
                self.timings.began = Some(now);
                item
            }
            Permitted::NotBefore(until) => {
                self.outbound.parts.metrics.delayed_due_to_message_rate_throttle.inc();
                return ready::pause(&self.outbound, &self.ready, item, until);
            }
            Permitted::NotFromHere(until) => {
                self.ready.note_chosen_enough(until);
                if item.queue.has_other_way(&self.ready) {
                    return scheduled::offer(&self.outbound, &item.queue, item.entry);
                }
                self.outbound.parts.metrics.delayed_due_to_message_rate_throttle.inc();
                return ready::pause(&self.outbound, &self.ready, item, until);
            }
            // Another source may take it; else it waits in the store.
            Permitted::Held => return scheduled::offer(&self.outbound, &item.queue, item.entry),
            Permitted::Outside(due) => {
                return self.outbound.postpone(item.entry, due.since(UnixMs::now()));
            }
            Permitted::DayIsOver(ceiling) => {
                let (name, until) = (&path.source.name, UnixMs(ceiling.ends_ms));
                let reason = format!("its plan allows {} messages today", ceiling.messages);
                self.outbound.suspend_source(name, &reason, until.since(UnixMs::now()));
                return scheduled::offer(&self.outbound, &item.queue, item.entry);
            }
            Permitted::Stopping => return self.outbound.postpone(item.entry, Duration::ZERO),
            Permitted::TooOld => {
                return self.settle(item, vec![classify::too_old()], None, UnixMs::now()).await;
            }
        };
        let body = match self.body(&item).await {
            Ok(body) => body,
            Err(error @ StoreError::Body { .. }) => {
                let envelope = &item.entry.claimed.envelope;
                return self.outbound.set_aside(envelope.id, &envelope.queue, &error);
            }
            Err(error) => {
                tracing::warn!(%error, id = %item.entry.claimed.envelope.id, "a body could not be read now");
                return self.outbound.postpone(item.entry, READ_RETRY_DELAY);
            }
        };
        self.send(item, &body, &path).await;
    }

    /// Waits for a permit, or for news of orders; a connection that would be idle for too long meanwhile is closed. `false`: the process
    /// is stopping.
    async fn wait_until(&mut self, until: UnixMs) -> bool {
        let wait = until.since(UnixMs::now());
        if wait > self.ready.path().config.idle_timeout {
            self.disconnect().await;
        }
        let mut shutdown = self.outbound.parts.shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.outbound.orders.changed.notified() => true,
            () = shutdown.wait() => false,
        }
    }

    /// The body from memory, or from the store.
    async fn body(&self, item: &Item) -> Result<Bytes, StoreError> {
        match &item.entry.body {
            Some(resident) => Ok(resident.bytes.clone()),
            None => self.outbound.parts.store.read_body(item.entry.claimed.envelope.body).await,
        }
    }

    /// Sends one message; on a connection that turns out to be dead, or takes no more, on over a new one.
    async fn send(&mut self, item: Item, body: &Bytes, path: &Arc<Path>) {
        let claimed = &item.entry.claimed;
        let envelope = Arc::clone(&claimed.envelope);
        let open = open_recipients(&envelope, &claimed.mark.done);
        let letter =
            Letter { envelope: &envelope, open: &open, body, lease: &item.entry.claimed.lease.clone() };
        let mut batches = Batches::new(open.len());
        // Why the message goes to the next host, if it does.
        let mut broken = None;
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None if !self.may_connect(path, &item).await => {
                    return self.not_connected(item, batches).await;
                }
                // Rare, and large: a dispatcher that is idle should not hold the room for it.
                None => match Box::pin(self.connect(path, broken.take())).await {
                    Ok(connection) => connection,
                    Err(error) => return self.connect_failed(item, batches, error, path).await,
                },
            };
            let sent = self.deliver(&mut connection, &letter, &mut batches, path).await;
            let at = UnixMs::now();
            self.timings.data = connection.began.map(|began| at.since(began));
            let hop = connection.hop(&self.ready.site().name);
            match sent {
                Sent::Done => self.keep(connection).await,
                Sent::Closed(outcome) => {
                    self.lost(&connection, path);
                    batches.conclude_rest(&outcome);
                }
                Sent::Broken(outcome) if path.config.try_next_host_on_transport_error => {
                    self.next_host.avoid(&connection);
                    broken = Some(outcome);
                    continue;
                }
                Sent::Broken(outcome) => {
                    self.lost(&connection, path);
                    batches.conclude_rest(&outcome);
                }
                Sent::UsedUp => {
                    connection.quit().await;
                    continue;
                }
                Sent::Stale => {
                    self.lost(&connection, path);
                    if self.is_over && !batches.are_begun() {
                        return scheduled::offer(&self.outbound, &item.queue, item.entry);
                    }
                    continue;
                }
                Sent::LeaseLost => return,
            }
            return self.settle(item, batches.into_outcomes(), Some(hop), at).await;
        }
    }

    /// Delivers, and when the process stops meanwhile, not for longer than the path allows then.
    async fn deliver(
        &self,
        connection: &mut Connection,
        letter: &Letter<'_>,
        batches: &mut Batches,
        path: &Path,
    ) -> Sent {
        let Some(limit) = path.config.system_shutdown_timeout else {
            return connection.deliver(letter, batches).await;
        };
        let mut shutdown = self.outbound.parts.shutdown.clone();
        tokio::select! {
            biased;
            sent = connection.deliver(letter, batches) => sent,
            () = async { shutdown.wait().await; tokio::time::sleep(limit).await } => {
                Sent::Broken(classify::stopping(limit))
            }
        }
    }

    /// Keeps a connection for the next message, if it takes another.
    async fn keep(&mut self, connection: Box<Connection>) {
        if connection.is_of_use() {
            self.connection = Some(connection);
        } else {
            self.next_host = NextHost::default();
            connection.quit().await;
        }
    }

    /// Waits for the permit to open a connection; `false`: the process is stopping, an order has come, or the message that wants it is too
    /// old by now.
    async fn may_connect(&mut self, path: &Path, item: &Item) -> bool {
        let expires = item.expires();
        while !path.connection_rates.is_empty() {
            let rates: Vec<Rate<'_>> = path.connection_rates.rates().collect();
            let now = UnixMs::now();
            if now > expires {
                return false;
            }
            let grant = self.outbound.parts.permits.take(&rates, 1, now).await;
            let Some(until) = grant.until else { break };
            if !self.wait_until(until.min(expires.after(EXPIRY_TICK))).await || self.is_held(item) {
                return false;
            }
        }
        true
    }

    fn is_held(&self, item: &Item) -> bool {
        item.queue.is_held() || self.ready.is_held()
    }

    /// There was no permit for a connection.
    async fn not_connected(&mut self, item: Item, mut batches: Batches) {
        if batches.are_begun() {
            batches.conclude_rest(&classify::not_tried());
            self.settle(item, batches.into_outcomes(), None, UnixMs::now()).await;
        } else if self.outbound.parts.shutdown.is_stopping() {
            self.outbound.postpone(item.entry, Duration::ZERO);
        } else if self.is_held(&item) {
            scheduled::offer(&self.outbound, &item.queue, item.entry);
        } else {
            self.settle(item, vec![classify::too_old()], None, UnixMs::now()).await;
        }
    }

    /// The message waits for its retry; when the site has been failing for long, so does everything that waits with it.
    async fn connect_failed(&mut self, item: Item, mut batches: Batches, error: DialError, path: &Path) {
        let outcome = match error {
            DialError::Site(outcome) => outcome,
            DialError::NoOther => classify::not_tried(),
            DialError::Proxy(outcome) => {
                self.outbound.source_proxy_failed(&path.source);
                outcome
            }
            DialError::Unplumbed(outcome) => {
                self.outbound.source_unplumbed(&path.source);
                batches.conclude_rest(&outcome);
                return self.settle(item, batches.into_outcomes(), None, UnixMs::now()).await;
            }
        };
        let failures = self.ready.connect_failed();
        batches.conclude_rest(&outcome);
        self.settle(item, batches.into_outcomes(), None, UnixMs::now()).await;
        if failures < path.config.consecutive_connection_failures_before_delay {
            return;
        }
        for item in self.ready.drain(&self.outbound) {
            self.settle(item, vec![outcome.clone()], None, UnixMs::now()).await;
        }
    }

    /// Hands the attempt in that ended `at`.
    async fn settle(&mut self, item: Item, outcomes: Vec<Outcome>, hop: Option<Hop>, at: UnixMs) {
        let hop = hop.unwrap_or_else(|| Hop {
            site: Arc::clone(&self.ready.site().name),
            provider: self.ready.path().provider.clone(),
            ..Hop::default()
        });
        let attempt = Attempt {
            queue_config: item.queue.rules_for(&item.entry.claimed.envelope),
            claimed: item.entry.claimed,
            outcomes,
            hop: Hop { source: self.source.clone(), ..hop },
            at,
            timings: std::mem::take(&mut self.timings),
            manner: Manner::Attempt,
        };
        self.outbound.parts.settle.submit(attempt).await;
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.quit().await;
        }
    }
}

/// Lets a connection rest until it is not worth keeping: its time is over, it is the oldest of too many, or the server has ended it. Without
/// one, the place where the next leads is kept for as long.
async fn until_given_up(
    outbound: &Outbound,
    connection: Option<&mut Connection>,
    idle_max: Duration,
    is_gone: &mut bool,
) {
    let Some(connection) = connection else { return tokio::time::sleep(idle_max).await };
    connection.rest();
    let mut place = outbound.idle.enter();
    tokio::select! {
        () = tokio::time::sleep(idle_max) => {}
        () = place.is_lost() => {}
        () = connection.until_server_speaks() => *is_gone = true,
    }
}

/// The recipients that still need something.
fn open_recipients<'a>(envelope: &'a Envelope, done: &[bool]) -> Vec<&'a str> {
    let is_open = |index: usize| !done.get(index).copied().unwrap_or(false);
    envelope
        .recipients
        .iter()
        .enumerate()
        .filter(|(index, _)| is_open(*index))
        .map(|(_, text)| text.as_str())
        .collect()
}
