//! The envelope of a message (RFC 5321 2.3.1), its id, and what became of each recipient.
//!
//! An envelope holds everything about one message but its body, which it names by id: messages of one transaction share
//! a body, and an envelope can be rewritten alone. It has one versioned codec; what it cannot read it refuses with the reason,
//! and never guesses.

mod requests;
mod scheduling;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes};
use smtp::dsn::AskedOfRecipient;
use thiserror::Error;

use crate::clock::UnixMs;
pub use requests::{RecipientRequests, Requests};
pub use scheduling::{Scheduling, Window, WrittenScheduling};

/// Free-form values that policy attaches to a message; `queue`, `tenant`, `campaign` and `routing_domain` steer it.
pub type Meta = serde_json::Map<String, serde_json::Value>;

/// The number of this node in its cluster. Part of every id, so that two nodes never make the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(pub u32);

/// 16 bytes that name a message, or a body, once in the life of a cluster, and sort by time of birth.
///
/// Bytes 0 to 5 are milliseconds since 1970, 6 to 9 the node, 10 to 15 a counter that starts at random with each process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// When the message was born.
    pub fn created(self) -> UnixMs {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        UnixMs(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = valid.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number
            .map(|n| Self(n.to_be_bytes()))
            .ok_or_else(|| format!("{text:?} is not an id: 32 hexadecimal digits"))
    }
}

/// Makes ids. One for the whole process; cheap, and safe to share.
#[derive(Debug)]
pub struct IdSource {
    node: NodeId,
    counter: AtomicU64,
}

impl IdSource {
    /// A source for this node whose counter starts at `start` (random, so that a restart within one millisecond is safe).
    pub fn new(node: NodeId, start: u64) -> Self {
        Self { node, counter: AtomicU64::new(start) }
    }

    /// The next id.
    pub fn next(&self, now: UnixMs) -> MessageId {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        id[6..10].copy_from_slice(&self.node.0.to_be_bytes());
        id[10..].copy_from_slice(&count.to_be_bytes()[2..]);
        MessageId(id)
    }
}

/// One message: who sent it to whom, when and how it came, and where its body lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The message.
    pub id: MessageId,
    /// Its body, possibly shared with other messages of the same transaction.
    pub body: MessageId,
    /// Bytes of the body as received, without the header prefix.
    pub body_bytes: u64,
    /// The reverse path; empty is the null sender.
    pub sender: String,
    /// The forward paths, at least one.
    pub recipients: Vec<String>,
    /// The name of the scheduled queue: `campaign:tenant@domain!routing_domain`.
    pub queue: String,
    /// When it was accepted.
    pub created: UnixMs,
    /// The client it came from.
    pub received_from: Option<SocketAddr>,
    /// Whether the body has bytes above 127.
    pub eight_bit: bool,
    /// Whether the transaction asked for SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// Headers that we put before the body, for this message alone.
    pub header_prefix: Bytes,
    /// What policy attached.
    pub meta: Meta,
    /// What the sender asked for about notifications, where that is anything.
    pub requests: Option<Box<Requests>>,
    /// When it may be sent, where policy said so.
    pub scheduling: Option<Box<Scheduling>>,
}

/// The first byte of an encoded envelope of which nothing was asked.
const ENVELOPE_VERSION: u8 = 1;
/// The first byte of one that ends in what was asked for; a kumod that does not know of it must not pass over it.
const ENVELOPE_VERSION_WITH_REQUESTS: u8 = 2;
/// The first byte of one that ends in when it may be sent, with what was asked for before that if a flag says so.
const ENVELOPE_VERSION_WITH_SCHEDULING: u8 = 3;
/// The first byte of an encoded mark.
const MARK_VERSION: u8 = 1;
const FLAG_EIGHT_BIT: u8 = 1;
const FLAG_SMTPUTF8: u8 = 2;
/// In version 3 only; version 2 says so itself.
const FLAG_REQUESTS: u8 = 128;

/// Why stored bytes are not an envelope or a mark.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by a later version.
    #[error("{what} has version {version}, which this kumod does not read; it was written by a later one")]
    Version {
        /// What was being read.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// The bytes end too early, or a field is not what it must be.
    #[error("{what}: field {field} is cut short or not valid")]
    Field {
        /// What was being read.
        what: &'static str,
        /// The field that failed.
        field: &'static str,
    },
}

impl Envelope {
    /// Bytes of the whole message as it is sent: prefix and body.
    pub fn message_bytes(&self) -> u64 {
        self.body_bytes + self.header_prefix.len() as u64
    }

