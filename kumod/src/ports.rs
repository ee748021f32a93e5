//! The traits through which a higher station serves a lower one; `node` wires them.
//!
//! [`MailStore`] and [`PermitSource`] are the seam for a queue that several nodes share: intake, dispatcher and settle know
//! only these, so that the local spool can be replaced without touching them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use crate::clock::UnixMs;
use crate::config::ThrottleSpec;
use crate::envelope::{Envelope, Mark, MessageId};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The right to deliver one message, held by one node at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which holding this is; a store refuses what comes with an old one.
    pub epoch: u64,
    /// When the right ends; `None` where no other node can ever hold it.
    pub expires: Option<UnixMs>,
}

impl Lease {
    /// The lease of a store that only this process uses.
    pub const ENDLESS: Self = Self { epoch: 0, expires: None };

    /// Whether the lease still holds for `margin` from `now`. Asked before the byte that makes a delivery final.
    pub fn valid_for(&self, margin: Duration, now: UnixMs) -> bool {
        self.expires.is_none_or(|expires| now.after(margin) < expires)
    }
}

/// A message that this node may deliver now.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The message.
    pub envelope: Arc<Envelope>,
    /// What earlier attempts left.
    pub mark: Mark,
    /// The right to deliver it.
    pub lease: Lease,
}

/// What a claim brought. Together with those that cannot be read it is as many as were asked for, or the queue has no more.
#[derive(Debug, Default)]
pub struct Claims {
    /// Messages that this node may deliver now.
    pub messages: Vec<Claimed>,
    /// Messages whose envelope is damaged: they stay in the store, and leave the queue.
    pub unreadable: Vec<(MessageId, StoreError)>,
}

impl Claims {
    /// Messages that left the queue.
    pub fn len(&self) -> usize {
        self.messages.len() + self.unreadable.len()
    }

    /// Whether nothing was due.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which of the messages that wait are to be withdrawn.
pub struct Wanted<'a> {
    /// Only those that are due already.
    pub due_only: bool,
    /// For a queue: messages born before this; `None`: nothing of it.
    pub born_before: &'a mut (dyn FnMut(&str) -> Option<UnixMs> + Send),
}

/// What a look at a part of the messages that wait brought.
#[derive(Debug, Default)]
pub struct Withdrawn {
    /// By scheduled queue; the marks say when each was due.
    pub claims: Vec<(Arc<str>, Claims)>,
    /// Where to go on; `None` when everything has been looked at.
    pub next: Option<usize>,
}

/// What is to become of a message after an attempt.
#[derive(Clone, Debug)]
pub enum Change {
    /// It needs nothing more. The note (recipient, reply, time) lets recovery write a log line that a power cut took.
    Gone {
        /// An opaque note kept with the deletion.
        note: Bytes,
    },
    /// It is due again.
    Again(Mark),
}

/// One message's part of a settlement.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The message.
    pub envelope: Arc<Envelope>,
    /// The right under which it was attempted.
    pub lease: Lease,
    /// What becomes of it.
    pub change: Change,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk is at its floor; new mail waits with its sender.
    #[error("no room for new mail: {0}")]
    Full(String),
    /// The store cannot write at all.
    #[error("the spool has failed: {0}")]
    Failed(String),
    /// A body is not there or not as it was written.
    #[error("body {id} cannot be read: {reason}")]
    Body {
        /// The body.
        id: MessageId,
        /// What was wrong.
        reason: String,
    },
    /// An envelope is not there or not as it was written.
    #[error("envelope {id} cannot be read: {reason}")]
    Envelope {
        /// The message.
        id: MessageId,
        /// What was wrong.
        reason: String,
    },
}

/// A lease was lost to another node, which now answers for these messages.
#[derive(Debug, Error)]
#[error("{} message(s) are leased to another node", .0.len())]
pub struct Fenced(pub Vec<MessageId>);

