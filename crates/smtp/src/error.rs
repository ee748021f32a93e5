//! What can go wrong on the wire, sorted by who is to blame.
//!
//! Owns the errors of both sides and the reply that each error of a client gets from our server.
//! Refuses catch-alls: every variant names one rule. Nothing here fails.

use crate::address::AddressError;
use crate::auth::Mechanism;
use crate::client::Secured;
use crate::reply::Reply;

/// Who has to change something before the same exchange can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer broke a rule of the protocol.
    PeerMisbehaved,
    /// The peer kept to the protocol but cannot do what was asked of it.
    PeerIncapable,
    /// The caller of this crate used it out of order or with impossible arguments.
    ApiMisuse,
}

/// A rule that a client broke in a command. Each has a fixed reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PeerMisbehaved {
    /// The command line is longer than `Limits::command_line_bytes_max`. The line is discarded.
    #[error("command line longer than the limit")]
    LineTooLong,
    /// A CR without LF, or an LF without CR (RFC 5321 2.3.8).
    #[error("bare CR or LF in a command line")]
    BareLineEnding,
    /// The line holds a control character, or bytes that are not UTF-8.
    #[error("command line is not text")]
    NotText,
    /// The verb is none of ours.
    #[error("unknown command")]
    UnknownCommand,
    /// The argument is missing, superfluous or malformed.
    #[error("bad argument")]
    Syntax,
    /// The reverse path does not parse.
    #[error("bad sender address: {0}")]
    BadSender(AddressError),
    /// The forward path does not parse.
    #[error("bad recipient address: {0}")]
    BadRecipient(AddressError),
    /// MAIL or RCPT carries a parameter that was not announced.
    #[error("parameter not supported")]
    UnknownParameter,
    /// MAIL declares more bytes than `Limits::message_bytes_max` (RFC 1870 6.1).
    #[error("declared size over the limit")]
    SizeTooLarge,
    /// RCPT, DATA or BDAT without MAIL.
    #[error("no MAIL before")]
    NeedMail,
    /// DATA or BDAT without RCPT.
    #[error("no RCPT before")]
    NeedRecipient,
    /// DATA where every RCPT was refused (RFC 5321 3.3).
    #[error("no recipient was accepted")]
    NoRecipientAccepted,
    /// MAIL while a transaction is open (RFC 5321 4.1.4).
    #[error("transaction already open")]
    NestedMail,
    /// MAIL, RCPT or DATA between BDAT chunks (RFC 3030 2).
    #[error("BDAT transaction open")]
    ChunksOpen,
    /// BDAT with a size that is not a number: the stream cannot be followed any further.
    #[error("BDAT size is not a number")]
    ChunkSizeUnreadable,
    /// STARTTLS where TLS is up already (RFC 3207 4).
    #[error("TLS is up already")]
    TlsTwice,
    /// MAIL in the clear where TLS is needed (RFC 3207 4).
    #[error("TLS is needed first")]
    TlsNeeded,
    /// AUTH in the clear where passwords do not travel so (RFC 4954 4).
    #[error("AUTH needs TLS")]
    AuthNeedsTls,
    /// DATA for BODY=BINARYMIME (RFC 3030 3).
    #[error("BINARYMIME by DATA")]
    BinaryByData,
    /// STARTTLS or AUTH while a transaction is open (RFC 4954 4).
    #[error("not within a transaction")]
    TransactionOpen,
    /// AUTH after a successful AUTH (RFC 4954 4).
    #[error("already authenticated")]
    AuthTwice,
    /// AUTH with a mechanism that was not announced.
    #[error("mechanism of AUTH not supported")]
    UnknownMechanism,
    /// A response that is not what the mechanism asks for, in base64.
    #[error("malformed response in AUTH")]
    AuthMalformed,
    /// PLAIN asks to act for somebody other than the user (RFC 4616 2).
    #[error("AUTH for another identity")]
    AuthForAnother,
    /// The client gave AUTH up with `*` (RFC 4954 4).
    #[error("AUTH cancelled")]
    AuthCancelled,
    /// A response longer than `auth::AUTH_LINE_BYTES_MAX`. The line is discarded, AUTH is over.
    #[error("line of AUTH longer than {} bytes", crate::auth::AUTH_LINE_BYTES_MAX)]
    AuthLineTooLong,
    /// A command other than QUIT after a greeting that refused (RFC 5321 3.1).
    #[error("the greeting refused")]
    TurnedAway,
}

