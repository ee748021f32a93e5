//! What a session waits for, and for how long at most.
//!
//! Owns the one table of deadlines on the sending side. The session holds no clock: its caller looks
//! the deadline up before each read or write, and gives the connection up when it passes.

use std::time::Duration;

/// What a session waits for, in the order in which a session comes by them. The value is the index into
/// [`DEADLINES`].
///
/// EHLO comes a second time after STARTTLS. Where MAIL, RCPT and BDAT travel with the body, [`Self::Body`] comes
/// before [`Self::Mail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Phase {
    /// The peer's greeting.
    Banner,
    /// The reply to EHLO or HELO.
    Ehlo,
    /// The reply to STARTTLS, and the handshake behind it.
    StartTls,
    /// A reply to AUTH.
    Auth,
    /// The reply to RSET.
    Rset,
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
    /// 221 after QUIT.
    Quit,
    /// The caller's next transaction.
    Idle,
}

/// The longest wait in each [`Phase`]: KumoMTA's defaults, beside what RFC 5321 4.5.3.2 asks for
/// where that is longer.
pub const DEADLINES: [Duration; 12] = [
    // RFC 5321 4.5.3.2.1 asks for 5 minutes.
    Duration::from_secs(60),
    Duration::from_secs(300),
    // For the reply and the handshake together. No document names a wait.
    Duration::from_secs(30),
    // As long as for MAIL would be long for a check of a password.
    Duration::from_secs(60),
    // RSET, which costs the peer nothing.
    Duration::from_secs(5),
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
    // QUIT: nothing is lost with its reply.
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
