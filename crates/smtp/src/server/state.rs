//! The states of a receiving session, each named for what it waits for.
//!
//! A step consumes the state and yields the next one, so that no field of an old state can be read
//! by mistake. What outlives a state stands in [`Connection`], what outlives a command in
//! [`Transaction`]; nothing else does.

use std::sync::Arc;

use super::body::{ExpectChunk, ExpectData, SwallowChunk};
use super::commands::{ExpectLineEnd, ExpectMail, ExpectNextChunk, ExpectRecipient};
use super::replies;
use super::{Config, Event, Phase};
use crate::error::PeerMisbehaved;
use crate::reply::Reply;

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// The greeting is still to be written.
    Greeting,
    /// No transaction is open.
    Mail(ExpectMail),
    /// MAIL was accepted.
    Recipient(ExpectRecipient),
    /// A BDAT chunk that was not the last is complete.
    NextChunk(ExpectNextChunk),
    /// An over-long line is being skipped.
    LineEnd(ExpectLineEnd),
    /// A question is open.
    Answer(ExpectAnswer),
    /// A body by DATA.
    Data(ExpectData),
    /// A BDAT chunk.
    Chunk(ExpectChunk),
    /// A BDAT chunk that nobody wants.
    Swallow(SwallowChunk),
    /// QUIT was read, or the session gave up.
    Closed,
}

/// The caller has to answer.
#[derive(Debug)]
pub(super) struct ExpectAnswer {
    pub(super) question: Question,
}

/// What the answer is about, with what it needs to go on.
#[derive(Debug)]
pub(super) enum Question {
    Ehlo { extended: bool },
    Mail(Transaction),
    Rcpt(Transaction),
    BodyEnd,
}

/// What lasts as long as the connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) config: Arc<Config>,
    /// Bad commands since the last accepted message.
    errors: u32,
    /// Messages whose body was complete.
    pub(super) messages: u32,
}

/// What lasts from MAIL to the end of the body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    pub(super) recipients_accepted: usize,
    pub(super) recipients_refused: usize,
    /// SIZE= of MAIL, 0 where there was none.
    pub(super) bytes_declared: u64,
    pub(super) smtputf8: bool,
}

/// Outcome of one step.
pub(super) struct Advance<'i> {
    pub(super) state: State,
    pub(super) consumed: usize,
    /// `None`: go on with the next state and the rest of the input.
    pub(super) event: Option<Event<'i>>,
}

impl<'i> Advance<'i> {
    pub(super) fn on(state: State, consumed: usize) -> Self {
        Self { state, consumed, event: None }
    }

    pub(super) fn event(state: State, consumed: usize, event: Event<'i>) -> Self {
        Self { state, consumed, event: Some(event) }
    }

    pub(super) fn need_more(state: State, consumed: usize) -> Self {
        Self::event(state, consumed, Event::NeedMore)
    }

    pub(super) fn ask(question: Question, consumed: usize, event: Event<'i>) -> Self {
        Self::event(State::Answer(ExpectAnswer { question }), consumed, event)
    }

    pub(super) fn close(consumed: usize, event: Event<'i>) -> Self {
        Self::event(State::Closed, consumed, event)
    }
}

impl State {
    pub(super) fn handle<'i>(
        self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        match self {
            Self::Greeting => {
                connection.greet(out);
                Advance::on(ExpectMail::default().into(), 0)
            }
            Self::Mail(state) => state.handle(connection, input, out),
            Self::Recipient(state) => state.handle(connection, input, out),
            Self::NextChunk(state) => state.handle(connection, input, out),
            Self::LineEnd(state) => state.handle(input),
            Self::Answer(state) => Advance::need_more(Self::Answer(state), 0),
            Self::Data(state) => state.handle(connection, input, out),
            Self::Chunk(state) => state.handle(connection, input, out),
            Self::Swallow(state) => state.handle(connection, input, out),
            Self::Closed => Advance::close(input.len(), Event::Close),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Greeting => Phase::Greeting,
            Self::Mail(_) | Self::Recipient(_) | Self::NextChunk(_) | Self::LineEnd(_) | Self::Closed => {
                Phase::Command
            }
            Self::Answer(_) => Phase::Processing,
            Self::Data(_) | Self::Chunk(_) | Self::Swallow(_) => Phase::Data,
        }
    }
}

impl ExpectAnswer {
    /// The caller said yes.
    pub(super) fn accept(
        self,
        connection: &mut Connection,
        reply: Option<&Reply>,
        out: &mut Vec<u8>,
    ) -> State {
        let (default, state) = match self.question {
            Question::Ehlo { extended } => {
                if reply.is_none() {
                    connection.introduce(extended, out);
                    return ExpectMail::default().into();
                }
                (&replies::OK, ExpectMail::default().into())
            }
            Question::Mail(transaction) => (&replies::SENDER_OK, ExpectRecipient { transaction }.into()),
            Question::Rcpt(mut transaction) => {
                transaction.recipients_accepted += 1;
                (&replies::RECIPIENT_OK, ExpectRecipient { transaction }.into())
            }
            Question::BodyEnd => {
                connection.errors = 0;
                (&replies::OK, ExpectMail::default().into())
            }
        };
        connection.reply(reply.unwrap_or(default), out);
        state
    }

    /// The caller said no.
    pub(super) fn reject(self, connection: &Connection, reply: &Reply, out: &mut Vec<u8>) -> State {
        connection.reply(reply, out);
        match self.question {
            Question::Ehlo { .. } => ExpectMail::default().into(),
            // A client that pipelines has sent RCPT and DATA already; they are no errors of its own.
            Question::Mail(_) => ExpectMail { after_refusal: true }.into(),
            Question::Rcpt(mut transaction) => {
                transaction.recipients_refused += 1;
                ExpectRecipient { transaction }.into()
            }
            Question::BodyEnd => ExpectMail { after_refusal: true }.into(),
        }
    }
}

impl Connection {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, errors: 0, messages: 0 }
    }

    pub(super) fn greet(&self, out: &mut Vec<u8>) {
        let parts: [&[u8]; 5] =
            [b"220 ", self.config.hostname.as_bytes(), b" ", self.config.banner.as_bytes(), b"\r\n"];
        for part in parts {
            out.extend_from_slice(part);
        }
    }

    pub(super) fn reply(&self, reply: &Reply, out: &mut Vec<u8>) {
        reply.write(self.config.enhanced_status_codes, out);
    }

    /// Answers a bad command. The session ends when there were too many, or when the stream can no
    /// longer be followed.
    pub(super) fn refuse<'i>(
        &mut self,
        error: PeerMisbehaved,
        state: State,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        self.errors += u32::from(error.counts());
        if error.counts() && self.errors >= self.config.limits.errors_max {
            self.reply(&replies::TOO_MANY_ERRORS, out);
            return Advance::close(consumed, Event::Close);
        }
        self.reply(error.reply(), out);
        if error == PeerMisbehaved::ChunkSizeUnreadable {
            return Advance::close(consumed, Event::Close);
        }
        Advance::on(state, consumed)
    }

    /// The positive reply to EHLO or HELO.
    fn introduce(&self, extended: bool, out: &mut Vec<u8>) {
        let config = &*self.config;
        if extended {
            config.capabilities().write(&config.hostname, out);
        } else {
            out.extend_from_slice(b"250 ");
            out.extend_from_slice(config.hostname.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}
