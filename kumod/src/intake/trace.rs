//! What is written in front of a message: `Received`, and where it is wanted a header by which complaints find it again; and
//! what others wrote there, where it shows that the message goes round in circles.
//!
//! Both are different for each message, because they name id and recipient. Names from outside cannot forge a header:
//! `Received` replaces what could end a clause, and the other header is base64.

use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use message::date::DateCache;
use message::received::Received;

use crate::client::Client;
use crate::clock::UnixMs;
use crate::config::TraceHeaders;
use crate::envelope::{MessageId, Meta};

/// Bytes of base64 in one line of a header (RFC 5322 2.1.1 recommends lines of at most 78).
const BASE64_LINE_BYTES: usize = 72;

/// `Received` fields of a message that has been through too many hosts not to be in a loop (RFC 5321 6.3).
const RECEIVED_MAX: usize = 100;
/// Shortest such field, with its line end: what is not longer than all of them is not looked through.
const RECEIVED_BYTES_MIN: usize = 11;
/// Bytes of a message that are looked through for them.
const HEADER_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static DATES: RefCell<DateCache> = RefCell::new(DateCache::default());
}

/// Whether the message has been through so many hosts that it must be in a loop.
pub fn is_in_a_loop(message: &[u8]) -> bool {
    if message.len() < RECEIVED_MAX * RECEIVED_BYTES_MIN {
        return false;
    }
    let header = &message[..message.len().min(HEADER_BYTES_MAX)];
    let hosts = message::header::fields(header).filter(|field| field.is("Received"));
    hosts.take(RECEIVED_MAX).count() == RECEIVED_MAX
}

/// All that stands in front of the body.
pub fn header_prefix<R: AsRef<str>>(
    client: &Client,
    id: MessageId,
    recipients: &[R],
    meta: &Meta,
    now: UnixMs,
) -> Bytes {
    let trace = &client.listener.trace_headers;
    let mut out = Vec::with_capacity(256);
    if trace.received_header {
        // RFC 5321 4.4: no recipient learns of another.
        let only_one = if let [recipient] = recipients { Some(recipient.as_ref()) } else { None };
        received(client, id, only_one, now, &mut out);
    }
    if trace.supplemental_header {
        supplemental(trace, recipients, meta, &mut out);
    }
    Bytes::from(out)
}

/// The trace header (RFC 5321 4.4).
fn received(client: &Client, id: MessageId, recipient: Option<&str>, now: UnixMs, out: &mut Vec<u8>) {
    let id = id.to_string();
    DATES.with_borrow_mut(|dates| {
        let header = Received {
            helo: &client.helo,
            peer: client.received_from.ip(),
            by: &client.hostname,
            protocol: client.protocol(),
            id: &id,
            recipient,
            date: dates.rfc5322(now.seconds()),
        };
        header.write(out);
    });
}

/// A JSON object in base64: the recipient, where it is only one, and chosen metadata, and the mark by which KumoMTA knows such a header.
fn supplemental<R: AsRef<str>>(trace: &TraceHeaders, recipients: &[R], meta: &Meta, out: &mut Vec<u8>) {
    let mut object = Meta::new();
    object.insert("_@_".to_owned(), "\\_/".into());
    if let [recipient] = recipients {
        object.insert("recipient".to_owned(), recipient.as_ref().into());
    }
    for name in &trace.include_meta_names {
        if let Some(value) = meta.get(name) {
            object.insert(name.clone(), value.clone());
        }
    }
    let encoded = BASE64.encode(serde_json::Value::Object(object).to_string());
    out.extend_from_slice(trace.header_name.as_bytes());
    out.push(b':');
    for line in encoded.as_bytes().chunks(BASE64_LINE_BYTES) {
        out.push(b' ');
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_hosts_are_a_loop_and_a_body_is_no_header() {
        let field = "RECEIVED: from a\r\n\tby b\r\n";
        let message =
            |fields: usize| [&field.repeat(fields), "Subject: x\r\n\r\n", &field.repeat(200)].concat();
        assert!(!is_in_a_loop(message(99).as_bytes()));
        assert!(is_in_a_loop(message(100).as_bytes()));
        assert!(is_in_a_loop("Received:\r\n".repeat(100).as_bytes()));
    }
}
