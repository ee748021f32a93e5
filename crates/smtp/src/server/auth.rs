//! The states of AUTH (RFC 4954 4): waiting for the client's responses.
//!
//! Owns the exchange up to the question whether these credentials are good; they live in the state until it is
//! answered, and are gone then. A response that cannot be read ends the exchange, not the session.

use super::commands::{CommandState, ExpectLineEnd, ExpectMail};
use super::line::{self, Line};
use super::state::{Advance, Connection, Question, State};
use super::{Event, replies};
use crate::auth::{AUTH_LINE_BYTES_MAX, Login, Mechanism, decode};
use crate::error::PeerMisbehaved;

/// 334 was written.
#[derive(Debug)]
pub(super) enum ExpectAuth {
    /// For the response of PLAIN.
    Plain,
    /// For the user of LOGIN.
    User,
    /// For the password of LOGIN, which is still empty here.
    Password(Box<Login>),
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
        let login = match self {
            Self::Plain => Login::plain(response).map(Box::new),
            Self::User => match decode(response) {
                Ok(user) => {
                    connection.reply(&replies::PASSWORD_PROMPT, out);
                    let login = Login { mechanism: Mechanism::Login, user, password: String::new() };
                    return Advance::on(State::Auth(Self::Password(Box::new(login))), consumed);
                }
                Err(error) => Err(error),
            },
            Self::Password(mut login) => decode(response).map(|password| {
                login.password = password;
                login
            }),
        };
        match login {
            Ok(login) => {
                let mechanism = login.mechanism;
                Advance::ask(Question::Auth(login), consumed, Event::Auth { mechanism })
            }
            Err(error) => connection.refuse_auth(error, consumed, out),
        }
    }
}
