//! A whole inbound session under arbitrary bytes, kept as a server keeps it: an input buffer, replies that leave, an intake in memory.
//!
//! However the bytes are cut, the same mail is taken and the same is said. No more is held than the limits allow, every reply is
//! one that a client can read, and nothing is taken that breaks the rules of a body.

use std::sync::Arc;

use smtp::auth::AUTH_LINE_BYTES_MAX;
use smtp::data::{self, BodyRules};
use smtp::reply::{Reply, ReplyParser};
use smtp::server::{BodyKind, Config, Event, Limits, Mechanism, Session};

const LIMITS: Limits = Limits {
    command_line_bytes_max: 80,
    recipients_max: 3,
    message_bytes_max: 200,
    messages_max: 3,
    errors_max: 8,
};

/// The first byte of `data` chooses what is on offer, the second how the rest is cut. What the client sends follows: up to the
/// first 0 in the clear, then through TLS, if that was begun.
pub(crate) fn run(data: &[u8]) {
    let [choice, cut, input @ ..] = data else {
        return;
    };
    let whole = Server::serve(*choice, input, || usize::MAX);
    let mut state = u32::from(*cut) | 0x100;
    let cuts = || {
        // Sizes that look random and are the same each time (xorshift).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        usize::try_from(state % 23).map_or(1, |size| size + 1)
    };
    let split = Server::serve(*choice, input, cuts);
    assert_eq!(whole.mail, split.mail, "reads of other sizes gave other mail");
    assert_eq!(whole.said, split.said, "reads of other sizes gave other replies");
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Mail {
    sender: String,
    recipients: Vec<String>,
    body: Vec<u8>,
}

struct Server {
    session: Session,
    /// Bytes that the session has not taken yet.
    input: Vec<u8>,
    buffered_bytes_max: usize,
    out: Vec<u8>,
    said: Vec<u8>,
    open: Mail,
    binary: bool,
    mail: Vec<Mail>,
    /// Octets of chunks go straight to their place.
    direct: bool,
    awaits_tls: bool,
    closed: bool,
}

impl Server {
    fn serve(choice: u8, input: &[u8], mut cuts: impl FnMut() -> usize) -> Self {
        let mut server = Self::new(choice);
        let mut parts = input.splitn(2, |byte| *byte == 0);
        server.receive(parts.next().unwrap_or_default(), &mut cuts);
        if server.awaits_tls {
            server.session.tls_started();
            server.awaits_tls = false;
        }
        server.receive(parts.next().unwrap_or_default(), &mut cuts);
        server.check_replies();
        server
    }

    fn new(choice: u8) -> Self {
        let chosen = |bit: u8| choice & (1 << bit) != 0;
        let auth = if chosen(0) { Mechanism::ALL.to_vec() } else { Vec::new() };
        let buffered_bytes_max = if chosen(0) { AUTH_LINE_BYTES_MAX } else { LIMITS.command_line_bytes_max };
        let config = Config {
            limits: LIMITS,
            auth,
            auth_needs_tls: chosen(1),
            starttls: chosen(2),
            tls_needed: chosen(2) && chosen(1),
            dsn: chosen(3),
            binary_mime: chosen(4),
            chunking: !chosen(5),
            xclient: chosen(6),
            announce_limits: true,
            ..Config::default()
        };
        let mut server = Self {
            session: Session::new(Arc::new(config)),
            input: Vec::new(),
            buffered_bytes_max,
            out: Vec::new(),
            said: Vec::new(),
            open: Mail::default(),
            binary: false,
            mail: Vec::new(),
            direct: chosen(7),
            awaits_tls: false,
            closed: false,
        };
        server.session.greet(&mut server.out);
        server
    }

    fn receive(&mut self, bytes: &[u8], cuts: &mut impl FnMut() -> usize) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.closed {
            let (read, later) = rest.split_at(rest.len().min(cuts()));
            // A server has room for one read behind what it could not use yet.
            self.input.extend_from_slice(read);
            self.advance();
            assert!(
                self.input.len() <= self.buffered_bytes_max,
                "{} bytes are held back, {} are allowed",
                self.input.len(),
                self.buffered_bytes_max
            );
            rest = later;
        }
    }

    /// Runs the session over what is there.
    fn advance(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while !self.closed {
            at += self.take_chunk(&input[at..]);
            let step = self.session.handle(&input[at..], &mut self.out);
            at += step.consumed;
            self.said.append(&mut self.out);
            if step.event == Event::NeedMore {
                break;
            }
            self.answer(step.event);
            self.said.append(&mut self.out);
        }
        self.input.extend_from_slice(&input[at..]);
        if self.closed {
            self.input.clear();
        }
    }

    fn take_chunk(&mut self, input: &[u8]) -> usize {
        let Some(expected) = self.session.body_bytes_expected().filter(|_| self.direct) else {
            return 0;
        };
        let taken = usize::try_from(expected).map_or(input.len(), |expected| expected.min(input.len()));
        self.store(&input[..taken]);
        self.session.body_taken(taken as u64, &mut self.out);
        taken
    }

    fn store(&mut self, bytes: &[u8]) {
        self.open.body.extend_from_slice(bytes);
        assert!(self.open.body.len() as u64 <= LIMITS.message_bytes_max, "a body over the limit is kept");
    }

    fn answer(&mut self, event: Event<'_>) {
        let (session, out) = (&mut self.session, &mut self.out);
        match event {
            Event::Mail { from, params } => {
                self.open = Mail { sender: from.to_string(), ..Mail::default() };
                self.binary = params.body == BodyKind::BinaryMime;
                session.accept(out);
            }
            Event::Rcpt { to, .. } if to.local().starts_with('r') => {
                session.reject(&Reply::new(550, (5, 1, 1), "no such user"), out);
            }
            Event::Rcpt { to, .. } => {
                self.open.recipients.push(to.to_string());
                assert!(self.open.recipients.len() <= LIMITS.recipients_max, "a recipient over the limit");
                session.accept(out);
            }
            Event::BodyStart { .. } => self.open.body.clear(),
            Event::Body(bytes) => self.store(bytes),
            Event::BodyEnd => self.take_in(),
            Event::Reset => self.open = Mail::default(),
            Event::StartTls => self.awaits_tls = true,
            Event::Auth { .. } if session.login() == Some(("u", "p")) => session.accept(out),
            Event::Auth { .. } | Event::AuthKeys => {
                session.reject(&Reply::new(535, (5, 7, 8), "no such user"), out);
            }
            Event::Quit | Event::Close => self.closed = true,
            event if event.is_question() => session.accept(out),
            _ => {}
        }
    }

    /// The intake: in memory, and as strict as that of a server.
    fn take_in(&mut self) {
        let mail = std::mem::take(&mut self.open);
        let checked =
            if self.binary { Ok(()) } else { data::check(&mail.body, &BodyRules::default()).map(drop) };
        if let Err(error) = checked {
            return self.session.reject(&error.reply(), &mut self.out);
        }
        assert!(!mail.recipients.is_empty(), "mail to nobody");
        assert!(self.binary || has_only_whole_lines(&mail.body), "a lone CR, LF or a NUL was taken");
        self.mail.push(mail);
        assert!(self.mail.len() <= LIMITS.messages_max as usize, "a message over the limit");
        self.session.accept(&mut self.out);
    }

    /// All that was said is whole replies with codes that exist, and nothing follows an end.
    fn check_replies(&self) {
        let (mut rest, mut parser, mut ended) = (self.said.as_slice(), ReplyParser::new(), false);
        while !rest.is_empty() {
            assert!(!ended, "something was said after the end");
            let Ok((consumed, true)) = parser.read(rest) else {
                panic!("no client can read {}", rest.escape_ascii());
            };
            let reply = parser.take(String::new());
            assert!((200..600).contains(&reply.code), "{reply}");
            ended = matches!(reply.code, 221 | 421);
            rest = &rest[consumed..];
        }
    }
}

fn has_only_whole_lines(body: &[u8]) -> bool {
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    let whole = |line: &[u8]| {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
    };
    lines.into_iter().all(whole)
}
