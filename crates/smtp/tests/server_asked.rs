//! The server session when its caller decides more: every command, a login, each recipient of a body.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use smtp::reply::Reply;
use smtp::server::{Config, Event, Mechanism, Phase, Questions, Session, Verb};

const NO: Reply = Reply::new(451, (4, 3, 0), "not now");
const YES: Reply = Reply::new(250, (2, 0, 0), "as you like");

/// A session whose commands are all asked about, where everything is accepted but the verb `refused`.
struct Server {
    session: Session,
    refused: Option<Verb>,
    events: Vec<String>,
    input: Vec<u8>,
}

impl Server {
    fn new(config: Config, refused: Option<Verb>) -> Self {
        let mut session = Session::new(Arc::new(Config { questions: Questions::All, ..config }));
        session.greet(&mut Vec::new());
        Self { session, refused, events: Vec::new(), input: Vec::new() }
    }

    /// What the server says to the input; the codes of its replies.
    fn hear(&mut self, input: &[u8]) -> Vec<u16> {
        self.input.extend_from_slice(input);
        let input = std::mem::take(&mut self.input);
        let (mut out, mut rest) = (Vec::new(), &input[..]);
        loop {
            let step = self.session.handle(rest, &mut out);
            rest = &rest[step.consumed..];
            match step.event {
                Event::NeedMore | Event::Close | Event::Quit => break,
                Event::Command { verb } if Some(verb) == self.refused => self.session.reject(&NO, &mut out),
                Event::StartTls => self.session.tls_started(),
                event if event.is_question() => self.session.accept(&mut out),
                _ => {}
            }
            if !matches!(step.event, Event::Body(_)) {
                self.events.push(format!("{:?}", step.event));
            }
        }
        self.input = rest.to_vec();
        let text = String::from_utf8(out).unwrap();
        let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
        text.split_terminator("\r\n").filter(last).map(|line| line[..3].parse().unwrap()).collect()
    }
}

const ENVELOPE: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

#[test]
fn every_command_is_asked_about_and_goes_its_usual_way() {
    let mut server = Server::new(Config { starttls: true, ..Config::default() }, None);
    assert_eq!(server.hear(b"EHLO x\r\nNOOP\r\nVRFY a\r\nHELP\r\nSTARTTLS\r\n"), [250, 250, 252, 214, 220]);
    assert_eq!(server.hear(&[ENVELOPE, b"RSET\r\n"].concat()), [250, 250, 250]);
    assert_eq!(server.hear(&[ENVELOPE, b"DATA\r\nhi\r\n.\r\n"].concat()), [250, 250, 354, 250]);
    assert_eq!(server.hear(&[ENVELOPE, b"BDAT 2\r\nhiBDAT 2 LAST\r\n\r\n"].concat()), [250, 250, 250, 250]);
    assert_eq!(server.hear(b"QUIT\r\n"), [221]);
    let asked = |verb: &str| format!("Command {{ verb: {verb} }}");
    for (verb, times) in [
        ("Noop", 1),
        ("Vrfy", 1),
        ("Help", 1),
        ("StartTls", 1),
        ("Rset", 1),
        ("Data", 1),
        // Once a message.
        ("Bdat", 1),
        ("Quit", 1),
    ] {
        assert_eq!(server.events.iter().filter(|event| **event == asked(verb)).count(), times, "{verb}");
    }
    for (event, times) in [("Reset", 1), ("StartTls", 1), ("BodyEnd", 2)] {
        assert_eq!(server.events.iter().filter(|told| *told == event).count(), times, "{event}");
    }
    let starts = server.events.iter().filter(|event| event.starts_with("BodyStart")).count();
    assert_eq!(starts, 2, "{:?}", server.events);
}