    /// What was asked for about those recipients that are still open, in their order; nothing where nothing was asked for at all.
    pub fn asked_of(&self, open: &[&str]) -> Vec<AskedOfRecipient<'_>> {
        let Some(requests) = &self.requests else { return Vec::new() };
        let of = |address: &&str| {
            let at = self.recipients.iter().position(|recipient| recipient == address);
            let asked = at.and_then(|at| requests.recipients.get(at));
            asked.map_or_else(AskedOfRecipient::default, |asked| AskedOfRecipient {
                notify: asked.notify,
                orcpt: asked.orcpt.as_deref(),
            })
        };
        open.iter().map(of).collect()
    }

    /// The stored form.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(192 + self.header_prefix.len());
        let (version, more) = match (&self.scheduling, &self.requests) {
            (None, None) => (ENVELOPE_VERSION, 0),
            (None, Some(_)) => (ENVELOPE_VERSION_WITH_REQUESTS, 0),
            (Some(_), None) => (ENVELOPE_VERSION_WITH_SCHEDULING, 0),
            (Some(_), Some(_)) => (ENVELOPE_VERSION_WITH_SCHEDULING, FLAG_REQUESTS),
        };
        let eight_bit = if self.eight_bit { FLAG_EIGHT_BIT } else { 0 };
        let smtputf8 = if self.smtputf8 { FLAG_SMTPUTF8 } else { 0 };
        out.extend([version, eight_bit | smtputf8 | more]);
        out.put_slice(&self.id.0);
        out.put_slice(&self.body.0);
        out.put_u64_le(self.body_bytes);
        out.put_u64_le(self.created.0);
        put_bytes(&mut out, self.received_from.map(|peer| peer.to_string()).unwrap_or_default().as_bytes());
        put_bytes(&mut out, self.sender.as_bytes());
        put_bytes(&mut out, self.queue.as_bytes());
        put_bytes(&mut out, &self.header_prefix);
        let meta = if self.meta.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&self.meta).unwrap_or_default()
        };
        put_bytes(&mut out, &meta);
        put_length(&mut out, self.recipients.len());
        for recipient in &self.recipients {
            put_bytes(&mut out, recipient.as_bytes());
        }
        if let Some(requests) = &self.requests {
            requests.encode(&mut out);
        }
        if let Some(scheduling) = &self.scheduling {
            scheduling.encode(&mut out);
        }
        Bytes::from(out)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] names the field that is not valid.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader { what: "envelope", rest: bytes.clone() };
        let known = [ENVELOPE_VERSION, ENVELOPE_VERSION_WITH_REQUESTS, ENVELOPE_VERSION_WITH_SCHEDULING];
        let version = reader.version(&known)?;
        let flags = reader.array::<1>("flags")?[0];
        let id = MessageId(reader.array("id")?);
        let body = MessageId(reader.array("body")?);
        let body_bytes = reader.u64("body_bytes")?;
        let created = UnixMs(reader.u64("created")?);
        let peer = reader.text("received_from")?;
        let sender = reader.text("sender")?;
        let queue = reader.text("queue")?;
        let header_prefix = reader.bytes("header_prefix")?;
        let meta = reader.meta()?;
        let recipients = reader.texts("recipients")?;
        let has_scheduling = version == ENVELOPE_VERSION_WITH_SCHEDULING;
        let has_requests =
            version == ENVELOPE_VERSION_WITH_REQUESTS || (has_scheduling && flags & FLAG_REQUESTS != 0);
        let requests = has_requests.then(|| Requests::decode(&mut reader).map(Box::new)).transpose()?;
        let scheduling = has_scheduling.then(|| Scheduling::decode(&mut reader).map(Box::new)).transpose()?;
        Ok(Self {
            id,
            body,
            body_bytes,
            sender,
            recipients,
            queue,
            created,
            received_from: if peer.is_empty() { None } else { peer.parse().ok() },
            eight_bit: flags & FLAG_EIGHT_BIT != 0,
            smtputf8: flags & FLAG_SMTPUTF8 != 0,
            header_prefix,
            meta,
            requests,
            scheduling,
        })
    }
}

/// What an attempt changed: kept beside the envelope, so that a restart goes on where the process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Attempts so far.
    pub attempts: u32,
    /// When the next one is due.
    pub due: UnixMs,
    /// For each recipient, whether it needs nothing more.
    pub done: Vec<bool>,
}

impl Mark {
    /// The stored form.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(17 + self.done.len());
        out.push(MARK_VERSION);
        out.put_u32_le(self.attempts);
        out.put_u64_le(self.due.0);
        let done: Vec<u8> = self.done.iter().map(|done| u8::from(*done)).collect();
        put_bytes(&mut out, &done);
        Bytes::from(out)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] names the field that is not valid.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader { what: "mark", rest: bytes.clone() };
        reader.version(&[MARK_VERSION])?;
        let attempts = u32::from_le_bytes(reader.array("attempts")?);
        let due = UnixMs(reader.u64("due")?);
        let done = reader.bytes("done")?.iter().map(|byte| *byte != 0).collect();
        Ok(Self { attempts, due, done })
    }
}

/// What a server, or kumod itself in its stead, said of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The reply code (RFC 5321 4.2).
    pub code: u16,
    /// The enhanced code (RFC 3463): class, subject, detail.
    pub enhanced: Option<(u8, u16, u16)>,
    /// The text after the codes.
    pub content: String,
}

