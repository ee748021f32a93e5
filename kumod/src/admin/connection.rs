//! Accepts HTTP connections, and puts limits on each: a number at once, a time for a request to come and for an answer to leave,
//! a number of bytes for a request.
//!
//! The limits are watched where the bytes pass, so that they hold in every state of the protocol above: a client that sends one
//! byte a minute, or never reads its answer, is cut off when its time is over.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::metrics::{Metrics, OpenConnection};

/// Bytes of one request with its headers. None of the paths takes a body.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Pause before accepting again when the host is out of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// What clients may take up.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    /// Connections at once; more wait in the kernel's backlog.
    pub(super) connections_max: usize,
    /// From the start of the connection, or the end of the last answer, to the end of a request; so also for a connection to be idle.
    pub(super) request_time_max: Duration,
    /// For an answer to be taken.
    pub(super) answer_time_max: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            request_time_max: Duration::from_secs(10),
            answer_time_max: Duration::from_secs(30),
        }
    }
}

/// Accepts the connections of one listener.
pub(super) struct Door {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    limits: ClientLimits,
    metrics: Arc<Metrics>,
}

impl Door {
    pub(super) fn new(listener: TcpListener, limits: ClientLimits, metrics: Arc<Metrics>) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(limits.connections_max)), limits, metrics }
    }
}

impl Listener for Door {
    type Io = Guarded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guarded, SocketAddr) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                // The semaphore is never closed; if it were, no connection could be had again.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let open = OpenConnection::count(&self.metrics.connection_count.http_listener);
                    self.metrics.total_connection_count.http_listener.inc();
                    return (Guarded::new(stream, self.limits, (slot, open)), peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed; waiting for a connection to close");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Door>> for Client {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A connection whose time and bytes are counted.
pub(super) struct Guarded<S = TcpStream, H = (OwnedSemaphorePermit, OpenConnection)> {
    stream: S,
    limits: ClientLimits,
    turn: Turn,
    /// Bytes of the request that is coming.
    request_bytes: usize,
    deadline: Pin<Box<Sleep>>,
    /// Given back when the connection ends.
    _held: H,
}

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Request,
    Answer,
}

impl<S, H> Guarded<S, H> {
    fn new(stream: S, limits: ClientLimits, held: H) -> Self {
        let deadline = Box::pin(sleep(limits.request_time_max));
        Self { stream, limits, turn: Turn::Request, request_bytes: 0, deadline, _held: held }
    }

    fn begin(&mut self, turn: Turn) {
        if self.turn == turn {
            return;
        }
        self.turn = turn;
        self.request_bytes = 0;
        let time = match turn {
            Turn::Request => self.limits.request_time_max,
            Turn::Answer => self.limits.answer_time_max,
        };
        self.deadline.as_mut().reset(Instant::now() + time);
    }

    /// Fails when the time is over; otherwise sees to it that the task is woken then.
    fn check_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("{:?} took too long", self.turn)))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Guarded<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check_time(context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.request_bytes += buffer.filled().len() - before;
        if this.request_bytes > REQUEST_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other(format!(
                "a request has at most {REQUEST_BYTES_MAX} bytes"
            ))));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Guarded<S, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.begin(Turn::Answer);
        this.check_time(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.begin(Turn::Answer);
        this.check_time(context)?;
        Pin::new(&mut this.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The protocol above flushes when everything that it has is written: then it is the client's turn.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        this.begin(Turn::Request);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
