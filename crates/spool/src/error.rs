//! Why something did not work, and who has to act: the caller, the operator, or the host.
//! One small enum per operation. An error says what was given, which rule it broke, and the remedy.

use std::io;
use std::path::PathBuf;

use crate::types::Id;

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Operator: two processes on one spool would write over each other.
    #[error("spool {dir} is in use by process {holder}: stop that process or choose another directory")]
    Locked {
        /// The spool's directory.
        dir: PathBuf,
        /// Process id that the lock file names, or "unknown".
        holder: String,
    },
    /// Operator: an option is out of its range.
    #[error("spool option {option} is {value}: {rule}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was given.
        value: u64,
        /// What is allowed.
        rule: &'static str,
    },
    /// Host: a file operation failed.
    #[error("spool {dir}: cannot {action}: {source}")]
    Host {
        /// The spool's directory.
        dir: PathBuf,
        /// What was attempted.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Operator: an overlay mounted with `volatile` says that it has synced and has not.
    #[error(
        "spool {dir}: it lies on an overlay mounted with the option volatile, where no sync does anything; \
         mount it without that option, or put the spool on a volume"
    )]
    Volatile {
        /// The spool's directory.
        dir: PathBuf,
    },
    /// Operator: the back end was named explicitly and this host refuses it.
    #[error("spool {dir}: backend uring was asked for, but {reason}; use auto or threads")]
    Uring {
        /// The spool's directory.
        dir: PathBuf,
        /// Which step was refused and why.
        reason: String,
    },
}

/// Why something was not appended. Nothing of the transaction is alive unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Operator: the disk is at its floor. New bodies are refused, deletes and marks are taken.
    #[error(
        "the spool is full: {free_bytes} bytes and {free_inodes} inodes are free; free some space or lower the floor"
    )]
    Full {
        /// Bytes free when it was last looked at.
        free_bytes: u64,
        /// Inodes free when it was last looked at.
        free_inodes: u64,
    },
    /// Caller: more than one transaction may hold.
    #[error("transaction has {given} {what}, the limit is {limit}")]
    TooLarge {
        /// "bytes" or "records".
        what: &'static str,
        /// What was given.
        given: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Caller: ids are used once.
    #[error("id {0} is in use: every body and every envelope needs an id of its own")]
    IdInUse(Id),
    /// Caller: an envelope names a body that is not alive.
    #[error("body {0} is not alive: an envelope must name a body of its transaction or a living one")]
    UnknownBody(Id),
    /// Caller: a body that no envelope of its transaction names would be dead on arrival.
    #[error("body {0} comes without an envelope that names it")]
    BodyWithoutEnvelope(Id),
    /// Caller: as many as the limit allows are waiting; use [`crate::Spool::settle`], which waits.
    #[error("{limit} of this kind are waiting already; wait for some of them")]
    Busy {
        /// [`crate::QUEUE_CHANGES_MAX`], or 1 for a compaction.
        limit: usize,
    },
    /// Host: the write failed here and again elsewhere. Whether it is on the disk is unknown.
    #[error("the spool cannot write: {reason}; replace the disk or free it, then restart")]
    Failed {
        /// What the kernel said.
        reason: String,
    },
    /// Us or the caller: the spool was closed.
    #[error("the spool is closed")]
    Closed,
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Caller: no such body, or its last envelope was deleted.
    #[error("body {0} is not in the spool")]
    NotFound(Id),
    /// Host: what was written is not what is read.
    #[error(
        "body {id} is damaged: segment {segment:08}, offset {offset}: {what}; set the message aside, do not send it"
    )]
    Damaged {
        /// The body.
        id: Id,
        /// Number of the segment file.
        segment: u32,
        /// Byte offset of the record in it.
        offset: u64,
        /// Which check failed.
        what: &'static str,
    },
    /// Host: the read itself failed.
    #[error("body {id}: segment {segment:08}, offset {offset}: {source}")]
    Host {
        /// The body.
        id: Id,
        /// Number of the segment file.
        segment: u32,
        /// Byte offset of the record in it.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
}
