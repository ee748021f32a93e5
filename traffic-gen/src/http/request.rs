//! One request: KumoMTA's JSON around a message, and the fields before it.
//!
//! The body of the message is borrowed from what was escaped before the run, so that a request copies only
//! its header. `template_dialect` is `Static`: the server must not look for variables in a message whose
//! checksum is known.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};

use super::Injector;
use super::endpoint::Endpoint;
use crate::content::{Message, push_escaped};
use crate::transport::Auth;

/// Bytes of JSON around a message: names, flags, sender and one recipient.
const FRAME_BYTES: usize = 256;

/// The parts of a request's body, sent one after the other.
#[derive(Debug)]
pub(super) struct Parts {
    parts: [Bytes; 3],
    next: usize,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.next;
        self.next += 1;
        Poll::Ready(self.parts.get_mut(next).map(|part| Ok(Frame::data(std::mem::take(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.parts.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
    }
}

/// The request that injects a message.
pub(super) fn inject(
    injector: &Injector,
    endpoint: &Endpoint,
    message: &Message,
) -> Result<Request<Parts>, hyper::http::Error> {
    let before = before(injector, message);
    let parts = [before.into(), injector.bodies.body(message), Bytes::from_static(b"\"}")];
    let mut request = Request::post(&endpoint.path)
        .header(HOST, &endpoint.authority)
        .header(USER_AGENT, concat!("traffic-gen/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    if let Some(authorization) = &injector.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    request.body(Parts { parts, next: 0 })
}

/// The JSON up to the body of the message.
fn before(injector: &Injector, message: &Message) -> Vec<u8> {
    let header = message.header();
    let addresses: usize = message.recipients().iter().map(|recipient| recipient.len() + 16).sum();
    let mut json = Vec::with_capacity(FRAME_BYTES + addresses + header.len() + header.len() / 8);
    json.extend_from_slice(b"{\"envelope_sender\":\"");
    push_escaped(message.sender().as_bytes(), &mut json);
    json.extend_from_slice(b"\",\"recipients\":[");
    for (number, recipient) in message.recipients().iter().enumerate() {
        json.extend_from_slice(if number == 0 { &b"{\"email\":\""[..] } else { b",{\"email\":\"" });
        push_escaped(recipient.as_bytes(), &mut json);
        json.extend_from_slice(b"\"}");
    }
    json.extend_from_slice(b"],\"template_dialect\":\"Static\"");
    if injector.injection.defer_spool {
        json.extend_from_slice(b",\"deferred_spool\":true");
    }
    if injector.injection.defer_generation {
        json.extend_from_slice(b",\"deferred_generation\":true");
    }
    json.extend_from_slice(b",\"content\":\"");
    push_escaped(header, &mut json);
    json
}

/// Who we are, for the Authorization field (RFC 7617).
pub(super) fn basic(auth: &Auth) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", auth.user, auth.password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_we_are_is_said_as_the_standard_has_it() {
        let auth = Auth { mechanism: None, user: "Aladdin".to_owned(), password: "open sesame".to_owned() };
        assert_eq!(basic(&auth), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
