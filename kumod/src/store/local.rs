//! The store of one node: `crates/spool` for what must survive, a timing wheel for when.
//!
//! Leases never end here, because nobody else can take a message from this spool. What was accepted is on disk before
//! [`accept`](LocalStore::accept) returns; the schedule is in memory and is built again from envelopes and marks at start.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spool::{AppendError, Spool};
use thiserror::Error;
use tokio::sync::Notify;

use crate::clock::UnixMs;
use crate::config::SpoolSpec;
use crate::envelope::{DecodeError, Envelope, Mark, MessageId};
use crate::ports::{
    BoxFuture, Change, Claims, Fenced, Lease, MailStore, Settled, StoreError, Wanted, Withdrawn,
};
use crate::queue::Schedule;

use super::waiting::{self, Waiting};

/// The folder of the spool's own files, below the one that was configured.
pub(super) const SEGMENTS_DIR: &str = "segments";

/// How long a message waits whose envelope the host could not read.
const READ_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Why the store could not be opened. The text names the folder and the remedy.
#[derive(Debug, Error)]
#[error("{text}")]
pub struct OpenStoreError {
    text: String,
}

impl OpenStoreError {
    pub(super) fn new(dir: &Path, reason: String) -> Self {
        Self { text: format!("spool {}: {reason}", dir.display()) }
    }
}

impl From<spool::OpenError> for OpenStoreError {
    /// It names the folder itself.
    fn from(error: spool::OpenError) -> Self {
        Self { text: error.to_string() }
    }
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Restored {
    /// Messages that are done, as far back as the spool remembers, each with the note of its settlement.
    pub gone: Vec<(MessageId, Bytes)>,
    /// Messages that wait for delivery.
    pub messages: usize,
    /// Envelopes that could not be read and were left where they are.
    pub unreadable: usize,
    /// Records that the spool set aside as damaged.
    pub damaged: u64,
    /// Messages whose body is gone; their envelopes were set aside.
    pub orphans: u64,
}

/// The spool of this host and the schedule of what lies in it.
pub struct LocalStore {
    spool: Spool,
    durability: spool::Durability,
    /// Messages that were found without a body at start.
    orphans: u64,
    state: Mutex<State>,
    due_changed: Notify,
}

#[derive(Debug)]
struct State {
    schedule: Schedule<Waiting>,
    /// Waiting messages whose envelope is in memory.
    kept: usize,
}

impl LocalStore {
    /// Opens the spool, makes it where there is none, and schedules what it holds. While the spool is being read, `tell` is called
    /// about once a second, from the threads that read it; it must be quick.
    ///
    /// # Errors
    /// The folder cannot be used, or another process holds it.
    pub fn open(
        spec: &SpoolSpec,
        now: UnixMs,
        tell: &(dyn Fn(spool::ScanProgress) + Sync),
    ) -> Result<(Self, Restored), OpenStoreError> {
        let refuse = |reason: String| OpenStoreError::new(&spec.dir, reason);
        let segments = spec.dir.join(SEGMENTS_DIR);
        std::fs::create_dir_all(&segments)
            .map_err(|error| refuse(format!("cannot be made: {error}; choose another with --spool")))?;
        let mut options = options(segments);
        options.durability = spec.durability;
        options.backend = spec.backend;
        options.mode = spec.mode;
        let (spool, recovery) = Spool::open_telling(options, tell)?;
        let mut schedule = Schedule::new(now);
        let gone = recovery.deletes.into_iter().map(|(id, note)| (MessageId(id.0), note)).collect();
        let (damaged, orphans) = (recovery.damaged, recovery.orphans);
        let mut restored = Restored { gone, damaged, orphans, ..Restored::default() };
        for message in recovery.messages {
            match decode(&message) {
                Ok((envelope, mark)) => {
                    let waiting = Waiting::stored(envelope.id, mark.clone());
                    // A spool holds fewer messages than there are numbers for them.
                    let _ = schedule.insert(&envelope.queue, due_at(&envelope, &mark, now), waiting);
                    restored.messages += 1;
                }
                Err(error) => {
                    tracing::error!(id = %MessageId(message.id.0), %error, "an envelope in the spool cannot be read; it stays there");
                    restored.unreadable += 1;
                }
            }
        }
        let store = Self {
            spool,
            durability: spec.durability,
            orphans,
            state: Mutex::new(State { schedule, kept: 0 }),
            due_changed: Notify::new(),
        };
        Ok((store, restored))
    }

