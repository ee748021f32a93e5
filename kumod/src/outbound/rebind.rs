//! Rebinding: queued messages get other metadata, and with it, as a rule, another queue.
//!
//! While it is under way nothing of the queues that are meant is sent. Each envelope is written anew before its message moves, so that a
//! restart finds it where it went; one that cannot be moved stays as it was, with a line in the diagnostic log. A message that a connection
//! has taken already goes its way, and one that comes in meanwhile may be missed.

use std::sync::Arc;
use std::time::Duration;

use super::Outbound;
use super::orders::{Criteria, TooManyOrders, What};
use crate::clock::UnixMs;
use crate::envelope::{Envelope, Meta};
use crate::intake;
use crate::ports::{Claimed, Wanted};

/// Envelopes written together.
const REWRITTEN_MAX: usize = 256;
/// An order that holds the queues for the time of a rebinding, were it never to end.
const REBIND_MAX: Duration = Duration::from_secs(3600);

impl Outbound {
    /// Merges `data` into the metadata of all messages in the scheduled queues that are meant, due or not, and says how many there were.
    /// Those whose queue becomes another one are due at once; with `always_flush` the others are, too.
    ///
    /// # Errors
    /// There are too many orders.
    pub async fn rebind(
        self: &Arc<Self>,
        criteria: Criteria,
        data: &Meta,
        reason: &str,
        always_flush: bool,
    ) -> Result<u64, TooManyOrders> {
        let id = self.order(What::Rebind(criteria.clone()), reason, REBIND_MAX, false)?;
        let (mut count, mut from) = (0, Some(0));
        while let Some(at) = from.filter(|_| !self.parts.shutdown.is_stopping()) {
            let mut born_before = |queue: &str| criteria.mean(queue).then_some(UnixMs(u64::MAX));
            let wanted = Wanted { due_only: false, born_before: &mut born_before };
            let withdrawn = self.parts.store.withdraw(at, wanted).await;
            for (name, claims) in withdrawn.claims {
                let claimed: Vec<Claimed> = self.readable(&name, claims).map(|entry| entry.claimed).collect();
                for some in claimed.chunks(REWRITTEN_MAX) {
                    count += self.rebind_some(some, data, always_flush).await;
                }
            }
            from = withdrawn.next;
        }
        self.cancel(id);
        Ok(count)
    }

    async fn rebind_some(&self, claimed: &[Claimed], data: &Meta, always_flush: bool) -> u64 {
        let now = UnixMs::now();
        let rebound = |claimed: &Claimed| self.rebound(&claimed.envelope, data);
        let new: Vec<Option<Arc<Envelope>>> = claimed.iter().map(rebound).collect();
        let written = self.parts.store.rewrite(new.iter().flatten().cloned().collect()).await;
        if let Err(error) = &written {
            tracing::error!(%error, messages = claimed.len(), "messages could not be rebound; they stay as they were");
        }
        let mut count = 0;
        for (Claimed { envelope, mark, lease }, new) in claimed.iter().zip(new) {
            let new = new.filter(|_| written.is_ok());
            count += u64::from(new.is_some());
            let new = new.as_ref().unwrap_or(envelope);
            let due = if always_flush || new.queue != envelope.queue { now } else { mark.due };
            self.parts.store.release(new, mark.clone(), *lease, due);
        }
        count
    }

    /// The envelope with the other metadata; `None` where that names no queue.
    fn rebound(&self, envelope: &Arc<Envelope>, data: &Meta) -> Option<Arc<Envelope>> {
        let mut new = Envelope::clone(envelope);
        new.meta.extend(data.clone());
        let recipient = new.recipients.first().map_or("", String::as_str);
        match intake::queue_of(recipient, &new.meta, &self.parts.hostname) {
            Ok(queue) if queue != intake::NULL_QUEUE => new.queue = queue,
            Ok(_) => {
                tracing::error!(id = %new.id, "a message cannot be rebound to the null queue; bounce it");
                return None;
            }
            Err(error) => {
                tracing::error!(id = %new.id, %error, "a message cannot be rebound");
                return None;
            }
        }
        Some(Arc::new(new))
    }
}
