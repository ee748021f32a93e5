//! One SMTP connection: bytes in, replies out, nothing kept.
//!
//! All connections of a worker read into one buffer of the thread; only the beginning of a command that has
//! not arrived in full stays with the connection. All replies to what one read brought leave in one write,
//! and nothing more is read until they have left, so a peer that never reads costs at most one buffer of
//! replies. A connection that is silent too long is closed by the worker.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use smtp::reply::Reply;
use smtp::server::{Event, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::body::BodyReader;
use crate::ledger::fingerprint;
use crate::worker::{Worker, now_ns};

/// What a worker reads at once, in bytes. Large enough for a body of 100 KB in one call, small enough to
/// stay in the second level cache.
const READ_BYTES: usize = 128 << 10;

/// What a connection keeps allocated between two reads, in bytes.
const KEPT_BYTES: usize = 4 << 10;

const ACCEPTED: Reply = Reply::new(250, (2, 0, 0), "Ok, discarded");
const GOODBYE: &[u8] = b"421 4.4.2 Closing the connection: silent for too long, or the server stops\r\n";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The second in which a connection was last heard, for the worker's sweep.
pub(crate) type LastHeard = Arc<AtomicU32>;

pub(crate) struct Connection {
    stream: TcpStream,
    session: Session,
    worker: Arc<Worker>,
    last_heard: LastHeard,
    number: u64,
    /// The beginning of a command.
    leftover: Vec<u8>,
    replies: Vec<u8>,
    replies_written: usize,
    recipients: Vec<u32>,
    body: BodyReader,
    /// The peer has been told that the connection ends.
    ends: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, worker: Arc<Worker>, number: u64, last_heard: LastHeard) -> Self {
        let mut session = Session::new(Arc::clone(&worker.protocol));
        let mut replies = Vec::new();
        session.greet(&mut replies);
        Self {
            stream,
            session,
            worker,
            last_heard,
            number,
            leftover: Vec::new(),
            replies,
            replies_written: 0,
            recipients: Vec::new(),
            body: BodyReader::of(number),
            ends: false,
        }
    }

    /// Serves the peer until either side ends it. An error on the socket means that the peer has gone.
    pub(crate) async fn serve(mut self) {
        let ended = std::future::poll_fn(|context| self.poll(context)).await;
        // Whether the peer left with QUIT or without, there is nobody to tell.
        self.ends |= ended.is_err();
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(context))?;
            if self.ends {
                return Poll::Ready(Ok(()));
            }
            ready!(BUFFER.with_borrow_mut(|buffer| self.poll_read(context, buffer)))?;
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.replies_written < self.replies.len() {
            let rest = &self.replies[self.replies_written..];
            self.replies_written += ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
        }
        self.replies.clear();
        self.replies.shrink_to(KEPT_BYTES);
        self.replies_written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        // The protocol bounds a command line far below the buffer, so there is always room to read.
        let kept = self.leftover.len().min(buffer.len() / 2);
        buffer[..kept].copy_from_slice(&self.leftover[..kept]);
        let mut target = ReadBuf::new(&mut buffer[kept..]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut target))?;
        let read = target.filled().len();
        if read == 0 {
            self.ends = true;
            return Poll::Ready(Ok(()));
        }
        self.last_heard.store(self.worker.second(), Ordering::Relaxed);
        let taken = self.take(&buffer[..kept + read]);
        self.leftover.clear();
        self.leftover.extend_from_slice(&buffer[taken..kept + read]);
        Poll::Ready(Ok(()))
    }

    /// Works through what has arrived and returns how much of it is done with.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let step = self.session.handle(&input[taken..], &mut self.replies);
            taken += step.consumed;
            match step.event {
                Event::NeedMore => return taken,
                Event::Body(part) => self.body.feed(part),
                Event::Rcpt { to } => {
                    self.recipients.push(fingerprint(to.local(), to.domain()));
                    self.session.accept(&mut self.replies);
                }
                Event::Mail { .. } => {
                    self.recipients.clear();
                    self.session.accept(&mut self.replies);
                }
                Event::BodyStart { .. } => self.body.start(),
                Event::BodyEnd => {
                    self.worker.record(&self.body.finish(), &self.recipients, now_ns());
                    self.session.accept_with(&ACCEPTED, &mut self.replies);
                }
                Event::Ehlo { .. } | Event::Auth { .. } | Event::Command { .. } => {
                    self.session.accept(&mut self.replies);
                }
                Event::Reset => {}
                // STARTTLS is not on offer, so it does not come.
                Event::Quit | Event::Close | Event::StartTls => {
                    self.ends = true;
                    return taken;
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.ends {
            // The worker ends it: RFC 5321 3.8 wants a 421 first. A full socket is no reason to wait.
            let _ = self.stream.try_write(GOODBYE);
        }
        self.worker.leave(self.number);
    }
}
