//! Bytes from the client and to it, each within a time.
//!
//! A client may be silent for `client_timeout`, and so long may one command take from its first byte to its last; a body has
//! that time and the time that its bytes take at `min_data_rate`. So a client that sends a byte now and then gains nothing (slowloris).
//! While nothing is being read a connection holds no buffer: one is taken for the moment of a read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::BufMut;
use smtp::server::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{BODY_BYTES_AHEAD_MAX, Connection, DIRECT_READ_BYTES_MIN, End, INPUT_BYTES, Transaction};
use crate::inbound::stream::Stream;
use crate::ports::Shutdown;

/// Buffers that a thread keeps for reads.
const SPARE_BUFFERS_MAX: usize = 64;
/// Bytes of an empty output buffer that a connection keeps.
const OUTPUT_BYTES_KEPT: usize = 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Connection {
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (stream, out) = (&mut self.stream, &self.out);
        let write = async {
            stream.write_all(out).await?;
            if stream.is_tls() { stream.flush().await } else { Ok(()) }
        };
        timeout(self.profile.listener.client_timeout, write).await.map_err(|_| End::NotReading)??;
        self.out.clear();
        self.out.shrink_to(OUTPUT_BYTES_KEPT);
        Ok(())
    }

    /// Reads what the session waits for: the rest of a BDAT chunk into the body, anything else into `input`.
    pub(super) async fn read(&mut self) -> Result<(), End> {
        let in_body = self.session.phase() == Phase::Data;
        self.tidy_input(in_body);
        let direct = self.session.body_bytes_expected().filter(|bytes| *bytes >= DIRECT_READ_BYTES_MIN);
        let deadline = self.deadline(in_body);
        match direct.filter(|_| self.input.is_empty()) {
            Some(bytes) => self.read_body(bytes, deadline).await,
            None if in_body => self.read_more_of_body(deadline).await,
            None => self.read_command(deadline).await,
        }
    }

    /// Puts what is left to the front, or lets go of the buffer.
    fn tidy_input(&mut self, in_body: bool) {
        if self.taken > 0 {
            self.command_deadline = None;
        }
        if self.taken == self.input.len() {
            self.input.clear();
            if !in_body && self.input.capacity() > 0 {
                give(mem::take(&mut self.input));
            }
        } else if self.taken > 0 {
            self.input.drain(..self.taken);
        } else if self.input.len() == self.input.capacity() {
            self.input.reserve(INPUT_BYTES);
        }
        self.taken = 0;
    }

    /// Until when the next bytes have to come.
    fn deadline(&mut self, in_body: bool) -> Instant {
        let listener = &self.profile.listener;
        let now = Instant::now();
        let silent = now + listener.client_timeout;
        let transaction = &mut self.transaction;
        if in_body {
            let began = *transaction.began.get_or_insert(now);
            if listener.min_data_rate == 0 {
                return silent;
            }
            let needed = Duration::from_secs(transaction.bytes_received / listener.min_data_rate);
            return silent.min(began + listener.client_timeout + needed);
        }
        (transaction.began, transaction.bytes_received) = (None, 0);
        if self.input.is_empty() { silent } else { *self.command_deadline.get_or_insert(silent) }
    }

    async fn read_command(&mut self, deadline: Instant) -> Result<(), End> {
        let (stream, input) = (&mut self.stream, &mut self.input);
        let read = async {
            let read = async {
                if input.capacity() == 0 {
                    read_into_spare(stream, input).await
                } else {
                    stream.read_buf(input).await
                }
            };
            within(deadline, read).await
        };
        let count = unless_stopping(&mut self.shutdown, read).await?;
        if count == 0 { Err(End::Closed) } else { Ok(()) }
    }

    async fn read_more_of_body(&mut self, deadline: Instant) -> Result<(), End> {
        if let Some(reservation) = &mut self.transaction.reservation {
            self.context.inbound.budget.grow(reservation, self.transaction.body.len()).await;
        }
        if self.input.capacity() == 0 {
            self.input.reserve(INPUT_BYTES);
        }
        let count = within(deadline, self.stream.read_buf(&mut self.input)).await?;
        self.note_body_bytes(count)
    }

    async fn read_body(&mut self, bytes: u64, deadline: Instant) -> Result<(), End> {
        let Transaction { body, reservation, .. } = &mut self.transaction;
        if let Some(reservation) = reservation {
            self.context.inbound.budget.grow(reservation, body.len()).await;
        }
        let ahead = usize::try_from(bytes).unwrap_or(usize::MAX).min(BODY_BYTES_AHEAD_MAX);
        body.reserve(ahead);
        let mut room = body.limit(ahead);
        let count = within(deadline, self.stream.read_buf(&mut room)).await?;
        self.note_body_bytes(count)?;
        self.session.body_taken(count as u64, &mut self.out);
        Ok(())
    }

    fn note_body_bytes(&mut self, count: usize) -> Result<(), End> {
        self.transaction.bytes_received += count as u64;
        if count == 0 { Err(End::Closed) } else { Ok(()) }
    }
}

/// Reads into a buffer that is this connection's only once there is something in it.
async fn read_into_spare(stream: &mut Stream, input: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|context| {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(INPUT_BYTES));
        let read = pin!(stream.read_buf(&mut buffer)).poll(context);
        match read {
            Poll::Ready(Ok(_)) => *input = buffer,
            _ => give(buffer),
        }
        read
    })
    .await
}

/// Keeps a buffer for the thread's next read, if it is one of those.
pub(super) fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == INPUT_BYTES {
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS_MAX {
                spare.push(buffer);
            }
        });
    }
}

async fn within<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> Result<T, End> {
    Ok(timeout_at(deadline, work).await.map_err(|_| End::Deadline)??)
}

/// Between messages a connection ends as soon as the process is stopping.
async fn unless_stopping<T>(
    shutdown: &mut Shutdown,
    work: impl Future<Output = Result<T, End>>,
) -> Result<T, End> {
    tokio::select! {
        biased;
        result = work => result,
        () = shutdown.wait() => Err(End::Stopping),
    }
}
