//! One connection to the server: greeting, then one message after the other, then QUIT.
//!
//! Where the server offers PIPELINING and CHUNKING a message costs one vectored write of envelope, header
//! and body, and one read; the body is never copied. A message that has begun ends in the tally whatever
//! happens: answered, or unknown when the connection goes first, even if the worker gives the connection
//! up.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use smtp::client::{BodyForm, NO_REPLY, Next, Session, Transaction};
use smtp::reply::Reply;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::clock::now_ns;
use crate::content::Message;
use crate::flight::{Flight, Stage};
use crate::start::Times;
use crate::tally::{Begun, Final};
use crate::worker::Worker;

/// What a worker reads at once, in bytes; replies are short.
const READ_BYTES: usize = 16 << 10;

/// Follows a body in DATA (RFC 5321 4.1.1.4); all bodies end in CRLF or are empty.
const FINAL_DOT: &[u8] = b".\r\n";

/// Beyond so many connections every second one has its port chosen when it is bound. Linux looks for even
/// ports first when it connects and for odd ones first when it binds; without this, connecting becomes a
/// search through all even ports as soon as they are taken (half of the default range are 14,116).
const CONNECTIONS_PLAIN_MAX: usize = 8_192;

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
    let stream = match connect(&worker, number).await {
        Ok(stream) => stream,
        Err(error) => {
            return Ending::Lost { kind: format!("connect: {error}"), useful: false };
        }
    };
    drop(turn);
    let mut connection = Connection::new(stream, worker, flight, number);
    match connection.work().await {
        Ok(ending) => ending,
        Err(kind) => Ending::Lost { kind, useful: connection.useful },
    }
}

