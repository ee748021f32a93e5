//! The states that wait for a command line.
//!
//! Owns which command is in order when, and the commands that are in order always. What is out of
//! order is answered 503 and changes nothing. An over-long line is skipped to its end and the state
//! before it goes on.

use super::body::{AfterSwallow, ExpectChunk, ExpectData, SwallowChunk};
use super::line::{self, Line};
use super::state::{Advance, Connection, Question, State, Transaction};
use super::{Event, replies};
use crate::address::Path;
use crate::command::{Command, Grammar, MailParams};
use crate::error::PeerMisbehaved;

/// No transaction is open.
#[derive(Debug, Default)]
pub(super) struct ExpectMail {
    /// The transaction that a pipelining client believes in was refused; what it sent after MAIL is no error.
    pub(super) after_refusal: bool,
}

/// MAIL was accepted; RCPT, DATA or BDAT may follow.
#[derive(Debug)]
pub(super) struct ExpectRecipient {
    pub(super) transaction: Transaction,
}

/// Part of a body came by BDAT; only BDAT continues it.
#[derive(Debug)]
pub(super) struct ExpectNextChunk {
    pub(super) transaction: Transaction,
    pub(super) bytes_received: u64,
}

/// The rest of an over-long line comes, then `then` goes on.
#[derive(Debug)]
pub(super) struct ExpectLineEnd {
    then: CommandState,
}

/// One of the three states that wait for a command.
#[derive(Debug)]
enum CommandState {
    Mail(ExpectMail),
    Recipient(ExpectRecipient),
    NextChunk(ExpectNextChunk),
}

impl From<CommandState> for State {
    fn from(state: CommandState) -> Self {
        match state {
            CommandState::Mail(state) => Self::Mail(state),
            CommandState::Recipient(state) => Self::Recipient(state),
            CommandState::NextChunk(state) => Self::NextChunk(state),
        }
    }
}

impl From<ExpectMail> for State {
    fn from(state: ExpectMail) -> Self {
        Self::Mail(state)
    }
}

impl From<ExpectRecipient> for State {
    fn from(state: ExpectRecipient) -> Self {
        Self::Recipient(state)
    }
}

/// A parsed command, or what to do instead.
enum Read<'i> {
    Command { consumed: usize, command: Command<'i> },
    Bad { consumed: usize, error: PeerMisbehaved },
    TooLong { consumed: usize },
    Partial,
}

impl ExpectMail {
    pub(super) fn handle<'i>(
        self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        let (consumed, command) = match connection.read(input, false) {
            Read::Command { consumed, command } => (consumed, command),
            other => return connection.no_command(other, CommandState::Mail(self), out),
        };
        match command {
            Command::Mail { from, params } => connection.mail(from, params, consumed, out),
            Command::Rcpt { .. } | Command::Data => connection.refuse_without_mail(self, consumed, out),
            Command::Bdat { bytes, .. } => swallow(bytes, AfterSwallow::NeedMail(self), consumed),
            other => connection.anytime(other, CommandState::Mail(self), consumed, out),
        }
    }
}

impl ExpectRecipient {
    pub(super) fn handle<'i>(
        self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        let (consumed, command) = match connection.read(input, self.transaction.smtputf8) {
            Read::Command { consumed, command } => (consumed, command),
            other => return connection.no_command(other, CommandState::Recipient(self), out),
        };
        match command {
            Command::Mail { .. } => connection.refuse(PeerMisbehaved::NestedMail, self.into(), consumed, out),
            Command::Rcpt { to } => {
                if self.transaction.recipients_accepted >= connection.config.limits.recipients_max {
                    connection.reply(&replies::TOO_MANY_RECIPIENTS, out);
                    return Advance::on(self.into(), consumed);
                }
                Advance::ask(Question::Rcpt(self.transaction), consumed, Event::Rcpt { to })
            }
            Command::Data => self.data(connection, consumed, out),
            Command::Bdat { bytes, last } => self.chunk(connection, bytes, last, consumed),
            other => connection.anytime(other, CommandState::Recipient(self), consumed, out),
        }
    }

    fn data<'i>(self, connection: &mut Connection, consumed: usize, out: &mut Vec<u8>) -> Advance<'i> {
        if let Some(error) = self.transaction.lacks_recipient() {
            return connection.refuse(error, self.into(), consumed, out);
        }
        connection.reply(&replies::GO_AHEAD, out);
        let bytes_expected = self.transaction.bytes_declared;
        Advance::event(State::Data(ExpectData::default()), consumed, Event::BodyStart { bytes_expected })
    }

    /// The octets of a chunk follow whatever is wrong with it, so a refusal swallows them first (RFC 3030 2).
    fn chunk<'i>(self, connection: &Connection, bytes: u64, last: bool, consumed: usize) -> Advance<'i> {
        if self.transaction.recipients_accepted == 0 {
            return swallow(bytes, AfterSwallow::NeedRecipient(self), consumed);
        }
        if bytes > connection.config.limits.message_bytes_max {
            return swallow(bytes, AfterSwallow::TooLarge, consumed);
        }
        let transaction = self.transaction;
        let bytes_expected = bytes.max(transaction.bytes_declared);
        let chunk = ExpectChunk { transaction, bytes_received: 0, bytes_remaining: bytes, last };
        Advance::event(State::Chunk(chunk), consumed, Event::BodyStart { bytes_expected })
    }
}

