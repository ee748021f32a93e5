//! A small client for the tests of the sink: writes what it is told, reads replies line by line.
//!
//! A test that waits for longer than [`PATIENCE`] fails instead of hanging.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use message::traffic::{RunId, TrafficHeader, body_crc};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let mut client = Self::of(TcpStream::connect(address).unwrap());
        assert!(client.line().starts_with("220 "));
        client
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// One line without its end; empty when the server has closed.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Writes a command and reads the codes of so many replies.
    pub(crate) fn codes(&mut self, bytes: &[u8], count: usize) -> Vec<u16> {
        self.write(bytes);
        (0..count).map(|_| self.reply()).collect()
    }

    /// The code of the next reply.
    pub(crate) fn reply(&mut self) -> u16 {
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
            }
        }
    }

    pub(crate) fn send(&mut self, message: &[u8], recipients: &[&str]) {
        let transaction = transaction(message, recipients);
        let codes = self.codes(&transaction, recipients.len() + 2);
        assert!(codes.iter().all(|code| *code == 250), "{codes:?}");
    }
}

/// MAIL, all RCPT and the message as one chunk.
pub(crate) fn transaction(message: &[u8], recipients: &[&str]) -> Vec<u8> {
    let mut bytes = b"MAIL FROM:<s@example.test>\r\n".to_vec();
    recipients.iter().for_each(|to| bytes.extend_from_slice(format!("RCPT TO:<{to}>\r\n").as_bytes()));
    bytes.extend_from_slice(format!("BDAT {} LAST\r\n", message.len()).as_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// A message of the laboratory as it would arrive through a relay.
pub(crate) fn message(run: &str, seq: u64, body: &[u8]) -> Vec<u8> {
    message_of(run, 0, seq, body)
}

/// The same, sent over that connection of the generator.
pub(crate) fn message_of(run: &str, conn: u64, seq: u64, body: &[u8]) -> Vec<u8> {
    let run = RunId::new(run).unwrap();
    let mut message = b"Received: from a by b;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n".to_vec();
    TrafficHeader { run, conn, seq, sent_ns: 1, crc: body_crc(body) }.write(&mut message);
    message.extend_from_slice(b"Subject: s\r\n\r\n");
    message.extend_from_slice(body);
    message
}
