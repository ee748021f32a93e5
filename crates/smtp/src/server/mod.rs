//! The receiving side: bytes of a client in, events out, answers of the caller in, replies out.
//!
//! Owns the order of commands, the limits of a connection and the wording of the replies that need
//! no decision. Refuses to decide about mail: who may send, who exists, what is kept are questions
//! that an [`Event`] puts to the caller. Recipients and bodies are handed on, never stored. A client
//! that breaks the protocol is answered and, after `Limits::errors_max` of that, told to go.
//!
//! The caller's loop:
//!
//! 1. [`Session::greet`], write `out`.
//! 2. [`Session::handle`] with the bytes at hand; drop the `consumed` bytes.
//! 3. On a question, [`Session::accept`], [`Session::accept_with`] or [`Session::reject`]; after a body in LMTP also
//!    [`Session::answer_each`].
//! 4. On [`Event::NeedMore`], write `out` in one piece, read more (within the deadline of
//!    [`Session::phase`]); on [`Event::Quit`] and [`Event::Close`], write `out` and close.
//! 5. On [`Event::StartTls`], write `out`, do the handshake, call [`Session::tls_started`].
//! 6. Again from 2, with what is left of the bytes in front of the new ones.
//!
//! A name before MAIL (EHLO or HELO) is not required, as KumoMTA does not require it either.

mod session;

mod state;

mod commands;

mod body;

mod asked;

mod auth;

mod line;

mod phase;

pub(crate) mod replies;

use crate::address::Path;
pub use crate::auth::Mechanism;
pub use crate::command::{BodyKind, MailParams, RcptParams, XClient};
use crate::extension::Capabilities;
pub use phase::{DEADLINES, Phase};
pub use session::Session;

/// What a client may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest command line in bytes, CRLF included. Default 2048 (RFC 5321 4.5.3.1.4 asks for 512
    /// and more for extensions). Over it: 500 5.2.3, and the rest of the line is discarded.
    pub command_line_bytes_max: usize,
    /// Most recipients of one transaction. Default 1024 (RFC 5321 4.5.3.1.8 asks for 100). Over it: 452 4.5.3.
    pub recipients_max: usize,
    /// Largest message in bytes, announced as SIZE. Default 20 MiB. Over it: 552 5.3.4.
    pub message_bytes_max: u64,
    /// Most messages on one connection. Default 10,000. At the next MAIL: 421 4.5.3.
    pub messages_max: u32,
    /// So many bad commands without an accepted message between them end the connection. Default 16; the last is answered 421 4.7.0.
    pub errors_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line_bytes_max: 2048,
            recipients_max: 1024,
            message_bytes_max: 20 * 1024 * 1024,
            messages_max: 10_000,
            errors_max: 16,
        }
    }
}

/// What all sessions of one listener share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Stands in the greeting and in the reply to EHLO. Default `localhost`.
    pub hostname: String,
    /// Follows the host name in the greeting. Default `ESMTP ready`.
    pub banner: String,
    /// Limits of each session.
    pub limits: Limits,
    /// Announce PIPELINING. Pipelined input is read either way.
    pub pipelining: bool,
    /// Announce CHUNKING and know BDAT.
    pub chunking: bool,
    /// Announce 8BITMIME and know BODY=.
    pub eight_bit_mime: bool,
    /// Announce SMTPUTF8 and know it in MAIL.
    pub smtputf8: bool,
    /// Announce ENHANCEDSTATUSCODES and write them.
    pub enhanced_status_codes: bool,
    /// Announce STARTTLS until TLS is up, and know it. Default off.
    pub starttls: bool,
    /// Announce AUTH with these mechanisms, and know them. Default none: AUTH is unknown.
    pub auth: Vec<Mechanism>,
    /// Speak LMTP (RFC 2033): LHLO in place of EHLO and HELO, and after a body one reply for each accepted
    /// recipient. Default off.
    pub lmtp: bool,
    /// Refuse MAIL and AUTH with 530 until TLS is up (RFC 3207 4). Default off.
    pub tls_needed: bool,
    /// Announce AUTH through TLS only, and refuse it with 524 before. Default off.
    pub auth_needs_tls: bool,
    /// Announce DSN and know its parameters. Default off.
    pub dsn: bool,
    /// Announce BINARYMIME and know it in MAIL. Default off.
    pub binary_mime: bool,
    /// Announce REQUIRETLS through TLS and know it in MAIL there. Default off.
    pub require_tls: bool,
    /// Announce the limits of messages and recipients (RFC 9422). Default off.
    pub announce_limits: bool,
    /// Announce XCLIENT and know it. Default off.
    pub xclient: bool,
    /// What the caller is asked. Default [`Questions::Few`].
    pub questions: Questions,
}

/// How much a session asks of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Questions {
    /// What every server has to decide: EHLO, MAIL, RCPT, AUTH and the body.
    #[default]
    Few,
    /// Every command, the others as [`Event::Command`].
    All,
}

