//! A dispatcher: one connection to one site, taking messages from its ready queue until there are none.
//!
//! Each message it takes ends in `settle`, goes back to the store, or is set aside because its body is damaged; there is no fourth way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::dial::DialError;
use super::ready::{Item, Path, ReadyQueue};
use super::scheduled::Rules;
use super::security::Posture;
use super::session::{Connection, NotOpen, Sent};
use super::{Outbound, classify, dial, ready, scheduled};
use crate::clock::UnixMs;
use crate::config::{Ceiling, SourceConfig, UNSPECIFIED};
use crate::envelope::{Envelope, Outcome};
use crate::maillog::Timings;
use crate::ports::{Rate, Shutdown, StoreError};
use crate::settle::{Attempt, Hop, Manner};
use crate::store::Untaken;

/// Pause before a dispatcher without a free slot gives up its place.
const SLOT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A message is older than its `max_age` so long after it was exactly as old.
const EXPIRY_TICK: Duration = Duration::from_millis(1);

/// How long a warming source pauses when its count could not be written.
const COUNT_RETRY_DELAY: Duration = Duration::from_secs(10);

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

/// What the rates say about a message.
enum Permitted {
    /// It may go; the time at which that was said.
    Since(UnixMs),
    /// Its own queue's rate is used up until then.
    NotBefore(UnixMs),
    /// It waited longer than its queue allows.
    TooOld,
    /// An order has come.
    Held,
    /// It may not be sent before then; others of its queue may.
    Outside(UnixMs),
    /// The source has sent what its plan allows for the day.
    DayIsOver(Ceiling),
    Stopping,
}

/// What refuses a permit.
enum By {
    Queue,
    Path,
    /// The source's plan for the day.
    Day(Ceiling),
}

struct Dispatcher {
    outbound: Arc<Outbound>,
    ready: Arc<ReadyQueue>,
    /// For the record, where it has a name of its own.
    source: Option<Arc<SourceConfig>>,
    connection: Option<Connection>,
    /// Of the attempt at hand.
    timings: Timings,
}

