//! The conversation before the first byte is moved: greeting, password, a source if one is wanted, and where to go.
//!
//! The order is fixed and the whole of it has a time. What a client sends beyond its last request belongs to the other side and is handed
//! over with the connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dial::{self, Failure};
use crate::metrics::{Metrics, count};
use crate::options::Options;
use crate::socks::{
    Command, Credentials, Greeting, MESSAGE_BYTES_MAX, Malformed, Method, Outcome, Place, Read, Request,
    answer,
};

/// In answers that have no address to tell.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// A client may change its mind about where it comes from so often.
const SOURCES_MAX: usize = 4;

/// A client that got where it wanted.
#[derive(Debug)]
pub struct Arrived {
    /// The other side.
    pub server: TcpStream,
    /// What the client has said to it already.
    pub ahead: Vec<u8>,
    /// Where that is, as the client put it.
    pub place: Place,
}

/// Why a client did not get where it wanted. It has been told, where it could understand.
#[derive(Debug, Error)]
pub enum Refused {
    /// It broke off, or the host did.
    #[error(transparent)]
    Host(#[from] io::Error),
    /// It does not speak SOCKS5.
    #[error("this is not SOCKS5: {0}")]
    Malformed(#[from] Malformed),
    /// It took too long to say what it wants.
    #[error("it did not say in time what it wants")]
    Slow,
    /// It has no password where one is wanted, or a wrong one.
    #[error("its password was missing or wrong")]
    Password,
    /// It wants what is not allowed, or cannot be done.
    #[error("{0}")]
    Unserved(String),
}

/// Listens to a client until it is where it wants to be.
///
/// # Errors
/// It is not, for the reason given.
pub async fn receive<S>(client: &mut S, options: &Options, metrics: &Arc<Metrics>) -> Result<Arrived, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talk = Talk { client, buffer: Vec::new() };
    let asked = timeout(options.limits.handshake, talk.ask(options, metrics)).await;
    let (source, place) = asked.map_err(|_| Refused::Slow)??;
    let connected = dial::connect(&place, source, &options.rules, options.limits.connect).await;
    let server = match connected {
        Ok(server) => server,
        Err(failure) => return Err(talk.refuse(failure).await?),
    };
    count(&metrics.outbound);
    talk.say(&answer(Outcome::Done, server.local_addr().unwrap_or(NOWHERE))).await?;
    Ok(Arrived { server, ahead: talk.buffer, place })
}

/// A client, and what it has said that was not looked at yet.
struct Talk<'a, S> {
    client: &'a mut S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    /// Everything up to where it wants to go.
    async fn ask(
        &mut self,
        options: &Options,
        metrics: &Metrics,
    ) -> Result<(Option<SocketAddr>, Place), Refused> {
        let greeting = self.hear(Greeting::read).await?;
        let method = match (options.rules.wants_password(), greeting) {
            (false, Greeting { offers_none: true, .. }) => Method::None,
            (true, Greeting { offers_password: true, .. }) => Method::Password,
            _ => Method::Refused,
        };
        self.say(&method.bytes()).await?;
        match method {
            Method::None => {}
            Method::Refused => return Err(Refused::Password),
            Method::Password => {
                let Credentials { user, password } = self.hear(Credentials::read).await?;
                let is_right = options.rules.knows(&user, &password);
                self.say(&Credentials::answer(is_right)).await?;
                if !is_right {
                    count(&metrics.passwords_wrong);
                    return Err(Refused::Password);
                }
            }
        }
        self.requests(options).await
    }

    async fn requests(&mut self, options: &Options) -> Result<(Option<SocketAddr>, Place), Refused> {
        let mut source = None;
        for _ in 0..=SOURCES_MAX {
            let Request { command, place } = self.hear(Request::read).await?;
            let Some(place) = place else {
                let reason = "it gave an address of a kind that is not known".to_owned();
                return Err(self.refuse(Failure { outcome: Outcome::AddressUnknown, reason }).await?);
            };
            match command {
                Command::Connect => return Ok((source, place)),
                Command::Bind => match dial::source(&place, &options.rules) {
                    Ok(address) => {
                        self.say(&answer(Outcome::Done, address)).await?;
                        source = Some(address);
                    }
                    Err(failure) => return Err(self.refuse(failure).await?),
                },
                Command::Other(number) => {
                    let reason = format!("command {number} is not served");
                    return Err(self.refuse(Failure { outcome: Outcome::CommandUnknown, reason }).await?);
                }
            }
        }
        let reason = format!("it named more than {SOURCES_MAX} sources");
        Err(self.refuse(Failure { outcome: Outcome::Forbidden, reason }).await?)
    }

    /// Waits for one whole message.
    async fn hear<T>(&mut self, read: impl Fn(&[u8]) -> Read<T>) -> Result<T, Refused> {
        loop {
            if let Some((message, length)) = read(&self.buffer)? {
                self.buffer.drain(..length);
                return Ok(message);
            }
            let mut more = [0; MESSAGE_BYTES_MAX];
            let bytes = self.client.read(&mut more).await?;
            if bytes == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.buffer.extend_from_slice(&more[..bytes]);
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.write_all(bytes).await?;
        self.client.flush().await
    }

    async fn refuse(&mut self, failure: Failure) -> io::Result<Refused> {
        self.say(&answer(failure.outcome, NOWHERE)).await?;
        Ok(Refused::Unserved(failure.reason))
    }
}
