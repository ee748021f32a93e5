//! The floor's relay: takes a message, makes it durable, answers, delivers. Nothing else.
//!
//! It owns the slots that bound how many messages are inside, and the way of each slot: free, receiving, on disk, waiting
//! for an outbound connection, delivering, free. A connection that finds no free slot is not read until one is returned.
//! It ends by itself when all inbound connections have closed and every slot is free again, and prints one line of JSON.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use super::disk::{self, Disk, Slot};
use super::wire::{self, EHLO, EHLO_REPLY, MESSAGES_IN_RELAY_MAX, OUTBOUND_CONNECTIONS, Poller, REPLIES};
use crate::error::{During, Error, Result};

const LISTENER: u64 = u64::MAX;
const DISK: u64 = u64::MAX - 1;
/// Tokens from here on are inbound connections; below are outbound ones.
const INBOUND: u64 = OUTBOUND_CONNECTIONS as u64;

/// What the relay is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where every message goes.
    pub sink: SocketAddr,
    /// The log file; made and written through when it is not there.
    pub log: PathBuf,
    /// No body is larger than this.
    pub body_bytes: usize,
}

struct Inbound {
    stream: TcpStream,
    greeted: bool,
    starved: bool,
    slot: Option<Slot>,
}

struct Outbound {
    stream: TcpStream,
    slot: Option<Slot>,
    sent: usize,
    reply_bytes: usize,
}

struct Relay {
    poller: Poller,
    listener: TcpListener,
    disk: Disk,
    inbound: Vec<Option<Inbound>>,
    open: usize,
    outbound: Vec<Outbound>,
    idle: Vec<usize>,
    free: Vec<Slot>,
    starved: VecDeque<usize>,
    waiting: VecDeque<Slot>,
    durable: Vec<Slot>,
}

/// Relays until the generator has gone and everything is delivered, then prints `{"barriers":N,"bytes":N}`.
///
/// # Errors
/// When a peer leaves the one transaction of the floor, or the host refuses a system call.
pub fn run(plan: &Plan) -> Result<()> {
    let mut relay = Relay::new(plan)?;
    let mut ready = Vec::new();
    while !relay.is_done() {
        relay.poller.wait(&mut ready)?;
        for &(token, readable) in &ready {
            relay.on_event(token, readable)?;
        }
        relay.disk.dispatch()?;
    }
    let counts = relay.disk.counts();
    super::report(&serde_json::json!({ "barriers": counts.barriers, "bytes": counts.bytes }))
}

impl Relay {
    fn new(plan: &Plan) -> Result<Self> {
        let poller = Poller::new()?;
        let disk = Disk::open(&plan.log)?;
        poller.add(disk.wake(), DISK)?;
        let mut outbound = Vec::with_capacity(OUTBOUND_CONNECTIONS);
        for index in 0..OUTBOUND_CONNECTIONS {
            let stream = wire::connect(plan.sink)?;
            poller.add(&stream, index as u64)?;
            outbound.push(Outbound { stream, slot: None, sent: 0, reply_bytes: 0 });
        }
        let free = disk::slots(plan.body_bytes);
        let listener = super::listen()?;
        poller.add(&listener, LISTENER)?;
        Ok(Self {
            poller,
            listener,
            disk,
            inbound: Vec::new(),
            open: 0,
            outbound,
            idle: (0..OUTBOUND_CONNECTIONS).collect(),
            free,
            starved: VecDeque::new(),
            waiting: VecDeque::with_capacity(MESSAGES_IN_RELAY_MAX),
            durable: Vec::with_capacity(MESSAGES_IN_RELAY_MAX),
        })
    }

    fn is_done(&self) -> bool {
        !self.inbound.is_empty() && self.open == 0 && self.free.len() == MESSAGES_IN_RELAY_MAX
    }