    /// What the spool counts.
    pub fn stats(&self) -> spool::Stats {
        self.spool.stats()
    }

    /// Whether the spool can write.
    pub fn health(&self) -> spool::Health {
        self.spool.health()
    }

    /// How long the spool's writing takes, and how much is written together.
    pub fn latencies(&self) -> spool::Latencies {
        self.spool.latencies()
    }

    /// Messages found without a body at start; their envelopes were set aside.
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// Messages that wait for their time or their turn.
    pub fn scheduled(&self) -> usize {
        self.state().schedule.len()
    }

    /// Writes what is still on its way and lets go of the folder.
    ///
    /// # Errors
    /// Says what could not be written; nothing acknowledged is lost by it.
    pub fn close(&self) -> Result<(), StoreError> {
        self.spool.clone().close().map_err(|error| StoreError::Failed(error.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held can at worst have left one message off the schedule; it is still in the spool.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schedule_at(&self, due: UnixMs, envelope: &Arc<Envelope>, mark: Mark) {
        let now = UnixMs::now();
        let state = self.state();
        let waiting = Waiting::new(envelope, mark, due, now, state.kept);
        self.put(state, &envelope.queue, due, waiting);
    }

    fn put(&self, mut state: MutexGuard<'_, State>, queue: &str, due: UnixMs, waiting: Waiting) {
        let kept = waiting.is_kept();
        let before = state.schedule.next_due();
        if state.schedule.insert(queue, due, waiting).is_err() {
            tracing::error!(queue, "the schedule is full; a message waits in the spool for the next start");
            return;
        }
        state.kept += usize::from(kept);
        let earlier = state.schedule.next_due() < before || before.is_none();
        drop(state);
        if earlier {
            self.due_changed.notify_one();
        }
    }

    async fn restore(&self, queue: &str, waiting: Vec<Waiting>) -> Claims {
        let spool = self.spool.clone();
        let restored = tokio::task::spawn_blocking(move || waiting::restore(waiting, &spool)).await;
        // An error means that the process is stopping: the messages are in the spool.
        let Ok((claims, again)) = restored else { return Claims::default() };
        let due = UnixMs::now().after(READ_RETRY_DELAY);
        for waiting in again {
            self.put(self.state(), queue, due, waiting);
        }
        claims
    }
}

/// When a message that was found is due. One that was not attempted yet has no mark that says so.
fn due_at(envelope: &Envelope, mark: &Mark, now: UnixMs) -> UnixMs {
    match &envelope.scheduling {
        Some(scheduling) => {
            scheduling.adjust(mark.due.max(now)).min(scheduling.expires.unwrap_or(UnixMs(u64::MAX)))
        }
        None => mark.due,
    }
}

/// How kumod's spool is opened, whoever opens it.
pub(super) fn options(segments: PathBuf) -> spool::Options {
    spool::Options::new(segments)
}

/// Reads what recovery found of one message.
pub(super) fn decode(message: &spool::Recovered) -> Result<(Envelope, Mark), DecodeError> {
    let mut envelope = Envelope::decode(&message.envelope)?;
    // Recovered envelopes are slices of larger pieces of memory; a slice that is kept keeps all of its piece.
    envelope.header_prefix = Bytes::copy_from_slice(&envelope.header_prefix);
    let mark = message.marks.last().map(Mark::decode).transpose()?.unwrap_or_default();
    Ok((envelope, mark))
}

fn store_error(error: AppendError) -> StoreError {
    match error {
        AppendError::Full { .. } => StoreError::Full(error.to_string()),
        other => StoreError::Failed(other.to_string()),
    }
}

impl MailStore for LocalStore {
    fn accept(
        &self,
        body: (MessageId, Bytes),
        envelopes: Vec<Arc<Envelope>>,
    ) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async move {
            let (id, bytes) = body;
            let envelopes = envelopes.iter().map(|envelope| spool::Envelope {
                id: spool::Id(envelope.id.0),
                body: spool::Id(id.0),
                bytes: envelope.encode(),
            });
            let transaction = spool::Transaction {
                body: Some((spool::Id(id.0), vec![bytes])),
                envelopes: envelopes.collect(),
            };
            let committed = self.spool.append(transaction).await.map_err(store_error)?;
            debug_assert_eq!(
                committed.durability, self.durability,
                "the spool keeps another promise than it was opened with"
            );
            Ok(Lease::ENDLESS)
        })
    }

    fn due_queues(&self, now: UnixMs, limit: usize) -> Vec<Arc<str>> {
        let mut state = self.state();
        state.schedule.advance(now);
        std::iter::from_fn(|| state.schedule.next_stirred()).take(limit).collect()
    }

    fn withdraw(&self, from: usize, mut wanted: Wanted<'_>) -> BoxFuture<'_, Withdrawn> {
        let (mut taken, mut dues): (BTreeMap<Arc<str>, Vec<Waiting>>, HashMap<_, _>) = Default::default();
        let mut state = self.state();
        let next = state.schedule.pick(from, &mut wanted, Waiting::created, |queue, due, one| {
            dues.insert(one.id(), due);
            taken.entry(Arc::clone(queue)).or_default().push(one);
        });
        state.kept -= taken.values().flatten().filter(|one| one.is_kept()).count();
        drop(state);
        Box::pin(async move {
            let mut claims = Vec::with_capacity(taken.len());
            for (queue, waiting) in taken {
                let mut restored = self.restore(&queue, waiting).await;
                for claimed in &mut restored.messages {
                    claimed.mark.due = dues.get(&claimed.envelope.id).copied().unwrap_or_default();
                }
                claims.push((queue, restored));
            }
            Withdrawn { claims, next }
        })
    }

    fn due(&self) -> usize {
        self.state().schedule.due()
    }

    fn claim_due<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Claims> {
        let mut waiting = Vec::new();
        let mut state = self.state();
        state.schedule.claim(queue, limit, |one| waiting.push(one));
        let kept = waiting.iter().filter(|one| one.is_kept()).count();
        state.kept -= kept;
        drop(state);
        if kept == waiting.len() {
            return Box::pin(std::future::ready(waiting::restore(waiting, &self.spool).0));
        }
        Box::pin(self.restore(queue, waiting))
    }

    fn next_due(&self) -> Option<UnixMs> {
        self.state().schedule.next_due()
    }

    fn due_changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.due_changed.notified())
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Lease, Fenced>> {
        Box::pin(std::future::ready(Ok(lease)))
    }

    fn release(&self, envelope: &Arc<Envelope>, mark: Mark, _lease: Lease, due: UnixMs) {
        self.schedule_at(due, envelope, mark);
    }

    fn rewrite(&self, envelopes: Vec<Arc<Envelope>>) -> BoxFuture<'_, Result<(), StoreError>> {
        let changes = envelopes.iter().map(|envelope| spool::Change::Rewrite {
            id: spool::Id(envelope.id.0),
            body: spool::Id(envelope.body.0),
            bytes: envelope.encode(),
        });
        let changes: Vec<_> = changes.collect();
        Box::pin(async move { self.spool.settle(changes).await.map_err(store_error) })
    }

