//! What memory keeps of a message that waits: little, because there may be ten million of them.
//!
//! The envelope stays in memory only where the message is due soon and few others are kept; otherwise it is read back from the
//! spool when the message is claimed. An envelope that cannot be read is named to the claimer; the message stays in the spool.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use spool::Spool;

use crate::clock::UnixMs;
use crate::envelope::{Envelope, Mark, MessageId};
use crate::ports::{Claimed, Claims, Lease, StoreError};

/// Envelopes of messages that are due later than this are not kept in memory.
const KEPT_AHEAD_MAX: Duration = Duration::from_secs(10);
/// Waiting messages whose envelope is kept: about ten megabytes.
const KEPT_MAX: usize = 16_384;

/// One message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    id: MessageId,
    /// Attempts so far and one, so that the compiler finds room for "nobody" in it.
    attempts: NonZeroU32,
    envelope: Option<Arc<Envelope>>,
    /// Recipients that need nothing more, where there are any. Twice boxed to be one pointer wide.
    #[expect(clippy::box_collection, reason = "eight bytes for each of ten million, of which few have any")]
    done: Option<Box<Vec<bool>>>,
}

/// What a waiting message takes in the schedule, beside the schedule's own 24 bytes and what an envelope takes that is kept.
pub const WAITING_BYTES: usize = size_of::<Option<Waiting>>();
const _: () = assert!(WAITING_BYTES == 40);

impl Waiting {
    /// Keeps of a message what is worth keeping; `kept` are the others whose envelope is in memory.
    pub(super) fn new(envelope: &Arc<Envelope>, mark: Mark, due: UnixMs, now: UnixMs, kept: usize) -> Self {
        let keep = kept < KEPT_MAX && due <= now.after(KEPT_AHEAD_MAX);
        Self { envelope: keep.then(|| Arc::clone(envelope)), ..Self::stored(envelope.id, mark) }
    }

    /// A message whose envelope is in the spool only.
    pub(super) fn stored(id: MessageId, mark: Mark) -> Self {
        let done = mark.done.contains(&true).then(|| Box::new(mark.done));
        Self { id, attempts: NonZeroU32::MIN.saturating_add(mark.attempts), envelope: None, done }
    }

    /// The message.
    pub(super) fn id(&self) -> MessageId {
        self.id
    }

    /// When the message was accepted.
    pub(super) fn created(&self) -> UnixMs {
        self.id.created()
    }

    /// Whether the envelope is in memory.
    pub(super) fn is_kept(&self) -> bool {
        self.envelope.is_some()
    }

    /// The message as it was, as far as memory has it.
    fn claimed(self) -> Result<Claimed, (MessageId, Mark)> {
        let done = self.done.map(|done| *done).unwrap_or_default();
        let mark = Mark { attempts: self.attempts.get() - 1, due: UnixMs::default(), done };
        match self.envelope {
            Some(envelope) => Ok(Claimed { envelope, mark, lease: Lease::ENDLESS }),
            None => Err((self.id, mark)),
        }
    }
}

/// Makes messages whole again, and hands back those that the host cannot read now. Blocks on the disk where an envelope is not
/// in memory.
pub(super) fn restore(waiting: Vec<Waiting>, spool: &Spool) -> (Claims, Vec<Waiting>) {
    let (mut claims, mut again) = (Claims::default(), Vec::new());
    for waiting in waiting {
        let (id, mark) = match waiting.claimed() {
            Ok(claimed) => {
                claims.messages.push(claimed);
                continue;
            }
            Err(stored) => stored,
        };
        let unreadable = |reason: String| (id, StoreError::Envelope { id, reason });
        match spool.read_envelope(spool::Id(id.0)) {
            Ok(bytes) => match Envelope::decode(&bytes) {
                Ok(envelope) => {
                    let envelope = Arc::new(envelope);
                    claims.messages.push(Claimed { envelope, mark, lease: Lease::ENDLESS });
                }
                Err(error) => claims.unreadable.push(unreadable(error.to_string())),
            },
            Err(error @ spool::ReadError::Host { .. }) => {
                tracing::warn!(%error, %id, "an envelope could not be read now");
                again.push(Waiting::stored(id, mark));
            }
            Err(error) => claims.unreadable.push(unreadable(error.to_string())),
        }
    }
    (claims, again)
}
