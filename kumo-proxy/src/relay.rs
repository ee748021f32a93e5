//! Moves bytes both ways until both sides have ended, or nothing has passed for too long.
//!
//! Between two plain sockets splice(2) moves them inside the kernel; with TLS, or where the host cannot splice, they are copied. A
//! side that ends its direction is passed on as such, and the other direction goes on. A connection that breaks ends both.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::pipes::{PIPE_BYTES, Pipe, Pipes};

/// Bytes copied at once, where they are copied.
const COPY_BYTES: usize = 32 << 10;

/// How a relay ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides have said all.
    Both,
    /// Nothing passed for the whole idle time.
    Idle,
    /// One of them broke off.
    Broken(io::Error),
}

/// When something passed last, and how much has.
#[derive(Debug)]
struct Passed<'a> {
    start: Instant,
    last_ms: AtomicU64,
    up: &'a AtomicU64,
    down: &'a AtomicU64,
}

impl Passed<'_> {
    fn note(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Resolves when nothing has passed for `idle`.
    async fn silence(&self, idle: Duration) {
        loop {
            let until = self.start + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + idle;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// What counts the bytes of each direction.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a> {
    /// From the client.
    pub up: &'a AtomicU64,
    /// To the client.
    pub down: &'a AtomicU64,
}

/// Between two plain sockets. Without `pipes` bytes are copied.
pub async fn plain(
    client: &mut TcpStream,
    server: &mut TcpStream,
    pipes: Option<&Pipes>,
    idle: Duration,
    counters: Counters<'_>,
) -> Ended {
    let Some(pipes) = pipes else { return copied(client, server, idle, counters).await };
    let passed = Passed::new(counters);
    let (client, server) = (&*client, &*server);
    let up = splice_all(client, server, pipes, |bytes| passed.note(passed.up, bytes));
    let down = splice_all(server, client, pipes, |bytes| passed.note(passed.down, bytes));
    both(up, down, &passed, idle).await
}

/// Between whatever two streams.
pub async fn copied<C, S>(client: &mut C, server: &mut S, idle: Duration, counters: Counters<'_>) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let passed = Passed::new(counters);
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let up = copy_all(client_read, server_write, |bytes| passed.note(passed.up, bytes));
    let down = copy_all(server_read, client_write, |bytes| passed.note(passed.down, bytes));
    both(up, down, &passed, idle).await
}

impl<'a> Passed<'a> {
    fn new(counters: Counters<'a>) -> Self {
        let Counters { up, down } = counters;
        Self { start: Instant::now(), last_ms: AtomicU64::new(0), up, down }
    }
}

async fn both(
    up: impl Future<Output = io::Result<()>>,
    down: impl Future<Output = io::Result<()>>,
    passed: &Passed<'_>,
    idle: Duration,
) -> Ended {
    let moved = async { tokio::try_join!(up, down) };
    tokio::select! {
        moved = moved => moved.map_or_else(Ended::Broken, |_| Ended::Both),
        () = passed.silence(idle) => Ended::Idle,
    }
}

async fn copy_all(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    note: impl Fn(usize),
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..bytes]).await?;
        note(bytes);
    }
}

/// What one look at a direction found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// All that was there has been moved.
    Moved,
    /// It has ended.
    End,
    /// This host does not splice these sockets; nothing was moved.
    NoSplice,
}

/// One direction, until its end. Where there is no pipe, or none that can be used, bytes are copied.
async fn splice_all(from: &TcpStream, to: &TcpStream, pipes: &Pipes, note: impl Fn(usize)) -> io::Result<()> {
    let mut splices = true;
    loop {
        from.readable().await?;
        let found = match splices.then(|| pipes.take()) {
            Some(Ok(pipe)) => {
                let found = splice_some(from, to, &pipe, &note).await?;
                pipes.give(pipe);
                found
            }
            Some(Err(_)) | None => copy_some(from, to, &note).await?,
        };
        match found {
            Found::Moved => {}
            Found::NoSplice => splices = false,
            Found::End => return Ok(shutdown(to, Shutdown::Write)?),
        }
    }
}

/// Moves what is there. The pipe is empty afterwards, unless there was an error.
async fn splice_some(
    from: &TcpStream,
    to: &TcpStream,
    pipe: &Pipe,
    note: &impl Fn(usize),
) -> io::Result<Found> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        let fill = || Ok(splice(from, None, &pipe.write, None, PIPE_BYTES, flags)?);
        let mut left = match from.try_io(Interest::READABLE, fill) {
            Ok(0) => return Ok(Found::End),
            Ok(bytes) => bytes,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return Ok(Found::Moved),
                ErrorKind::Interrupted => continue,
                // EINVAL and ENOSYS.
                ErrorKind::InvalidInput | ErrorKind::Unsupported => return Ok(Found::NoSplice),
                _ => return Err(error),
            },
        };
        while left > 0 {
            to.writable().await?;
            let drain = || Ok(splice(&pipe.read, None, to, None, left, flags)?);
            match to.try_io(Interest::WRITABLE, drain) {
                Ok(bytes) => {
                    left -= bytes;
                    note(bytes);
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Copies one buffer of what is there.
async fn copy_some(from: &TcpStream, to: &TcpStream, note: &impl Fn(usize)) -> io::Result<Found> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut rest = match from.try_read(&mut buffer) {
        Ok(0) => return Ok(Found::End),
        Ok(bytes) => &buffer[..bytes],
        Err(error) if is_passing(&error) => return Ok(Found::Moved),
        Err(error) => return Err(error),
    };
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Ok(bytes) => {
                rest = &rest[bytes..];
                note(bytes);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Found::Moved)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
