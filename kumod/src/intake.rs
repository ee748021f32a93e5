//! THE DOOR IN: where received bytes become mail that kumod answers for.
//!
//! This is the only caller of [`MailStore::accept`] and the only maker of [`Accepted`], and a 250 after DATA or BDAT is only
//! written from an `Accepted`. What is refused here is refused with a reply that says why; nothing is half taken.

mod trace;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use smtp::reply::Reply;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Client;
use crate::clock::UnixMs;
use crate::config::BatchHandling;
use crate::envelope::{Envelope, IdSource, Mark, MessageId, Meta, Requests};
use crate::maillog::{MailLog, Reception};
use crate::metrics::Metrics;
use crate::policy::{Policy, PolicyMessage, Verdict};
use crate::ports::{Claimed, Dispatch, Entry, Lease, MailStore, ResidentBody, StoreError};
use crate::pressure::Pressure;
use crate::queue::{NameError, QueueName};
pub use trace::{header_prefix, is_in_a_loop};

/// The queue that discards.
pub(crate) const NULL_QUEUE: &str = "null";
/// Recipients of one message at most: so many every server takes in one transaction (RFC 5321 4.5.3.1.8).
const BATCH_RECIPIENTS_MAX: usize = 100;
/// The campaign of notifications: their queues are their own, `null-sender:@domain`, and a policy can tell them from other mail.
const NOTICE_CAMPAIGN: &str = "null-sender";
/// How a notification comes in, for the record.
const NOTICE_PROTOCOL: &str = "LOCAL";

/// A transaction whose body is complete.
#[derive(Debug)]
pub struct Incoming {
    /// Who hands it over.
    pub client: Arc<Client>,
    /// The reverse path; empty is the null sender.
    pub sender: String,
    /// The forward paths, at least one.
    pub recipients: Vec<String>,
    /// The body as received.
    pub body: Bytes,
    /// Whether the body has bytes above 127.
    pub eight_bit: bool,
    /// Whether SMTPUTF8 was asked for.
    pub smtputf8: bool,
    /// What was asked for about notifications, one entry for each recipient; `None`: nothing.
    pub requests: Option<Box<Requests>>,
}

/// A notification that kumod wrote itself.
#[derive(Debug)]
pub struct Notice {
    /// Whom it goes to: the sender of the message that it is about.
    to: String,
    queue: String,
    bytes: Bytes,
}

impl Notice {
    /// A notification to `to`; `hostname` is the domain of an address that has none.
    ///
    /// # Errors
    /// The address has a domain that no queue can be named after.
    pub fn new(to: &str, bytes: Vec<u8>, hostname: &str) -> Result<Self, NameError> {
        let domain = to.rsplit_once('@').map_or(hostname, |(_, domain)| domain);
        let queue = QueueName::from_parts(Some(NOTICE_CAMPAIGN), None, domain, None)?.to_string();
        Ok(Self { to: to.to_owned(), queue, bytes: Bytes::from(bytes) })
    }
}

/// Proof that the promise of the durability in force holds for a transaction, so that a 250 may be said (RFC 5321 4.2.5). Only this
/// module can make one.
#[derive(Debug)]
pub struct Accepted {
    durability: spool::Durability,
    ids: Vec<MessageId>,
}

impl Accepted {
    /// What the 250 promises.
    pub fn durability(&self) -> spool::Durability {
        self.durability
    }

    /// The text of the 250, as KumoMTA words it: the ids of the messages.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(7 + 33 * self.ids.len());
        text.push_str("OK ids=");
        for (index, id) in self.ids.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&id.to_string());
        }
        text
    }
}

/// The door itself.
pub struct Intake {
    /// Where mail is put before it is promised.
    pub store: Arc<dyn MailStore>,
    /// Where it goes from there.
    pub dispatch: Arc<dyn Dispatch>,
    /// What the operator wants done with it.
    pub policy: Policy,
    /// Reception records.
    pub log: MailLog,
    /// New ids.
    pub ids: IdSource,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The memory of the process.
    pub pressure: Arc<Pressure>,
    /// The budget of bodies in memory.
    pub residency: Residency,
    /// Messages in all queues together; over it new mail waits with its sender.
    pub queued_messages_max: usize,
}

