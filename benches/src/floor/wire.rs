//! What the three floor programs share: the few bytes of SMTP they speak, and the readiness queue.
//!
//! It owns the framing of a message that arrives as one pipelined burst, `MAIL`, `RCPT`, `BDAT n LAST` and the body
//! (RFC 2920, RFC 3030). It refuses everything else: a floor has no dialogue. Whatever does not fit this shape ends the
//! program with an error, because then the measurement would be worth nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::error::{During, Error, Result};

/// Connections from the generator to the relay.
pub const INBOUND_CONNECTIONS: usize = 64;
/// Connections from the relay to the sink.
pub const OUTBOUND_CONNECTIONS: usize = 32;
/// Messages between accept and delivery; more of them only page in fresh memory.
pub const MESSAGES_IN_RELAY_MAX: usize = 256;
/// The three command lines in front of a body fit in this many bytes.
pub(super) const COMMAND_BYTES_MAX: usize = 512;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 128;

pub(super) const BANNER: &[u8] = b"220 floor ESMTP\r\n";
pub(super) const EHLO: &[u8] = b"EHLO floor.localhost\r\n";
pub(super) const EHLO_REPLY: &[u8] = b"250-floor\r\n250-PIPELINING\r\n250 CHUNKING\r\n";
/// The answers to MAIL, RCPT and BDAT, in one write.
pub(super) const REPLIES: &[u8] = b"250 OK\r\n250 OK\r\n250 OK\r\n";
/// Lines in `REPLIES`.
pub(super) const REPLY_LINES: usize = 3;
const COMMANDS: &str = "MAIL FROM:<floor@sender.localhost>\r\nRCPT TO:<floor@mx-sink.localhost>\r\n";

/// One message as it crosses the wire: the three commands and `body_bytes` of text in lines of 78 bytes.
pub(super) fn message(body_bytes: usize) -> Vec<u8> {
    let mut bytes = format!("{COMMANDS}BDAT {body_bytes} LAST\r\n").into_bytes();
    // Lines are counted from the end, so that the body ends in CRLF whatever its size.
    let line = b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz\r\n";
    let skipped = line.len() - body_bytes % line.len();
    bytes.extend(line.iter().cycle().skip(skipped).take(body_bytes));
    bytes
}

/// Length of the message whose first bytes are `bytes`, commands and body together; `None` until all three lines are
/// there.
pub(super) fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>> {
    let head = &bytes[..bytes.len().min(COMMAND_BYTES_MAX)];
    let mut ends = head.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let (Some(_), Some(start), Some(end)) = (ends.next(), ends.next(), ends.next()) else {
        if head.len() == COMMAND_BYTES_MAX {
            return Err(unexpected(head));
        }
        return Ok(None);
    };
    let size = std::str::from_utf8(&head[start..end])
        .ok()
        .and_then(|line| line.strip_prefix("BDAT ")?.strip_suffix(" LAST\r\n")?.parse::<usize>().ok());
    size.map(|size| Some(end + size)).ok_or_else(|| unexpected(head))
}

/// The error for bytes that are not the one transaction the floor knows.
pub(super) fn unexpected(bytes: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]);
    Error::Peer(format!("floor: expected MAIL, RCPT, BDAT n LAST, got {shown:?}"))
}

/// Connects, reads the banner, says EHLO, and leaves the stream non-blocking.
pub(super) fn connect(target: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target).during(|| format!("floor: connect to {target}"))?;
    let mut greet = || {
        stream.set_nodelay(true)?;
        stream.read_exact(&mut [0; BANNER.len()])?;
        stream.write_all(EHLO)?;
        stream.read_exact(&mut [0; EHLO_REPLY.len()])?;
        stream.set_nonblocking(true)
    };
    greet().during(|| format!("floor: greet {target}"))?;
    Ok(stream)
}

/// Edge-triggered readiness of many descriptors.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(super) fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).during(|| "floor: epoll_create".into())?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// From now on `wait` reports `token` whenever `source` becomes readable or writable again.
    pub(super) fn add(&self, source: impl AsFd, token: u64) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, source, EventData::new_u64(token), flags).during(|| "floor: epoll_ctl".into())
    }

    /// Blocks until something happened; fills `ready` with token and readability.
    pub(super) fn wait(&mut self, ready: &mut Vec<(u64, bool)>) -> Result<()> {
        ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).during(|| "floor: epoll_wait".into()),
        }
        let interesting = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        for event in self.events.drain(..) {
            let flags = event.flags;
            ready.push((event.data.u64(), flags.intersects(interesting)));
        }
        Ok(())
    }
}

/// CLOCK_MONOTONIC in nanoseconds, the one clock that all programs on a host share.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_message_frames_itself_at_every_split() {
        let message = message(1000);
        assert_eq!(&message[message.len() - 2..], b"\r\n");
        let head = message.windows(7).position(|window| window == b" LAST\r\n").unwrap() + 7;
        for end in 0..head {
            assert_eq!(frame_bytes(&message[..end]).unwrap(), None);
        }
        assert_eq!(frame_bytes(&message[..head]).unwrap(), Some(message.len()));
        assert_eq!(frame_bytes(&message).unwrap(), Some(message.len()));
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(frame_bytes(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n").is_err());
        assert!(frame_bytes(&[b'x'; COMMAND_BYTES_MAX]).is_err());
    }
}