impl Dispatcher {
    async fn run(mut self) {
        let path = self.ready.path();
        let permits = Arc::clone(&self.outbound.parts.permits);
        if permits.take_slots(&path.slots.limits()).await {
            let mut shutdown = self.outbound.parts.shutdown.clone();
            while let Some(item) = self.next(&mut shutdown).await {
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

    /// The next message, or `None` when the process is stopping or nothing came for the idle time.
    async fn next(&self, shutdown: &mut Shutdown) -> Option<Item> {
        if shutdown.is_stopping() {
            return None;
        }
        if let Some(item) = self.ready.try_next(&self.outbound) {
            return Some(item);
        }
        let idle_max = self.ready.path().config.idle_timeout;
        tokio::select! {
            item = self.ready.next(&self.outbound, idle_max) => item,
            () = shutdown.wait() => None,
        }
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

    /// Waits until all rates of the queue and the path have a permit for the message. A rate of the queue alone must not hold up
    /// other queues, so that its message is not waited for.
    async fn permitted(&mut self, item: &Item, rules: &Rules, path: &Path) -> Permitted {
        let expires = item.expires();
        loop {
            let now = UnixMs::now();
            if now > expires {
                return Permitted::TooOld;
            }
            if item.queue.is_held() {
                return Permitted::Held;
            }
            if let Some(scheduling) = &item.entry.claimed.envelope.scheduling {
                let due = scheduling.adjust(now).min(expires.after(EXPIRY_TICK));
                if due > now {
                    return Permitted::Outside(due);
                }
            }
            let ceiling = path.source.warm_up.as_ref().and_then(|plan| plan.today(now.0));
            if rules.rates.is_empty() && path.message_rates.is_empty() && ceiling.is_none() {
                return Permitted::Since(now);
            }
            let Some((until, by)) = self.refusal(rules, path, ceiling, now).await else {
                return Permitted::Since(now);
            };
            match by {
                By::Day(ceiling) => return Permitted::DayIsOver(ceiling),
                By::Queue => return Permitted::NotBefore(until.min(expires.after(EXPIRY_TICK))),
                By::Path if !self.wait_until(until.min(expires.after(EXPIRY_TICK))).await => {
                    return Permitted::Stopping;
                }
                By::Path if self.ready.is_held() => return Permitted::Held,
                By::Path => {}
            }
        }
    }

    /// Asks for a permit of everything that limits the message. Where one is refused: until when, and by what.
    async fn refusal(
        &self,
        rules: &Rules,
        path: &Path,
        ceiling: Option<Ceiling>,
        now: UnixMs,
    ) -> Option<(UnixMs, By)> {
        let rates: Vec<Rate<'_>> = rules.rates.rates().chain(path.message_rates.rates()).collect();
        let grant = self.outbound.parts.permits.take(&rates, 1, now).await;
        if let Some(until) = grant.until {
            let by = if grant.limited_by < rules.rates.len() { By::Queue } else { By::Path };
            return Some((until, by));
        }
        // Last, because what it takes cannot be given back.
        let ceiling = ceiling?;
        match self.outbound.parts.allowances.take(&path.source.name, &ceiling).await {
            Ok(()) => None,
            Err(Untaken::UsedUp) => Some((UnixMs(ceiling.ends_ms), By::Day(ceiling))),
            Err(Untaken::Unwritten(error)) => {
                tracing::error!(%error, source = path.source.name, "what a warming source sends cannot be counted; its mail waits");
                Some((now.after(COUNT_RETRY_DELAY), By::Path))
            }
        }
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

    /// Sends one message; on a connection that turns out to be dead, once more on a new one.
    async fn send(&mut self, item: Item, body: &Bytes, path: &Path) {
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None if !self.may_connect(path, &item).await => {
                    return self.not_connected(item).await;
                }
                None => match self.connect(path).await {
                    Ok(connection) => connection,
                    Err(DialError::Site(outcome)) => return self.connect_failed(item, outcome, path).await,
                    Err(DialError::Proxy(outcome)) => {
                        self.outbound.source_proxy_failed(&path.source);
                        return self.connect_failed(item, outcome, path).await;
                    }
                    Err(DialError::Unplumbed(outcome)) => {
                        self.outbound.source_unplumbed(&path.source);
                        return self.settle(item, vec![outcome], None, UnixMs::now()).await;
                    }
                },
            };
            let claimed = &item.entry.claimed;
            let open = open_recipients(&claimed.envelope, &claimed.mark.done);
            let sent = connection.deliver(&claimed.envelope, &open, body, &claimed.lease).await;
            let at = UnixMs::now();
            self.timings.data = connection.began.map(|began| at.since(began));
            let hop = connection.hop(&self.ready.site().name);
            match sent {
                Sent::Done(outcomes) => {
                    if connection.deliveries < path.config.max_deliveries_per_connection {
                        self.connection = Some(connection);
                    } else {
                        connection.quit().await;
                        self.outbound.parts.metrics.connection_count.smtp_client.dec();
                    }
                    return self.settle(item, outcomes, Some(hop), at).await;
                }
                Sent::Last(outcomes) => {
                    self.outbound.parts.metrics.connection_count.smtp_client.dec();
                    return self.settle(item, outcomes, Some(hop), at).await;
                }
                Sent::Stale => {
                    self.outbound.parts.metrics.connection_count.smtp_client.dec();
                }
                Sent::LeaseLost => {
                    self.connection = None;
                    self.outbound.parts.metrics.connection_count.smtp_client.dec();
                    return;
                }
            }
        }
    }

    async fn connect(&mut self, path: &Path) -> Result<Connection, DialError> {
        let (site, config) = (self.ready.site(), &path.config);
        let began = UnixMs::now();
        let dialed = dial::dial(&self.outbound, &site, path, &self.ready.quiet).await;
        self.timings.began = Some(began);
        self.timings.connect = Some(UnixMs::now().since(began));
        let dialed = dialed?;
        let ehlo = config.ehlo_domain.as_deref().or(path.source.ehlo_domain.as_deref());
        let ehlo = ehlo.unwrap_or(&self.outbound.parts.hostname);
        let security = &self.outbound.security;
        let posture = security.posture(&dialed.name, dialed.address.port(), &site, config).await;
        let posture = posture.map_err(DialError::Site)?;
        let again = posture.clear_after_failure.then(|| (Arc::clone(&dialed.name), dialed.address));
        let connection = match (Connection::open(dialed, posture, ehlo, security, config).await, again) {
            (Err(NotOpen { tls_took: Some(_), .. }), Some((name, address))) => {
                let dialed = dial::again(&self.outbound, name, address, path).await?;
                Connection::open(dialed, Posture::CLEAR, ehlo, security, config).await
            }
            (opened, _) => opened,
        };
        self.timings.tls = match &connection {
            Ok(connection) => connection.tls_took,
            Err(error) => error.tls_took,
        };
        let mut connection = connection.map_err(|error| DialError::Site(error.outcome))?;
        connection.assured = site.is_assured();
        self.ready.connected();
        let metrics = &self.outbound.parts.metrics;
        metrics.total_connection_count.smtp_client.inc();
        metrics.connection_count.smtp_client.inc();
        Ok(connection)
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
    async fn not_connected(&mut self, item: Item) {
        if self.outbound.parts.shutdown.is_stopping() {
            self.outbound.postpone(item.entry, Duration::ZERO);
        } else if self.is_held(&item) {
            scheduled::offer(&self.outbound, &item.queue, item.entry);
        } else {
            self.settle(item, vec![classify::too_old()], None, UnixMs::now()).await;
        }
    }

    /// The message waits for its retry; when the site has been failing for long, so does everything that waits with it.
    async fn connect_failed(&mut self, item: Item, outcome: Outcome, path: &Path) {
        let failures = self.ready.connect_failed();
        let mut items = vec![item];
        if failures >= path.config.consecutive_connection_failures_before_delay {
            items.extend(self.ready.drain(&self.outbound));
        }
        for item in items {
            self.settle(item, vec![outcome.clone()], None, UnixMs::now()).await;
        }
    }

    /// Hands the attempt in that ended `at`.
    async fn settle(&mut self, item: Item, outcomes: Vec<Outcome>, hop: Option<Hop>, at: UnixMs) {
        let hop = hop.unwrap_or_else(|| Hop { site: Arc::clone(&self.ready.site().name), ..Hop::default() });
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
            self.outbound.parts.metrics.connection_count.smtp_client.dec();
        }
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
