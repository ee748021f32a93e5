//! The states that wait for a command line.
//!
//! Owns which command is in order when, and the commands that are in order always. What is out of
//! order is answered 503 and changes nothing. An over-long line is skipped to its end and the state
//! before it goes on.

use super::asked::Asked;
use super::body::{AfterSwallow, ExpectChunk, ExpectData, SwallowChunk};
use super::line::{self, Line};
use super::state::{Advance, Connection, Question, State, Transaction};
use super::{Event, Questions, Verb, replies};
use crate::address::Path;
use crate::command::{BodyKind, Command, Grammar, MailParams};
use crate::error::PeerMisbehaved;
use crate::reply::Reply;

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

/// The greeting refused; only QUIT is in order (RFC 5321 3.1).
#[derive(Debug)]
pub(super) struct ExpectQuit;

/// The rest of an over-long line comes, then `then` goes on.
#[derive(Debug)]
pub(super) struct ExpectLineEnd {
    pub(super) then: CommandState,
}

/// One of the states that wait for a command.
#[derive(Debug)]
pub(super) enum CommandState {
    Mail(ExpectMail),
    Recipient(ExpectRecipient),
    NextChunk(ExpectNextChunk),
    Quit(ExpectQuit),
}

impl From<CommandState> for State {
    fn from(state: CommandState) -> Self {
        match state {
            CommandState::Mail(state) => Self::Mail(state),
            CommandState::Recipient(state) => Self::Recipient(state),
            CommandState::NextChunk(state) => Self::NextChunk(state),
            CommandState::Quit(state) => Self::TurnedAway(state),
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
            Command::Rcpt { to, params } => {
                if self.transaction.recipients_accepted >= connection.config.limits.recipients_max {
                    connection.reply(&replies::TOO_MANY_RECIPIENTS, out);
                    return Advance::on(self.into(), consumed);
                }
                Advance::ask(Question::Rcpt(self.transaction), consumed, Event::Rcpt { to, params })
            }
            Command::Data => self.data(connection, consumed, out),
            Command::Bdat { bytes, last } => self.chunk(connection, bytes, last, consumed),
            other => connection.anytime(other, CommandState::Recipient(self), consumed, out),
        }
    }

    fn data<'i>(self, connection: &mut Connection, consumed: usize, out: &mut Vec<u8>) -> Advance<'i> {
        match self.transaction.lacks_recipient() {
            // DATA fails with 503 in LMTP whatever the recipients were answered (RFC 2033 4.2).
            Some(PeerMisbehaved::NoRecipientAccepted) if connection.config.lmtp => {
                connection.reply(PeerMisbehaved::NeedRecipient.reply(), out);
                Advance::on(self.into(), consumed)
            }
            Some(error) => connection.refuse(error, self.into(), consumed, out),
            None if self.transaction.binary => {
                connection.refuse(PeerMisbehaved::BinaryByData, self.into(), consumed, out)
            }
            None if connection.config.questions == Questions::All => Asked::Data(self).ask(consumed),
            None => self.begin_data(connection, consumed, out),
        }
    }

    pub(super) fn begin_data<'i>(
        self,
        connection: &Connection,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        connection.reply(&replies::GO_AHEAD, out);
        let bytes_expected = self.transaction.bytes_declared;
        let replies = connection.replies_due(&self.transaction, true);
        Advance::event(State::Data(ExpectData::new(replies)), consumed, Event::BodyStart { bytes_expected })
    }

    /// The octets of a chunk follow whatever is wrong with it, so a refusal swallows them first (RFC 3030 2).
    fn chunk<'i>(self, connection: &Connection, bytes: u64, last: bool, consumed: usize) -> Advance<'i> {
        if self.transaction.recipients_accepted == 0 {
            return swallow(bytes, AfterSwallow::NeedRecipient(self), consumed);
        }
        if bytes > connection.config.limits.message_bytes_max {
            let replies = connection.replies_due(&self.transaction, last);
            return swallow(bytes, AfterSwallow::TooLarge { replies }, consumed);
        }
        if connection.config.questions == Questions::All {
            return Asked::Chunk { state: self, bytes, last }.ask(consumed);
        }
        self.begin_chunk(bytes, last, consumed)
    }

    pub(super) fn begin_chunk<'i>(self, bytes: u64, last: bool, consumed: usize) -> Advance<'i> {
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
                    let replies = connection.replies_due(&self.transaction, last);
                    return swallow(bytes, AfterSwallow::TooLarge { replies }, consumed);
                }
                let Self { transaction, bytes_received } = self;
                let chunk = ExpectChunk { transaction, bytes_received, bytes_remaining: bytes, last };
                Advance::on(State::Chunk(chunk), consumed)
            }
            other => connection.anytime(other, CommandState::NextChunk(self), consumed, out),
        }
    }
}