impl PeerMisbehaved {
    /// The reply that the client gets.
    #[must_use]
    pub fn reply(self) -> &'static Reply {
        use crate::server::replies as r;
        match self {
            Self::LineTooLong => &r::LINE_TOO_LONG,
            Self::BareLineEnding => &r::BARE_LINE_ENDING,
            Self::NotText => &r::NOT_TEXT,
            Self::UnknownCommand => &r::UNKNOWN_COMMAND,
            Self::Syntax => &r::SYNTAX,
            Self::BadSender(AddressError::Utf8Needed) | Self::BadRecipient(AddressError::Utf8Needed) => {
                &r::UTF8_NEEDED
            }
            Self::BadSender(_) => &r::BAD_SENDER,
            Self::BadRecipient(_) => &r::BAD_RECIPIENT,
            Self::UnknownParameter => &r::UNKNOWN_PARAMETER,
            Self::SizeTooLarge => &r::SIZE_TOO_LARGE,
            Self::NeedMail => &r::NEED_MAIL,
            Self::NeedRecipient => &r::NEED_RECIPIENT,
            Self::NoRecipientAccepted => &r::NO_RECIPIENT_ACCEPTED,
            Self::NestedMail => &r::NESTED_MAIL,
            Self::ChunksOpen => &r::CHUNKS_OPEN,
            Self::ChunkSizeUnreadable => &r::CHUNK_SIZE_UNREADABLE,
            Self::TlsTwice => &r::TLS_TWICE,
            Self::TlsNeeded => &r::TLS_NEEDED,
            Self::AuthNeedsTls => &r::AUTH_NEEDS_TLS,
            Self::BinaryByData => &r::BINARY_BY_DATA,
            Self::TransactionOpen => &r::NESTED_MAIL,
            Self::AuthTwice => &r::AUTH_TWICE,
            Self::UnknownMechanism => &r::UNKNOWN_MECHANISM,
            Self::AuthMalformed => &r::AUTH_MALFORMED,
            Self::AuthForAnother => &r::AUTH_FOR_ANOTHER,
            Self::AuthCancelled => &r::AUTH_CANCELLED,
            Self::AuthLineTooLong => &r::AUTH_LINE_TOO_LONG,
            Self::TurnedAway => &r::TURNED_AWAY,
        }
    }

    /// Whether the command counts towards `Limits::errors_max`. A message that is too large, and
    /// a DATA after refused recipients, are what a correct client does.
    #[must_use]
    pub fn counts(self) -> bool {
        !matches!(self, Self::SizeTooLarge | Self::NoRecipientAccepted)
    }
}

/// A server that cannot be understood, or that lacks what the caller insists on; the client session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PeerError {
    /// A reply line is longer than `reply::REPLY_LINE_BYTES_MAX`.
    #[error("peer misbehaved: reply line longer than {} bytes", crate::reply::REPLY_LINE_BYTES_MAX)]
    ReplyLineTooLong,
    /// A reply has more lines than `reply::REPLY_LINES_MAX`.
    #[error("peer misbehaved: reply of more than {} lines", crate::reply::REPLY_LINES_MAX)]
    ReplyTooManyLines,
    /// A line does not begin with three digits from 200 to 599 and a space or hyphen.
    #[error("peer misbehaved: not an SMTP reply (expected three digits, then space or hyphen)")]
    ReplyMalformed,
    /// The lines of one reply carry different codes (RFC 5321 4.2.1).
    #[error("peer misbehaved: lines of one reply carry different codes")]
    ReplyCodesDiffer,
    /// A reply came that no command asked for, or that cannot answer the command: 354 to anything
    /// but DATA, 2xx to DATA.
    #[error("peer misbehaved: reply {code} does not answer any command of ours")]
    UnexpectedReply {
        /// The code of that reply.
        code: u16,
    },
    /// The peer sent more behind its consent to STARTTLS: what came before TLS must not be taken for what
    /// comes through it (RFC 3207 6).
    #[error("peer misbehaved: more than a reply came before TLS began; somebody may be tampering")]
    InputBehindStartTls,
    /// `Config::starttls` is `Required` and the peer lacks it.
    #[error("peer does not offer STARTTLS, which was asked for; do without, or use another server")]
    StartTlsNotOffered,
    /// `Config::auth` is set and the peer lacks AUTH, or the mechanism.
    #[error("peer does not offer AUTH {}, which was asked for", .mechanism.map_or("SCRAM-SHA-256, PLAIN or LOGIN", Mechanism::name))]
    AuthNotOffered {
        /// The one that was asked for; `None` where any would have done.
        mechanism: Option<Mechanism>,
    },
    /// The peer offers only mechanisms that send the password, and the connection is not what `Credentials::password_needs` asks for.
    #[error("peer asks for the password itself, which is not sent {}", if .secured.is_some() { "to a peer whose certificate is not verified" } else { "without TLS" })]
    AuthNeedsTls {
        /// What the connection is.
        secured: Option<Secured>,
    },
    /// A challenge of SCRAM that is malformed, does not repeat our nonce, or has iterations out of bounds (RFC 5802 5, RFC 7677 4).
    #[error(
        "peer misbehaved: its challenge in AUTH is malformed, not for this exchange, or asks for fewer than {} or more than {} iterations",
        crate::scram::ITERATIONS_MIN,
        crate::scram::ITERATIONS_MAX
    )]
    AuthChallengeUnusable,
    /// The peer let us in by SCRAM, or tried to, without showing that it knows the password (RFC 5802 5).
    #[error("peer misbehaved: it has not shown that it knows the password; somebody may be in its place")]
    AuthServerUnproven,
}

