//! The bounded way from callers to the writer.
//! Owns the order of the log: what is pushed first is written first. Callers wait (async) for room; nothing is dropped.
//! After it is closed every push is refused.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::disk::Waker;
use crate::error::AppendError;
use crate::format::{RecordHeader, record_stride_bytes};
use crate::index::Place;
use crate::options::QUEUE_CHANGES_MAX;
use crate::types::{Acknowledgement, Change, Transaction};

/// What is to be written.
#[derive(Debug)]
pub(crate) enum Work {
    /// The checksum of the body is computed by the caller's thread, so that the writer only copies.
    Transaction {
        transaction: Transaction,
        body_crc: u32,
    },
    /// A transaction that durability `deferred` kept in memory until now: mail that was accepted already.
    Deferred {
        transaction: Transaction,
        body_crc: u32,
    },
    Changes(Vec<Change>),
    /// Living records of a segment that is being compacted.
    Copies(Vec<CopiedRecord>),
}

/// A record read back for compaction.
#[derive(Debug)]
pub(crate) struct CopiedRecord {
    pub(crate) header: RecordHeader,
    pub(crate) place: Place,
    pub(crate) payload: Bytes,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) work: Work,
    /// Most bytes that it takes up in a segment.
    pub(crate) bytes: u64,
    pub(crate) waiter: Option<oneshot::Sender<Acknowledgement>>,
    /// When its caller came.
    pub(crate) entered: Instant,
}

impl Request {
    pub(crate) fn new(work: Work, waiter: Option<oneshot::Sender<Acknowledgement>>) -> Self {
        let bytes = match &work {
            Work::Transaction { transaction, .. } | Work::Deferred { transaction, .. } => {
                transaction_bytes(transaction)
            }
            Work::Changes(changes) => changes.iter().map(|c| record_stride_bytes(change_bytes(c))).sum(),
            Work::Copies(records) => records.iter().map(|record| record.header.stride_bytes()).sum(),
        };
        Self { work, bytes, waiter, entered: Instant::now() }
    }

    /// New mail. Everything else is taken even when the disk is at its floor.
    pub(crate) fn is_intake(&self) -> bool {
        matches!(self.work, Work::Transaction { .. })
    }

    /// Deletes, marks and rewrites.
    pub(crate) fn is_changes(&self) -> bool {
        matches!(self.work, Work::Changes(_))
    }

    pub(crate) fn refuse(self, error: AppendError) {
        if let Work::Deferred { .. } = self.work {
            tracing::error!(%error, "a deferred message cannot be written and stays in memory only");
        }
        if let Some(waiter) = self.waiter {
            // A caller that no longer waits needs no answer.
            let _ = waiter.send(Err(error));
        }
    }
}

/// Bytes of payload that a change writes.
fn change_bytes(change: &Change) -> u64 {
    match change {
        Change::Mark { bytes, .. } | Change::Delete { bytes, .. } | Change::Rewrite { bytes, .. } => {
            bytes.len() as u64
        }
    }
}

/// Bytes that a transaction takes up in a segment.
pub(crate) fn transaction_bytes(transaction: &Transaction) -> u64 {
    let body = transaction
        .body
        .as_ref()
        .map_or(0, |(_, parts)| record_stride_bytes(parts.iter().map(|part| part.len() as u64).sum()));
    let envelope = |bytes: &Bytes| record_stride_bytes(bytes.len() as u64);
    body + transaction.envelopes.iter().map(|e| envelope(&e.bytes)).sum::<u64>()
}

/// Bytes that a list of changes takes up in a segment.
pub(crate) fn changes_bytes(changes: &[Change]) -> u64 {
    changes.iter().map(|change| record_stride_bytes(change_bytes(change))).sum()
}

/// Bounded, first in, first out.
pub(crate) struct Queue {
    line: Mutex<Line>,
    transactions: Semaphore,
    changes: Semaphore,
}

#[derive(Default)]
struct Line {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(transactions_max: usize) -> Self {
        Self {
            line: Mutex::default(),
            transactions: Semaphore::new(transactions_max),
            changes: Semaphore::new(QUEUE_CHANGES_MAX),
        }
    }

    /// Waits until there is room.
    pub(crate) async fn push(&self, request: Request, waker: &Waker) -> Result<(), AppendError> {
        let semaphore = if request.is_intake() { &self.transactions } else { &self.changes };
        // The writer gives the permit back when the request leaves the queue.
        semaphore.acquire().await.map_err(|_| AppendError::Closed)?.forget();
        self.put(request, waker)
    }

    /// Refuses instead of waiting.
    pub(crate) fn try_push(&self, request: Request, waker: &Waker) -> Result<(), AppendError> {
        let semaphore = if request.is_intake() { &self.transactions } else { &self.changes };
        match semaphore.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(AppendError::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                return Err(AppendError::Busy { limit: QUEUE_CHANGES_MAX });
            }
        }
        self.put(request, waker)
    }

    /// Without asking for room: for what is bounded elsewhere and has no permit to give back.
    pub(crate) fn put(&self, request: Request, waker: &Waker) -> Result<(), AppendError> {
        {
            let mut line = self.line();
            if line.closed {
                return Err(AppendError::Closed);
            }
            line.requests.push_back(request);
        }
        waker.notify();
        Ok(())
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.line().requests.is_empty()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.line().closed
    }

    /// Moves everything that waits to the end of `backlog`.
    pub(crate) fn take(&self, backlog: &mut VecDeque<Request>) {
        let mut line = self.line();
        if backlog.is_empty() {
            // Trading places keeps both allocations for the next round.
            std::mem::swap(&mut line.requests, backlog);
        } else {
            backlog.append(&mut line.requests);
        }
    }

    /// The writer has begun to write so many.
    pub(crate) fn give_back(&self, transactions: usize, changes: usize) {
        if transactions > 0 {
            self.transactions.add_permits(transactions);
        }
        if changes > 0 {
            self.changes.add_permits(changes);
        }
    }

    /// From now on nothing is taken; what is in line is still written.
    pub(crate) fn close(&self) {
        self.line().closed = true;
        self.transactions.close();
        self.changes.close();
    }
}
