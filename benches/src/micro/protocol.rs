//! A server session over pipelined transactions: no socket, no disk.
//!
//! It owns the input and says yes to every question. A session never fails on what it is fed here.

use std::hint::black_box;
use std::sync::Arc;

use smtp::reply::Reply;
use smtp::server::{Config, Event, Limits, Session};

use super::measure::repeatedly;
use super::{Operation, Spent};
use crate::error::Result;

const BODY_BYTES: usize = 1000;
const TAKEN: Reply = Reply::new(250, (2, 0, 0), "OK");

/// One transaction after the other in one session.
pub struct Transactions {
    session: Session,
    input: Vec<u8>,
    out: Vec<u8>,
}

impl Transactions {
    /// With CHUNKING: three commands and the body in one piece.
    pub fn by_bdat() -> Self {
        let body = "x".repeat(BODY_BYTES - 2) + "\r\n";
        let commands = "MAIL FROM:<sender@example.com> SIZE=1000\r\nRCPT TO:<recipient@example.org>\r\n";
        Self::of(format!("{commands}BDAT {BODY_BYTES} LAST\r\n{body}").into_bytes())
    }

    /// With DATA, whose end has to be found.
    pub fn by_data() -> Self {
        let body = ("x".repeat(76) + "\r\n").repeat(BODY_BYTES / 78);
        let commands = "MAIL FROM:<sender@example.com>\r\nRCPT TO:<recipient@example.org>\r\nDATA\r\n";
        Self::of(format!("{commands}{body}.\r\n").into_bytes())
    }

    fn of(input: Vec<u8>) -> Self {
        let limits = Limits { messages_max: u32::MAX, ..Limits::default() };
        let session = Session::new(Arc::new(Config { limits, ..Config::default() }));
        let mut transactions = Self { session, input, out: Vec::with_capacity(4096) };
        transactions.session.greet(&mut transactions.out);
        drive(&mut transactions.session, b"EHLO bench.example.com\r\n", &mut transactions.out);
        transactions
    }

    /// One transaction, from MAIL to the last reply. Returns the bytes of the replies.
    pub fn once(&mut self) -> usize {
        self.out.clear();
        drive(&mut self.session, black_box(&self.input), &mut self.out);
        self.out.len()
    }
}

impl Operation for Transactions {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        Ok(repeatedly(operations, || self.once()))
    }
}

/// Feeds `input` until the session asks for more, saying yes to every question.
fn drive(session: &mut Session, mut input: &[u8], out: &mut Vec<u8>) {
    loop {
        let step = session.handle(input, out);
        input = &input[step.consumed..];
        match step.event {
            Event::NeedMore => return,
            Event::BodyEnd => session.accept_with(&TAKEN, out),
            event if event.is_question() => session.accept(out),
            event => drop(black_box(event)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_is_taken() {
        for mut transactions in [Transactions::by_bdat(), Transactions::by_data()] {
            for _ in 0..3 {
                transactions.once();
                let replies = String::from_utf8_lossy(&transactions.out);
                assert!(
                    replies.lines().all(|reply| reply.starts_with("250 ") || reply.starts_with("354 ")),
                    "{replies}"
                );
                assert!(replies.lines().count() >= 3, "{replies}");
            }
        }
    }
}