/// A command that is asked about with [`Questions::All`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// DATA, before 354. Rejected, the transaction stays open.
    Data,
    /// The first BDAT of a message. Rejected, its octets are skipped first, and the transaction is over.
    Bdat,
    /// RSET. Rejected, the transaction stays open.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// QUIT. Rejected, the session goes on.
    Quit,
    /// STARTTLS, before 220.
    StartTls,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hostname: "localhost".into(),
            banner: "ESMTP ready".into(),
            limits: Limits::default(),
            pipelining: true,
            chunking: true,
            eight_bit_mime: true,
            smtputf8: true,
            enhanced_status_codes: true,
            starttls: false,
            auth: Vec::new(),
            lmtp: false,
            tls_needed: false,
            auth_needs_tls: false,
            dsn: false,
            binary_mime: false,
            require_tls: false,
            announce_limits: false,
            xclient: false,
            questions: Questions::Few,
        }
    }
}

impl Config {
    /// What the reply to EHLO lists, in the clear or through TLS.
    #[must_use]
    pub fn capabilities(&self, secure: bool) -> Capabilities {
        let auth = if secure || !self.auth_needs_tls { &self.auth[..] } else { &[] };
        Capabilities {
            pipelining: self.pipelining,
            chunking: self.chunking,
            eight_bit_mime: self.eight_bit_mime,
            smtputf8: self.smtputf8,
            enhanced_status_codes: self.enhanced_status_codes,
            size: Some(self.limits.message_bytes_max),
            starttls: self.starttls && !secure,
            dsn: self.dsn,
            binary_mime: self.binary_mime && self.chunking,
            require_tls: self.require_tls && secure,
            limits: self.announce_limits.then_some((self.limits.messages_max, self.limits.recipients_max)),
            xclient: self.xclient,
            auth: auth.iter().map(|mechanism| mechanism.name().into()).collect(),
        }
    }
}

/// Outcome of one [`Session::handle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'i> {
    /// So many bytes of the input are done with.
    pub consumed: usize,
    /// What they mean.
    pub event: Event<'i>,
}

/// What the caller has to know or to answer. The questions ([`Event::is_question`]) have to be
/// answered before [`Session::handle`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// Write `out`, then read more. Also given while a question is open.
    NeedMore,
    /// Question: EHLO or HELO; in LMTP, LHLO. Accepting writes the extensions.
    Ehlo {
        /// What the client calls itself: visible ASCII, otherwise unchecked.
        domain: &'i str,
        /// EHLO or LHLO, not HELO.
        extended: bool,
    },
    /// Question: may a transaction begin?
    Mail {
        /// The reverse path.
        from: Path<'i>,
        /// SIZE (already within the limit), BODY, SMTPUTF8.
        params: MailParams<'i>,
    },
    /// Question: is this recipient accepted?
    Rcpt {
        /// The forward path, never null.
        to: Path<'i>,
        /// NOTIFY and ORCPT.
        params: RcptParams<'i>,
    },
    /// Question: may this proxy say for whom it speaks? Accepting writes the greeting again, and the client begins anew.
    XClient(XClient),
    /// Question: whose proof is it that will come? [`Session::keys_wanted_of`] names the user, [`Session::challenge`] answers;
    /// [`Session::reject`] ends the exchange and counts towards `Limits::errors_max`. Comes with SCRAM-SHA-256 only.
    AuthKeys,
    /// Question: may this user in? [`Session::login`] has user and password until it is answered, or [`Session::proof`] has
    /// user and judgement. Accepting writes 235; a refusal (535 5.7.8 for wrong ones) counts towards `Limits::errors_max`.
    Auth {
        /// How they came.
        mechanism: Mechanism,
    },
    /// Question, with [`Questions::All`] only: may this command take its usual course?
    Command {
        /// Which one.
        verb: Verb,
    },
    /// 220 is queued: write `out`, do the handshake, call [`Session::tls_started`]. Whatever the input held behind
    /// STARTTLS counts as consumed and is discarded: it came in the clear, from whomever (RFC 3207 6). So is what
    /// is offered before [`Session::tls_started`].
    StartTls,
    /// The body begins; 354 is queued where DATA asked for it.
    BodyStart {
        /// The size of the first BDAT chunk, or SIZE= where that is more; 0 where the client said
        /// nothing. Never over `Limits::message_bytes_max`.
        bytes_expected: u64,
    },
    /// Bytes of the body as meant, dots taken off. Never empty.
    Body(&'i [u8]),
    /// Question: the body is complete; is the message taken?
    BodyEnd,
    /// The open transaction is gone, body included: RSET, a new EHLO, or a body over the limit. The
    /// reply is queued (to EHLO: asked for next).
    Reset,
    /// 221 is queued: write `out` and close.
    Quit,
    /// The last reply (421, or 501 to an unreadable BDAT) is queued: write `out` and close.
    Close,
}

impl Event<'_> {
    /// Whether the caller has to answer.
    #[must_use]
    pub fn is_question(&self) -> bool {
        match self {
            Self::Ehlo { .. } | Self::Mail { .. } | Self::Rcpt { .. } | Self::BodyEnd => true,
            Self::AuthKeys | Self::Auth { .. } | Self::Command { .. } | Self::XClient(_) => true,
            Self::NeedMore | Self::StartTls | Self::BodyStart { .. } | Self::Body(_) => false,
            Self::Reset | Self::Quit | Self::Close => false,
        }
    }
}
