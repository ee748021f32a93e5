//! The server session seen from its caller: what dialogues cannot show.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use smtp::address::Path;
use smtp::reply::Reply;
use smtp::server::{BodyKind, Config, DEADLINES, Event, Limits, Phase, Session, Step};
use support::Caller;

const ENVELOPE: &[u8] = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";

fn session(config: Config) -> Session {
    let mut session = Session::new(Arc::new(config));
    session.greet(&mut Vec::new());
    session
}

/// A session that has accepted one recipient.
fn with_recipient(config: Config) -> Session {
    let mut session = session(config);
    let mut rest = ENVELOPE;
    for _ in 0..2 {
        let step = session.handle(rest, &mut Vec::new());
        assert!(step.event.is_question());
        rest = &rest[step.consumed..];
        session.accept(&mut Vec::new());
    }
    session
}

#[test]
fn questions_carry_what_was_written() {
    let mut session = session(Config::default());
    let mut out = Vec::new();
    let input = b"EHLO [::1]\r\n";
    let step = session.handle(input, &mut out);
    assert_eq!(step, Step { consumed: input.len(), event: Event::Ehlo { domain: "[::1]", extended: true } });
    session.accept(&mut out);

    let input = b"MAIL FROM:<a@b> SIZE=7 BODY=8BITMIME SMTPUTF8\r\nrest";
    let Event::Mail { from, params } = session.handle(input, &mut out).event else { panic!("no MAIL") };
    assert_eq!(from, Path::Mailbox { local: "a", domain: "b" });
    assert_eq!((params.size, params.body, params.smtputf8), (Some(7), BodyKind::EightBitMime, true));
    session.accept(&mut out);
}

#[test]
fn an_open_question_holds_the_session() {
    let mut session = session(Config::default());
    let mut out = Vec::new();
    let step = session.handle(ENVELOPE, &mut out);
    assert_eq!(session.phase(), Phase::Processing);
    assert_eq!(
        session.handle(&ENVELOPE[step.consumed..], &mut out),
        Step { consumed: 0, event: Event::NeedMore }
    );
    assert!(out.is_empty());
    session.accept_with(&Reply::new(250, (2, 1, 0), "welcome"), &mut out);
    assert_eq!(out, b"250 2.1.0 welcome\r\n");
}

#[test]
fn chunks_can_be_read_by_the_caller() {
    let mut session = with_recipient(Config::default());
    let mut out = Vec::new();
    assert_eq!(session.body_bytes_expected(), None);
    let input = b"BDAT 10\r\nabc";
    let step = session.handle(input, &mut out);
    assert_eq!(step, Step { consumed: 9, event: Event::BodyStart { bytes_expected: 10 } });
    assert_eq!(session.body_bytes_expected(), Some(10));
    assert_eq!(session.handle(b"abc", &mut out), Step { consumed: 3, event: Event::Body(b"abc") });
    assert_eq!((session.body_bytes_expected(), session.phase()), (Some(7), Phase::Data));
    session.body_taken(4, &mut out);
    assert_eq!(session.body_bytes_expected(), Some(3));
    session.body_taken(3, &mut out);
    assert_eq!((session.body_bytes_expected(), session.phase()), (None, Phase::Command));
    assert_eq!(out, b"250 2.0.0 chunk received\r\n");

    assert_eq!(session.handle(b"BDAT 5 LAST\r\n", &mut out), Step { consumed: 13, event: Event::NeedMore });
    session.body_taken(5, &mut out);
    assert_eq!(session.body_bytes_expected(), None);
    assert_eq!(session.handle(&[], &mut out), Step { consumed: 0, event: Event::BodyEnd });
    session.accept(&mut out);
    assert!(out.ends_with(b"250 2.0.0 OK\r\n"));
}

