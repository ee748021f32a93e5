//! The floor's generator: 64 connections, each with one message on its way at any time.
//!
//! It owns the time of the first send and the number of messages answered with 250. Every message is the same run of
//! bytes, made once. It stops starting messages after the named time, waits for the last answers, prints one line of
//! JSON and ends. A reply that is not 250 ends it with an error.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wire::{self, Poller, REPLIES, REPLY_LINES};
use crate::error::{During, Error, Result};

/// What the generator is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The relay, or the sink when it is driven directly.
    pub target: SocketAddr,
    /// Bytes of each body.
    pub body_bytes: usize,
    /// No message starts later than this after the first.
    pub duration: Duration,
    /// No more messages than this.
    pub messages_max: u64,
    /// Connections, each with one message under way.
    pub connections: usize,
}

struct Connection {
    stream: TcpStream,
    sent: usize,
    reply_bytes: usize,
}

struct Generator {
    poller: Poller,
    connections: Vec<Connection>,
    message: Vec<u8>,
    deadline_ns: u64,
    messages_max: u64,
    started: u64,
    answered: u64,
}

/// Drives the load and prints `{"sent":N,"first_sent_ns":T}`.
///
/// # Errors
/// When the target refuses a message or closes a connection, or the host refuses a system call.
pub fn run(plan: &Plan) -> Result<()> {
    let mut generator = Generator {
        poller: Poller::new()?,
        connections: Vec::with_capacity(plan.connections),
        message: wire::message(plan.body_bytes),
        deadline_ns: 0,
        messages_max: plan.messages_max,
        started: 0,
        answered: 0,
    };
    for index in 0..plan.connections as u64 {
        let stream = wire::connect(plan.target)?;
        generator.poller.add(&stream, index)?;
        generator.connections.push(Connection { stream, sent: 0, reply_bytes: 0 });
    }
    let first_sent_ns = wire::monotonic_ns();
    let duration_ns = u64::try_from(plan.duration.as_nanos()).unwrap_or(u64::MAX);
    generator.deadline_ns = first_sent_ns.saturating_add(duration_ns);
    generator.drive()?;
    super::report(&serde_json::json!({ "sent": generator.answered, "first_sent_ns": first_sent_ns }))
}

impl Generator {
    fn drive(&mut self) -> Result<()> {
        for index in 0..self.connections.len() {
            self.start(index)?;
        }
        let mut ready = Vec::new();
        while self.answered < self.started {
            self.poller.wait(&mut ready)?;
            for &(token, readable) in &ready {
                let index = usize::try_from(token).unwrap_or(usize::MAX);
                if self.connections[index].sent < self.message.len() {
                    self.write(index)?;
                }
                if readable && self.read(index)? {
                    self.answered += 1;
                    self.start(index)?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<()> {
        if self.started >= self.messages_max || wire::monotonic_ns() >= self.deadline_ns {
            return Ok(());
        }
        self.started += 1;
        let connection = &mut self.connections[index];
        (connection.sent, connection.reply_bytes) = (0, 0);
        self.write(index)
    }

    fn write(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        while connection.sent < self.message.len() {
            match connection.stream.write(&self.message[connection.sent..]) {
                Ok(bytes) => connection.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).during(|| "floor generator: write".into()),
            }
        }
        Ok(())
    }

    /// True when the last of the replies to the current message has arrived.
    fn read(&mut self, index: usize) -> Result<bool> {
        let connection = &mut self.connections[index];
        let mut buffer = [0; REPLIES.len()];
        match connection.stream.read(&mut buffer[connection.reply_bytes..]) {
            Ok(0) => Err(Error::Peer("floor generator: the connection was closed early".into())),
            Ok(bytes) => {
                let read = connection.reply_bytes..connection.reply_bytes + bytes;
                if buffer[read.clone()] != REPLIES[read.clone()] {
                    return Err(Error::Peer(format!("floor generator: expected {REPLY_LINES} times 250")));
                }
                connection.reply_bytes = read.end;
                Ok(read.end == REPLIES.len())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).during(|| "floor generator: read".into()),
        }
    }
}
