//! The handle that callers hold: append, settle, read, look, close.
//! Cheap to clone, safe to share. Checks what can be checked without the index on the caller's own thread, computes the
//! body's checksum there, and waits for the writer. When the last handle goes, everything queued is written first.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use crc32c::crc32c_append;
use tokio::sync::oneshot;

use crate::disk::read_through;
use crate::error::{AppendError, ReadError};
use crate::format::{BLOCK_BYTES, Kind, RECORD_HEADER_BYTES, RecordHeader, record_stride_bytes};
use crate::index::{Place, SegmentState};
use crate::lock::Lock;
use crate::options::{TRANSACTION_BYTES_MAX, TRANSACTION_RECORDS_MAX};
use crate::queue::{Request, Work, changes_bytes, transaction_bytes};
use crate::recover::{Region, set_region_aside};
use crate::shared::Shared;
use crate::stats::{Health, Latencies, Stats, add};
use crate::types::{Change, Committed, Compacted, Durability, Id, Pending, Transaction};

/// Attempts at one read: between look-up and read, compaction may move a body and wipe where it lay.
const READ_ATTEMPTS_MAX: u32 = 8;

/// What writes, and why not something else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    pub(crate) backend: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) fallback_reason: Option<String>,
    pub(crate) file_system: String,
}

/// An open spool.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    engine: Engine,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

impl Inner {
    /// Nothing new is taken; what is queued is written; then the lock is given up.
    fn close(&self) {
        self.shared.deferred.write_all(&self.shared.queue, &self.shared.waker);
        self.shared.queue.close();
        self.shared.waker.ring();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody answers a wish any more.
        self.shared.wishes().take();
        if let Some(writer) = writer {
            // A writer that panicked has nothing left to flush.
            let _ = writer.join();
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Spool").field("dir", &self.inner.shared.settings.dir).finish_non_exhaustive()
    }
}

impl Spool {
    pub(crate) fn assemble(shared: Arc<Shared>, engine: Engine, writer: JoinHandle<()>, lock: Lock) -> Self {
        let (writer, lock) = (Mutex::new(Some(writer)), Mutex::new(Some(lock)));
        Self { inner: Arc::new(Inner { shared, engine, writer, lock }) }
    }

    /// Writes one transaction, all of it or nothing. Waits for room in the queue, then until what the durability promises
    /// has happened. A caller that stops waiting takes nothing back.
    ///
    /// # Errors
    /// [`AppendError::Full`] when the disk is at its floor, an error of the caller's kind when the transaction breaks a
    /// rule, [`AppendError::Failed`] when the host cannot write.
    pub async fn append(&self, transaction: Transaction) -> Result<Committed, AppendError> {
        let shared = &self.inner.shared;
        if let Some(error) = shared.failed() {
            return Err(error);
        }
        if shared.condition.refuses_intake() {
            return Err(shared.full());
        }
        let Some(transaction) = keep(shared, transaction)? else {
            return Ok(Committed { durability: Durability::Deferred });
        };
        let (request, pending) = intake(transaction)?;
        shared.queue.push(request, &shared.waker).await?;
        pending.await
    }

    /// Writes changes, all of them or none, and waits until they are as durable as an append. Waits for room in the
    /// queue. Taken also when the disk is at its floor.
    ///
    /// # Errors
    /// As [`Spool::append`], without [`AppendError::Full`].
    pub async fn settle(&self, changes: Vec<Change>) -> Result<(), AppendError> {
        self.enqueue(changes).await?.await.map(|_| ())
    }

    /// Waits for room in the queue and puts the changes into the log's order; the value returned tells when they are
    /// durable.
    ///
    /// # Errors
    /// As [`Spool::settle`], as far as it is known yet.
    pub async fn enqueue(&self, changes: Vec<Change>) -> Result<Pending, AppendError> {
        let shared = &self.inner.shared;
        let (request, pending) = changes_request(shared, changes)?;
        if let Some(request) = request {
            shared.queue.push(request, &shared.waker).await?;
        }
        Ok(pending)
    }

