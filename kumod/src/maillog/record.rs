//! What a log line looks like: KumoMTA's field names, one JSON object, one line feed at its end.
//!
//! A [`Record`] borrows everything that it shows and is written into memory that the caller uses again, so that a line costs
//! no allocation. Fields that have no value are `null` or empty, never left out: a reader may rely on each of them. Only durations are there
//! where there was something to measure, and in records of attempts alone.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use super::SourceAddress;
use super::timings::Timings;
use crate::clock::UnixMs;
use crate::config::UNSPECIFIED;
use crate::envelope::{Envelope, MessageId, Meta, Outcome, Response};

/// The bounce class of what no rule has classified.
const UNCATEGORIZED: &str = "Uncategorized";

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// A message was taken over from a client.
    Reception,
    /// A next hop has taken it.
    Delivery,
    /// An attempt failed and another will follow.
    TransientFailure,
    /// It was refused for good.
    Bounce,
    /// It became too old.
    Expiration,
    /// An operator gave it up.
    AdminBounce,
}

impl From<&Outcome> for Kind {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Delivered(_) => Self::Delivery,
            Outcome::Retry(_) => Self::TransientFailure,
            Outcome::Failed(_) => Self::Bounce,
        }
    }
}

/// The other end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer<'a> {
    /// What it calls itself, or the name under which it was found.
    pub name: &'a str,
    /// Its address.
    pub addr: IpAddr,
}

/// The way out of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress<'a> {
    /// The pool of the message's queue.
    pub pool: &'a str,
    /// The source that the attempt was made from.
    pub source: &'a str,
    /// Its address, and the port of the connection.
    pub address: Option<SourceAddress>,
    /// What the path calls the provider behind the site.
    pub provider: Option<&'a str>,
    /// `ESMTP` or `LMTP`.
    pub protocol: &'static str,
}

impl Egress<'_> {
    /// The host's default route.
    pub const UNSPECIFIED: Self =
        Self { pool: UNSPECIFIED, source: UNSPECIFIED, address: None, provider: None, protocol: "ESMTP" };
}

/// What a TLS handshake with a server agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// The cipher suite.
    pub cipher: &'static str,
    /// The version of the protocol.
    pub version: &'static str,
    /// The subject of the server's certificate, a text for each of its attributes.
    pub subject: Vec<String>,
}

/// One line of the log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What happened.
    pub kind: Kind,
    /// To which message.
    pub id: MessageId,
    /// Its reverse path.
    pub sender: &'a str,
    /// The recipient that this is about.
    pub recipient: &'a str,
    /// Its scheduled queue.
    pub queue: &'a str,
    /// The site of the next hop; empty where none was chosen.
    pub site: &'a str,
    /// Bytes of the message.
    pub size: u64,
    /// What was said, by the next hop or by us.
    pub response: Option<&'a Response>,
    /// The way out of this host, where an attempt was made.
    pub egress: Egress<'a>,
    /// Who was at the other end.
    pub peer: Option<Peer<'a>>,
    /// When it happened.
    pub at: UnixMs,
    /// Attempts so far, this one included.
    pub num_attempts: u32,
    /// What policy attached.
    pub meta: Option<&'a Meta>,
    /// `ESMTP` or `SMTP`, where mail was sent.
    pub delivery_protocol: Option<&'a str>,
    /// `ESMTP` or `SMTP`, where mail came in.
    pub reception_protocol: Option<&'a str>,
    /// How long the parts of an attempt took.
    pub timings: Option<Timings>,
    /// What the handshake with the server agreed on.
    pub tls: Option<&'a TlsFacts>,
}

/// A message that a client has handed over.
#[derive(Clone, Copy, Debug)]
pub struct Reception<'a> {
    /// The message.
    pub envelope: &'a Envelope,
    /// One of its recipients; each has a record of its own.
    pub recipient: &'a str,
    /// How the client handed it over (RFC 3848).
    pub protocol: &'a str,
}

impl<'a> From<&Reception<'a>> for Record<'a> {
    fn from(reception: &Reception<'a>) -> Self {
        let Reception { envelope, recipient, protocol } = *reception;
        let mut record = Record::of(Kind::Reception, envelope, envelope.created);
        record.peer = envelope.received_from.map(|peer| Peer { name: "", addr: peer.ip() });
        record.recipient = recipient;
        record.reception_protocol = Some(protocol);
        record
    }
}

