//! What the tests of this folder share: a caller of the server session with a policy, and the dialogue files.
//!
//! The policy is a function of the bytes alone, so that the same bytes in other reads have to give
//! the same trace.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod dialog;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use smtp::address::Path;
use smtp::data::{self, BodyRules};
use smtp::reply::Reply;
use smtp::scram::Keys;
use smtp::server::{Config, Event, Limits, Session, Step};

/// What a session said and reported, in order, with neighbours of a kind run together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) items: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Bytes to the client.
    Out(String),
    /// Bytes of a body.
    Body(Vec<u8>),
    /// Any other event.
    Event(String),
}

impl Trace {
    fn out(&mut self, bytes: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        bytes.clear();
        match self.items.last_mut() {
            _ if text.is_empty() => {}
            Some(Item::Out(last)) => last.push_str(&text),
            _ => self.items.push(Item::Out(text)),
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        match self.items.last_mut() {
            Some(Item::Body(last)) => last.extend_from_slice(bytes),
            _ => self.items.push(Item::Body(bytes.to_vec())),
        }
    }

    /// All that went to the client.
    pub(crate) fn replies(&self) -> String {
        self.items.iter().fold(String::new(), |mut all, item| {
            if let Item::Out(text) = item {
                let _ = write!(all, "{text}");
            }
            all
        })
    }
}

/// The keys and the server's nonce of RFC 7677 3.
static PENCIL: LazyLock<Keys> = LazyLock::new(|| {
    Keys::parse("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=").unwrap()
});
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

const TAKEN: Reply = Reply::new(250, (2, 0, 0), "OK taken");
const FULL: Reply = Reply::new(552, (5, 2, 2), "mailbox full");

/// A server without sockets: takes bytes in any pieces and answers by its policy. Local parts that
/// begin with `refuse` get 550, with `defer` 451, with `full` 552 for the body in LMTP; a body is taken when
/// `data::check` takes it. The user is `user`, the password `pencil`, or `password` where it is sent as it is.
pub(crate) struct Caller {
    pub(crate) session: Session,
    pub(crate) trace: Trace,
    /// Read chunks by `body_taken`, as a caller that owns the socket does.
    pub(crate) takes_chunks: bool,
    /// Accepted bodies.
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) closed: bool,
    /// The server consented to STARTTLS and waits for [`Self::tls`].
    pub(crate) awaits_tls: bool,
    /// LMTP: the reply to each recipient's copy of a body that is good.
    verdicts: Vec<Reply>,
    lmtp: bool,
    input: Vec<u8>,
    out: Vec<u8>,
    body: Vec<u8>,
}

impl Caller {
    pub(crate) fn new(config: Config) -> Self {
        let mut caller = Self::silent(config);
        caller.session.greet(&mut caller.out);
        caller.trace.out(&mut caller.out);
        caller
    }

    /// Greets with this reply.
    pub(crate) fn greeting(config: Config, greeting: &Reply) -> Self {
        let mut caller = Self::silent(config);
        caller.session.greet_with(greeting, &mut caller.out);
        caller.trace.out(&mut caller.out);
        caller
    }

    fn silent(config: Config) -> Self {
        Self {
            lmtp: config.lmtp,
            session: Session::new(Arc::new(config)),
            trace: Trace::default(),
            takes_chunks: false,
            messages: Vec::new(),
            closed: false,
            awaits_tls: false,
            verdicts: Vec::new(),
            input: Vec::new(),
            out: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The handshake, where the server waits for one.
    pub(crate) fn tls(&mut self) {
        if std::mem::take(&mut self.awaits_tls) {
            self.session.tls_started();
        }
    }

    /// More bytes from the client.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while !self.closed {
            rest = self.take_chunk(rest);
            let Step { consumed, event } = self.session.handle(rest, &mut self.out);
            rest = &rest[consumed..];
            self.trace.out(&mut self.out);
            if event == Event::NeedMore {
                break;
            }
            self.note(&event);
            self.answer(&event);
            self.trace.out(&mut self.out);
        }
        self.input = rest.to_vec();
    }

    fn take_chunk<'i>(&mut self, rest: &'i [u8]) -> &'i [u8] {
        let Some(expected) = self.session.body_bytes_expected().filter(|_| self.takes_chunks) else {
            return rest;
        };
        let taken = rest.len().min(usize::try_from(expected).unwrap());
        if taken > 0 {
            self.trace.body(&rest[..taken]);
            self.body.extend_from_slice(&rest[..taken]);
        }
        self.session.body_taken(taken as u64, &mut self.out);
        self.trace.out(&mut self.out);
        &rest[taken..]
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Body(bytes) => self.trace.body(bytes),
            other => self.trace.items.push(Item::Event(format!("{other:?}"))),
        }
    }

    fn answer(&mut self, event: &Event<'_>) {
        let (session, out) = (&mut self.session, &mut self.out);
        match event {
            Event::Ehlo { .. } | Event::Command { .. } | Event::XClient(_) => session.accept(out),
            Event::AuthKeys if session.keys_wanted_of() == Some("refuse") => {
                session.reject(&Reply::new(454, (4, 7, 0), "not now"), out);
            }
            Event::AuthKeys => session.challenge(&PENCIL, SERVER_NONCE, out),
            Event::Auth { .. } => match (session.login(), session.proof()) {
                (Some(("user", "password" | "pencil")), None) | (None, Some(("user", true))) => {
                    session.accept(out)
                }
                _ => session.reject(&Reply::new(535, (5, 7, 8), "wrong user or password"), out),
            },
            Event::StartTls => self.awaits_tls = true,
            Event::Mail { from: path, .. } => {
                self.verdicts.clear();
                match verdict(path) {
                    None => session.accept(out),
                    Some(reply) => session.reject(&reply, out),
                }
            }
            Event::Rcpt { to, .. } => match verdict(to) {
                None => {
                    let full = to.local().starts_with("full");
                    self.verdicts.push(if full { FULL } else { TAKEN });
                    session.accept(out);
                }
                Some(reply) => session.reject(&reply, out),
            },
            Event::BodyStart { .. } | Event::Reset => self.body.clear(),
            Event::Body(bytes) => self.body.extend_from_slice(bytes),
            Event::BodyEnd => {
                let body = std::mem::take(&mut self.body);
                match data::check(&body, &BodyRules::default()) {
                    Ok(_) if self.lmtp => {
                        session.answer_each(&self.verdicts, out);
                        self.messages.push(body);
                    }
                    Ok(_) => {
                        session.accept_with(&TAKEN, out);
                        self.messages.push(body);
                    }
                    Err(error) => session.reject(&error.reply(), out),
                }
            }
            Event::Quit | Event::Close => self.closed = true,
            Event::NeedMore => {}
        }
    }
}

fn verdict(path: &Path<'_>) -> Option<Reply> {
    if path.local().starts_with("refuse") {
        Some(Reply::new(550, (5, 1, 1), "no such mailbox"))
    } else if path.local().starts_with("defer") {
        Some(Reply::new(451, (4, 7, 1), "not now"))
    } else {
        None
    }
}

/// Limits so small that short tests reach all of them.
pub(crate) fn small_limits() -> Limits {
    Limits {
        command_line_bytes_max: 96,
        recipients_max: 3,
        message_bytes_max: 120,
        messages_max: 4,
        errors_max: 6,
    }
}