/// A message on its way in, and whether policy wants it discarded.
struct Addressed {
    envelope: Arc<Envelope>,
    discard: bool,
}

impl Intake {
    /// Why nothing can be taken now, if so: asked at the door before a client has sent anything.
    pub fn refusal(&self) -> Option<String> {
        let full = || {
            let queued = self.dispatch.queued();
            (queued >= self.queued_messages_max).then(|| format!("{queued} messages are queued"))
        };
        self.store.refusal().or_else(|| self.pressure.refusal()).or_else(full)
    }

    /// Takes a transaction: one message per recipient, or per domain where the listener says so, sharing the body, all or none.
    ///
    /// # Errors
    /// The reply for the client: 4xx when the host is to blame, what policy said otherwise.
    pub async fn accept(self: Arc<Self>, incoming: Incoming) -> Result<Accepted, Reply> {
        if let Some(reason) = self.refusal() {
            tracing::debug!(%reason, "refused at the door");
            return Err(Reply::new(452, (4, 3, 1), "Insufficient system storage; try again later"));
        }
        if is_in_a_loop(&incoming.body) {
            return Err(Reply::new(
                554,
                (5, 4, 6),
                "Routing loop: the message has been through too many hosts",
            ));
        }
        #[cfg(feature = "planted-slowdown")]
        planted::slow_down();
        let now = UnixMs::now();
        let protocol = incoming.client.protocol();
        let body = self.ids.next(now);
        let addressed = self.address(&incoming, body, now)?;
        let taken = self.take_in((body, incoming.body), addressed, protocol, now).await;
        taken.map_err(|error| storage_reply(&error))
    }

    /// Takes a notification, from nobody (RFC 3461 6.1). Policy is not asked, and the limit on queued messages does not hold, because
    /// the message that it is about leaves.
    ///
    /// # Errors
    /// The store cannot take it now.
    pub async fn accept_notice(&self, notice: Notice) -> Result<Accepted, StoreError> {
        let now = UnixMs::now();
        let body = self.ids.next(now);
        let envelope = Envelope {
            id: self.ids.next(now),
            body,
            body_bytes: notice.bytes.len() as u64,
            sender: String::new(),
            eight_bit: !notice.bytes.is_ascii(),
            smtputf8: !notice.to.is_ascii(),
            recipients: vec![notice.to],
            queue: notice.queue,
            created: now,
            received_from: None,
            header_prefix: Bytes::new(),
            meta: Meta::new(),
            requests: None,
            scheduling: None,
        };
        let addressed = vec![Addressed { envelope: Arc::new(envelope), discard: false }];
        self.take_in((body, notice.bytes), addressed, NOTICE_PROTOCOL, now).await
    }

    /// Stores a body and the messages that share it, and sends them on their way.
    async fn take_in(
        &self,
        (body, bytes): (MessageId, Bytes),
        addressed: Vec<Addressed>,
        protocol: &str,
        began: UnixMs,
    ) -> Result<Accepted, StoreError> {
        let ids = addressed.iter().map(|message| message.envelope.id).collect();
        let kept: Vec<_> =
            addressed.iter().filter(|message| !message.discard).map(|m| Arc::clone(&m.envelope)).collect();
        let mut entries = Vec::with_capacity(kept.len());
        if let Some(first) = kept.first() {
            self.dispatch.admit(&first.queue).await;
            let resident = self.residency.hold(&bytes).await;
            let lease = self.store.accept((body, bytes), kept.clone()).await?;
            entries.extend(kept.into_iter().map(|envelope| entry(envelope, lease, resident.clone())));
        }
        self.metrics.total_messages_received.inc_by(addressed.len() as u64);
        self.metrics.message_count.inc_by(i64::try_from(entries.len()).unwrap_or(0));
        self.metrics.message_save_latency.observe(UnixMs::now().since(began));
        for Addressed { envelope, .. } in &addressed {
            for recipient in &envelope.recipients {
                self.log.note(&Reception { envelope, recipient, protocol });
            }
        }
        for entry in entries {
            self.dispatch.offer(entry);
        }
        Ok(Accepted { durability: self.store.durability(), ids })
    }