    /// As [`Spool::enqueue`] without waiting for room.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when [`crate::QUEUE_CHANGES_MAX`] lists are waiting.
    pub fn submit(&self, changes: Vec<Change>) -> Result<Pending, AppendError> {
        let shared = &self.inner.shared;
        let (request, pending) = changes_request(shared, changes)?;
        if let Some(request) = request {
            shared.queue.try_push(request, &shared.waker)?;
        }
        Ok(pending)
    }

    /// Reads a body back and verifies it. Blocks on the disk. Defined for bodies whose append was acknowledged.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] names segment and offset; such a message must be set aside, not sent. The damaged region is
    /// copied to `damaged/`; the envelopes that name the body stay, and the next opening counts them as orphans.
    pub fn read_body(&self, id: Id) -> Result<Bytes, ReadError> {
        read_body(&self.inner.shared, id)
    }

    /// Reads a message's newest envelope back and verifies it, as [`Spool::read_body`] does a body. Defined for messages whose
    /// append, or whose last rewrite, was acknowledged.
    ///
    /// # Errors
    /// As [`Spool::read_body`].
    pub fn read_envelope(&self, id: Id) -> Result<Bytes, ReadError> {
        read_envelope(&self.inner.shared, id)
    }

    /// Compacts everything that is worth it now, without the budget, and removes spare segments beyond those that are kept
    /// ready. Blocks until it is done; appends go on meanwhile, slowed by the disk. One at a time: a second call waits for
    /// nothing and answers [`AppendError::Busy`].
    ///
    /// # Errors
    /// [`AppendError::Full`] when there is no room to copy to, [`AppendError::Failed`] when the host cannot write.
    pub fn compact(&self) -> Result<Compacted, AppendError> {
        let shared = &self.inner.shared;
        let files = |stats: &Stats| stats.segments + stats.segments_spare;
        let before = count(shared);
        let (wish, answer) = sync_channel(1);
        match &mut *shared.wishes() {
            Some(_) => return Err(AppendError::Busy { limit: 1 }),
            none => *none = Some(wish),
        }
        if shared.queue.is_closed() {
            shared.wishes().take();
        }
        shared.waker.notify();
        answer.recv().map_err(|_| AppendError::Closed)??;
        let after = count(shared);
        Ok(Compacted {
            segments_before: files(&before),
            segments_after: files(&after),
            bytes_copied: after.compacted_bytes - before.compacted_bytes,
        })
    }

    /// Counters and what is in force.
    pub fn stats(&self) -> Stats {
        let Inner { shared, engine, .. } = &*self.inner;
        let mut stats = count(shared);
        stats.backend = engine.backend;
        stats.mode = engine.mode;
        stats.fallback_reason.clone_from(&engine.fallback_reason);
        stats.file_system.clone_from(&engine.file_system);
        stats
    }

    /// Histograms of what writing took. Copies some hundred kilobytes.
    pub fn latencies(&self) -> Latencies {
        self.inner.shared.latencies().clone()
    }

    /// Whether mail can be taken. Reads two or three atomics.
    pub fn health(&self) -> Health {
        self.inner.shared.condition.health()
    }

    /// The promise in force.
    pub fn durability(&self) -> Durability {
        self.inner.shared.settings.durability
    }

