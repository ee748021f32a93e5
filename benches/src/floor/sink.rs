//! The floor's sink: reads messages, throws them away, answers, counts.
//!
//! It owns the count of deliveries and the time of the last one, which is what the floor is measured by. It looks at
//! nothing but the length of a message. It ends by itself when the last connection closes, and prints one line of JSON.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::wire::{self, BANNER, EHLO, EHLO_REPLY, Poller, REPLIES};
use crate::error::{During, Error, Result};

/// Token of the listening socket; connections use their index.
const LISTENER: u64 = u64::MAX;
/// One read takes at most this much.
const READ_BYTES_MAX: usize = 256 * 1024;

struct Connection {
    stream: TcpStream,
    greeted: bool,
    /// Start of a message whose commands are not complete yet; empty except after an unlucky split.
    head: Vec<u8>,
    /// Bytes of the current message still to come.
    missing: usize,
}

struct Sink {
    poller: Poller,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    open: usize,
    delivered: u64,
    last_ns: u64,
    buffer: Vec<u8>,
}

/// Serves until all connections have closed, then prints `{"delivered":N,"last_ns":T}`.
///
/// # Errors
/// When a peer sends anything but the one transaction of the floor, or the host refuses a system call.
pub fn run() -> Result<()> {
    let listener = super::listen()?;
    let poller = Poller::new()?;
    poller.add(&listener, LISTENER)?;
    let mut sink = Sink {
        poller,
        listener,
        connections: Vec::new(),
        open: 0,
        delivered: 0,
        last_ns: 0,
        buffer: vec![0; READ_BYTES_MAX],
    };
    sink.serve()?;
    super::report(&serde_json::json!({ "delivered": sink.delivered, "last_ns": sink.last_ns }))
}

impl Sink {
    fn serve(&mut self) -> Result<()> {
        let mut ready = Vec::new();
        while self.connections.is_empty() || self.open > 0 {
            self.poller.wait(&mut ready)?;
            for &(token, readable) in &ready {
                if token == LISTENER {
                    self.accept()?;
                } else if readable {
                    self.read(usize::try_from(token).unwrap_or(usize::MAX))?;
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(stream) = super::accept(&self.listener)? {
            self.poller.add(&stream, self.connections.len() as u64)?;
            self.connections.push(Some(Connection { stream, greeted: false, head: Vec::new(), missing: 0 }));
            self.open += 1;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        loop {
            match connection.stream.read(&mut self.buffer) {
                Ok(0) => {
                    self.connections[index] = None;
                    self.open -= 1;
                    return Ok(());
                }
                Ok(bytes) => {
                    if connection.take(&self.buffer[..bytes])? {
                        self.delivered += 1;
                        self.last_ns = wire::monotonic_ns();
                    }
                    if bytes < self.buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).during(|| "floor sink: read".into()),
            }
        }
    }
}

impl Connection {
    /// Takes what one read returned; true when it completed a message, which is answered here.
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if !self.greeted {
            self.greeted = true;
            return if bytes == EHLO { self.answer(EHLO_REPLY, false) } else { Err(wire::unexpected(bytes)) };
        }
        if self.missing == 0 {
            self.head.extend_from_slice(&bytes[..bytes.len().min(wire::COMMAND_BYTES_MAX)]);
            let Some(frame) = wire::frame_bytes(&self.head)? else {
                return Ok(false);
            };
            // What the head held before this read belongs to the message too.
            let earlier = self.head.len() - bytes.len().min(wire::COMMAND_BYTES_MAX);
            self.missing = frame - earlier;
            self.head.clear();
        }
        if bytes.len() > self.missing {
            return Err(Error::Peer("floor sink: a second message before the first was answered".into()));
        }
        self.missing -= bytes.len();
        if self.missing == 0 { self.answer(REPLIES, true) } else { Ok(false) }
    }

    fn answer(&mut self, replies: &[u8], completes: bool) -> Result<bool> {
        self.stream.write_all(replies).during(|| "floor sink: reply".into())?;
        Ok(completes)
    }
}

/// Greets a fresh connection; shared with the relay.
pub(super) fn greet(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(BANNER).during(|| "floor: write the banner".into())
}