/// An attempt to deliver a message to one recipient.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// The message.
    pub envelope: &'a Envelope,
    /// The recipient.
    pub recipient: &'a str,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// The site that the ready queue is named for.
    pub site: &'a str,
    /// The way out of this host.
    pub egress: Egress<'a>,
    /// Name and address of the server, where one answered.
    pub peer: Option<(&'a str, SocketAddr)>,
    /// What the handshake agreed on, where there was one.
    pub tls: Option<&'a TlsFacts>,
    /// When the attempt ended.
    pub at: UnixMs,
    /// How long its parts took.
    pub timings: Timings,
}

impl<'a> Attempted<'a> {
    /// Appends the line that tells how the attempt ended.
    pub fn render(&self, outcome: &Outcome, out: &mut Vec<u8>) {
        self.render_as(outcome.into(), outcome, out);
    }

    /// The same, as a record of this kind.
    pub fn render_as(&self, kind: Kind, outcome: &Outcome, out: &mut Vec<u8>) {
        self.record(kind, outcome.response()).render(out);
    }

    /// Appends the line that tells that no further attempt will follow, because the message is too old.
    pub fn render_expiration(&self, response: &Response, out: &mut Vec<u8>) {
        self.record(Kind::Expiration, response).render(out);
    }

    fn record<'r>(&'r self, kind: Kind, response: &'r Response) -> Record<'r>
    where
        'a: 'r,
    {
        Record {
            recipient: self.recipient,
            site: self.site,
            response: Some(response),
            egress: self.egress,
            peer: self.peer.map(|(name, address)| Peer { name, addr: address.ip() }),
            num_attempts: self.attempts,
            tls: self.tls,
            delivery_protocol: Some(self.egress.protocol),
            timings: Some(self.timings),
            ..Record::of(kind, self.envelope, self.at)
        }
    }
}

impl<'a> Record<'a> {
    /// A record of which only message, kind and time are known: what recovery can tell after a power cut.
    pub fn new(kind: Kind, id: MessageId, at: UnixMs) -> Self {
        Self {
            kind,
            id,
            sender: "",
            recipient: "",
            queue: "",
            site: "",
            size: 0,
            response: None,
            egress: Egress::UNSPECIFIED,
            peer: None,
            at,
            num_attempts: 0,
            meta: None,
            delivery_protocol: None,
            reception_protocol: None,
            timings: None,
            tls: None,
        }
    }

    /// A record with all that an envelope tells.
    pub fn of(kind: Kind, envelope: &'a Envelope, at: UnixMs) -> Self {
        Self {
            sender: &envelope.sender,
            recipient: envelope.recipients.first().map_or("", String::as_str),
            queue: &envelope.queue,
            size: envelope.message_bytes(),
            meta: Some(&envelope.meta),
            ..Self::new(kind, envelope.id, at)
        }
    }

    /// Appends the line, its line feed included.
    pub fn render(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if let Err(error) = serde_json::to_writer(&mut *out, self) {
            // Memory takes every byte and every map here has texts for keys, so this is a fault of ours. Half a line would
            // spoil the next one too; none at all leaves the rest readable.
            tracing::error!(%error, id = %self.id, "a log record could not be written as JSON");
            out.truncate(start);
            return;
        }
        out.push(b'\n');
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let created = self.id.created();
        let mut line = serializer.serialize_struct("Record", 33)?;
        line.serialize_field("type", &self.kind)?;
        line.serialize_field("id", &Hexadecimal::of(&self.id.0))?;
        line.serialize_field("sender", self.sender)?;
        line.serialize_field("recipient", self.recipient)?;
        line.serialize_field("queue", self.queue)?;
        line.serialize_field("site", self.site)?;
        line.serialize_field("size", &self.size)?;
        line.serialize_field("response", &ResponseFields(self.response))?;
        line.serialize_field("peer_address", &self.peer)?;
        line.serialize_field("timestamp", &self.at.seconds())?;
        line.serialize_field("created", &created.seconds())?;
        line.serialize_field("num_attempts", &self.num_attempts)?;
        line.serialize_field("bounce_classification", UNCATEGORIZED)?;
        line.serialize_field("egress_pool", self.egress.pool)?;
        line.serialize_field("egress_source", self.egress.source)?;
        line.serialize_field("source_address", &self.egress.address)?;
        line.serialize_field("feedback_report", &None::<()>)?;
        line.serialize_field("meta", &MapOrEmpty(self.meta))?;
        line.serialize_field("headers", &MapOrEmpty(None))?;
        line.serialize_field("delivery_protocol", &self.delivery_protocol)?;
        line.serialize_field("reception_protocol", &self.reception_protocol)?;
        line.serialize_field("nodeid", &Hexadecimal::of(&self.id.0[6..10]))?;
        line.serialize_field("tls_cipher", &self.tls.map(|tls| tls.cipher))?;
        line.serialize_field("tls_protocol_version", &self.tls.map(|tls| tls.version))?;
        line.serialize_field("tls_peer_subject_name", &self.tls.map(|tls| &tls.subject))?;
        line.serialize_field("event_time", &EVENT_TIME.with(|cache| TimeText::of(self.at, cache)))?;
        line.serialize_field("created_time", &CREATED_TIME.with(|cache| TimeText::of(created, cache)))?;
        line.serialize_field("provider_name", &self.egress.provider)?;
        line.serialize_field("session_id", &None::<()>)?;
        if let Some(timings) = &self.timings {
            timings.serialize_into(created, self.at, &mut line)?;
        }
        line.end()
    }
}