    /// Writes what is queued, closes the active segment, ends the threads and gives up the lock; other handles are of no
    /// use afterwards. Blocks until it is done.
    ///
    /// # Errors
    /// [`AppendError::Failed`] when the host could not write.
    pub fn close(self) -> Result<(), AppendError> {
        self.inner.close();
        self.inner.shared.failed().map_or(Ok(()), Err)
    }
}

/// A transaction ready for the queue, with its checksum.
pub(crate) fn intake(transaction: Transaction) -> Result<(Request, Pending), AppendError> {
    check(&transaction)?;
    let parts = transaction.body.as_ref().map(|(_, parts)| parts.as_slice()).unwrap_or_default();
    let body_crc = parts.iter().fold(0, |crc, part| crc32c_append(crc, part));
    let (waiter, receiver) = oneshot::channel();
    Ok((Request::new(Work::Transaction { transaction, body_crc }, Some(waiter)), Pending(receiver)))
}

/// In durability `deferred` a transaction stays in memory where there is room, and nothing is left to be written.
pub(crate) fn keep(shared: &Shared, transaction: Transaction) -> Result<Option<Transaction>, AppendError> {
    if shared.settings.durability != Durability::Deferred {
        return Ok(Some(transaction));
    }
    check(&transaction)?;
    let own = transaction.body.as_ref().map(|(id, _)| *id);
    if transaction.envelopes.iter().all(|envelope| Some(envelope.body) == own) {
        shared.index().check(&transaction)?;
    }
    let left = shared.deferred.keep(transaction, &shared.settings)?;
    if let Some(transaction) = &left {
        let named = transaction.envelopes.iter().map(|envelope| envelope.body);
        shared.deferred.write_bodies(named, &shared.queue, &shared.waker);
    }
    Ok(left)
}

/// Changes ready for the queue; none where all of them were about messages that were only in memory.
pub(crate) fn changes_request(
    shared: &Shared,
    changes: Vec<Change>,
) -> Result<(Option<Request>, Pending), AppendError> {
    if let Some(error) = shared.failed() {
        return Err(error);
    }
    limit("records", changes.len() as u64, TRANSACTION_RECORDS_MAX as u64)?;
    // Changes are small; what does not fit a segment is a mistake of the caller.
    limit("bytes", changes_bytes(&changes), shared.settings.segment_room_bytes())?;
    let (waiter, receiver) = oneshot::channel();
    let changes = match shared.settings.durability {
        Durability::Deferred => shared.deferred.apply(changes, &shared.queue, &shared.waker),
        Durability::Commit | Durability::Written => changes,
    };
    if changes.is_empty() && shared.settings.durability == Durability::Deferred {
        // The receiver is in our hands, so there is somebody to take it.
        let _ = waiter.send(Ok(Committed { durability: Durability::Deferred }));
        return Ok((None, Pending(receiver)));
    }
    Ok((Some(Request::new(Work::Changes(changes), Some(waiter))), Pending(receiver)))
}

fn limit(what: &'static str, given: u64, limit: u64) -> Result<(), AppendError> {
    if given > limit { Err(AppendError::TooLarge { what, given, limit }) } else { Ok(()) }
}

/// The rules that need no look at what is in the spool.
fn check(transaction: &Transaction) -> Result<(), AppendError> {
    let envelopes = &transaction.envelopes;
    let records = envelopes.len() + usize::from(transaction.body.is_some());
    limit("records", records as u64, TRANSACTION_RECORDS_MAX as u64)?;
    limit("bytes", transaction_bytes(transaction), TRANSACTION_BYTES_MAX)?;
    if envelopes.len() > 1 {
        let mut ids: Vec<Id> = envelopes.iter().map(|envelope| envelope.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(AppendError::IdInUse(twice[0]));
        }
    }
    Ok(())
}

pub(crate) fn read_body(shared: &Shared, id: Id) -> Result<Bytes, ReadError> {
    if shared.settings.durability == Durability::Deferred
        && let Some(body) = shared.deferred.read(id)
    {
        return Ok(body);
    }
    read_record(shared, Kind::Body, id)
}

pub(crate) fn read_envelope(shared: &Shared, id: Id) -> Result<Bytes, ReadError> {
    if shared.settings.durability == Durability::Deferred
        && let Some(envelope) = shared.deferred.read_envelope(id)
    {
        return Ok(envelope);
    }
    read_record(shared, Kind::Envelope, id)
}

fn read_record(shared: &Shared, kind: Kind, id: Id) -> Result<Bytes, ReadError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let index = shared.index();
        let place = index.place_of(kind, id).ok_or(ReadError::NotFound(id))?;
        let segment = index.segment(place.segment).ok_or(ReadError::NotFound(id))?;
        let (file, seed, generation) = (Arc::clone(&segment.file), segment.seed, segment.header.generation);
        drop(index);
        let mut record = vec![0; RECORD_HEADER_BYTES + place.payload_bytes as usize];
        let offset = u64::from(place.offset);
        let what = match read_through(&*file, &mut record, offset) {
            Ok(filled) if filled < record.len() => "the file ends too early",
            Ok(_) => match verify(&record, kind, id, place, seed) {
                Ok(()) => return Ok(Bytes::from(record).slice(RECORD_HEADER_BYTES..)),
                Err(what) => what,
            },
            Err(source) => return Err(ReadError::Host { id, segment: place.segment, offset, source }),
        };
        if attempts >= READ_ATTEMPTS_MAX || shared.index().place_of(kind, id) == Some(place) {
            add(&shared.counters.damaged, 1);
            tracing::error!(%id, ?kind, segment = place.segment, offset, what, "a record is damaged");
            let range = offset..offset + record_stride_bytes(u64::from(place.payload_bytes));
            let region = Region { segment: place.segment, generation, range };
            set_region_aside(&*shared.disk, &*file, &region);
            return Err(ReadError::Damaged { id, segment: place.segment, offset, what });
        }
    }
}