    /// Makes the envelopes: policy has its say, then each message gets its queue and its `Received`.
    fn address(&self, incoming: &Incoming, body: MessageId, now: UnixMs) -> Result<Vec<Addressed>, Reply> {
        match incoming.client.listener.batch_handling {
            BatchHandling::BifurcateAlways => (0..incoming.recipients.len())
                .map(|index| self.address_some(incoming, &[index], body, now))
                .collect(),
            BatchHandling::BatchByDomain => by_domain(&incoming.recipients)
                .iter()
                .map(|indexes| self.address_some(incoming, indexes, body, now))
                .collect(),
        }
    }

    /// Makes one message for these recipients, of which there is at least one; the first names its queue.
    fn address_some(
        &self,
        incoming: &Incoming,
        indexes: &[usize],
        body: MessageId,
        now: UnixMs,
    ) -> Result<Addressed, Reply> {
        let id = self.ids.next(now);
        let PolicyMessage { sender, recipients, meta, scheduling, .. } =
            self.ask_policy(incoming, indexes, id)?;
        let first = recipients.first().map_or("", String::as_str);
        let queue = queue_of(first, &meta, &incoming.client.hostname).map_err(|error| {
            tracing::error!(%error, %id, "the policy gave a message a queue that is not one");
            Reply::new(451, (4, 3, 5), "The server's policy named a queue that is not valid")
        })?;
        let header_prefix = header_prefix(&incoming.client, id, &recipients, &meta, now);
        let envelope = Envelope {
            id,
            body,
            body_bytes: incoming.body.len() as u64,
            sender,
            recipients,
            queue,
            created: now,
            received_from: Some(incoming.client.received_from),
            eight_bit: incoming.eight_bit,
            smtputf8: incoming.smtputf8,
            header_prefix,
            meta,
            requests: incoming.requests.as_ref().and_then(|requests| requests.of_recipients(indexes)),
            scheduling,
        };
        let discard = envelope.queue == NULL_QUEUE;
        Ok(Addressed { envelope: Arc::new(envelope), discard })
    }

    fn ask_policy(
        &self,
        incoming: &Incoming,
        indexes: &[usize],
        id: MessageId,
    ) -> Result<PolicyMessage, Reply> {
        let mut message = PolicyMessage {
            id,
            sender: incoming.sender.clone(),
            recipients: indexes.iter().filter_map(|index| incoming.recipients.get(*index).cloned()).collect(),
            meta: Meta::new(),
            body: incoming.body.clone(),
            client: Some(Arc::clone(&incoming.client)),
            scheduling: None,
        };
        if !self.policy.handles_message_received() {
            return Ok(message);
        }
        match self.policy.message_received(&mut message) {
            Verdict::Accept => Ok(message),
            Verdict::Reject(reply) => Err(reply),
        }
    }
}

/// The places of the recipients of each domain, in the order in which the domains came, and no more than
/// [`BATCH_RECIPIENTS_MAX`] together.
fn by_domain(recipients: &[String]) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut open: HashMap<String, usize> = HashMap::new();
    for (index, recipient) in recipients.iter().enumerate() {
        let domain = recipient.rsplit_once('@').map_or("", |(_, domain)| domain).to_ascii_lowercase();
        let batch = open.get(&domain).copied().filter(|at| batches[*at].len() < BATCH_RECIPIENTS_MAX);
        match batch {
            Some(at) => batches[at].push(index),
            None => {
                open.insert(domain, batches.len());
                batches.push(vec![index]);
            }
        }
    }
    batches
}

fn entry(envelope: Arc<Envelope>, lease: Lease, body: Option<ResidentBody>) -> Entry {
    Entry { claimed: Claimed { envelope, mark: Mark::default(), lease }, body }
}

fn storage_reply(error: &StoreError) -> Reply {
    tracing::error!(%error, "a message could not be stored and was refused");
    match error {
        StoreError::Full(_) => Reply::new(452, (4, 3, 1), "Insufficient system storage; try again later"),
        _ => Reply::new(451, (4, 3, 0), "The message could not be stored; try again later"),
    }
}

