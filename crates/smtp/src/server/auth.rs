//! The states of AUTH (RFC 4954 4): waiting for the client's responses.
//!
//! Owns the exchange up to the question whether these credentials are good; they live in the state until it is
//! answered, and are gone then. A response that cannot be read ends the exchange, not the session. Of a proof (SCRAM) the
//! session says itself whether it is good; the caller is asked for the keys first, and for its consent last.

use super::commands::{CommandState, ExpectLineEnd, ExpectMail};
use super::line::{self, Line};
use super::state::{Advance, Connection, ExpectAnswer, Question, State};
use super::{Event, replies};
use crate::auth::{AUTH_LINE_BYTES_MAX, Login, Mechanism, Shown, User, decode, write_challenge};
use crate::error::PeerMisbehaved;
use crate::scram::{Challenged, ClientFirst, Keys};

/// 334 was written.
#[derive(Debug)]
pub(super) enum ExpectAuth {
    /// For the response of PLAIN.
    Plain,
    /// For the user of LOGIN.
    User,
    /// For the password of LOGIN, which is still empty here.
    Password(Box<Login>),
    /// For the first message of SCRAM.
    First,
    /// For the proof.
    Proof(Box<Challenged>),
    /// For the empty response to our own signature (RFC 4954 4).
    Nod(Box<User>),
}

/// What a response has led to.
enum Led {
    /// A further response is due; its challenge is written.
    On(ExpectAuth),
    /// The caller has to answer.
    Asked(Question, Event<'static>),
}

impl Connection {
    pub(super) fn auth<'i>(
        &mut self,
        name: &str,
        initial_response: Option<&str>,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        if self.authenticated {
            return self.refuse_auth(PeerMisbehaved::AuthTwice, consumed, out);
        }
        if self.config.auth_needs_tls && !self.secure {
            return self.refuse_auth(PeerMisbehaved::AuthNeedsTls, consumed, out);
        }
        let known = Mechanism::parse(name).filter(|mechanism| self.config.auth.contains(mechanism));
        let (state, challenge) = match known {
            None => return self.refuse_auth(PeerMisbehaved::UnknownMechanism, consumed, out),
            Some(Mechanism::Plain) => (ExpectAuth::Plain, &replies::CHALLENGE),
            Some(Mechanism::Login) => (ExpectAuth::User, &replies::USER_PROMPT),
            Some(Mechanism::ScramSha256) => (ExpectAuth::First, &replies::CHALLENGE),
        };
        if let Some(response) = initial_response {
            return state.respond(self, response, consumed, out);
        }
        self.reply(challenge, out);
        Advance::on(State::Auth(state), consumed)
    }

    fn refuse_auth<'i>(&mut self, error: PeerMisbehaved, consumed: usize, out: &mut Vec<u8>) -> Advance<'i> {
        self.refuse(error, ExpectMail::default().into(), consumed, out)
    }
}

impl ExpectAnswer {
    /// The caller gave the keys of a user.
    pub(super) fn challenge(self, keys: &Keys, nonce: &str, out: &mut Vec<u8>) -> State {
        let first = match self.question {
            Question::AuthKeys(first) => first,
            question => {
                debug_assert!(false, "challenge without Event::AuthKeys");
                return State::Answer(Self { question });
            }
        };
        let (challenged, text) = first.challenge(keys, nonce);
        write_challenge(&text, out);
        State::Auth(ExpectAuth::Proof(Box::new(challenged)))
    }
}

impl ExpectAuth {
    pub(super) fn handle<'i>(
        self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        match line::read(input, AUTH_LINE_BYTES_MAX) {
            Line::Partial => Advance::need_more(State::Auth(self), 0),
            Line::Bare { consumed } => connection.refuse_auth(PeerMisbehaved::BareLineEnding, consumed, out),
            Line::TooLong { consumed } => {
                let then = CommandState::Mail(ExpectMail::default());
                let state = State::LineEnd(ExpectLineEnd { then });
                connection.refuse(PeerMisbehaved::AuthLineTooLong, state, consumed, out)
            }
            Line::Complete { consumed, text: b"*" } => {
                connection.refuse_auth(PeerMisbehaved::AuthCancelled, consumed, out)
            }
            Line::Complete { consumed, text } => match std::str::from_utf8(text) {
                Ok(text) => self.respond(connection, text, consumed, out),
                Err(_) => connection.refuse_auth(PeerMisbehaved::AuthMalformed, consumed, out),
            },
        }
    }

    fn respond<'i>(
        self,
        connection: &mut Connection,
        response: &str,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        match self.lead(response, connection, out) {
            Ok(Led::On(state)) => Advance::on(State::Auth(state), consumed),
            Ok(Led::Asked(question, event)) => Advance::ask(question, consumed, event),
            Err(error) => connection.refuse_auth(error, consumed, out),
        }
    }

    fn lead(self, response: &str, connection: &Connection, out: &mut Vec<u8>) -> Result<Led, PeerMisbehaved> {
        match self {
            Self::Plain => Login::plain(response).map(Led::login),
            Self::User => {
                let user = decode(response)?;
                connection.reply(&replies::PASSWORD_PROMPT, out);
                let login = Login { mechanism: Mechanism::Login, user, password: String::new() };
                Ok(Led::On(Self::Password(Box::new(login))))
            }
            Self::Password(mut login) => {
                login.password = decode(response)?;
                Ok(Led::login(*login))
            }
            Self::First => {
                let first = ClientFirst::parse(&decode(response)?)?;
                Ok(Led::Asked(Question::AuthKeys(Box::new(first)), Event::AuthKeys))
            }
            Self::Proof(challenged) => match challenged.judge(&decode(response)?)? {
                Some(signature) => {
                    write_challenge(&signature, out);
                    Ok(Led::On(Self::Nod(Box::new(User(challenged.user)))))
                }
                None => Ok(Led::proof(User(challenged.user), false)),
            },
            Self::Nod(user) if response.is_empty() => Ok(Led::proof(*user, true)),
            Self::Nod(_) => Err(PeerMisbehaved::AuthMalformed),
        }
    }
}

impl Led {
    fn login(login: Login) -> Self {
        let mechanism = login.mechanism;
        Self::Asked(Question::Auth(Box::new(Shown::Password(login))), Event::Auth { mechanism })
    }

    fn proof(user: User, good: bool) -> Self {
        let event = Event::Auth { mechanism: Mechanism::ScramSha256 };
        Self::Asked(Question::Auth(Box::new(Shown::Proof { user, good })), event)
    }
}
