//! What a session waits for, and for how long at most.
//!
//! Owns the one table of deadlines on the receiving side. The session holds no clock: its caller
//! looks the deadline up before each read or wait, and answers 421 4.4.2 when it passes.

use std::time::Duration;

/// What a session waits for. The value is the index into [`DEADLINES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Phase {
    /// The greeting is not written yet.
    Greeting,
    /// The client's next command, or its next response in AUTH.
    Command,
    /// The client's next bytes of a body.
    Data,
    /// The caller's answer to a question.
    Processing,
    /// The TLS handshake that the caller does after STARTTLS.
    Handshake,
}

/// The longest wait in each [`Phase`].
pub const DEADLINES: [Duration; 5] = [
    // Nothing to wait for but our own write.
    Duration::from_secs(60),
    // KumoMTA's `client_timeout`; RFC 5321 4.5.3.2.7 asks for 5 minutes, which invites idlers.
    Duration::from_secs(60),
    // KumoMTA's `client_timeout`, for each read; RFC 5321 4.5.3.2.5 gives the sender 3 minutes for each write.
    Duration::from_secs(60),
    // KumoMTA's `data_processing_timeout`; the sender waits 10 minutes (RFC 5321 4.5.3.2.6).
    Duration::from_secs(300),
    // As long as for a command: a handshake is one.
    Duration::from_secs(60),
];

const _: () = assert!(DEADLINES.len() == Phase::Handshake as usize + 1);

impl Phase {
    /// The deadline of this phase.
    #[must_use]
    pub fn deadline(self) -> Duration {
        DEADLINES[self as usize]
    }
}