impl ExpectNextChunk {
    pub(super) fn handle<'i>(
        self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        let (consumed, command) = match connection.read(input, false) {
            Read::Command { consumed, command } => (consumed, command),
            other => return connection.no_command(other, CommandState::NextChunk(self), out),
        };
        match command {
            Command::Mail { .. } | Command::Rcpt { .. } | Command::Data => {
                connection.refuse(PeerMisbehaved::ChunksOpen, State::NextChunk(self), consumed, out)
            }
            Command::Bdat { bytes, last } => {
                let total = self.bytes_received.saturating_add(bytes);
                if total > connection.config.limits.message_bytes_max {
                    return swallow(bytes, AfterSwallow::TooLarge, consumed);
                }
                let Self { transaction, bytes_received } = self;
                let chunk = ExpectChunk { transaction, bytes_received, bytes_remaining: bytes, last };
                Advance::on(State::Chunk(chunk), consumed)
            }
            other => connection.anytime(other, CommandState::NextChunk(self), consumed, out),
        }
    }
}

impl ExpectLineEnd {
    pub(super) fn handle<'i>(self, input: &[u8]) -> Advance<'i> {
        match line::skip(input) {
            (consumed, true) => Advance::on(self.then.into(), consumed),
            (consumed, false) => Advance::need_more(State::LineEnd(self), consumed),
        }
    }
}

fn swallow<'i>(bytes_remaining: u64, then: AfterSwallow, consumed: usize) -> Advance<'i> {
    Advance::on(State::Swallow(SwallowChunk { bytes_remaining, then }), consumed)
}

impl Transaction {
    fn lacks_recipient(&self) -> Option<PeerMisbehaved> {
        match (self.recipients_accepted, self.recipients_refused) {
            (0, 0) => Some(PeerMisbehaved::NeedRecipient),
            (0, _) => Some(PeerMisbehaved::NoRecipientAccepted),
            _ => None,
        }
    }
}

impl Connection {
    fn read<'i>(&self, input: &'i [u8], utf8_recipients: bool) -> Read<'i> {
        let config = &*self.config;
        let (consumed, text) = match line::read(input, config.limits.command_line_bytes_max) {
            Line::Complete { consumed, text } => (consumed, text),
            Line::Partial => return Read::Partial,
            Line::Bare { consumed } => {
                return Read::Bad { consumed, error: PeerMisbehaved::BareLineEnding };
            }
            Line::TooLong { consumed } => return Read::TooLong { consumed },
        };
        let grammar = Grammar {
            chunking: config.chunking,
            eight_bit_mime: config.eight_bit_mime,
            smtputf8: config.smtputf8,
            utf8_recipients,
        };
        match Command::parse(text, grammar) {
            Ok(command) => Read::Command { consumed, command },
            Err(error) => Read::Bad { consumed, error },
        }
    }

    /// What a state does when the input holds no command for it.
    fn no_command<'i>(&mut self, read: Read<'i>, state: CommandState, out: &mut Vec<u8>) -> Advance<'i> {
        match read {
            Read::Bad { consumed, error } => self.refuse(error, state.into(), consumed, out),
            Read::TooLong { consumed } => {
                let state = State::LineEnd(ExpectLineEnd { then: state });
                self.refuse(PeerMisbehaved::LineTooLong, state, consumed, out)
            }
            Read::Partial | Read::Command { .. } => Advance::need_more(state.into(), 0),
        }
    }

    /// RCPT, DATA or BDAT without MAIL: an error, unless MAIL came and was refused.
    pub(super) fn refuse_without_mail<'i>(
        &mut self,
        state: ExpectMail,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        if state.after_refusal {
            self.reply(&replies::NEED_MAIL, out);
            return Advance::on(state.into(), consumed);
        }
        self.refuse(PeerMisbehaved::NeedMail, state.into(), consumed, out)
    }

    fn mail<'i>(
        &mut self,
        from: Path<'i>,
        params: MailParams<'i>,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        if self.messages >= self.config.limits.messages_max {
            self.reply(&replies::TOO_MANY_MESSAGES, out);
            return Advance::close(consumed, Event::Close);
        }
        if params.size.is_some_and(|size| size > self.config.limits.message_bytes_max) {
            let state = ExpectMail { after_refusal: true };
            return self.refuse(PeerMisbehaved::SizeTooLarge, state.into(), consumed, out);
        }
        let transaction = Transaction {
            bytes_declared: params.size.unwrap_or(0),
            smtputf8: params.smtputf8,
            ..Transaction::default()
        };
        Advance::ask(Question::Mail(transaction), consumed, Event::Mail { from, params })
    }

    /// The commands that are in order in every state.
    fn anytime<'i>(
        &mut self,
        command: Command<'i>,
        state: CommandState,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        let open = !matches!(state, CommandState::Mail(_));
        let reply = match command {
            // The old transaction goes first; the line is read again in the state after it.
            Command::Ehlo { .. } if open => {
                return Advance::event(ExpectMail::default().into(), 0, Event::Reset);
            }
            Command::Ehlo { domain, extended } => {
                return Advance::ask(Question::Ehlo { extended }, consumed, Event::Ehlo { domain, extended });
            }
            Command::Quit => {
                self.reply(&replies::BYE, out);
                return Advance::close(consumed, Event::Quit);
            }
            Command::Rset => {
                self.reply(&replies::OK, out);
                let event = open.then_some(Event::Reset);
                return Advance { state: ExpectMail::default().into(), consumed, event };
            }
            Command::Vrfy => &replies::CANNOT_VERIFY,
            Command::Help => &replies::COMMANDS,
            _ => &replies::OK,
        };
        self.reply(reply, out);
        Advance::on(state.into(), consumed)
    }
}
