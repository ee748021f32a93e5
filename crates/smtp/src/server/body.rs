//! The states that wait for a body.
//!
//! Owns counting: of octets against the limit of a message, and of octets that a chunk still owes.
//! What is over the limit is read to its end, so that the session stays in step with the client, and
//! then refused with 552. Nothing is stored.

use super::commands::{ExpectMail, ExpectNextChunk, ExpectRecipient};
use super::state::{Advance, Connection, Question, State, Transaction};
use super::{Event, replies};
use crate::data::{Unstuffed, Unstuffer};
use crate::error::PeerMisbehaved;
use crate::reply::Reply;

/// DATA was answered 354.
#[derive(Debug)]
pub(super) struct ExpectData {
    unstuffer: Unstuffer,
    bytes_received: u64,
    too_large: bool,
    /// To the final dot.
    replies: usize,
}

/// BDAT was read; its octets come.
#[derive(Debug)]
pub(super) struct ExpectChunk {
    pub(super) transaction: Transaction,
    /// Of the whole message, earlier chunks included.
    pub(super) bytes_received: u64,
    /// Of this chunk.
    pub(super) bytes_remaining: u64,
    pub(super) last: bool,
}

/// BDAT was read, but its octets are not wanted; they have to be skipped all the same (RFC 3030 2).
#[derive(Debug)]
pub(super) struct SwallowChunk {
    pub(super) bytes_remaining: u64,
    pub(super) then: AfterSwallow,
}

/// What is wrong with a chunk, to be said after its octets.
#[derive(Debug)]
pub(super) enum AfterSwallow {
    /// There was no MAIL.
    NeedMail(ExpectMail),
    /// No recipient is accepted.
    NeedRecipient(ExpectRecipient),
    /// The message is over the limit; the transaction is over.
    TooLarge { replies: usize },
    /// The caller refused it; the transaction is over.
    Refused { reply: Box<Reply>, replies: usize },
}

impl ExpectData {
    pub(super) fn new(replies: usize) -> Self {
        Self { unstuffer: Unstuffer::new(), bytes_received: 0, too_large: false, replies }
    }

    pub(super) fn handle<'i>(
        mut self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        match self.unstuffer.step(input) {
            (consumed, Unstuffed::NeedMore) => Advance::need_more(State::Data(self), consumed),
            (consumed, Unstuffed::End) if self.too_large => {
                connection.drop_body(PeerMisbehaved::SizeTooLarge.reply(), self.replies, consumed, out)
            }
            (consumed, Unstuffed::End) => connection.body_end(consumed, self.replies),
            (consumed, Unstuffed::Body(bytes)) => {
                let body = self.within_limit(bytes, connection.config.limits.message_bytes_max);
                let event = (!body.is_empty()).then_some(Event::Body(body));
                Advance { state: State::Data(self), consumed, event }
            }
        }
    }

    /// The part of `bytes` that still fits; cut at the limit exactly, so that it does not matter how
    /// reads split the body.
    fn within_limit<'i>(&mut self, bytes: &'i [u8], bytes_max: u64) -> &'i [u8] {
        let room = bytes_max.saturating_sub(self.bytes_received);
        let taken = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.bytes_received += taken as u64;
        self.too_large |= taken < bytes.len();
        &bytes[..taken]
    }
}

impl ExpectChunk {
    pub(super) fn handle<'i>(
        mut self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        if self.bytes_remaining == 0 {
            return self.complete(connection, out);
        }
        if input.is_empty() {
            return Advance::need_more(State::Chunk(self), 0);
        }
        let taken = prefix(self.bytes_remaining, input);
        self.take(taken.len() as u64);
        Advance::event(State::Chunk(self), taken.len(), Event::Body(taken))
    }

    /// Notes that `bytes` octets of the chunk have come.
    pub(super) fn take(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.bytes_remaining, "caller took more octets than the chunk has");
        self.bytes_remaining = self.bytes_remaining.saturating_sub(bytes);
        self.bytes_received = self.bytes_received.saturating_add(bytes);
    }

    /// All octets have come.
    pub(super) fn complete<'i>(self, connection: &mut Connection, out: &mut Vec<u8>) -> Advance<'i> {
        if self.last {
            return connection.body_end(0, connection.replies_due(&self.transaction, true));
        }
        connection.reply(&replies::CHUNK_OK, out);
        let Self { transaction, bytes_received, .. } = self;
        Advance::on(State::NextChunk(ExpectNextChunk { transaction, bytes_received }), 0)
    }
}

impl SwallowChunk {
    pub(super) fn handle<'i>(
        mut self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        let consumed = prefix(self.bytes_remaining, input).len();
        self.bytes_remaining -= consumed as u64;
        if self.bytes_remaining > 0 {
            return Advance::need_more(State::Swallow(self), consumed);
        }
        match self.then {
            AfterSwallow::NeedMail(state) => connection.refuse_without_mail(state, consumed, out),
            AfterSwallow::NeedRecipient(state) if state.transaction.recipients_refused > 0 => {
                connection.reply(PeerMisbehaved::NeedRecipient.reply(), out);
                Advance::on(state.into(), consumed)
            }
            AfterSwallow::NeedRecipient(state) => {
                connection.refuse(PeerMisbehaved::NeedRecipient, state.into(), consumed, out)
            }
            AfterSwallow::TooLarge { replies } => {
                connection.drop_body(PeerMisbehaved::SizeTooLarge.reply(), replies, consumed, out)
            }
            AfterSwallow::Refused { reply, replies } => connection.drop_body(&reply, replies, consumed, out),
        }
    }
}

impl Connection {
    /// After a body: in LMTP one for each accepted recipient (RFC 2033 4.2, 4.3).
    pub(super) fn replies_due(&self, transaction: &Transaction, last: bool) -> usize {
        if self.config.lmtp && last { transaction.recipients_accepted } else { 1 }
    }

    fn body_end<'i>(&mut self, consumed: usize, replies: usize) -> Advance<'i> {
        self.messages = self.messages.saturating_add(1);
        Advance::ask(Question::BodyEnd { replies }, consumed, Event::BodyEnd)
    }

    fn drop_body<'i>(
        &self,
        reply: &Reply,
        replies: usize,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        for _ in 0..replies {
            self.reply(reply, out);
        }
        Advance::event(ExpectMail { after_refusal: true }.into(), consumed, Event::Reset)
    }
}

fn prefix(bytes_max: u64, input: &[u8]) -> &[u8] {
    &input[..usize::try_from(bytes_max).unwrap_or(usize::MAX).min(input.len())]
}