/// Where accepted mail lives until its last recipient is settled.
///
/// All or nothing, and what `accept` promised survives what the durability in force says it survives.
pub trait MailStore: Send + Sync {
    /// Takes one body and the messages that share it, in one transaction. When it returns, the promise of [`durability`](Self::durability) holds
    /// and each message is leased to this node.
    fn accept(
        &self,
        body: (MessageId, Bytes),
        envelopes: Vec<Arc<Envelope>>,
    ) -> BoxFuture<'_, Result<Lease, StoreError>>;
    /// Up to `limit` scheduled queues that have come to have due mail. Each is named once: the caller claims from it until a claim
    /// brings less than it asked for, and hears of the queue again when more falls due.
    fn due_queues(&self, now: UnixMs, limit: usize) -> Vec<Arc<str>>;
    /// Up to `limit` due messages of one queue, leased to this node, those first that fell due first.
    fn claim_due<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Claims>;
    /// Messages that wait and are to be so no longer, whatever their turn: leased to this node, a few thousand looked at, beginning at
    /// `from` (0 at first, then what the look before said). What comes in meanwhile may be missed.
    fn withdraw(&self, from: usize, wanted: Wanted<'_>) -> BoxFuture<'_, Withdrawn>;
    /// Messages that are due and have not been claimed.
    fn due(&self) -> usize;
    /// When the next queue is to be asked for, if any waits.
    fn next_due(&self) -> Option<UnixMs>;
    /// Waits until a message is due earlier than [`next_due`](Self::next_due) said before.
    fn due_changed(&self) -> BoxFuture<'_, ()>;
    /// Lengthens a lease, where leases end.
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, Fenced>>;
    /// Gives a message back unattempted, due at `due`. Not an attempt; nothing is written.
    fn release(&self, envelope: &Arc<Envelope>, mark: Mark, lease: Lease, due: UnixMs);
    /// Writes envelopes of messages that are leased to this node anew, under their ids. They are released afterwards.
    fn rewrite(&self, envelopes: Vec<Arc<Envelope>>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Ends attempts: deletes what is done, marks what is to be tried again and schedules it. Called by `settle` alone, after the log.
    fn settle(&self, batch: Vec<Settled>) -> BoxFuture<'_, Result<(), Fenced>>;
    /// A body, verified.
    fn read_body(&self, id: MessageId) -> BoxFuture<'_, Result<Bytes, StoreError>>;
    /// What a 250 promises.
    fn durability(&self) -> spool::Durability;
    /// Why new mail must wait with its sender, if it must.
    fn refusal(&self) -> Option<String>;
}

/// A rate, and the name under which it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Rate<'a> {
    /// The same name is the same count, whoever asks.
    pub key: &'a str,
    /// What is permitted.
    pub spec: &'a ThrottleSpec,
}

/// A number of slots, and the name under which they are counted.
#[derive(Clone, Copy, Debug)]
pub struct SlotLimit<'a> {
    /// The same name is the same count, whoever asks.
    pub key: &'a str,
    /// How many may be taken at once.
    pub limit: usize,
}

/// What a throttle gave: some permits now, and the time before which asking again is vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Permits granted, possibly none.
    pub granted: u32,
    /// When the next one may come, if fewer were granted than asked.
    pub until: Option<UnixMs>,
    /// Which of the rates, by its place, is the one that makes the caller wait.
    pub limited_by: usize,
}

/// Rates and connection slots, on this node or shared by several.
pub trait PermitSource: Send + Sync {
    /// Asks for `wanted` permits under all of these rates at once: what is granted is taken from each of them, and where one
    /// refuses, nothing is taken from the others.
    fn take<'a>(&'a self, rates: &[Rate<'_>], wanted: u32, now: UnixMs) -> BoxFuture<'a, Grant>;
    /// Asks for a slot under each of these limits at once; `true` when all were free. Given back with [`release`](Self::release).
    fn take_slots<'a>(&'a self, limits: &[SlotLimit<'_>]) -> BoxFuture<'a, bool>;
    /// Gives a slot under each of these names back.
    fn release(&self, keys: &[&str]);
}

/// A message on its way to a ready queue, with its body where it is still in memory.
#[derive(Debug)]
pub struct Entry {
    /// The message and the right to deliver it.
    pub claimed: Claimed,
    /// Its body, within the budget of bodies in memory; otherwise it is read back from the store.
    pub body: Option<ResidentBody>,
}

/// A body in memory, and its part of the budget for as long as it is held.
#[derive(Clone, Debug)]
pub struct ResidentBody {
    /// The body as received.
    pub bytes: Bytes,
    /// Given back when the last holder lets go.
    pub budget: Arc<dyn std::fmt::Debug + Send + Sync>,
}

/// The way from the door to the queues.
pub trait Dispatch: Send + Sync {
    /// Waits, for a named time at most, until the queue is likely to have a place. Called before a message is accepted, so that
    /// mail does not come in faster than it leaves.
    fn admit<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, ()>;
    /// Takes a message that is due. Cannot fail: what finds no place goes back to the store, due a little later.
    fn offer(&self, entry: Entry);
    /// Messages that this process answers for, in whatever queue.
    fn queued(&self) -> usize;
}

/// Tells everything that waits that the process is stopping.
#[derive(Clone, Debug)]
pub struct Shutdown(tokio::sync::watch::Receiver<bool>);

impl Shutdown {
    /// The signal, and the sender that gives it.
    pub fn new() -> (tokio::sync::watch::Sender<bool>, Self) {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether the process is stopping.
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the process is stopping. A sender that is gone counts as that.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}
