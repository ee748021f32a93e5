//! An SMTP client that says exactly what it is told, over a blocking socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::PATIENCE;
use super::trust;

pub(crate) struct Client {
    stream: BufReader<Wire>,
}

/// In the clear or through TLS.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Client {
    /// Connects, and reads nothing yet.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(Wire::Plain(stream)) }
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
        let mut client = Self { stream: BufReader::new(Wire::Plain(stream)) };
        let is_open =
            client.code() == 220 && client.try_write(b"EHLO client.test\r\n").is_ok() && client.code() == 250;
        is_open.then_some(client)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The handshake, with a server whose certificate is not looked at. What was read and not asked for is kept from nobody.
    pub(crate) fn start_tls(self) -> Self {
        self.start_tls_with(trust::anybody()).unwrap()
    }

    /// The handshake with what the configuration says about trust.
    pub(crate) fn start_tls_with(self, config: ClientConfig) -> io::Result<Self> {
        assert!(
            self.stream.buffer().is_empty(),
            "the server said more in the clear: {:?}",
            self.stream.buffer()
        );
        let Wire::Plain(mut tcp) = self.stream.into_inner() else { panic!("TLS is up already") };
        let name = ServerName::try_from("mx.test").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        Ok(Self { stream: BufReader::new(Wire::Tls(Box::new(StreamOwned::new(connection, tcp)))) })
    }

    /// Writes to a server that may be gone.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match self.stream.get_ref() {
            Wire::Plain(tcp) => tcp,
            Wire::Tls(tls) => tls.get_ref(),
        }
    }

    /// One line without its end; `None` when the server has closed, or cut the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) =>
            {
                None
            }
            Err(error) => panic!("the server was silent: {error}"),
        }
    }

    /// A line, where one comes within a moment. Nothing else may be read of this client afterwards but further lines.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        self.socket().set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        self.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        read.ok().filter(|count| *count > 0)?;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Whether the server says nothing more: it closed, or cut the connection within TLS.
    pub(crate) fn refused_or_closed(&mut self) -> bool {
        let mut line = Vec::new();
        !matches!(self.stream.read_until(b'\n', &mut line), Ok(count) if count > 0)
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

    /// The extensions of a server that is greeted once more.
    pub(crate) fn extensions(&mut self) -> Vec<String> {
        self.write(b"EHLO client.test\r\n");
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        lines
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