#[test]
fn a_refused_command_has_not_happened() {
    let starttls = || Config { starttls: true, ..Config::default() };
    let table: [(Verb, &[u8], &[u16]); 8] = [
        (Verb::Noop, b"NOOP\r\nEHLO x\r\n", &[451, 250]),
        (Verb::Help, b"HELP\r\nHELP\r\n", &[451, 451]),
        (Verb::Vrfy, b"VRFY a\r\n", &[451]),
        // Neither gone nor in TLS.
        (Verb::Quit, b"QUIT\r\nNOOP\r\n", &[451, 250]),
        (Verb::StartTls, b"STARTTLS\r\nNOOP\r\n", &[451, 250]),
        // The transaction is still open.
        (Verb::Rset, b"MAIL FROM:<a@b>\r\nRSET\r\nRCPT TO:<c@d>\r\n", &[250, 451, 250]),
        (Verb::Data, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nRCPT TO:<e@f>\r\n", &[250, 250, 451, 250]),
        // The octets are no commands; what follows without MAIL is no error of the client's.
        (
            Verb::Bdat,
            b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\nQUIT\r\nBDAT 0 LAST\r\nNOOP\r\n",
            &[250, 250, 451, 503, 250],
        ),
    ];
    for (verb, input, codes) in table {
        assert_eq!(Server::new(starttls(), Some(verb)).hear(input), codes, "{verb:?}");
        // The same byte by byte.
        let mut server = Server::new(starttls(), Some(verb));
        let heard: Vec<u16> = input.chunks(1).flat_map(|byte| server.hear(byte)).collect();
        assert_eq!(heard, codes, "{verb:?}");
    }
}

#[test]
fn a_refused_chunk_is_refused_for_each_recipient_in_lmtp() {
    let mut server = Server::new(Config { lmtp: true, ..Config::default() }, Some(Verb::Bdat));
    let input = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nBDAT 2 LAST\r\nhiNOOP\r\n";
    assert_eq!(server.hear(input), [250, 250, 250, 451, 451, 250]);
    assert!(server.events.contains(&"Reset".to_owned()));
}

#[test]
fn an_answer_of_the_callers_own_words() {
    let mut session = Session::new(Arc::new(Config { questions: Questions::All, ..Config::default() }));
    let mut out = Vec::new();
    session.greet(&mut out);
    out.clear();
    let event = session.handle(b"NOOP\r\n", &mut out).event;
    assert_eq!((event, session.phase()), (Event::Command { verb: Verb::Noop }, Phase::Processing));
    session.accept_with(&YES, &mut out);
    assert_eq!(out, b"250 2.0.0 as you like\r\n");
}

#[test]
fn credentials_are_there_until_the_answer_and_never_shown() {
    for (mechanism, input) in [
        (Mechanism::Plain, &b"AUTH PLAIN AHVzZXItMQBzZWNyZXQtMQ==\r\n"[..]),
        (Mechanism::Login, b"AUTH LOGIN dXNlci0x\r\nc2VjcmV0LTE=\r\n"),
    ] {
        let auth = vec![mechanism];
        let mut session = Session::new(Arc::new(Config { auth, ..Config::default() }));
        let mut out = Vec::new();
        let (mut start, mut shown) = (0, String::new());
        // Half of a login is no more to be seen than all of it.
        for end in [input.len() - 5, input.len()] {
            let step = session.handle(&input[start..end], &mut out);
            start += step.consumed;
            shown += &format!("{step:?} {session:?}");
        }
        assert_eq!(session.login(), Some(("user-1", "secret-1")));
        session.reject(&Reply::new(535, (5, 7, 8), "no"), &mut out);
        assert_eq!(session.login(), None);
        assert!(shown.contains(&format!("Auth {{ mechanism: {mechanism:?} }}")), "{shown}");
        for secret in ["user-1", "secret-1", "dXNlci0x", "c2VjcmV0LTE"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[test]
fn in_smtp_each_is_one() {
    let mut session = Session::new(Arc::new(Config::default()));
    let mut out = Vec::new();
    let mut rest: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nBDAT 0 LAST\r\n";
    loop {
        let step = session.handle(rest, &mut out);
        rest = &rest[step.consumed..];
        match step.event {
            Event::BodyEnd => break,
            event if event.is_question() => session.accept(&mut out),
            _ => {}
        }
    }
    out.clear();
    session.answer_each([&YES, &NO], &mut out);
    assert_eq!(out, b"250 2.0.0 as you like\r\n");
}

#[test]
fn what_came_behind_starttls_is_gone_with_the_event() {
    // The caller keeps what is not consumed, and would give it to the session again after the handshake.
    for questions in [Questions::Few, Questions::All] {
        let config = Config { starttls: true, questions, ..Config::default() };
        let mut session = Session::new(Arc::new(config));
        let (mut out, input) = (Vec::new(), b"STARTTLS\r\nMAIL FROM:<evil@client.test>\r\nRC");
        session.greet(&mut out);
        let mut step = session.handle(input, &mut out);
        let mut consumed = step.consumed;
        if step.event.is_question() {
            session.accept(&mut out);
            step = session.handle(&input[consumed..], &mut out);
            consumed += step.consumed;
        }
        assert_eq!((step.event, consumed), (Event::StartTls, input.len()));
        assert_eq!(session.phase(), Phase::Handshake);
        assert!(out.ends_with(b"220 2.0.0 begin TLS now\r\n"));
    }
}
