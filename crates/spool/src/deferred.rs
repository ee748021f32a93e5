//! What durability `deferred` keeps in memory: transactions that are written only when something other than their deletion
//! happens to one of their messages.
//! Owns the budget in bytes. Refuses nothing: what has no room is written at once. What is being written stays here until
//! it is, so that its body can be read all the time; if writing fails it stays for good and the log of errors says so.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use crc32c::crc32c_append;

use crate::disk::Waker;
use crate::error::AppendError;
use crate::options::Settings;
use crate::queue::{Queue, Request, Work, transaction_bytes};
use crate::table::IdMap;
use crate::types::{Change, Id, Parts, Transaction};

/// Transactions in memory.
#[derive(Default)]
pub(crate) struct Deferred {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By the id of their body.
    transactions: IdMap<HeldTransaction>,
    /// The body of each message that is neither deleted nor on its way to the disk.
    messages: IdMap<Id>,
    bytes: u64,
}

struct HeldTransaction {
    transaction: Transaction,
    bytes: u64,
    /// On its way to the disk.
    writing: bool,
}

impl Deferred {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages, and bytes of transactions.
    pub(crate) fn size(&self) -> (u64, u64) {
        let held = self.held();
        (held.messages.len() as u64, held.bytes)
    }

    /// Keeps a transaction with a body, or hands it back where there is no room. One that needs a segment of its own is
    /// handed back, too: it would wait for that while changes to it go ahead in the log.
    pub(crate) fn keep(
        &self,
        transaction: Transaction,
        settings: &Settings,
    ) -> Result<Option<Transaction>, AppendError> {
        let mut held = self.held();
        let Some((body, _)) = transaction.body else { return Ok(Some(transaction)) };
        if held.transactions.contains_key(&body) {
            return Err(AppendError::IdInUse(body));
        }
        if let Some(twice) = transaction.envelopes.iter().find(|e| held.messages.contains_key(&e.id)) {
            return Err(AppendError::IdInUse(twice.id));
        }
        let bytes = transaction_bytes(&transaction);
        // A transaction that also names an older body has to stand behind it in the log.
        let foreign = transaction.envelopes.iter().any(|envelope| envelope.body != body);
        let large = bytes > settings.segment_room_bytes();
        if foreign || large || held.bytes + bytes > settings.deferred_bytes_max as u64 {
            return Ok(Some(transaction));
        }
        held.bytes += bytes;
        for envelope in &transaction.envelopes {
            held.messages.insert(envelope.id, body);
        }
        held.transactions.insert(body, HeldTransaction { transaction, bytes, writing: false });
        Ok(None)
    }

    /// Puts the bodies that these envelopes name into the log's order, in front of what names them.
    pub(crate) fn write_bodies(&self, named: impl Iterator<Item = Id>, queue: &Queue, waker: &Waker) {
        let mut held = self.held();
        named.for_each(|body| held.write(body, queue, waker));
    }

    /// Carries out deletions of what is held, and has everything written that other changes are about. What is left is to
    /// be written behind it.
    pub(crate) fn apply(&self, changes: Vec<Change>, queue: &Queue, waker: &Waker) -> Vec<Change> {
        let mut held = self.held();
        let mut left = Vec::with_capacity(changes.len());
        for change in changes {
            let (Change::Mark { id, .. } | Change::Delete { id, .. } | Change::Rewrite { id, .. }) = &change;
            let holder = held.messages.get(id).copied();
            match (&change, holder) {
                (Change::Delete { id, .. }, Some(body)) => {
                    held.delete(*id, body);
                    continue;
                }
                (Change::Rewrite { body: named, .. }, holder) => {
                    holder.into_iter().chain([*named]).for_each(|body| held.write(body, queue, waker));
                }
                (_, Some(body)) => held.write(body, queue, waker),
                (_, None) => {}
            }
            left.push(change);
        }
        left
    }

    /// Has everything written.
    pub(crate) fn write_all(&self, queue: &Queue, waker: &Waker) {
        let mut held = self.held();
        let bodies: Vec<Id> = held.transactions.keys().copied().collect();
        bodies.into_iter().for_each(|body| held.write(body, queue, waker));
    }

    /// Nothing is on its way to the disk.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        !self.held().transactions.values().any(|held| held.writing)
    }

    /// It is in the log now.
    pub(crate) fn is_written(&self, body: Id) {
        let mut held = self.held();
        if let Some(written) = held.transactions.remove(&body) {
            held.bytes -= written.bytes;
        }
    }

    pub(crate) fn read(&self, body: Id) -> Option<Bytes> {
        let parts: Parts = self.held().transactions.get(&body)?.transaction.body.as_ref()?.1.clone();
        match <[Bytes; 1]>::try_from(parts) {
            Ok([whole]) => Some(whole),
            Err(parts) => {
                let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                Some(whole.freeze())
            }
        }
    }
}

impl Deferred {
    /// The envelope of a message that is not in the log yet.
    pub(crate) fn read_envelope(&self, id: Id) -> Option<Bytes> {
        let held = self.held();
        let of = |held: &HeldTransaction| {
            let mut envelopes = held.transaction.envelopes.iter();
            envelopes.find(|envelope| envelope.id == id).map(|envelope| envelope.bytes.clone())
        };
        match held.messages.get(&id) {
            Some(body) => held.transactions.get(body).and_then(of),
            // What is on its way to the disk is no longer listed by message; it is little.
            None => held.transactions.values().filter(|held| held.writing).find_map(of),
        }
    }
}

impl Held {
    fn delete(&mut self, id: Id, body: Id) {
        self.messages.remove(&id);
        let Some(held) = self.transactions.get_mut(&body) else { return };
        held.transaction.envelopes.retain(|envelope| envelope.id != id);
        if held.transaction.envelopes.is_empty() {
            self.bytes -= held.bytes;
            self.transactions.remove(&body);
        }
    }

    /// The request is in line before the lock is given up, so a change that finds nothing here comes behind it.
    fn write(&mut self, body: Id, queue: &Queue, waker: &Waker) {
        let Some(held) = self.transactions.get_mut(&body).filter(|held| !held.writing) else { return };
        held.writing = true;
        let transaction = held.transaction.clone();
        for envelope in &transaction.envelopes {
            self.messages.remove(&envelope.id);
        }
        let parts = transaction.body.as_ref().map(|(_, parts)| parts.as_slice()).unwrap_or_default();
        let body_crc = parts.iter().fold(0, |crc, part| crc32c_append(crc, part));
        let request = Request::new(Work::Deferred { transaction, body_crc }, None);
        if let Err(error) = queue.put(request, waker) {
            tracing::error!(%body, %error, "a message that was only in memory cannot be written any more");
        }
    }
}