impl ExpectQuit {
    pub(super) fn handle<'i>(
        self,
        connection: &mut Connection,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        let state = CommandState::Quit(self);
        match connection.read(input, false) {
            Read::Command { consumed, command: Command::Quit } => {
                connection.anytime(Command::Quit, state, consumed, out)
            }
            Read::Command { consumed, .. } => {
                connection.refuse(PeerMisbehaved::TurnedAway, state.into(), consumed, out)
            }
            other => connection.no_command(other, state, out),
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
            starttls: config.starttls,
            auth: !config.auth.is_empty(),
            dsn: config.dsn,
            binary_mime: config.binary_mime && config.chunking,
            require_tls: config.require_tls && self.secure,
            xclient: config.xclient,
            lmtp: config.lmtp,
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
        if self.config.tls_needed && !self.secure {
            let state = ExpectMail { after_refusal: true };
            return self.refuse(PeerMisbehaved::TlsNeeded, state.into(), consumed, out);
        }
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
            binary: params.body == BodyKind::BinaryMime,
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
        let open = matches!(state, CommandState::Recipient(_) | CommandState::NextChunk(_));
        let verb = match command {
            // The old transaction goes first; the line is read again in the state after it.
            Command::Ehlo { .. } if open => {
                return Advance::event(ExpectMail::default().into(), 0, Event::Reset);
            }
            Command::Ehlo { domain, extended } => {
                return Advance::ask(Question::Ehlo { extended }, consumed, Event::Ehlo { domain, extended });
            }
            Command::StartTls | Command::Auth { .. } | Command::XClient(_) if open => {
                return self.refuse(PeerMisbehaved::TransactionOpen, state.into(), consumed, out);
            }
            Command::XClient(client) => {
                return Advance::ask(Question::XClient, consumed, Event::XClient(client));
            }
            Command::Auth { mechanism, initial_response } => {
                return self.auth(mechanism, initial_response, consumed, out);
            }
            Command::StartTls if self.secure => {
                return self.refuse(PeerMisbehaved::TlsTwice, state.into(), consumed, out);
            }
            Command::StartTls => Verb::StartTls,
            Command::Quit => Verb::Quit,
            Command::Rset => Verb::Rset,
            Command::Vrfy => Verb::Vrfy,
            Command::Help => Verb::Help,
            _ => Verb::Noop,
        };
        match self.config.questions {
            Questions::All => Asked::Other { verb, state }.ask(consumed),
            Questions::Few => self.usual(verb, state, None, consumed, out),
        }
    }

    /// What a command does that nobody has to decide about; `reply` in place of the usual positive one.
    pub(super) fn usual<'i>(
        &mut self,
        verb: Verb,
        state: CommandState,
        reply: Option<&Reply>,
        consumed: usize,
        out: &mut Vec<u8>,
    ) -> Advance<'i> {
        match verb {
            Verb::Quit => {
                self.reply(reply.unwrap_or(&replies::BYE), out);
                Advance::close(consumed, Event::Quit)
            }
            Verb::Rset => {
                self.reply(reply.unwrap_or(&replies::OK), out);
                let event = (!matches!(state, CommandState::Mail(_))).then_some(Event::Reset);
                Advance { state: ExpectMail::default().into(), consumed, event }
            }
            Verb::StartTls => {
                self.reply(reply.unwrap_or(&replies::TLS_GO_AHEAD), out);
                Advance::on(State::StartTls, consumed)
            }
            Verb::Vrfy => self.say(reply.unwrap_or(&replies::CANNOT_VERIFY), state, consumed, out),
            Verb::Help => match reply {
                Some(reply) => self.say(reply, state, consumed, out),
                None => self.say(&self.help(), state, consumed, out),
            },
            Verb::Noop | Verb::Data | Verb::Bdat => {
                self.say(reply.unwrap_or(&replies::OK), state, consumed, out)
            }
        }
    }

    fn say<'i>(&self, reply: &Reply, state: CommandState, consumed: usize, out: &mut Vec<u8>) -> Advance<'i> {
        self.reply(reply, out);
        Advance::on(state.into(), consumed)
    }

    /// The commands that this configuration knows.
    fn help(&self) -> Reply {
        let config = &*self.config;
        let mut text = String::from(if config.lmtp { "LHLO " } else { "EHLO HELO " });
        text.push_str(replies::COMMANDS);
        for (known, verb) in
            [(config.chunking, " BDAT"), (config.starttls, " STARTTLS"), (!config.auth.is_empty(), " AUTH")]
        {
            text.push_str(if known { verb } else { "" });
        }
        Reply::owned(214, (2, 0, 0), text)
    }
}
