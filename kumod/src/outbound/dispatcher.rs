//! A dispatcher: one connection to one site, taking messages from its ready queue until there are none.
//!
//! Each message it takes ends in `settle`, goes back to the store, or is set aside because its body is damaged; there is no fourth way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ready::{Item, ReadyQueue};
use super::session::{Connection, Sent};
use super::{Outbound, classify, dial, ready};
use crate::clock::UnixMs;
use crate::config::{PathConfig, ThrottleSpec};
use crate::envelope::{Envelope, Outcome};
use crate::ports::{Shutdown, StoreError};
use crate::settle::{Attempt, Hop};

/// So many failed connections in a row, and all that waits for the site is put off with the message at hand
/// (KumoMTA's `consecutive_connection_failures_before_delay`).
const CONNECT_FAILURES_BEFORE_DELAY: u32 = 100;
/// Pause before a dispatcher without a free slot gives up its place.
const SLOT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// How long a message waits whose body could not be read for a reason that will pass.
const READ_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Starts a dispatcher, which the ready queue has counted already.
pub(super) fn open(outbound: &Arc<Outbound>, ready: &Arc<ReadyQueue>) {
    outbound.dispatchers.send_modify(|count| *count += 1);
    let dispatcher =
        Dispatcher { outbound: Arc::clone(outbound), ready: Arc::clone(ready), connection: None };
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
    connection: Option<Connection>,
}

impl Dispatcher {
    async fn run(mut self) {
        let limit = self.ready.path().connection_limit.0;
        let permits = Arc::clone(&self.outbound.parts.permits);
        if permits.take_slot(&self.ready.name, limit).await {
            let mut shutdown = self.outbound.parts.shutdown.clone();
            while let Some(item) = self.next(&mut shutdown).await {
                self.take(item).await;
            }
            self.disconnect().await;
            permits.release(&self.ready.name);
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
        if let Some(item) = self.ready.try_next() {
            return Some(item);
        }
        let idle_max = self.ready.path().idle_timeout;
        tokio::select! {
            item = self.ready.next(idle_max) => item,
            () = shutdown.wait() => None,
        }
    }

    async fn take(&mut self, item: Item) {
        let path = self.ready.path();
        if self.is_too_old(&item) {
            return self.settle(item, vec![classify::too_old()], None).await;
        }
        if let Some(rate) = &item.queue.config().max_message_rate {
            let key = format!("sched:{}", item.entry.claimed.envelope.queue);
            if let Some(until) = self.ask(&key, rate).await {
                self.outbound.parts.metrics.delayed_due_to_message_rate_throttle.inc();
                return self.outbound.postpone(item.entry, until.since(UnixMs::now()));
            }
        }
        if let Some(rate) = &path.max_message_rate {
            self.pace(&format!("path:{}", self.ready.name), rate).await;
        }
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

    fn is_too_old(&self, item: &Item) -> bool {
        let envelope = &item.entry.claimed.envelope;
        UnixMs::now().since(envelope.created) > item.queue.config().max_age
    }

    /// The body from memory, or from the store.
    async fn body(&self, item: &Item) -> Result<Bytes, StoreError> {
        match &item.entry.body {
            Some(resident) => Ok(resident.bytes.clone()),
            None => self.outbound.parts.store.read_body(item.entry.claimed.envelope.body).await,
        }
    }

    /// Sends one message; on a connection that turns out to be dead, once more on a new one.
    async fn send(&mut self, item: Item, body: &Bytes, path: &PathConfig) {
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => match self.connect(path).await {
                    Ok(connection) => connection,
                    Err(outcome) => return self.connect_failed(item, outcome).await,
                },
            };
            let claimed = &item.entry.claimed;
            let open = open_recipients(&claimed.envelope, &claimed.mark.done);
            let sent = connection.deliver(&claimed.envelope, &open, body, &claimed.lease).await;
            let hop = connection.hop(&self.ready.site().name);
            match sent {
                Sent::Done(outcomes) => {
                    if connection.deliveries < path.max_deliveries_per_connection {
                        self.connection = Some(connection);
                    } else {
                        connection.quit().await;
                        self.outbound.parts.metrics.connection_count.smtp_client.dec();
                    }
                    return self.settle(item, outcomes, Some(hop)).await;
                }
                Sent::Last(outcomes) => {
                    self.outbound.parts.metrics.connection_count.smtp_client.dec();
                    return self.settle(item, outcomes, Some(hop)).await;
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

    async fn connect(&self, path: &PathConfig) -> Result<Connection, Outcome> {
        if let Some(rate) = &path.max_connection_rate {
            self.pace(&format!("conn:{}", self.ready.name), rate).await;
        }
        let site = self.ready.site();
        let dialed = dial::dial(&self.outbound, &site, path).await?;
        let ehlo = path.ehlo_domain.as_deref().unwrap_or(&self.outbound.parts.hostname);
        let connection = Connection::open(dialed, ehlo).await?;
        self.ready.connected();
        let metrics = &self.outbound.parts.metrics;
        metrics.total_connection_count.smtp_client.inc();
        metrics.connection_count.smtp_client.inc();
        Ok(connection)
    }

    /// The message waits for its retry; when the site has been failing for long, so does everything that waits with it.
    async fn connect_failed(&self, item: Item, outcome: Outcome) {
        let failures = self.ready.connect_failed();
        let mut items = vec![item];
        if failures >= CONNECT_FAILURES_BEFORE_DELAY {
            items.extend(self.ready.drain());
        }
        for item in items {
            self.settle(item, vec![outcome.clone()], None).await;
        }
    }

    async fn settle(&self, item: Item, outcomes: Vec<Outcome>, hop: Option<Hop>) {
        let site = || Hop { site: Arc::clone(&self.ready.site().name), peer: None };
        let attempt = Attempt {
            claimed: item.entry.claimed,
            outcomes,
            queue_config: item.queue.config(),
            hop: hop.unwrap_or_else(site),
            at: UnixMs::now(),
        };
        self.outbound.parts.settle.submit(attempt).await;
    }

    /// Asks for one permit; `Some` is the time before which asking again is vain.
    async fn ask(&self, key: &str, rate: &ThrottleSpec) -> Option<UnixMs> {
        let now = UnixMs::now();
        let grant = self.outbound.parts.permits.take(key, rate, 1, now).await;
        (grant.granted == 0).then(|| grant.until.unwrap_or(now))
    }

    /// Waits for a permit, exactly as long as it takes.
    async fn pace(&self, key: &str, rate: &ThrottleSpec) {
        while let Some(until) = self.ask(key, rate).await {
            tokio::time::sleep(until.since(UnixMs::now())).await;
        }
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
