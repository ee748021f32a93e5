//! An SMTP client that says exactly what it is told, over a blocking socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, and reads nothing yet.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects and says EHLO.
    pub(crate) fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        assert_eq!(client.code(), 220);
        client.write(b"EHLO client.test\r\n");
        assert_eq!(client.code(), 250);
        client
    }

    /// The same with a server that may not be there, or not want to; `None` when it ended the connection, or had none.
    pub(crate) fn try_greeted(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut client = Self { stream: BufReader::new(stream) };
        let is_open =
            client.code() == 220 && client.try_write(b"EHLO client.test\r\n").is_ok() && client.code() == 250;
        is_open.then_some(client)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Writes to a server that may be gone.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// One line without its end; `None` when the server has closed, or cut the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("the server was silent: {error}"),
        }
    }

    /// The last line of the next reply; empty when the server has closed.
    pub(crate) fn reply(&mut self) -> String {
        loop {
            match self.line() {
                None => return String::new(),
                Some(line) if line.as_bytes().get(3) == Some(&b'-') => {}
                Some(line) => return line,
            }
        }
    }

    /// The text of the next reply, which may have several lines, without codes.
    pub(crate) fn reply_text(&mut self) -> String {
        let mut text = String::new();
        while let Some(line) = self.line() {
            text.push_str(line.splitn(3, [' ', '-']).nth(2).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        text
    }

    /// The code of the next reply; 0 when the server has closed.
    pub(crate) fn code(&mut self) -> u16 {
        self.reply().get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Sends a message as one chunk and returns the last reply, or the first that is not positive.
    pub(crate) fn send(&mut self, recipients: &[&str], message: &[u8]) -> String {
        self.write(&transaction(recipients, message));
        for _ in 0..=recipients.len() {
            let reply = self.reply();
            if !reply.starts_with("250") {
                return reply;
            }
        }
        self.reply()
    }

    /// Closes our half, so that the server sees the end.
    pub(crate) fn hang_up(self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    pub(crate) fn quit(mut self) {
        self.write(b"QUIT\r\n");
        assert_eq!(self.code(), 221);
    }
}

/// MAIL, all RCPT and the message as one chunk.
pub(crate) fn transaction(recipients: &[&str], message: &[u8]) -> Vec<u8> {
    let mut bytes = b"MAIL FROM:<sender@client.test>\r\n".to_vec();
    for to in recipients {
        bytes.extend_from_slice(format!("RCPT TO:<{to}>\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("BDAT {} LAST\r\n", message.len()).as_bytes());
    bytes.extend_from_slice(message);
    bytes
}
