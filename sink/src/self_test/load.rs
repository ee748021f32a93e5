//! The least generator: a thread for each connection, which writes prepared messages and counts the replies.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use message::traffic::{RunId, TrafficHeader, body_crc};

use super::SelfTestError;
use crate::worker::now_ns;

/// How long a connection waits for the sink before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Replies to one message: MAIL, RCPT, BDAT.
const REPLIES: usize = 3;

/// Gives out the sequence numbers of a step.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// Some messages ready to be written; their numbers and times are set each time.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    bytes: Vec<u8>,
    lines: Vec<Range<usize>>,
    header: TrafficHeader,
    message_bytes: usize,
}

impl Burst {
    /// So many messages of so many bytes each.
    pub(super) fn new(run: RunId, message_bytes: usize, messages: usize) -> Self {
        let mut header = TrafficHeader { run, conn: 0, seq: 0, sent_ns: 0, crc: 0 };
        let head = b"From: <self-test@sink.localhost>\r\nSubject: self-test\r\n";
        let body = body(message_bytes.saturating_sub(header.line_bytes() + head.len() + 2));
        header.crc = body_crc(&body);
        let (mut bytes, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..messages {
            let size = header.line_bytes() + head.len() + 2 + body.len();
            bytes.extend_from_slice(
                b"MAIL FROM:<self-test@sink.localhost>\r\nRCPT TO:<to@sink.localhost>\r\n",
            );
            bytes.extend_from_slice(format!("BDAT {size} LAST\r\n").as_bytes());
            let start = bytes.len();
            header.write(&mut bytes);
            lines.push(start..bytes.len());
            bytes.extend_from_slice(head);
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&body);
        }
        Self { bytes, lines, header, message_bytes }
    }

    pub(super) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// Gives each message a number and the time.
    fn number(&mut self, counter: &Counter) {
        self.header.sent_ns = now_ns();
        self.header.seq = counter.0.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
        for line in &self.lines {
            // The lines were made for the same run, so there is always room.
            let _ = self.header.patch(&mut self.bytes[line.clone()]);
            self.header.seq += 1;
        }
    }
}

/// Text of that length, in lines.
fn body(bytes: usize) -> Vec<u8> {
    let line = [&[b'x'; 76][..], b"\r\n"].concat();
    let mut body: Vec<u8> = line.iter().copied().cycle().take(bytes).collect();
    let ends = bytes.saturating_sub(2);
    body[ends..].copy_from_slice(&b"\r\n"[..bytes - ends]);
    body
}

/// Sends bursts over so many connections until the time has come, and returns how many messages were answered.
pub(super) fn drive(
    sink: SocketAddr,
    burst: &Burst,
    connections: usize,
    end: Instant,
    counter: &Arc<Counter>,
) -> Result<u64, SelfTestError> {
    let mut threads = Vec::with_capacity(connections);
    for number in 0..connections {
        let (mut burst, counter) = (burst.clone(), Arc::clone(counter));
        burst.header.conn = number as u64;
        let run = move || connection(sink, burst, end, &counter);
        threads.push(thread::Builder::new().name(format!("load-{number}")).spawn(run)?);
    }
    let mut messages = 0;
    for thread in threads {
        // A thread that panicked has already printed why.
        messages += thread.join().map_err(|_| io::Error::other("a thread of the load broke off"))??;
    }
    Ok(messages)
}

fn connection(
    sink: SocketAddr,
    mut burst: Burst,
    end: Instant,
    counter: &Counter,
) -> Result<u64, SelfTestError> {
    let mut stream = TcpStream::connect(sink)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut replies = Replies { buffer: vec![0; 16 << 10], at_line_start: true };
    replies.read(&mut stream, 1)?;
    stream.write_all(b"HELO self-test.localhost\r\n")?;
    replies.read(&mut stream, 1)?;
    let mut messages = 0;
    while Instant::now() < end {
        burst.number(counter);
        stream.write_all(&burst.bytes)?;
        replies.read(&mut stream, REPLIES * burst.lines.len())?;
        messages += burst.lines.len() as u64;
    }
    stream.write_all(b"QUIT\r\n")?;
    Ok(messages)
}

/// Reads replies of one line each.
struct Replies {
    buffer: Vec<u8>,
    at_line_start: bool,
}

impl Replies {
    /// Reads so many lines, all of which must be 2xx.
    fn read(&mut self, stream: &mut TcpStream, lines: usize) -> Result<(), SelfTestError> {
        let mut left = lines;
        while left > 0 {
            let read = stream.read(&mut self.buffer)?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            for part in self.buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                if self.at_line_start && part[0] != b'2' {
                    return Err(SelfTestError::Refused(String::from_utf8_lossy(part).trim_end().to_owned()));
                }
                self.at_line_start = part.ends_with(b"\n");
                left = left.saturating_sub(usize::from(self.at_line_start));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_size_asked_for_and_numbers_of_their_own() {
        let mut burst = Burst::new(RunId::from_random(1), 1_000, 3);
        let counter = Counter::default();
        burst.number(&counter);
        burst.number(&counter);
        let text = burst.bytes.clone();
        let starts: Vec<usize> = burst.lines.iter().map(|line| line.start).collect();
        for (number, start) in starts.into_iter().enumerate() {
            let message = &text[start..start + 1_000];
            let (header, body) = message::traffic::find_in(message).unwrap();
            assert_eq!((header.seq, header.crc), (3 + number as u64, body_crc(&message[body..])));
            assert!(message.ends_with(b"x\r\n") || message.ends_with(b"\r\n\r\n"));
        }
    }
}
