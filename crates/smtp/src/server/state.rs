//! The states of a receiving session, each named for what it waits for.
//!
//! A step consumes the state and yields the next one, so that no field of an old state can be read
//! by mistake. What outlives a state stands in [`Connection`], what outlives a command in
//! [`Transaction`]; nothing else does.

use std::sync::Arc;

use super::asked::{Asked, Due};
use super::auth::ExpectAuth;
use super::body::{ExpectChunk, ExpectData, SwallowChunk};
use super::commands::{ExpectLineEnd, ExpectMail, ExpectNextChunk, ExpectQuit, ExpectRecipient};
use super::replies;
use super::{Config, Event, Phase};
use crate::auth::Shown;
use crate::error::PeerMisbehaved;
use crate::reply::Reply;
use crate::scram::ClientFirst;

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
    /// A question was answered, and its event is still to be told.
    Due(Box<Due>),
    /// A response in AUTH is due.
    Auth(ExpectAuth),
    /// The greeting refused.
    TurnedAway(ExpectQuit),
    /// 220 to STARTTLS is queued; whatever comes with it is not to be read.
    StartTls,
    /// The caller does the handshake.
    Handshake,
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
    Ehlo {
        extended: bool,
    },
    Mail(Transaction),
    Rcpt(Transaction),
    /// So many replies are due.
    BodyEnd {
        replies: usize,
    },
    Auth(Box<Shown>),
    AuthKeys(Box<ClientFirst>),
    XClient,
    Command(Box<Asked>),
}

/// What lasts as long as the connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) config: Arc<Config>,
    /// Bad commands since the last accepted message.
    pub(super) errors: u32,
    /// Messages whose body was complete.
    pub(super) messages: u32,
    /// TLS was begun by STARTTLS.
    pub(super) secure: bool,
    /// AUTH was accepted.
    pub(super) authenticated: bool,
}

