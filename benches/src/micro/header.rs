//! What is put in front of a message: its trace header, and the envelope that carries it to the disk.
//!
//! It owns one transaction as kumod's intake sees it and makes both anew each time, as intake does for every recipient. Nothing here fails.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use kumod::client::Client;
use kumod::clock::UnixMs;
use kumod::config::SmtpListener;
use kumod::envelope::{Envelope, IdSource, MessageId, Meta, NodeId};
use kumod::intake::header_prefix;

use super::measure::repeatedly;
use super::{Operation, Spent};
use crate::error::Result;

/// Messages that share a second, and with it the text of the date.
const MESSAGES_PER_SECOND: u64 = 10_000;
const RECIPIENT: &str = "recipient@example.org";
/// Any time will do, as long as it is always the same.
const STARTED: UnixMs = UnixMs(1_700_000_000_000);

/// Headers for one message after the other.
pub struct Headers {
    client: Client,
    envelope: Envelope,
    ids: IdSource,
    made: u64,
}

impl Default for Headers {
    fn default() -> Self {
        let peer = ([192, 0, 2, 1], 40_000).into();
        let client = Client {
            received_from: peer,
            received_via: ([192, 0, 2, 25], 25).into(),
            helo: "client.example.com".to_owned(),
            extended: true,
            original: None,
            user: None,
            tls: None,
            hostname: Arc::from("mx.example.net"),
            listener: Arc::new(SmtpListener::default()),
        };
        let envelope = Envelope {
            id: MessageId([0; 16]),
            body: MessageId([0; 16]),
            body_bytes: 1000,
            sender: "sender@example.com".to_owned(),
            recipients: vec![RECIPIENT.to_owned()],
            queue: "example.org".to_owned(),
            created: STARTED,
            received_from: Some(peer),
            eight_bit: false,
            smtputf8: false,
            header_prefix: Bytes::new(),
            requests: None,
            scheduling: None,
            meta: Meta::new(),
        };
        Self { client, envelope, ids: IdSource::new(NodeId(1), 0), made: 0 }
    }
}

impl Headers {
    /// A trace header and the stored form of the envelope that carries it.
    pub fn once(&mut self) -> Bytes {
        self.made += 1;
        let now = UnixMs(STARTED.0 + self.made * 1000 / MESSAGES_PER_SECOND);
        self.envelope.id = self.ids.next(now);
        self.envelope.created = now;
        let Envelope { id, meta, .. } = &self.envelope;
        self.envelope.header_prefix = header_prefix(&self.client, *id, &[black_box(RECIPIENT)], meta, now);
        self.envelope.encode()
    }
}

impl Operation for Headers {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        Ok(repeatedly(operations, || self.once()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn each_envelope_has_a_header_with_its_own_id() {
        let mut headers = Headers::default();
        let [one, other] = [headers.once(), headers.once()].map(|bytes| Envelope::decode(&bytes).unwrap());
        assert!(one.id < other.id);
        for envelope in [one, other] {
            let prefix = String::from_utf8(envelope.header_prefix.to_vec()).unwrap();
            assert!(prefix.starts_with("Received: from client.example.com ([192.0.2.1])"), "{prefix}");
            assert!(prefix.contains(&envelope.id.to_string()) && prefix.contains(RECIPIENT), "{prefix}");
        }
    }
}
