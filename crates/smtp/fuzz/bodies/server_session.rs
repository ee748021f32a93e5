//! A server session under arbitrary bytes: no panic, bounded output, and the same trace whatever the reads.

use std::sync::Arc;

use smtp::reply::Reply;
use smtp::server::{Config, Event, Limits, Session};

/// The first byte of `data` chooses the size of the reads, the rest is what the client sends.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else {
        return;
    };
    let whole = trace(input, usize::MAX);
    let split = trace(input, usize::from(choice % 16) + 1);
    assert_eq!(whole, split, "reads of another size gave another trace");
}

/// All that the session says and yields, in one text; neighbouring bytes of a body run together.
fn trace(input: &[u8], read_bytes: usize) -> String {
    let limits = Limits {
        command_line_bytes_max: 64,
        recipients_max: 4,
        message_bytes_max: 256,
        messages_max: 8,
        errors_max: 16,
    };
    let mut session = Session::new(Arc::new(Config { limits, ..Config::default() }));
    let (mut trace, mut out) = (String::new(), Vec::new());
    session.greet(&mut out);
    let (mut start, mut end, mut said) = (0, 0, 0);
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
            Event::Rcpt { to } if to.local().starts_with('r') => {
                session.reject(&Reply::new(550, (5, 1, 1), "no"), &mut out);
            }
            event if event.is_question() => session.accept(&mut out),
            _ => {}
        }
    }
    // The reply to EHLO is longer than what it answers, and comes from the caller's answer.
    assert!(said <= 40 * input.len() + 2048, "{said} bytes of output for {} of input", input.len());
    trace
}
