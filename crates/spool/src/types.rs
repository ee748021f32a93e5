//! What goes into the log and what comes out of it: ids, transactions, changes, recovered messages.
//! Owns no behaviour beyond conversion; refuses nothing; cannot fail.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::AppendError;

/// Names a body or an envelope. Made by the caller, never used twice in the life of a spool: a deleted id stays
/// deleted, also across power cuts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Id(pub [u8; 16]);

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The pieces of one body, in order. The spool copies them once, into the aligned buffer that is written.
pub type Parts = Vec<Bytes>;

/// Small record that names a body. One envelope is one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The message.
    pub id: Id,
    /// The body it shares with the other messages of its transaction.
    pub body: Id,
    /// Opaque to the spool.
    pub bytes: Bytes,
}

/// Written wholly or not at all: at most one body, and the envelopes that name it or an older living body.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// A body needs at least one envelope in the same transaction; without one it would be dead on arrival.
    pub body: Option<(Id, Parts)>,
    /// At most [`crate::TRANSACTION_RECORDS_MAX`] records together with the body.
    pub envelopes: Vec<Envelope>,
}

/// What happens to a message after it was accepted. A change to an id that is not alive is skipped: settling twice
/// is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The state of the message after an attempt; the last mark is the one that counts.
    Mark {
        /// The message.
        id: Id,
        /// Opaque to the spool; replaces what the mark before it said.
        bytes: Bytes,
    },
    /// The message is done. Its body dies with its last envelope.
    Delete {
        /// The message.
        id: Id,
        /// Opaque to the spool; handed back by [`Recovery::deletes`] as long as the record is in the log.
        bytes: Bytes,
    },
    /// The envelope again, with other bytes and perhaps another living body. Marks stay.
    Rewrite {
        /// The message.
        id: Id,
        /// The body it names from now on.
        body: Id,
        /// Opaque to the spool.
        bytes: Bytes,
    },
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// On stable storage: survives a power cut.
    #[default]
    Commit,
    /// Handed to the kernel: survives the death of the process, not a power cut.
    Written,
    /// Kept in memory until something happens to the message that is not its deletion: survives nothing.
    Deferred,
}

impl Durability {
    /// The name used in configuration, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Written => "written",
            Self::Deferred => "deferred",
        }
    }

    /// What an acknowledgement means, in one sentence.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Commit => "the message is on stable storage and survives a power cut",
            Self::Written => {
                "the kernel has the message: it survives a crash of the process, not of the host"
            }
            Self::Deferred => {
                "the message is in memory and is written only when its first attempt fails: a crash loses it"
            }
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Proof that a transaction is in the log, with the promise that was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Committed {
    /// What was done before this value came to be.
    pub durability: Durability,
}

pub(crate) type Acknowledgement = Result<Committed, AppendError>;

/// Changes that stand in the log's order already. Awaiting it tells when they are durable; dropping it takes nothing
/// back.
#[derive(Debug)]
pub struct Pending(pub(crate) oneshot::Receiver<Acknowledgement>);

impl Future for Pending {
    type Output = Acknowledgement;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|received| received.unwrap_or(Err(AppendError::Closed)))
    }
}

/// What a thorough compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Segment files before, spare ones included.
    pub segments_before: u64,
    /// Segment files now, spare ones included.
    pub segments_after: u64,
    /// Payload of living records that were written again, in bytes.
    pub bytes_copied: u64,
}

/// A message found alive by recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The message.
    pub id: Id,
    /// Its body; read it with [`crate::Spool::read_body`].
    pub body: Id,
    /// What the newest envelope record holds. A slice of a larger piece of memory, as marks and the bytes of deletes are: whoever
    /// keeps some of them for long copies these.
    pub envelope: Bytes,
    /// Empty, or the newest mark: it replaces those before it.
    pub marks: Vec<Bytes>,
    /// Length of the body in bytes.
    pub body_bytes: u64,
}

/// What opening a spool found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Living messages in the order of their ids.
    pub messages: Vec<Recovered>,
    /// Delete records still in the log, in the order of their ids, so that missing log lines can be written.
    pub deletes: Vec<(Id, Bytes)>,
    /// Torn tails dropped: writes that a crash cut short before anybody was told they were done.
    pub torn: u64,
    /// Damaged regions: durable once, unreadable now; set aside in `damaged/`.
    pub damaged: u64,
    /// Envelopes dropped because their body is nowhere in the log.
    pub orphans: u64,
    /// Segments read.
    pub segments: u64,
    /// Valid records read.
    pub records: u64,
    /// Names of entries in the directory that are not ours and were left alone.
    pub foreign: Vec<String>,
}
