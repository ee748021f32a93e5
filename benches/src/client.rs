//! A client of kumod that does one thing after the other: for benches that need mail in a certain place, not much of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::{During, Error, Result};

/// How long a reply may take.
const REPLY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest line of a reply (RFC 5321 4.5.3.1.5).
const LINE_BYTES: usize = 512;
/// A line of a body.
const LINE: &[u8] = b"a line of a message, as long as such lines are, or a little shorter\r\n";

/// An open connection. It keeps no buffer between two replies, so that thousands of them cost little.
#[derive(Debug)]
pub struct Client(TcpStream);

impl Client {
    /// Connects and says EHLO.
    ///
    /// # Errors
    /// [`Error::Peer`] when kumod says something else than it should, or nothing for half a minute.
    pub fn greeted(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).during(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(REPLY_WAIT_MAX)).during(|| "set a time limit".into())?;
        stream.set_nodelay(true).during(|| "set TCP_NODELAY".into())?;
        let mut client = Self(stream);
        client.expect("220")?;
        client.say(b"EHLO client.test\r\n")?;
        client.expect("250")?;
        Ok(client)
    }

    /// Sends a message with a body of so many bytes, all at once, and waits for its 250.
    ///
    /// # Errors
    /// As [`Self::greeted`].
    pub fn send(&mut self, recipients: &[impl AsRef<str>], body_bytes: usize) -> Result<()> {
        let mut bytes = b"MAIL FROM:<a@client.test>\r\n".to_vec();
        for recipient in recipients {
            bytes.extend_from_slice(format!("RCPT TO:<{}>\r\n", recipient.as_ref()).as_bytes());
        }
        bytes.extend_from_slice(format!("BDAT {body_bytes} LAST\r\n").as_bytes());
        // The last line has to end as the others do.
        let rest = body_bytes % LINE.len();
        bytes.extend(LINE.iter().copied().cycle().take(body_bytes - rest));
        bytes.resize(bytes.len() + rest, b'.');
        self.say(&bytes)?;
        (0..recipients.len() + 2).try_for_each(|_| self.expect("250"))
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).during(|| "write to kumod".into())
    }

    /// Reads a reply byte by byte, so that nothing of the next one is lost.
    fn expect(&mut self, code: &str) -> Result<()> {
        loop {
            let mut line = String::with_capacity(LINE_BYTES);
            let read = BufReader::with_capacity(1, &self.0).read_line(&mut line);
            read.during(|| "read from kumod".into())?;
            if !line.starts_with(code) {
                let said = line.trim_end();
                return Err(Error::Peer(format!("kumod said {said:?} where {code} was expected")));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}