    fn settle(&self, batch: Vec<Settled>) -> BoxFuture<'_, Result<(), Fenced>> {
        Box::pin(async move {
            let changes = batch.iter().map(|settled| {
                let id = spool::Id(settled.envelope.id.0);
                match &settled.change {
                    Change::Gone { note } => spool::Change::Delete { id, bytes: note.clone() },
                    Change::Again(mark) => spool::Change::Mark { id, bytes: mark.encode() },
                }
            });
            if let Err(error) = self.spool.enqueue(changes.collect()).await {
                // The messages stay in the spool and are delivered again after a restart: late or twice, but not lost.
                tracing::error!(%error, messages = batch.len(), "the spool did not take a settlement");
            }
            for settled in batch {
                if let Change::Again(mark) = settled.change {
                    self.schedule_at(mark.due, &settled.envelope, mark);
                }
            }
            Ok(())
        })
    }

    fn read_body(&self, id: MessageId) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let spool = self.spool.clone();
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || spool.read_body(spool::Id(id.0))).await;
            match read {
                Ok(Ok(bytes)) => Ok(bytes),
                Ok(Err(error)) => Err(StoreError::Body { id, reason: error.to_string() }),
                // The process is stopping; nothing is known of the body.
                Err(error) => Err(StoreError::Failed(error.to_string())),
            }
        })
    }

    fn durability(&self) -> spool::Durability {
        self.durability
    }

    fn refusal(&self) -> Option<String> {
        match self.spool.health() {
            spool::Health::Ok => None,
            spool::Health::DiskFloor { free_bytes, free_inodes } => Some(format!(
                "the spool's disk is at its floor: {free_bytes} bytes and {free_inodes} inodes are free"
            )),
            spool::Health::Failed { reason } => Some(format!("the spool cannot write: {reason}")),
        }
    }
}