/// Whether the bytes are the record that was written there.
pub(crate) fn verify(
    record: &[u8],
    kind: Kind,
    id: Id,
    place: Place,
    seed: crate::format::Seed,
) -> Result<(), &'static str> {
    let header = RecordHeader::decode(record, seed).ok_or("the record's header does not verify")?;
    if header.kind != kind || header.id != id || header.payload_bytes != place.payload_bytes {
        return Err("another record lies there");
    }
    if header.verifies(&record[RECORD_HEADER_BYTES..], seed) { Ok(()) } else { Err("the checksum differs") }
}

pub(crate) fn count(shared: &Shared) -> Stats {
    use std::sync::atomic::{AtomicU64, Ordering};
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &shared.counters;
    let space = shared.condition.space();
    let (deferred_messages, deferred_bytes) = shared.deferred.size();
    let index = shared.index();
    let spare = |state| matches!(state, SegmentState::Spare | SegmentState::Leaving);
    let segments_spare = index.segments().filter(|segment| spare(segment.state)).count() as u64;
    let written: u64 = index
        .segments()
        .filter(|segment| !spare(segment.state))
        .map(|segment| segment.written_bytes - BLOCK_BYTES as u64)
        .sum();
    Stats {
        appends: read(&counters.appends),
        records: read(&counters.records),
        changes_skipped: read(&counters.changes_skipped),
        bytes_written: read(&counters.bytes_written),
        batches: read(&counters.batches),
        barriers: read(&counters.barriers),
        messages: index.messages() as u64 + deferred_messages,
        live_bytes: index.live_bytes,
        dead_bytes: written.saturating_sub(index.live_bytes),
        deferred_messages,
        deferred_bytes,
        segments: index.segments().count() as u64 - segments_spare,
        segments_spare,
        segments_made: read(&counters.segments_made),
        segments_recycled: read(&counters.segments_recycled),
        compactions: read(&counters.compactions),
        compacted_bytes: read(&counters.compacted_bytes),
        segments_poisoned: read(&counters.segments_poisoned),
        damaged: read(&counters.damaged),
        torn: read(&counters.torn),
        free_bytes: space.free_bytes,
        free_inodes: space.free_inodes,
        durability: shared.settings.durability,
        ..Stats::default()
    }
}
