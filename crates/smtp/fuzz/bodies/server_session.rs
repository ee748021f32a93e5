//! A server session under arbitrary bytes: no panic, bounded output, and the same trace whatever the reads.

use std::sync::Arc;

use smtp::reply::Reply;
use smtp::scram::Keys;
use smtp::server::{Config, Event, Limits, Mechanism, Questions, Session};

/// The keys of RFC 7677 3, so that its proof is a good one.
const KEYS: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// The first byte of `data` chooses what is on offer and the size of the reads. What the client sends follows: up to the
/// first 0 in the clear, then through TLS, if that was begun.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else {
        return;
    };
    let whole = trace(choice, input, usize::MAX);
    let split = trace(choice, input, usize::from(choice % 16) + 1);
    assert_eq!(whole, split, "reads of another size gave another trace");
}

/// All that the session says and yields, in one text; neighbouring bytes of a body run together.
fn trace(choice: u8, input: &[u8], read_bytes: usize) -> String {
    let limits = Limits {
        command_line_bytes_max: 64,
        recipients_max: 4,
        message_bytes_max: 256,
        messages_max: 8,
        errors_max: 16,
    };
    let chosen = |bit: u8| choice & (1 << bit) != 0;
    let config = Config {
        limits,
        starttls: chosen(4),
        auth: if chosen(5) { Mechanism::ALL.to_vec() } else { Vec::new() },
        lmtp: chosen(6),
        dsn: chosen(0),
        binary_mime: chosen(1),
        require_tls: chosen(2),
        announce_limits: chosen(2),
        xclient: chosen(3),
        tls_needed: chosen(4) && chosen(3),
        auth_needs_tls: chosen(4) && chosen(2),
        questions: if chosen(7) { Questions::All } else { Questions::Few },
        ..Config::default()
    };
    let mut session = Session::new(Arc::new(config));
    session.greet(&mut Vec::new());
    let mut trace = String::new();
    if !chosen(4) {
        talk(&mut session, input, read_bytes, &mut trace);
        return trace;
    }
    let mut parts = input.splitn(2, |byte| *byte == 0);
    if talk(&mut session, parts.next().unwrap_or_default(), read_bytes, &mut trace) {
        session.tls_started();
        talk(&mut session, parts.next().unwrap_or_default(), read_bytes, &mut trace);
    }
    trace
}

/// Adds to the trace; whether the session waits for a handshake in the end.
fn talk(session: &mut Session, input: &[u8], read_bytes: usize, trace: &mut String) -> bool {
    let mut out = Vec::new();
    let (mut start, mut end, mut said, mut awaits_tls) = (0, 0, 0, false);
    loop {
        let step = session.handle(&input[start..end], &mut out);
        start += step.consumed;
        said += out.len();
        trace.extend(out.drain(..).map(char::from));
        match step.event {
            Event::NeedMore if end == input.len() => break,
            Event::NeedMore => end = input.len().min(end.saturating_add(read_bytes)),
            Event::Body(body) => trace.extend(body.iter().copied().map(char::from)),
            event => trace.push_str(&format!("{event:?}")),
        }
        match step.event {
            Event::Quit | Event::Close => break,
            Event::StartTls => awaits_tls = true,
            Event::Rcpt { to, .. } if to.local().starts_with('r') => {
                session.reject(&Reply::new(550, (5, 1, 1), "no"), &mut out);
            }
            Event::AuthKeys => match Keys::parse(KEYS) {
                Ok(keys) => session.challenge(&keys, NONCE, &mut out),
                Err(error) => panic!("{error}"),
            },
            Event::Auth { .. } => match (session.login(), session.proof()) {
                (Some(("u", _)), None) | (None, Some((_, true))) => session.accept(&mut out),
                _ => session.reject(&Reply::new(535, (5, 7, 8), "no"), &mut out),
            },
            event if event.is_question() => session.accept(&mut out),
            _ => {}
        }
    }
    // The reply to EHLO is longer than what it answers, and comes from the caller's answer.
    assert!(said <= 50 * input.len() + 2048, "{said} bytes of output for {} of input", input.len());
    awaits_tls
}
