//! A next hop that does STARTTLS in one of several ways, good and bad, and remembers how each message came.
//!
//! It knows just enough SMTP to take a message, on blocking sockets, one thread per connection; the threads end with the test process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::{PATIENCE, eventually};

/// What it does about STARTTLS.
#[derive(Clone)]
pub(crate) enum Tls {
    /// It does not offer it.
    NotOffered,
    /// It offers it, and refuses then.
    Refused,
    /// It consents, and says nonsense then.
    Nonsense,
    /// It consents, and is silent then.
    Silent,
    /// It does as it should.
    Good(Arc<ServerConfig>),
}

/// One message as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// What followed MAIL FROM.
    pub(crate) mail: String,
    pub(crate) recipient: String,
    /// How the handshake went, where there was one.
    pub(crate) handshake: Option<HandshakeKind>,
    /// The name that was asked for.
    pub(crate) server_name: Option<String>,
    /// Whether the client showed a certificate.
    pub(crate) client_certificate: bool,
    pub(crate) text: String,
}

pub(crate) struct TlsHop {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    tls: Mutex<Tls>,
    extensions: Vec<&'static str>,
    arrivals: Mutex<Vec<Arrival>>,
    connections: Mutex<usize>,
}

impl TlsHop {
    pub(crate) fn start(tls: Tls) -> Self {
        Self::announcing(tls, &[])
    }

    /// It announces these extensions besides, through TLS.
    pub(crate) fn announcing(tls: Tls, extensions: &[&'static str]) -> Self {
        Self::on("127.0.0.1:0", tls, extensions)
    }

    pub(crate) fn on(address: &str, tls: Tls, extensions: &[&'static str]) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tls: Mutex::new(tls),
            extensions: extensions.to_vec(),
            arrivals: Mutex::default(),
            connections: Mutex::default(),
        });
        let all = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                *shared.connections.lock().unwrap() += 1;
                // A client that hangs up ends the conversation, whatever it was about.
                thread::spawn(move || drop(converse(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Does otherwise from the next connection on.
    pub(crate) fn change(&self, tls: Tls) {
        *self.shared.tls.lock().unwrap() = tls;
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// The message for a recipient, when it has come.
    pub(crate) fn arrival(&self, recipient: &str) -> Arrival {
        eventually(&format!("the message for {recipient}"), || {
            self.arrivals().into_iter().find(|arrival| arrival.recipient == recipient)
        })
    }
}

trait Wire: Read + Write {
    /// How it came to be encrypted.
    fn handshake(&self) -> Option<(HandshakeKind, Option<String>, bool)>;
}

impl Wire for TcpStream {
    fn handshake(&self) -> Option<(HandshakeKind, Option<String>, bool)> {
        None
    }
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn handshake(&self) -> Option<(HandshakeKind, Option<String>, bool)> {
        let name = self.conn.server_name().map(str::to_owned);
        Some((self.conn.handshake_kind()?, name, self.conn.peer_certificates().is_some()))
    }
}

fn converse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let tls = shared.tls.lock().unwrap().clone();
    let mut plain = BufReader::new(stream);
    plain.get_mut().write_all(b"220 hop.test ESMTP\r\n")?;
    let offer = if matches!(tls, Tls::NotOffered) { None } else { Some("STARTTLS") };
    while let Some(()) = serve(&mut plain, offer.as_slice(), shared)? {
        let answer: &[u8] =
            if matches!(tls, Tls::Refused) { b"454 4.7.0 not now\r\n" } else { b"220 go\r\n" };
        plain.get_mut().write_all(answer)?;
        match &tls {
            Tls::NotOffered | Tls::Refused => {}
            Tls::Nonsense => {
                // What comes together with the consent would be an attack on the client, not a broken handshake.
                plain.read_exact(&mut [0])?;
                return plain.get_mut().write_all(b"500 what?\r\n");
            }
            Tls::Silent => return io::copy(&mut plain, &mut io::sink()).map(drop),
            Tls::Good(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                let mut secured = BufReader::new(StreamOwned::new(connection, plain.into_inner()));
                return serve(&mut secured, &shared.extensions, shared).map(drop);
            }
        }
    }
    Ok(())
}

/// Answers until the client asks for TLS (`Some`) or goes.
fn serve<W: Wire>(
    wire: &mut BufReader<W>,
    extensions: &[&'static str],
    shared: &Shared,
) -> io::Result<Option<()>> {
    let (mut line, mut mail, mut recipient) = (String::new(), String::new(), String::new());
    loop {
        line.clear();
        if wire.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let command = line.trim_end().to_owned();
        let upper = command.to_ascii_uppercase();
        let answer = match upper.split([' ', ':']).next().unwrap_or_default() {
            "STARTTLS" => return Ok(Some(())),
            "EHLO" => {
                let more: String = extensions.iter().map(|word| format!("250-{word}\r\n")).collect();
                format!("250-hop.test\r\n{more}250 8BITMIME\r\n")
            }
            "MAIL" => {
                mail = command["MAIL FROM:".len()..].to_owned();
                "250 ok\r\n".to_owned()
            }
            "RCPT" => {
                let address = command.split(['<', '>']).nth(1).unwrap_or_default();
                recipient = address.to_owned();
                "250 ok\r\n".to_owned()
            }
            "DATA" => {
                wire.get_mut().write_all(b"354 go\r\n")?;
                let text = read_body(wire)?;
                let (kind, server_name, client_certificate) = wire
                    .get_ref()
                    .handshake()
                    .map_or((None, None, false), |(kind, name, shown)| (Some(kind), name, shown));
                let (mail, recipient) = (mail.clone(), recipient.clone());
                let arrival =
                    Arrival { mail, recipient, handshake: kind, server_name, client_certificate, text };
                shared.arrivals.lock().unwrap().push(arrival);
                "250 taken\r\n".to_owned()
            }
            "QUIT" => {
                wire.get_mut().write_all(b"221 bye\r\n")?;
                return Ok(None);
            }
            _ => "250 ok\r\n".to_owned(),
        };
        wire.get_mut().write_all(answer.as_bytes())?;
        wire.get_mut().flush()?;
    }
}

fn read_body<W: Wire>(wire: &mut BufReader<W>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let start = text.len();
        if wire.read_line(&mut text)? == 0 || &text[start..] == ".\r\n" {
            text.truncate(start);
            return Ok(text);
        }
    }
}