    fn on_event(&mut self, token: u64, readable: bool) -> Result<()> {
        let index = |base: u64| usize::try_from(token - base).unwrap_or(usize::MAX);
        match token {
            LISTENER => self.accept(),
            DISK => self.on_durable(),
            _ if token >= INBOUND && readable => self.receive(index(INBOUND)),
            _ if token >= INBOUND => Ok(()),
            _ => self.on_outbound(index(0), readable),
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Some(stream) = super::accept(&self.listener)? {
            self.poller.add(&stream, INBOUND + self.inbound.len() as u64)?;
            self.inbound.push(Some(Inbound { stream, greeted: false, starved: false, slot: None }));
            self.open += 1;
        }
        Ok(())
    }

    /// Reads what an inbound connection has; a complete message goes to the disk.
    fn receive(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.inbound[index].as_mut() else {
            return Ok(());
        };
        if !connection.greeted {
            return connection.greet();
        }
        let Some(mut slot) = connection.slot.take().or_else(|| self.free.pop()) else {
            if !connection.starved {
                connection.starved = true;
                self.starved.push_back(index);
            }
            return Ok(());
        };
        match connection.fill(&mut slot)? {
            Filled::Complete => {
                slot.inbound = index;
                self.disk.push(slot);
            }
            Filled::Partly => connection.slot = Some(slot),
            Filled::Nothing => self.free.push(slot),
            Filled::Closed => {
                self.free.push(slot);
                self.inbound[index] = None;
                self.open -= 1;
            }
        }
        Ok(())
    }

    fn on_durable(&mut self) -> Result<()> {
        let mut durable = std::mem::take(&mut self.durable);
        self.disk.collect(&mut durable)?;
        for slot in &durable {
            if let Some(connection) = self.inbound[slot.inbound].as_mut() {
                connection.stream.write_all(REPLIES).during(|| "floor relay: reply".into())?;
            }
        }
        for slot in durable.drain(..) {
            match self.idle.pop() {
                Some(index) => self.deliver(index, slot)?,
                None => self.waiting.push_back(slot),
            }
        }
        self.durable = durable;
        Ok(())
    }

    fn deliver(&mut self, index: usize, slot: Slot) -> Result<()> {
        let connection = &mut self.outbound[index];
        (connection.sent, connection.reply_bytes) = (0, 0);
        connection.slot = Some(slot);
        connection.write()
    }

    fn on_outbound(&mut self, index: usize, readable: bool) -> Result<()> {
        let connection = &mut self.outbound[index];
        connection.write()?;
        if !readable || connection.slot.is_none() || !connection.read()? {
            return Ok(());
        }
        let Some(slot) = connection.slot.take() else {
            return Ok(());
        };
        match self.waiting.pop_front() {
            Some(next) => self.deliver(index, next)?,
            None => self.idle.push(index),
        }
        self.give_back(slot)
    }

    fn give_back(&mut self, mut slot: Slot) -> Result<()> {
        slot.clear();
        self.free.push(slot);
        let Some(index) = self.starved.pop_front() else {
            return Ok(());
        };
        if let Some(connection) = self.inbound[index].as_mut() {
            connection.starved = false;
        }
        self.receive(index)
    }
}

enum Filled {
    Complete,
    Partly,
    Nothing,
    Closed,
}

impl Inbound {
    fn greet(&mut self) -> Result<()> {
        let mut line = [0; EHLO.len()];
        match self.stream.read(&mut line) {
            Ok(bytes) if line[..bytes] == *EHLO => {}
            Ok(bytes) => return Err(wire::unexpected(&line[..bytes])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).during(|| "floor relay: read EHLO".into()),
        }
        self.greeted = true;
        self.stream.write_all(EHLO_REPLY).during(|| "floor relay: answer EHLO".into())
    }

    /// Reads into the slot until the message is complete or the socket is empty.
    fn fill(&mut self, slot: &mut Slot) -> Result<Filled> {
        loop {
            let room = slot.room();
            let room_bytes = room.len();
            match self.stream.read(room) {
                Ok(0) if room_bytes > 0 && slot.filled == 0 => return Ok(Filled::Closed),
                Ok(0) => return Err(wire::unexpected(slot.message())),
                Ok(bytes) => {
                    slot.filled += bytes;
                    if slot.frame == 0 {
                        slot.frame = wire::frame_bytes(slot.message())?.unwrap_or(0);
                    }
                    if slot.frame > 0 && slot.filled >= slot.frame {
                        return if slot.filled == slot.frame {
                            Ok(Filled::Complete)
                        } else {
                            Err(Error::Peer(
                                "floor relay: a second message before the first was answered".into(),
                            ))
                        };
                    }
                    // A short read has emptied the socket; the next edge will tell (epoll(7)).
                    if bytes < room_bytes {
                        return Ok(Filled::Partly);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && slot.filled == 0 => {
                    return Ok(Filled::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::Partly),
                Err(error) => return Err(error).during(|| "floor relay: read".into()),
            }
        }
    }
}

impl Outbound {
    fn write(&mut self) -> Result<()> {
        let Some(slot) = &self.slot else { return Ok(()) };
        let message = slot.message();
        while self.sent < message.len() {
            match self.stream.write(&message[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).during(|| "floor relay: deliver".into()),
            }
        }
        Ok(())
    }

    /// True when the sink has answered the current message.
    fn read(&mut self) -> Result<bool> {
        let mut buffer = [0; REPLIES.len()];
        match self.stream.read(&mut buffer[self.reply_bytes..]) {
            Ok(0) => Err(Error::Peer("floor relay: the sink closed a connection".into())),
            Ok(bytes) => {
                self.reply_bytes += bytes;
                Ok(self.reply_bytes == REPLIES.len())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).during(|| "floor relay: read a reply".into()),
        }
    }
}