/// What lasts from MAIL to the end of the body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    pub(super) recipients_accepted: usize,
    pub(super) recipients_refused: usize,
    /// SIZE= of MAIL, 0 where there was none.
    pub(super) bytes_declared: u64,
    pub(super) smtputf8: bool,
    /// BODY=BINARYMIME: only BDAT can carry it.
    pub(super) binary: bool,
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
            Self::Due(due) => due.tell(),
            Self::Auth(state) => state.handle(connection, input, out),
            Self::TurnedAway(state) => state.handle(connection, input, out),
            Self::StartTls => Advance::event(Self::Handshake, input.len(), Event::StartTls),
            Self::Handshake => Advance::need_more(Self::Handshake, input.len()),
            Self::Data(state) => state.handle(connection, input, out),
            Self::Chunk(state) => state.handle(connection, input, out),
            Self::Swallow(state) => state.handle(connection, input, out),
            Self::Closed => Advance::close(input.len(), Event::Close),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Greeting => Phase::Greeting,
            Self::Mail(_) | Self::Recipient(_) | Self::NextChunk(_) | Self::LineEnd(_) => Phase::Command,
            Self::Auth(_) | Self::TurnedAway(_) | Self::Closed => Phase::Command,
            Self::Answer(_) | Self::Due(_) => Phase::Processing,
            Self::StartTls | Self::Handshake => Phase::Handshake,
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
            Question::BodyEnd { replies } => {
                connection.errors = 0;
                for _ in 1..replies {
                    connection.reply(reply.unwrap_or(&replies::OK), out);
                }
                (&replies::OK, ExpectMail::default().into())
            }
            Question::Auth(shown) if matches!(*shown, Shown::Proof { good: false, .. }) => {
                debug_assert!(false, "a proof that is wrong was accepted");
                (&replies::WRONG_PROOF, ExpectMail::default().into())
            }
            Question::AuthKeys(_) => {
                debug_assert!(false, "keys are given by Session::challenge");
                (&replies::NO_KEYS, ExpectMail::default().into())
            }
            Question::Auth(_) => {
                connection.authenticated = true;
                (&replies::AUTHENTICATED, ExpectMail::default().into())
            }
            Question::XClient => {
                connection.begin_anew();
                connection.greet(out);
                return ExpectMail::default().into();
            }
            Question::Command(asked) => return asked.accept(connection, reply, out),
        };
        connection.reply(reply.unwrap_or(default), out);
        state
    }

    /// The caller said no.
    pub(super) fn reject(self, connection: &mut Connection, reply: &Reply, out: &mut Vec<u8>) -> State {
        if let Question::Command(asked) = self.question {
            return asked.reject(connection, reply, out);
        }
        connection.reply(reply, out);
        match self.question {
            Question::Ehlo { .. } | Question::XClient => ExpectMail::default().into(),
            // A client that pipelines has sent RCPT and DATA already; they are no errors of its own.
            Question::Mail(_) => ExpectMail { after_refusal: true }.into(),
            Question::Rcpt(mut transaction) => {
                transaction.recipients_refused += 1;
                ExpectRecipient { transaction }.into()
            }
            Question::BodyEnd { replies } => {
                for _ in 1..replies {
                    connection.reply(reply, out);
                }
                ExpectMail { after_refusal: true }.into()
            }
            Question::Auth(_) | Question::AuthKeys(_) if connection.too_many_errors(out) => State::Closed,
            Question::Auth(_) | Question::AuthKeys(_) | Question::Command(_) => ExpectMail::default().into(),
        }
    }

    /// The caller decided for each recipient. Where no body is asked about, the first answer counts.
    pub(super) fn answer_each<'r>(
        self,
        connection: &mut Connection,
        mut answers: impl Iterator<Item = &'r Reply>,
        out: &mut Vec<u8>,
    ) -> State {
        let Question::BodyEnd { replies } = self.question else {
            debug_assert!(false, "answer_each without a body");
            return self.reject(connection, &replies::NOT_ANSWERED, out);
        };
        let mut taken = false;
        for _ in 0..replies {
            let answer = answers.next();
            debug_assert!(answer.is_some(), "answer_each needs {replies} replies");
            let answer = answer.unwrap_or(&replies::NOT_ANSWERED);
            taken |= answer.is_positive();
            connection.reply(answer, out);
        }
        if taken {
            connection.errors = 0;
        }
        ExpectMail { after_refusal: !taken }.into()
    }
}

impl Connection {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, errors: 0, messages: 0, secure: false, authenticated: false }
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
        if error.counts() && self.too_many_errors(out) {
            return Advance::close(consumed, Event::Close);
        }
        self.reply(error.reply(), out);
        if error == PeerMisbehaved::ChunkSizeUnreadable {
            return Advance::close(consumed, Event::Close);
        }
        Advance::on(state, consumed)
    }

    /// Counts a further error; at the last one that is allowed, says so.
    fn too_many_errors(&mut self, out: &mut Vec<u8>) -> bool {
        self.errors += 1;
        let too_many = self.errors >= self.config.limits.errors_max;
        if too_many {
            self.reply(&replies::TOO_MANY_ERRORS, out);
        }
        too_many
    }

    /// The caller has learnt who the client is; what it said before was said by a proxy.
    fn begin_anew(&mut self) {
        self.authenticated = false;
    }

    /// What the client said before TLS does not count (RFC 3207 4.2).
    pub(super) fn tls_started(&mut self) -> State {
        self.secure = true;
        self.authenticated = false;
        ExpectMail::default().into()
    }

    /// The positive reply to EHLO or HELO.
    fn introduce(&self, extended: bool, out: &mut Vec<u8>) {
        let config = &*self.config;
        if extended {
            config.capabilities(self.secure).write(&config.hostname, out);
        } else {
            out.extend_from_slice(b"250 ");
            out.extend_from_slice(config.hostname.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}