impl PeerError {
    /// The peer: for what it lacks, or for what it did.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::StartTlsNotOffered | Self::AuthNotOffered { .. } | Self::AuthNeedsTls { .. } => {
                Blame::PeerIncapable
            }
            _ => Blame::PeerMisbehaved,
        }
    }
}

/// Why a transaction cannot begin. Nothing was written, the session stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BeginError {
    /// The peer announced a smaller SIZE (RFC 1870 6.1): bounce, or send less.
    #[error("message is larger than the {limit} bytes that the peer takes")]
    SizeExceeded {
        /// The announced limit in bytes.
        limit: u64,
    },
    /// The body has bytes over 127 and the peer lacks 8BITMIME (RFC 6152).
    #[error("message has 8-bit content and the peer does not offer 8BITMIME")]
    EightBitUnsupported,
    /// The body has no lines, and the peer lacks BINARYMIME or CHUNKING (RFC 3030 3).
    #[error("message is binary and the peer does not offer BINARYMIME and CHUNKING")]
    BinaryUnsupported,
    /// An address or header needs SMTPUTF8 (RFC 6531) and the peer lacks it, or `smtputf8` was not asked for.
    #[error("message needs SMTPUTF8 and the peer does not offer it")]
    Utf8Unsupported,
    /// The message may travel through TLS only (RFC 8689 4.2.1), and there is none, or the peer lacks REQUIRETLS.
    #[error("message must travel through TLS to its end and the peer does not offer REQUIRETLS through TLS")]
    RequireTlsUnsupported,
    /// An address does not parse, or there is no recipient.
    #[error("an address is malformed, or there is no recipient; write local@domain without angle brackets")]
    BadAddress,
    /// A transaction is under way, or the session is not yet greeted, or it is closed.
    #[error("session is not ready: a transaction is open, or it is not greeted yet, or closed")]
    NotReady,
}

impl BeginError {
    /// The peer for what it lacks, the caller for the rest.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::SizeExceeded { .. } | Self::EightBitUnsupported => Blame::PeerIncapable,
            Self::BinaryUnsupported | Self::Utf8Unsupported | Self::RequireTlsUnsupported => {
                Blame::PeerIncapable
            }
            Self::BadAddress | Self::NotReady => Blame::ApiMisuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_misbehaviour_has_its_reply() {
        let table = [
            (PeerMisbehaved::LineTooLong, "500 5.2.3"),
            (PeerMisbehaved::BareLineEnding, "500 5.5.2"),
            (PeerMisbehaved::NotText, "500 5.5.2"),
            (PeerMisbehaved::UnknownCommand, "500 5.5.1"),
            (PeerMisbehaved::Syntax, "501 5.5.4"),
            (PeerMisbehaved::BadSender(AddressError::Empty), "501 5.1.7"),
            (PeerMisbehaved::BadRecipient(AddressError::Empty), "501 5.1.3"),
            (PeerMisbehaved::BadRecipient(AddressError::Utf8Needed), "553 5.6.7"),
            (PeerMisbehaved::BadSender(AddressError::Utf8Needed), "553 5.6.7"),
            (PeerMisbehaved::UnknownParameter, "555 5.5.4"),
            (PeerMisbehaved::SizeTooLarge, "552 5.3.4"),
            (PeerMisbehaved::NeedMail, "503 5.5.1"),
            (PeerMisbehaved::NeedRecipient, "503 5.5.1"),
            (PeerMisbehaved::NoRecipientAccepted, "554 5.5.1"),
            (PeerMisbehaved::NestedMail, "503 5.5.1"),
            (PeerMisbehaved::ChunksOpen, "503 5.5.1"),
            (PeerMisbehaved::ChunkSizeUnreadable, "501 5.5.4"),
            (PeerMisbehaved::TlsTwice, "503 5.5.1"),
            (PeerMisbehaved::TransactionOpen, "503 5.5.1"),
            (PeerMisbehaved::AuthTwice, "503 5.5.1"),
            (PeerMisbehaved::UnknownMechanism, "504 5.5.4"),
            (PeerMisbehaved::AuthMalformed, "501 5.5.2"),
            (PeerMisbehaved::AuthForAnother, "535 5.7.8"),
            (PeerMisbehaved::AuthCancelled, "501 5.7.0"),
            (PeerMisbehaved::AuthLineTooLong, "500 5.5.6"),
            (PeerMisbehaved::TurnedAway, "503 5.5.1"),
        ];
        for (error, expected) in table {
            assert!(error.reply().to_string().starts_with(expected), "{error:?}: {}", error.reply());
        }
    }

    #[test]
    fn blame_is_sorted() {
        assert_eq!(BeginError::NotReady.blame(), Blame::ApiMisuse);
        assert_eq!(BeginError::SizeExceeded { limit: 1 }.blame(), Blame::PeerIncapable);
        assert_eq!(PeerError::ReplyMalformed.blame(), Blame::PeerMisbehaved);
        assert_eq!(PeerError::StartTlsNotOffered.blame(), Blame::PeerIncapable);
    }
}
