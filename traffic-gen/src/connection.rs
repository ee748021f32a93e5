//! One connection to the server: greeting, then one message after the other, then QUIT.
//!
//! Where the server offers PIPELINING and CHUNKING a message costs one vectored write of envelope, header
//! and body, and one read; the body is never copied. A message that has begun ends in the tally whatever
//! happens: answered, or unknown when the connection goes first, even if the worker gives the connection
//! up.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use smtp::client::{BodyForm, NO_REPLY, Next, PeerError, Phase, Session, Transaction};
use tokio::io::{AsyncRead, ReadBuf};

use crate::clock::now_ns;
use crate::content::Message;
use crate::dial::{self, Lacking};
use crate::flight::{Flight, Stage};
use crate::http;
use crate::phases::Step;
use crate::start::Times;
use crate::stopwatch::{Ended, Manner, Stopwatch};
use crate::tally::{Begun, Final};
use crate::tls::Stream;
use crate::transport::Tls;
use crate::wire::{Went, write_all};
use crate::worker::Worker;

/// What a worker reads at once, in bytes; replies are short.
const READ_BYTES: usize = 16 << 10;

/// Follows a body in DATA (RFC 5321 4.1.1.4); all bodies end in CRLF or are empty.
const FINAL_DOT: &[u8] = b".\r\n";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// There was nothing left to begin.
    Done,
    /// It has carried its share; another takes its place.
    Retired,
    /// It was lost, or never came to be.
    Lost {
        kind: String,
        /// Whether any message was answered on it.
        useful: bool,
        /// Whether the server lacks what was asked for, so that another connection would fare no better.
        unfit: bool,
    },
}

/// Opens a connection, after a while, and sends messages until there are no more.
pub(crate) async fn run(worker: Arc<Worker>, flight: Arc<Flight>, number: u64, delay: Duration) -> Ending {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    // The semaphore is never closed; an error would only mean that nobody is counting.
    let turn = worker.connects.acquire().await.ok();
    if !worker.run.claims.are_open(now_ns()) {
        return Ending::Done;
    }
    flight.enter(Stage::Opening, worker.second());
    let begin_ns = now_ns();
    let stream = match dial::connect(&worker.run.plan, worker.run.target(number), number).await {
        Ok(stream) => stream,
        Err(error) => return not_connected(&worker, &error),
    };
    drop(turn);
    if worker.run.injector.is_some() {
        return http::run(stream, worker, flight, number, begin_ns).await;
    }
    let mut connection = Connection::new(Stream::Plain(stream), worker, flight, number, begin_ns);
    match connection.work().await {
        Ok(ending) => ending,
        Err(kind) => Ending::Lost { kind, useful: connection.useful, unfit: connection.unfit },
    }
}

fn not_connected(worker: &Worker, error: &io::Error) -> Ending {
    worker.tally(|tally| match dial::lacking(error) {
        Some(Lacking::Ports) => tally.without_port += 1,
        Some(Lacking::Files) => tally.without_file += 1,
        None => {}
    });
    Ending::Lost { kind: format!("connect: {error}"), useful: false, unfit: false }
}

/// A message that has begun.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    sequence: u64,
    meant_ns: u64,
}

struct Connection {
    stream: Stream,
    worker: Arc<Worker>,
    flight: Arc<Flight>,
    session: Session,
    watch: Stopwatch,
    out: Vec<u8>,
    /// Bytes read that the session does not take yet.
    leftover: Vec<u8>,
    message: Message,
    number: u64,
    /// The message that has no final reply.
    in_flight: Option<InFlight>,
    /// How long its steps took, where that is the same for all.
    together_ns: Option<u64>,
    /// When it became free for the next message; 0 before the first.
    free_ns: u64,
    useful: bool,
    unfit: bool,
}

impl Connection {
    /// A connection that stands, and began to be opened at that time.
    fn new(stream: Stream, worker: Arc<Worker>, flight: Arc<Flight>, number: u64, begin_ns: u64) -> Self {
        let now_ns = now_ns();
        worker.book(|book| {
            book.tally.connections_opened += 1;
            book.tally.connections_open += 1;
            book.steps(true, &[Some((Step::Connect, now_ns.saturating_sub(begin_ns)))]);
        });
        let mut watch = Stopwatch::default();
        watch.written(now_ns);
        Self {
            stream,
            session: Session::new(worker.run.session_config()),
            watch,
            message: worker.run.catalogue.message(),
            worker,
            flight,
            out: Vec::new(),
            leftover: Vec::new(),
            number,
            in_flight: None,
            together_ns: None,
            free_ns: 0,
            useful: false,
            unfit: false,
        }
    }

