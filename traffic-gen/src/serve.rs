//! A small HTTP service on a thread of its own, beside a run or instead of one.
//!
//! It never takes more than [`CONNECTIONS_MAX`] connections, ends each after [`CONNECTION_TIME_MAX`] so that
//! nobody can sit on them, and its thread is nicer than those that make the load. It ends with the object.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use rustix::process::setpriority_process;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may be there at all; who needs longer comes again.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// How long to wait when the host refuses to take a connection, as it does without free files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much nicer than the load a thread is that only watches it.
const NICE: i32 = 10;

/// A service that answers until it is dropped.
pub(crate) struct Service {
    /// Where it listens, with the port that was given to it.
    pub(crate) address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens and answers. An error is the host's: the address is taken or is not ours.
    pub(crate) fn start(address: SocketAddr, name: &str, routes: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, mut stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let doors = {
            let _entered = runtime.enter();
            Doors {
                listener: tokio::net::TcpListener::from_std(listener)?,
                seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            }
        };
        let work = async move {
            tokio::select! {
                _ = async { axum::serve(doors, routes).await } => {}
                // An error means that the service object is gone, which is the same wish.
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            be_nice();
            runtime.block_on(work);
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already printed why.
            let _ = thread.join();
        }
    }
}

/// Lets this thread give way to those that make the load.
pub(crate) fn be_nice() {
    // On Linux no process id means the calling thread. Where it is refused, it is as nice as before.
    let _ = setpriority_process(None, NICE);
}

/// The listener with its limits.
struct Doors {
    listener: tokio::net::TcpListener,
    seats: Arc<Semaphore>,
}

impl Listener for Doors {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            let Ok(seat) = Arc::clone(&self.seats).acquire_owned().await else {
                // The semaphore is never closed.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let visit = Visit { stream, end: Box::pin(sleep(CONNECTION_TIME_MAX)), _seat: seat };
                    return (visit, address);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that has its seat, and its time.
struct Visit {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _seat: OwnedSemaphorePermit,
}

impl Visit {
    /// Refuses everything once the time is over.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::routing::get;

    use super::*;

    #[test]
    fn it_answers_until_it_is_dropped() {
        let routes = Router::new().route("/", get(|| async { "here" }));
        let service = Service::start("127.0.0.1:0".parse().unwrap(), "test", routes).unwrap();
        let address = service.address;
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        drop(service);
        assert!(TcpStream::connect(address).is_err());
    }
}