/// `response`: always all four fields; where nothing was said, code 250 without a text.
struct ResponseFields<'a>(Option<&'a Response>);

impl Serialize for ResponseFields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct EnhancedCode {
            class: u8,
            subject: u16,
            detail: u16,
        }
        let enhanced = self.0.and_then(|response| response.enhanced);
        let mut fields = serializer.serialize_struct("response", 4)?;
        fields.serialize_field("code", &self.0.map_or(250, |response| response.code))?;
        fields.serialize_field(
            "enhanced_code",
            &enhanced.map(|(class, subject, detail)| EnhancedCode { class, subject, detail }),
        )?;
        fields.serialize_field("content", self.0.map_or("", |response| response.content.as_str()))?;
        fields.serialize_field("command", &None::<()>)?;
        fields.end()
    }
}

struct MapOrEmpty<'a>(Option<&'a Meta>);

impl Serialize for MapOrEmpty<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(map) => map.serialize(serializer),
            None => serializer.serialize_map(Some(0))?.end(),
        }
    }
}

/// Up to 16 bytes as hexadecimal digits, without the formatting machinery: this is written for every record, twice.
struct Hexadecimal {
    digits: [u8; 32],
    length: usize,
}

impl Hexadecimal {
    fn of(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self { digits, length: (2 * bytes.len()).min(32) }
    }
}

impl Serialize for Hexadecimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.digits[..self.length]).unwrap_or_default())
    }
}

/// `2025-06-01T12:00:00`, without the fraction.
type SecondText = [u8; 19];

thread_local! {
    /// The last second that was written as a date, and its text. Two, because a record has two times, far apart.
    static EVENT_TIME: Cell<(i64, SecondText)> = const { Cell::new((i64::MIN, [0; 19])) };
    static CREATED_TIME: Cell<(i64, SecondText)> = const { Cell::new((i64::MIN, [0; 19])) };
}

/// A time in RFC 3339 with milliseconds, UTC. The calendar is asked once a second and thread.
struct TimeText([u8; 24]);

impl TimeText {
    fn of(at: UnixMs, cache: &Cell<(i64, SecondText)>) -> Self {
        let (cached, mut second) = cache.get();
        if cached != at.seconds() {
            second = second_text(at.seconds());
            cache.set((at.seconds(), second));
        }
        let mut text = *b"0000-00-00T00:00:00.000Z";
        text[..19].copy_from_slice(&second);
        let millis = at.0 % 1000;
        for (place, divisor) in [(20, 100), (21, 10), (22, 1)] {
            text[place] = b'0' + u8::try_from(millis / divisor % 10).unwrap_or(0);
        }
        Self(text)
    }
}

/// A time beyond the calendar (year 9999) reads as its beginning; such a clock has other problems.
fn second_text(seconds: i64) -> SecondText {
    let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = timestamp.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    text.as_bytes().try_into().unwrap_or(*b"1970-01-01T00:00:00")
}

impl Serialize for TimeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