    /// `Err` says in words how the connection was lost.
    async fn work(&mut self) -> Result<Ending, String> {
        self.introduce().await?;
        self.flight.enter(Stage::Idle, self.worker.second());
        self.worker.connection_ready();
        // The semaphore gives nothing; being closed is the sign to begin.
        let _ = self.worker.started.acquire().await;
        let plan = &self.worker.run.plan;
        let limit = plan.transport.messages_per_connection.draw(plan.seed, self.number);
        for _ in 0..limit.map_or(u64::MAX, u64::from) {
            let Some(begun) = self.due().await? else { return self.done().await };
            let Some(sequence) = self.worker.run.claims.claim(begun.begun_ns) else {
                return self.done().await;
            };
            self.send(sequence, begun).await?;
        }
        self.quit().await;
        Ok(Ending::Retired)
    }

    /// From the greeting to where messages may begin.
    async fn introduce(&mut self) -> Result<(), String> {
        if self.worker.run.plan.transport.tls == Tls::Implicit {
            self.start_tls().await?;
        }
        let mut next = self.read().await?;
        loop {
            next = match next {
                Next::Ready => break,
                Next::Closed => return Err(self.closing()),
                Next::StartTls => {
                    self.start_tls().await?;
                    self.session.tls_started(self.worker.run.plan.transport.secured(), &mut self.out)
                }
                _ => self.exchange().await?,
            };
        }
        let (transport, capabilities) = (&self.worker.run.plan.transport, self.session.capabilities());
        self.watch.manner = Manner {
            pipelined: transport.pipelining && capabilities.pipelining,
            chunked: transport.chunking && capabilities.chunking,
        };
        Ok(())
    }

