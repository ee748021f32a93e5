//! What a session waits for, and for how long at most.
//!
//! Owns the one table of deadlines on the sending side. The session holds no clock: its caller looks
//! the deadline up before each read or write, and gives the connection up when it passes.

use std::time::Duration;

/// What a session waits for. The value is the index into [`DEADLINES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Phase {
    /// The peer's greeting.
    Banner,
    /// The reply to EHLO or HELO.
    Ehlo,
    /// The reply to MAIL.
    Mail,
    /// A reply to RCPT.
    Rcpt,
    /// 354 after DATA.
    Data,
    /// The peer to take the body: each write.
    Body,
    /// The reply to the final dot, or to BDAT LAST.
    FinalDot,
    /// The reply to RSET.
    Rset,
    /// 221 after QUIT.
    Quit,
    /// The caller's next transaction.
    Idle,
}

/// The longest wait in each [`Phase`]: KumoMTA's defaults, beside what RFC 5321 4.5.3.2 asks for
/// where that is longer.
pub const DEADLINES: [Duration; 10] = [
    // RFC 5321 4.5.3.2.1 asks for 5 minutes.
    Duration::from_secs(60),
    Duration::from_secs(300),
    // RFC 5321 4.5.3.2.2: 5 minutes.
    Duration::from_secs(300),
    // RFC 5321 4.5.3.2.3: 5 minutes.
    Duration::from_secs(300),
    // RFC 5321 4.5.3.2.4 asks for 2 minutes.
    Duration::from_secs(30),
    // RFC 5321 4.5.3.2.5: 3 minutes for each block.
    Duration::from_secs(180),
    // RFC 5321 4.5.3.2.6 asks for 10 minutes; giving up early risks a second delivery.
    Duration::from_secs(60),
    Duration::from_secs(5),
    Duration::from_secs(5),
    // How long an open connection is worth keeping.
    Duration::from_secs(60),
];

const _: () = assert!(DEADLINES.len() == Phase::Idle as usize + 1);

impl Phase {
    /// The deadline of this phase.
    #[must_use]
    pub fn deadline(self) -> Duration {
        DEADLINES[self as usize]
    }
}