#[test]
fn declared_size_is_handed_on() {
    let mut session = session(Config::default());
    let mut out = Vec::new();
    session.handle(b"MAIL FROM:<> SIZE=77\r\n", &mut out);
    session.accept(&mut out);
    session.handle(b"RCPT TO:<a@b>\r\n", &mut out);
    session.accept(&mut out);
    assert_eq!(session.handle(b"DATA\r\n", &mut out).event, Event::BodyStart { bytes_expected: 77 });
    assert_eq!(session.body_bytes_expected(), None);
}

#[test]
fn nothing_of_an_oversized_body_is_yielded_beyond_the_limit() {
    let limits = Limits { message_bytes_max: 10, ..Limits::default() };
    let mut caller = Caller::new(Config { limits, ..Config::default() });
    caller.read(ENVELOPE);
    caller.read(b"DATA\r\n0123456789abcdef\r\n.\r\n");
    caller.read(ENVELOPE);
    caller.read(b"BDAT 18446744073709551615 LAST\r\n0123456789");
    let bodies: Vec<_> = caller
        .trace
        .items
        .iter()
        .filter_map(|item| if let support::Item::Body(body) = item { Some(body.as_slice()) } else { None })
        .collect();
    assert_eq!(bodies, [b"0123456789"]);
    assert!(caller.messages.is_empty());
}

#[test]
fn a_dropped_transaction_is_reported() {
    for (input, resets) in [
        (&b"RSET\r\n"[..], 1),
        (b"EHLO again\r\n", 1),
        (b"RSET\r\nRSET\r\nEHLO again\r\n", 1),
        (b"EHLO\r\n", 0),
        (b"BDAT 1\r\nxRSET\r\n", 1),
    ] {
        let mut caller = Caller::new(Config::default());
        caller.read(ENVELOPE);
        caller.read(input);
        let found =
            caller.trace.items.iter().filter(|item| **item == support::Item::Event("Reset".into())).count();
        assert_eq!(found, resets, "{}", input.escape_ascii());
    }
}

#[test]
fn extensions_can_be_turned_off() {
    let config = Config {
        pipelining: false,
        chunking: false,
        eight_bit_mime: false,
        smtputf8: false,
        enhanced_status_codes: false,
        ..Config::default()
    };
    let mut caller = Caller::new(config);
    caller.read(b"EHLO x\r\nNOOP\r\nBDAT 1\r\nMAIL FROM:<a@b> SMTPUTF8\r\n");
    let replies = caller.trace.replies();
    let lines: Vec<&str> = replies.split_terminator("\r\n").skip(1).collect();
    assert_eq!(lines[..3], ["250-localhost", "250 SIZE 20971520", "250 OK"]);
    assert!(lines[3].starts_with("500 ") && lines[4].starts_with("555 "), "{lines:?}");
}

#[test]
fn an_early_talker_is_greeted_first() {
    let mut session = Session::new(Arc::new(Config::default()));
    assert_eq!(session.phase(), Phase::Greeting);
    let mut out = Vec::new();
    session.handle(b"NOOP\r\n", &mut out);
    session.greet(&mut out);
    assert_eq!(out, b"220 localhost ESMTP ready\r\n250 2.0.0 OK\r\n");
}

#[test]
fn a_closed_session_swallows_and_says_nothing() {
    let mut session = session(Config::default());
    let mut out = Vec::new();
    assert_eq!(session.handle(b"QUIT\r\nNOOP\r\n", &mut out), Step { consumed: 6, event: Event::Quit });
    out.clear();
    assert_eq!(session.handle(b"NOOP\r\n", &mut out), Step { consumed: 6, event: Event::Close });
    assert!(out.is_empty());
}

#[test]
fn every_phase_has_a_deadline() {
    for phase in [Phase::Greeting, Phase::Command, Phase::Data, Phase::Processing, Phase::Handshake] {
        assert_eq!(phase.deadline(), DEADLINES[phase as usize]);
        assert!(phase.deadline().as_secs() > 0);
    }
}