    /// The handshake. There is no way back to the clear.
    async fn start_tls(&mut self) -> Result<(), String> {
        let worker = Arc::clone(&self.worker);
        // The session asks for TLS only where the plan does, and then there is a connector.
        let Some(connector) = &worker.run.connector else {
            return Err("TLS: none was asked for".to_owned());
        };
        let host = worker.run.target(self.number).host();
        self.stream.start_tls(connector, host).await.map_err(|error| {
            // What the library finds wrong with the server will be wrong the next time, too.
            self.unfit = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other);
            format!("TLS: {error}")
        })?;
        self.step_ended(Phase::StartTls, self.session.phase());
        Ok(())
    }

    /// There is nothing left to begin.
    async fn done(&mut self) -> Result<Ending, String> {
        self.worker.nothing_left();
        self.quit().await;
        Ok(Ending::Done)
    }

    /// Waits until a message is due and says when that was; `None` where none will be any more.
    async fn due(&mut self) -> Result<Option<Begun>, String> {
        if self.worker.pacer.is_none() {
            // The time of the reply before is also the time at which the next message begins.
            let now_ns = if self.free_ns > 0 { self.free_ns } else { now_ns() };
            return Ok(Some(Begun { meant_ns: now_ns, begun_ns: now_ns, ready_ns: now_ns }));
        }
        let Some(meant_ns) = self.wait_until_due().await? else { return Ok(None) };
        let begun_ns = now_ns();
        // While the connection was busy, a message that was due waited for the server; only what came after
        // is our own.
        Ok(Some(Begun { meant_ns, begun_ns, ready_ns: meant_ns.max(self.free_ns).min(begun_ns) }))
    }

    async fn wait_until_due(&mut self) -> Result<Option<u64>, String> {
        let worker = Arc::clone(&self.worker);
        let Some(pacer) = &worker.pacer else { return Ok(None) };
        self.flight.enter(Stage::Idle, worker.second());
        loop {
            tokio::select! {
                biased;
                due_ns = pacer.next_ns() => return Ok(due_ns),
                // A server may end an idle connection; the message that is due next must not be spent on
                // finding out. A read that is given up has read nothing.
                next = self.read() => {
                    if next? == Next::Closed {
                        return Err(self.closing());
                    }
                }
            }
        }
    }

    /// Sends one message and counts what became of it. `Err` when the connection did not survive it.
    async fn send(&mut self, sequence: u64, begun: Begun) -> Result<(), String> {
        let worker = Arc::clone(&self.worker);
        self.flight.enter(Stage::InMessage, worker.second());
        self.in_flight = Some(InFlight { sequence, meant_ns: begun.meant_ns });
        self.together_ns = None;
        let connection = worker.run.connection_name(self.number);
        let sent_ns = worker.run.wire_ns(begun.meant_ns);
        worker.run.catalogue.compose(&mut self.message, sequence, connection, sent_ns);
        self.watch.written(begun.begun_ns);
        let next = self.begin(sequence, begun.meant_ns)?;
        let lost = self.carry_through(next).await;
        self.count(sequence, begun);
        lost.map_or(Ok(()), Err)
    }

    fn begin(&mut self, sequence: u64, meant_ns: u64) -> Result<Next, String> {
        let recipients = self.message.recipients();
        let (one, several);
        let transaction = Transaction {
            from: self.message.sender(),
            recipients: if let [recipient] = recipients {
                one = [recipient.as_str()];
                &one
            } else {
                several = recipients.iter().map(String::as_str).collect::<Vec<_>>();
                &several
            },
            body_bytes: self.message.bytes(),
            eight_bit: self.message.eight_bit(),
            smtputf8: false,
            binary: false,
            require_tls: false,
        };
        self.session.begin(&transaction, &mut self.out).map_err(|error| {
            // Nothing was written, so this is a refusal; the next message would fare no better.
            self.in_flight = None;
            let times = self.times();
            self.worker.tally(|tally| tally.refused_here(sequence, meant_ns, &times));
            error.to_string()
        })
    }

    /// Does what the session asks for until the transaction is over; says how the connection was lost, if
    /// it was.
    async fn carry_through(&mut self, mut next: Next) -> Option<String> {
        loop {
            let done = match next {
                Next::Ready => return None,
                Next::Closed => return Some(self.closing()),
                // TLS comes before the first message, never in one.
                Next::StartTls => return Some("the server began TLS in the middle of a message".to_owned()),
                Next::Read => self.exchange().await,
                Next::WriteBody(form) => self.write_body(form).await,
            };
            next = match done {
                Ok(next) => next,
                Err(kind) => return Some(kind),
            };
        }
    }

    /// Counts the message whose replies are in; while one recipient has no deciding one it stays in flight,
    /// which makes it unknown when the connection goes.
    fn count(&mut self, sequence: u64, begun: Begun) {
        let (result, recipients) = (self.session.result(), self.message.recipients().len());
        let replies = || (0..recipients).map(|recipient| result.recipient_reply(recipient));
        if replies().any(|reply| std::ptr::eq(reply, &raw const NO_REPLY)) {
            return;
        }
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let message = Final {
            sequence,
            recipients: number(recipients),
            accepted: number(replies().filter(|reply| reply.is_positive()).count()),
            bytes: self.message.bytes(),
            begun,
            reply_ns: self.watch.read_ns(),
            together_ns: self.together_ns,
        };
        let times = self.times();
        self.worker.book(|book| {
            replies().for_each(|reply| book.tally.replied(reply.code));
            book.answered(&message, &times);
            if message.accepted > 0 && !message.is_sent() {
                for (recipient, reply) in (0..).zip(replies()) {
                    if !reply.is_positive() {
                        book.tally.refused_recipients.add([sequence, recipient]);
                    }
                }
            }
        });
        self.in_flight = None;
        self.useful = true;
        self.free_ns = message.reply_ns;
    }

    fn times(&self) -> Times {
        self.worker.run.start.times().unwrap_or_default()
    }

    /// Writes what is due together with the message, and reads.
    async fn write_body(&mut self, form: BodyForm) -> Result<Next, String> {
        let (header, catalogue) = (self.message.header(), &self.worker.run.catalogue);
        let parts = match form {
            BodyForm::Verbatim => [&self.out[..], header, self.message.verbatim(catalogue), b""],
            BodyForm::DotStuffed => [&self.out[..], header, self.message.dotted(catalogue), FINAL_DOT],
        };
        let written = write_all(&mut self.stream, parts, &self.flight, &self.worker).await;
        if matches!(written, Ok(Went::InParts)) {
            self.watch.body_took_until(now_ns());
        }
        self.out.clear();
        self.session.body_written();
        match self.digest()? {
            // A server that closes early may have said why before: what it said is read before the loss is
            // believed.
            Next::Read => self
                .read()
                .await
                .map_err(|kind| written.err().map_or(kind, |error| format!("write: {error}"))),
            next => Ok(next),
        }
    }

    /// Writes what is due, and reads.
    async fn exchange(&mut self) -> Result<Next, String> {
        let parts = [&self.out[..], b"", b"", b""];
        let written = write_all(&mut self.stream, parts, &self.flight, &self.worker).await;
        self.out.clear();
        self.read().await.map_err(|kind| written.err().map_or(kind, |error| format!("write: {error}")))
    }

    /// Reads once and gives it to the session.
    async fn read(&mut self) -> Result<Next, String> {
        std::future::poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut target = ReadBuf::new(buffer);
                match ready!(Pin::new(&mut self.stream).poll_read(context, &mut target)) {
                    Err(error) => return Poll::Ready(Err(format!("read: {error}"))),
                    Ok(()) if target.filled().is_empty() => {
                        return Poll::Ready(Err("the server closed the connection".to_owned()));
                    }
                    Ok(()) => {}
                }
                self.flight.touch(self.worker.second());
                Poll::Ready(self.take(target.filled()))
            })
        })
        .await
    }

    fn take(&mut self, read: &[u8]) -> Result<Next, String> {
        if !self.leftover.is_empty() {
            self.leftover.extend_from_slice(read);
            return self.digest();
        }
        let before = self.session.phase();
        let (consumed, next) = self.handled(before, |session, out| session.handle(read, out))?;
        self.leftover.extend_from_slice(&read[consumed..]);
        Ok(next)
    }

    /// Gives the session what it did not take before.
    fn digest(&mut self) -> Result<Next, String> {
        let before = self.session.phase();
        let leftover = std::mem::take(&mut self.leftover);
        let handled = self.handled(before, |session, out| session.handle(&leftover, out));
        self.leftover = leftover;
        let (consumed, next) = handled?;
        self.leftover.drain(..consumed);
        Ok(next)
    }

    /// Lets the session handle something, and looks at the clock where that has ended a step.
    fn handled(
        &mut self,
        before: Phase,
        handle: impl FnOnce(&mut Session, &mut Vec<u8>) -> Result<(usize, Next), PeerError>,
    ) -> Result<(usize, Next), String> {
        let (consumed, next) = handle(&mut self.session, &mut self.out).map_err(|error| {
            self.unfit |= matches!(error, PeerError::StartTlsNotOffered | PeerError::AuthNotOffered { .. });
            error.to_string()
        })?;
        let after = self.session.phase();
        if before != after {
            match next {
                // What was refused with the whole session took no length that would say anything.
                Next::Closed if before != Phase::Quit => {
                    self.unfit |= matches!(before, Phase::StartTls | Phase::Auth);
                    self.watch.ended_early(now_ns());
                }
                _ => self.step_ended(before, after),
            }
        }
        Ok((consumed, next))
    }

    fn step_ended(&mut self, before: Phase, after: Phase) {
        match self.watch.read(before, after, now_ns()) {
            Ended::Together(took_ns) => self.together_ns = Some(took_ns),
            Ended::Steps(steps) => {
                let meant_ns = self.in_flight.map(|message| message.meant_ns);
                let counts = meant_ns.is_none_or(|meant_ns| self.times().counts(meant_ns));
                self.worker.book(|book| book.steps(counts, &steps));
            }
        }
    }

    /// How the server ended the session, in its own words.
    fn closing(&self) -> String {
        let closing = self.session.result().closing.as_ref();
        closing.map_or_else(
            || "the server ended the session".to_owned(),
            |reply| format!("the server ended the session: {reply}"),
        )
    }

    /// Says QUIT; the worker does not let it wait for long.
    async fn quit(&mut self) {
        self.flight.enter(Stage::Quitting, self.worker.second());
        self.watch.written(now_ns());
        let mut next = self.session.quit(&mut self.out);
        // Everything is counted, so however the connection ends now, nothing is lost.
        while next == Next::Read {
            next = self.exchange().await.unwrap_or(Next::Closed);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (lost, times) = (self.in_flight.take(), self.times());
        self.worker.tally(|tally| {
            tally.connections_open -= 1;
            if let Some(InFlight { sequence, meant_ns }) = lost {
                tally.lost(sequence, meant_ns, now_ns(), &times);
            }
        });
    }
}
