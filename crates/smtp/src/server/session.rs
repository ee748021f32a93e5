//! The receiving session: the door between its caller and the states.
//!
//! Owns the loop from state to state and the answers of the caller. An answer without a question is
//! a mistake of the caller: a debug build stops at it, a release build ignores it.

use std::mem;
use std::sync::Arc;

use super::commands::{ExpectMail, ExpectQuit};
use super::state::{Connection, ExpectAnswer, Question, State};
use super::{Config, Phase, Step};
use crate::auth::Shown;
use crate::reply::Reply;
use crate::scram::Keys;

/// One connection of a client, seen from the server.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    state: State,
}

impl Session {
    /// A session that has not greeted yet.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self { connection: Connection::new(config), state: State::Greeting }
    }

    /// Queues 220. [`Self::handle`] does it where this was not called.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        if let State::Greeting = self.state {
            self.state = self.take().handle(&mut self.connection, &[], out).state;
        }
    }

    /// Greets with a reply of the caller's. After one that refuses, only QUIT is in order (RFC 5321 3.1), and after
    /// 421 nothing is.
    pub fn greet_with(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if let State::Greeting = self.state {
            reply.write(true, out);
            self.state = match reply {
                reply if reply.is_positive() => ExpectMail::default().into(),
                Reply { code: 421, .. } => State::Closed,
                _ => State::TurnedAway(ExpectQuit),
            };
        }
    }

    /// One step: consumes a prefix of `input` and appends to `out` the replies that need no
    /// decision. What is not consumed has to be offered again, with more bytes behind it. Allocates
    /// nothing, except where `out` has to grow; that is by less than 20 times the input and 1 KiB.
    pub fn handle<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> Step<'i> {
        let mut consumed = 0;
        loop {
            let advance = self.take().handle(&mut self.connection, &input[consumed..], out);
            self.state = advance.state;
            consumed += advance.consumed;
            if let Some(event) = advance.event {
                return Step { consumed, event };
            }
        }
    }

    /// Answers the open question with its usual positive reply.
    pub fn accept(&mut self, out: &mut Vec<u8>) {
        self.answer(|connection, answer| answer.accept(connection, None, out));
    }

    /// Answers the open question with a positive reply of the caller's.
    pub fn accept_with(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        debug_assert!(reply.is_positive(), "accept_with needs a 2xx reply, got {reply}");
        self.answer(|connection, answer| answer.accept(connection, Some(reply), out));
    }

    /// Answers the open question with a refusal. The session goes on: after MAIL and the end of a
    /// body without a transaction, after RCPT with one.
    pub fn reject(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        debug_assert!(
            reply.is_transient() || reply.is_permanent(),
            "reject needs a 4xx or 5xx reply, got {reply}"
        );
        self.answer(|connection, answer| answer.reject(connection, reply, out));
    }

    /// Answers [`super::Event::BodyEnd`] for each accepted recipient on its own, in the order of their RCPT
    /// (RFC 2033 4.2). Without LMTP there is one reply, and the first is taken. Where there are too few, the rest of
    /// the recipients are answered 451.
    pub fn answer_each<'r>(&mut self, replies: impl IntoIterator<Item = &'r Reply>, out: &mut Vec<u8>) {
        self.answer(|connection, answer| answer.answer_each(connection, replies.into_iter(), out));
    }

    /// User and password while [`super::Event::Auth`] is to be answered for one that was sent.
    #[must_use]
    pub fn login(&self) -> Option<(&str, &str)> {
        match self.shown()? {
            Shown::Password(login) => Some((&login.user, &login.password)),
            Shown::Proof { .. } => None,
        }
    }

    /// The user whose password was proved while [`super::Event::Auth`] is to be answered, and whether the proof is good.
    /// One that is not can only be rejected.
    #[must_use]
    pub fn proof(&self) -> Option<(&str, bool)> {
        match self.shown()? {
            Shown::Proof { user, good } => Some((&user.0, *good)),
            Shown::Password(_) => None,
        }
    }

    fn shown(&self) -> Option<&Shown> {
        match &self.state {
            State::Answer(ExpectAnswer { question: Question::Auth(shown) }) => Some(shown),
            _ => None,
        }
    }

    /// The user whose keys [`super::Event::AuthKeys`] asks for.
    #[must_use]
    pub fn keys_wanted_of(&self) -> Option<&str> {
        match &self.state {
            State::Answer(ExpectAnswer { question: Question::AuthKeys(first) }) => Some(&first.user),
            _ => None,
        }
    }

    /// Answers [`super::Event::AuthKeys`]: asks the client for the proof that it knows the password that these keys are made
    /// of. The nonce has to be of printable ASCII without a comma, and another one each time. Where a user does not exist, keys
    /// that nobody knows hide that.
    pub fn challenge(&mut self, keys: &Keys, nonce: &str, out: &mut Vec<u8>) {
        self.answer(|_, answer| answer.challenge(keys, nonce, out));
    }

    /// The handshake that [`super::Event::StartTls`] asked for is done, and all input from now on came through it.
    /// What the client said before is forgotten; it begins with EHLO again.
    pub fn tls_started(&mut self) {
        debug_assert!(matches!(self.state, State::Handshake), "tls_started without Event::StartTls");
        if let State::Handshake = self.state {
            self.state = self.connection.tls_started();
        }
    }

    /// TLS was there before the greeting (RFC 8314 3.3).
    #[must_use]
    pub fn within_tls(mut self) -> Self {
        self.connection.secure = true;
        self
    }

    /// Goes on with another configuration: other limits, other extensions, as the caller has learnt who the client is.
    pub fn reconfigure(&mut self, config: Arc<Config>) {
        self.connection.config = config;
    }

    /// Bad commands since the last accepted message.
    #[must_use]
    pub fn errors(&self) -> u32 {
        self.connection.errors
    }

    /// Messages whose body was complete.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.connection.messages
    }

    /// What the session waits for; the index into [`super::DEADLINES`].
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.phase()
    }

    /// Octets of a BDAT chunk that are still to come and may be read straight from the socket into
    /// the place of the body; `None` in DATA, between chunks, and where the octets are not wanted.
    #[must_use]
    pub fn body_bytes_expected(&self) -> Option<u64> {
        match &self.state {
            State::Chunk(chunk) if chunk.bytes_remaining > 0 => Some(chunk.bytes_remaining),
            _ => None,
        }
    }

    /// Notes that the caller read `bytes` octets of the chunk itself, at most as many as
    /// [`Self::body_bytes_expected`] said. After a chunk that is not the last, 250 is queued; after
    /// the last, [`Self::handle`] with no input asks [`super::Event::BodyEnd`].
    pub fn body_taken(&mut self, bytes: u64, out: &mut Vec<u8>) {
        match self.take() {
            State::Chunk(mut chunk) => {
                chunk.take(bytes);
                self.state = if chunk.bytes_remaining == 0 && !chunk.last {
                    chunk.complete(&mut self.connection, out).state
                } else {
                    State::Chunk(chunk)
                };
            }
            other => {
                debug_assert!(bytes == 0, "body_taken outside of a chunk");
                self.state = other;
            }
        }
    }

    fn answer(&mut self, answer: impl FnOnce(&mut Connection, ExpectAnswer) -> State) {
        self.state = match self.take() {
            State::Answer(question) => answer(&mut self.connection, question),
            other => {
                debug_assert!(false, "an answer without a question in {other:?}");
                other
            }
        };
    }

    /// The state, to be consumed by its step; what is left in its place is never looked at.
    fn take(&mut self) -> State {
        mem::replace(&mut self.state, State::Closed)
    }
}