/// The scheduled queue: meta `queue` alone decides where it is set, else campaign, tenant, recipient's domain and `routing_domain`.
pub(crate) fn queue_of(recipient: &str, meta: &Meta, hostname: &str) -> Result<String, NameError> {
    let text = |name: &str| meta.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    if let Some(queue) = text("queue") {
        return Ok(queue.parse::<QueueName>()?.to_string());
    }
    // RFC 5321 4.5.1: <postmaster> without a domain is this host's.
    let domain = recipient.rsplit_once('@').map_or(hostname, |(_, domain)| domain);
    if meta.is_empty() {
        return Ok(domain.to_ascii_lowercase());
    }
    let name = QueueName::from_parts(text("campaign"), text("tenant"), domain, text("routing_domain"))?;
    Ok(name.to_string())
}

#[cfg(feature = "planted-slowdown")]
mod planted {
    //! Work without use, to prove that a comparison finds it.

    use std::hint::black_box;

    /// Steps of the loop for each message: about two microseconds, a twentieth of what a small message costs.
    const STEPS: u64 = 700;

    pub(super) fn slow_down() {
        // Each step needs the one before, so that no processor does them at once.
        let mixed =
            (0..STEPS).fold(1_u64, |mixed, step| black_box(mixed.wrapping_mul(31).wrapping_add(step)));
        black_box(mixed);
    }
}

/// The budget of bodies that wait in memory between their 250 and the end of their first attempt.
///
/// When it is used up, a new body waits for room as long as deliveries give some back: mail then comes in as fast as it
/// leaves, and nothing has to be read from disk. When nothing moves, the body is left to the spool at once.
#[derive(Debug)]
pub struct Residency {
    room: Arc<Semaphore>,
    bytes_max: u32,
    delay_max: Duration,
    /// When room was last given back, in milliseconds since 1970.
    released: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Held {
    _room: OwnedSemaphorePermit,
    released: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.released.store(UnixMs::now().0, Ordering::Relaxed);
    }
}

impl Residency {
    /// A budget of `bytes_max` (at most 4 GiB), for which a body waits at most `delay_max`.
    pub fn new(bytes_max: usize, delay_max: Duration) -> Self {
        let bytes_max = u32::try_from(bytes_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(bytes_max as usize));
        Self { room, bytes_max, delay_max, released: Arc::new(AtomicU64::new(0)) }
    }

    /// Bytes in use.
    pub fn bytes_used(&self) -> usize {
        self.bytes_max as usize - self.room.available_permits()
    }

    async fn hold(&self, body: &Bytes) -> Option<ResidentBody> {
        let wanted = u32::try_from(body.len()).ok().filter(|wanted| *wanted <= self.bytes_max)?;
        let room = match Arc::clone(&self.room).try_acquire_many_owned(wanted) {
            Ok(room) => room,
            Err(_) if self.is_moving() => {
                let waiting = Arc::clone(&self.room).acquire_many_owned(wanted);
                tokio::time::timeout(self.delay_max, waiting).await.ok()?.ok()?
            }
            Err(_) => return None,
        };
        let budget = Arc::new(Held { _room: room, released: Arc::clone(&self.released) });
        Some(ResidentBody { bytes: body.clone(), budget })
    }

    fn is_moving(&self) -> bool {
        UnixMs::now().since(UnixMs(self.released.load(Ordering::Relaxed))) < self.delay_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_of_a_domain_go_together_up_to_the_limit() {
        let recipients = ["a@one.test", "b@two.test", "c@ONE.test", "postmaster"].map(str::to_owned);
        assert_eq!(by_domain(&recipients), [vec![0, 2], vec![1], vec![3]]);
        let many: Vec<String> = (0..2 * BATCH_RECIPIENTS_MAX + 1).map(|n| format!("{n}@one.test")).collect();
        let sizes: Vec<usize> = by_domain(&many).iter().map(Vec::len).collect();
        assert_eq!(sizes, [BATCH_RECIPIENTS_MAX, BATCH_RECIPIENTS_MAX, 1]);
    }
}