/// Connects to the first address of the target that answers.
async fn connect(worker: &Worker, number: u64) -> io::Result<TcpStream> {
    let mut refused = io::ErrorKind::AddrNotAvailable.into();
    for address in &worker.run.target(number).addresses {
        let bind_first = number % 2 == 1 && worker.run.plan.concurrency > CONNECTIONS_PLAIN_MAX;
        match open(*address, bind_first).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

async fn open(address: SocketAddr, bind_first: bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if bind_first {
        let any = if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        socket.bind(SocketAddr::new(any, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// A message that has begun.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    sequence: u64,
    meant_ns: u64,
}

struct Connection {
    stream: TcpStream,
    worker: Arc<Worker>,
    flight: Arc<Flight>,
    session: Session,
    out: Vec<u8>,
    /// Bytes read that the session does not take yet.
    leftover: Vec<u8>,
    message: Message,
    number: u64,
    /// The message that has no final reply.
    in_flight: Option<InFlight>,
    /// When it became free for the next message.
    free_ns: u64,
    useful: bool,
}

impl Connection {
    fn new(stream: TcpStream, worker: Arc<Worker>, flight: Arc<Flight>, number: u64) -> Self {
        worker.tally(|tally| {
            tally.connections_opened += 1;
            tally.connections_open += 1;
        });
        Self {
            stream,
            session: Session::new(worker.run.session_config()),
            message: worker.run.catalogue.message(),
            worker,
            flight,
            out: Vec::new(),
            leftover: Vec::new(),
            number,
            in_flight: None,
            free_ns: 0,
            useful: false,
        }
    }

    /// `Err` says in words how the connection was lost.
    async fn work(&mut self) -> Result<Ending, String> {
        let mut next = self.read().await?;
        while next != Next::Ready {
            next = match next {
                Next::Closed => return Err(self.closing()),
                _ => self.exchange().await?,
            };
        }
        self.flight.enter(Stage::Idle, self.worker.second());
        self.worker.connection_ready();
        // The semaphore gives nothing; being closed is the sign to begin.
        let _ = self.worker.started.acquire().await;
        let plan = &self.worker.run.plan;
        let limit = plan.transport.messages_per_connection.draw(plan.seed, self.number);
        for _ in 0..limit.map_or(u64::MAX, u64::from) {
            let Some(due_ns) = self.due().await? else { return self.done().await };
            let now_ns = now_ns();
            let Some(sequence) = self.worker.run.claims.claim(now_ns) else { return self.done().await };
            let meant_ns = due_ns.unwrap_or(now_ns);
            // A message that is due while the connection is busy waits for the server; only what comes after
            // is our own.
            let ready_ns = meant_ns.max(self.free_ns).min(now_ns);
            self.send(sequence, Begun { meant_ns, begun_ns: now_ns, ready_ns }).await?;
        }
        self.quit().await;
        Ok(Ending::Retired)
    }

    /// There is nothing left to begin.
    async fn done(&mut self) -> Result<Ending, String> {
        self.worker.nothing_left();
        self.quit().await;
        Ok(Ending::Done)
    }

    /// Waits until a message is due: `Some(None)` means now, `None` never again.
    async fn due(&mut self) -> Result<Option<Option<u64>>, String> {
        let worker = Arc::clone(&self.worker);
        let Some(pacer) = &worker.pacer else {
            return Ok(Some(None));
        };
        self.flight.enter(Stage::Idle, worker.second());
        loop {
            tokio::select! {
                biased;
                due_ns = pacer.next_ns() => return Ok(due_ns.map(Some)),
                // A server may end an idle connection; the message that is due next must not be spent on
                // finding out.
                _ = self.stream.readable() => {
                    if self.read().await? == Next::Closed {
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
        worker.run.catalogue.compose(&mut self.message, sequence, self.number, begun.meant_ns);
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
                // A plan that knows no TLS asks for none, so the session does not either.
                Next::StartTls => return Some(self.closing()),
                Next::Read => self.exchange().await,
                Next::WriteBody(form) => self.write_body(form).await,
            };
            next = match done {
                Ok(next) => next,
                Err(kind) => return Some(kind),
            };
        }
    }

    /// Counts the message whose replies are in; without a deciding one it stays in flight, which makes it
    /// unknown when the connection goes.
    fn count(&mut self, sequence: u64, begun: Begun) {
        let Some(reply) = self.deciding_reply() else {
            return;
        };
        let message = Final {
            sequence,
            code: reply.code,
            positive: reply.is_positive(),
            bytes: self.message.bytes(),
            begun,
            reply_ns: now_ns(),
        };
        self.in_flight = None;
        self.useful = true;
        self.free_ns = message.reply_ns;
        let times = self.times();
        self.worker.book(|book| book.answered(&message, &times));
    }

    /// The reply that decides what became of the message: the first refusal of a recipient, else the
    /// acceptance of all. `None` while a recipient has no answer.
    fn deciding_reply(&self) -> Option<&Reply> {
        let result = self.session.result();
        let mut deciding: Option<&Reply> = None;
        for recipient in 0..self.message.recipients().len() {
            let reply = result.recipient_reply(recipient);
            if std::ptr::eq(reply, &raw const NO_REPLY) {
                return None;
            }
            if deciding.is_none_or(Reply::is_positive) {
                deciding = Some(reply);
            }
        }
        deciding
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
        if self.leftover.is_empty() {
            let (consumed, next) =
                self.session.handle(read, &mut self.out).map_err(|error| error.to_string())?;
            self.leftover.extend_from_slice(&read[consumed..]);
            return Ok(next);
        }
        self.leftover.extend_from_slice(read);
        self.digest()
    }

    /// Gives the session what it did not take before.
    fn digest(&mut self) -> Result<Next, String> {
        let (consumed, next) =
            self.session.handle(&self.leftover, &mut self.out).map_err(|error| error.to_string())?;
        self.leftover.drain(..consumed);
        Ok(next)
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

/// Writes all parts, as many at once as the kernel takes.
async fn write_all(
    stream: &mut TcpStream,
    parts: [&[u8]; 4],
    flight: &Flight,
    worker: &Worker,
) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut written = 0;
    std::future::poll_fn(|context| {
        while written < total {
            let (slices, count) = rest(&parts, written);
            let bytes = ready!(Pin::new(&mut *stream).poll_write_vectored(context, &slices[..count]))?;
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            written += bytes;
            flight.touch(worker.second());
        }
        Poll::Ready(Ok(()))
    })
    .await
}

/// What is left of the parts after so many bytes, and in how many pieces.
fn rest<'p>(parts: &[&'p [u8]; 4], mut written: usize) -> ([IoSlice<'p>; 4], usize) {
    let mut slices = [IoSlice::new(&[]); 4];
    let mut count = 0;
    for part in parts {
        let skip = written.min(part.len());
        written -= skip;
        if skip < part.len() {
            slices[count] = IoSlice::new(&part[skip..]);
            count += 1;
        }
    }
    (slices, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_write_is_exact_at_every_byte() {
        let parts: [&[u8]; 4] = [b"ab", b"", b"cde", b"f"];
        let whole = parts.concat();
        for written in 0..=whole.len() {
            let (slices, count) = rest(&parts, written);
            let left: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(left, whole[written..]);
            assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
        }
    }
}
