//! What a message costs in the protocol alone: a server session over pipelined transactions, no socket, no disk.
//!
//! It owns one number, time per transaction; compare it only with the same bench on the same machine a minute ago.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use smtp::reply::Reply;
use smtp::server::{Config, Event, Limits, Session};

const BODY_BYTES: usize = 1000;

fn by_bdat() -> Vec<u8> {
    let body = "x".repeat(BODY_BYTES - 2) + "\r\n";
    let commands = "MAIL FROM:<sender@example.com> SIZE=1000\r\nRCPT TO:<recipient@example.org>\r\n";
    format!("{commands}BDAT {BODY_BYTES} LAST\r\n{body}").into_bytes()
}

fn by_data() -> Vec<u8> {
    let body = ("x".repeat(76) + "\r\n").repeat(BODY_BYTES / 78);
    let commands = "MAIL FROM:<sender@example.com>\r\nRCPT TO:<recipient@example.org>\r\nDATA\r\n";
    format!("{commands}{body}.\r\n").into_bytes()
}

/// Feeds `input` until the session asks for more, saying yes to every question.
fn drive(session: &mut Session, mut input: &[u8], out: &mut Vec<u8>) {
    const TAKEN: Reply = Reply::new(250, (2, 0, 0), "OK");
    loop {
        let step = session.handle(input, out);
        input = &input[step.consumed..];
        match step.event {
            Event::NeedMore => return,
            Event::BodyEnd => session.accept_with(&TAKEN, out),
            event if event.is_question() => session.accept(out),
            event => {
                black_box(event);
            }
        }
    }
}

fn transactions(criterion: &mut Criterion) {
    let limits = Limits { messages_max: u32::MAX, ..Limits::default() };
    let config = Arc::new(Config { limits, ..Config::default() });
    let mut group = criterion.benchmark_group("smtp_parse");
    group.throughput(Throughput::Elements(1));
    for (name, input) in [("bdat", by_bdat()), ("data", by_data())] {
        let mut session = Session::new(config.clone());
        let mut out = Vec::with_capacity(4096);
        session.greet(&mut out);
        drive(&mut session, b"EHLO bench.example.com\r\n", &mut out);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                drive(&mut session, black_box(&input), &mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, transactions);
criterion_main!(benches);
