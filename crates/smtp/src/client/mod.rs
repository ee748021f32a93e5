//! The sending side: transactions in, commands out; replies in, results out.
//!
//! Owns the order of commands, what may travel together, and which reply belongs to which command.
//! Refuses to begin what the peer cannot take ([`BeginError`]), before a byte is written. A peer
//! that cannot be understood is a [`PeerError`], and the session is closed; what a refusal means for
//! a message is for the caller to classify.
//!
//! Where the peer offers PIPELINING and CHUNKING a whole transaction (RSET where one is needed,
//! MAIL, every RCPT, BDAT LAST and the body) leaves in one write and costs one round trip. With
//! PIPELINING alone the commands travel together up to DATA; with neither, one by one.
//!
//! The caller's loop: do what [`Next`] says, feed what was read to [`Session::handle`], drop the
//! consumed bytes. After [`Next::WriteBody`] call [`Session::body_written`], then [`Session::handle`]
//! with what input is left, before reading on.
//!
//! TLS is the caller's business: [`Next::StartTls`] says when, [`Session::tls_started`] what came of it. What the
//! peer announced before TLS is forgotten then, and anything that it sent behind its consent is an error, never
//! taken for what comes through TLS.

mod session;

mod opening;

mod authentication;

mod state;

mod result;

mod phase;

pub use crate::auth::{Credentials, Mechanism};
pub use crate::error::{BeginError, PeerError};
pub use phase::{DEADLINES, Phase};
pub use result::{NO_REPLY, TransactionResult};
pub use session::Session;

/// How a session introduces itself, and what it may use if the peer offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The name in EHLO. Default `localhost`.
    pub ehlo_domain: String,
    /// Use PIPELINING.
    pub pipelining: bool,
    /// Use CHUNKING.
    pub chunking: bool,
    /// Speak LMTP (RFC 2033): LHLO, and after the body one reply for each recipient that was accepted.
    pub lmtp: bool,
    /// Whether STARTTLS (RFC 3207) is used.
    pub starttls: StartTls,
    /// Insist on AUTH (RFC 4954), after TLS where that is asked for: a peer that does not offer it is
    /// [`PeerError::AuthNotOffered`], one that refuses is [`Next::Closed`] with its reply in
    /// [`TransactionResult::closing`].
    pub auth: Option<Credentials>,
}

/// Whether a session uses STARTTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StartTls {
    /// Not even where it is offered.
    #[default]
    Off,
    /// Where it is offered. A peer that offers it and then refuses is spoken to in the clear;
    /// [`Session::starttls_refusal`] has its reply.
    IfOffered,
    /// In any case: a peer that does not offer it is [`PeerError::StartTlsNotOffered`], one that refuses is [`Next::Closed`].
    Required,
}

/// TLS is up; what the caller knows of the peer behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secured {
    /// Its certificate is for the name that was asked for, from somebody who may say so.
    pub verified: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ehlo_domain: "localhost".into(),
            pipelining: true,
            chunking: true,
            lmtp: false,
            starttls: StartTls::Off,
            auth: None,
        }
    }
}

/// One message to be sent, as far as the envelope goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction<'a> {
    /// `local@domain` without angle brackets; empty for the null path.
    pub from: &'a str,
    /// `local@domain` without angle brackets; at least one.
    pub recipients: &'a [&'a str],
    /// Octets of the body before dot-stuffing: exactly what follows BDAT.
    pub body_bytes: u64,
    /// The body has bytes over 127.
    pub eight_bit: bool,
    /// An address or a header is in UTF-8.
    pub smtputf8: bool,
    /// The body has no lines (BODY=BINARYMIME): only BDAT can carry it.
    pub binary: bool,
    /// It may travel through TLS only, here and from the peer on (RFC 8689): only a peer that announces REQUIRETLS
    /// through TLS can take it. That its certificate was verified is for the caller to see to (4.2.1).
    pub require_tls: bool,
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Write `out`, then read from the peer, within the deadline of [`Session::phase`].
    Read,
    /// The peer consented to STARTTLS, and nothing is to be written: do the handshake on the connection, call
    /// [`Session::tls_started`], then go on with what that says. A connection whose handshake failed is of no more use.
    StartTls,
    /// Write `out` and behind it the body in this form, call [`Session::body_written`], then read.
    WriteBody(BodyForm),
    /// [`Session::result`] is valid, [`Session::begin`] and [`Session::quit`] may be called.
    Ready,
    /// The session is over: 221 or 421 was read, or the peer refused to talk. Write what is left in `out` if you like, then close.
    Closed,
}

/// How the body goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyForm {
    /// As it is; `BDAT n LAST` stands in `out` already.
    Verbatim,
    /// Dot-stuffed, with the terminator: [`crate::data::stuff`].
    DotStuffed,
}