impl Response {
    /// A response that kumod gives in place of a server.
    pub fn internal(code: u16, enhanced: (u8, u16, u16), content: impl Into<String>) -> Self {
        Self { code, enhanced: Some(enhanced), content: content.into() }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some((class, subject, detail)) = self.enhanced {
            write!(f, " {class}.{subject}.{detail}")?;
        }
        write!(f, " {}", self.content)
    }
}

/// How one attempt ended for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop has taken responsibility.
    Delivered(Response),
    /// Not now; try again.
    Retry(Response),
    /// Never; the sender must be told.
    Failed(Response),
}

impl Outcome {
    /// What was said.
    pub fn response(&self) -> &Response {
        match self {
            Self::Delivered(response) | Self::Retry(response) | Self::Failed(response) => response,
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Takes fields off the front of stored bytes, never past their end.
struct Reader {
    what: &'static str,
    rest: Bytes,
}

impl Reader {
    fn short(&self, field: &'static str) -> DecodeError {
        DecodeError::Field { what: self.what, field }
    }

    fn version(&mut self, known: &[u8]) -> Result<u8, DecodeError> {
        let version = self.array::<1>("version")?[0];
        if known.contains(&version) {
            Ok(version)
        } else {
            Err(DecodeError::Version { what: self.what, version })
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        if self.rest.len() < N {
            return Err(self.short(field));
        }
        let taken = self.rest.split_to(N);
        taken[..].try_into().map_err(|_| self.short(field))
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let length = u32::from_le_bytes(self.array(field)?) as usize;
        if self.rest.len() < length { Err(self.short(field)) } else { Ok(self.rest.split_to(length)) }
    }

    fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes(field)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| self.short(field))
    }

    fn texts(&mut self, field: &'static str) -> Result<Vec<String>, DecodeError> {
        let count = u32::from_le_bytes(self.array(field)?);
        (0..count).map(|_| self.text(field)).collect()
    }

    fn meta(&mut self) -> Result<Meta, DecodeError> {
        let bytes = self.bytes("meta")?;
        if bytes.is_empty() {
            return Ok(Meta::new());
        }
        serde_json::from_slice(&bytes).map_err(|_| self.short("meta"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        let ids = (any::<[u8; 16]>(), any::<[u8; 16]>());
        let texts = (".{0,40}", proptest::collection::vec(".{1,40}", 1..5), ".{1,60}");
        let rest =
            (any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>(), any::<Vec<u8>>(), any::<bool>());
        (ids, texts, rest).prop_map(
            |((id, body), (sender, recipients, queue), (size, created, eight, utf8, prefix, meta))| {
                let mut map = Meta::new();
                if meta {
                    map.insert("tenant".to_owned(), sender.clone().into());
                }
                Envelope {
                    id: MessageId(id),
                    body: MessageId(body),
                    body_bytes: size,
                    sender,
                    recipients,
                    queue,
                    created: UnixMs(created),
                    received_from: eight.then(|| "[::1]:2525".parse().unwrap()),
                    eight_bit: eight,
                    smtputf8: utf8,
                    header_prefix: Bytes::from(prefix),
                    requests: utf8.then(|| {
                        let recipient =
                            RecipientRequests { orcpt: Some("rfc822;a@b".to_owned()), notify: None };
                        Box::new(Requests { recipients: vec![recipient], ..Requests::default() })
                    }),
                    scheduling: eight.then(|| {
                        let first_attempt = Some(UnixMs(created));
                        Box::new(Scheduling { first_attempt, ..Scheduling::default() })
                    }),
                    meta: map,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn an_envelope_comes_back_as_it_was(envelope in any_envelope()) {
            prop_assert_eq!(Envelope::decode(&envelope.encode()).unwrap(), envelope);
        }

        #[test]
        fn an_envelope_cut_short_is_refused(envelope in any_envelope(), cut in any::<prop::sample::Index>()) {
            let bytes = envelope.encode();
            let short = bytes.slice(..cut.index(bytes.len()));
            prop_assert!(Envelope::decode(&short).is_err());
        }

        #[test]
        fn stored_garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let bytes = Bytes::from(bytes);
            let _ = Envelope::decode(&bytes).is_ok();
            let _ = Mark::decode(&bytes).is_ok();
        }

        #[test]
        fn a_mark_comes_back_as_it_was(attempts: u32, due: u64, done: Vec<bool>) {
            let mark = Mark { attempts, due: UnixMs(due), done };
            prop_assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
        }
    }

    #[test]
    fn ids_are_unique_sort_by_time_and_read_back() {
        let source = IdSource::new(NodeId(7), u64::MAX - 1);
        let ids: Vec<_> = (0..5).map(|tick| source.next(UnixMs(1_700_000_000_000 + tick))).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(ids[0].created(), UnixMs(1_700_000_000_000));
        assert_eq!(ids[0].to_string().parse::<MessageId>().unwrap(), ids[0]);
        assert!("+".repeat(32).parse::<MessageId>().is_err());
    }
}
