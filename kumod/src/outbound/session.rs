//! One connection to a next hop, used for message after message.
//!
//! Where the server offers PIPELINING and CHUNKING, a message is one write (commands, our header prefix, the body, by vectored I/O) and
//! one read. Every wait has the deadline of its phase; a server that is late loses the connection, not the message.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use smtp::client::{BodyForm, Config, Next, Secured, Session, Transaction};
use smtp::dsn::Asked;
use smtp::error::PeerError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::classify;
use super::dial::Dialed;
use super::security::{Posture, Security, Target};
use super::stream::Stream;
use crate::clock::UnixMs;
use crate::config::PathConfig;
use crate::envelope::{Envelope, Outcome};
use crate::maillog::{SourceAddress, TlsFacts};
use crate::ports::Lease;
use crate::settle::Hop;

/// Bytes of replies read at once.
const INPUT_BYTES: usize = 4 << 10;
/// A lease must hold for so long before the byte that makes a delivery final.
const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// How long a QUIT may take before the connection is simply closed.
const QUIT_PATIENCE: Duration = Duration::from_secs(1);

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    name: Arc<str>,
    address: SocketAddr,
    from: Option<SourceAddress>,
    /// What it has to be.
    posture: Posture,
    /// Whether the host is certainly one that the recipients' domains mean.
    pub(super) assured: bool,
    session: Session,
    /// What the handshake agreed on, where there was one.
    tls: Option<Arc<TlsFacts>>,
    /// How long that took, with EHLO behind it.
    pub(super) tls_took: Option<Duration>,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Messages sent over it.
    pub(super) deliveries: u32,
    /// When the last message was begun with, where one was.
    pub(super) began: Option<UnixMs>,
}

/// How an attempt over a connection went.
pub(super) enum Sent {
    /// Outcomes are known; the connection can be used again.
    Done(Vec<Outcome>),
    /// Outcomes are known; the connection is of no more use.
    Last(Vec<Outcome>),
    /// The server had closed the connection before this message; nothing was answered.
    Stale,
    /// The lease ran out; the message is another node's.
    LeaseLost,
}

/// Why a connection cannot be used.
pub(super) struct NotOpen {
    /// For the message that wanted it.
    pub(super) outcome: Outcome,
    /// STARTTLS was agreed on, and nothing came of it within this time.
    pub(super) tls_took: Option<Duration>,
}

/// Why a conversation stopped.
enum Broken {
    Io(io::Error),
    Peer(PeerError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PeerError> for Broken {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl Broken {
    fn outcome(&self, doing: &str) -> Outcome {
        match self {
            Self::Io(error) => classify::lost(doing, error),
            Self::Peer(error) => classify::misbehaved(error),
        }
    }
}

impl Connection {
    /// Reads the greeting and says EHLO, through TLS if that is what the connection has to be, and is offered.
    ///
    /// # Errors
    /// The outcome for the message that wanted the connection.
    pub(super) async fn open(
        dialed: Dialed,
        posture: Posture,
        ehlo_domain: &str,
        security: &Security,
        path: &PathConfig,
    ) -> Result<Self, NotOpen> {
        let Dialed { stream, name, address, from } = dialed;
        let starttls = posture.starttls;
        let config = Config { ehlo_domain: ehlo_domain.to_owned(), starttls, ..Config::default() };
        let (out, input) = (Vec::new(), Vec::with_capacity(INPUT_BYTES));
        let session = Session::new(config);
        let mut connection = Self {
            stream: Stream::Plain(stream),
            name,
            address,
            from,
            posture,
            assured: false,
            session,
            tls: None,
            tls_took: None,
            out,
            input,
            deliveries: 0,
            began: None,
        };
        let plainly = |outcome| NotOpen { outcome, tls_took: None };
        match connection.until_ready().await {
            Ok(Next::Ready) => {
                security.note_open(&connection.posture, false);
                Ok(connection)
            }
            Ok(Next::StartTls) => {
                let began = UnixMs::now();
                let secured = connection.secure(security, path).await;
                let tls_took = Some(UnixMs::now().since(began));
                let failed = |outcome| NotOpen { outcome, tls_took };
                secured.map(|()| Self { tls_took, ..connection }).map_err(failed)
            }
            Ok(_) => Err(plainly(connection.refusal())),
            Err(broken) => Err(plainly(broken.outcome("waiting for the greeting and EHLO"))),
        }
    }

    /// The handshake, and EHLO once more behind it.
    async fn secure(&mut self, security: &Security, path: &PathConfig) -> Result<(), Outcome> {
        let Self { stream, posture, name, address, .. } = self;
        let target = Target { name, address: address.ip() };
        let shaken = security.handshake(stream, target, posture, path).await;
        self.tls = Some(shaken.map_err(|reason| classify::no_tls(name, &reason))?);
        let secured = Secured { verified: posture.peer.is_verified() };
        self.session.tls_started(secured, &mut self.out);
        match self.until_ready().await {
            Ok(Next::Ready) => Ok(()),
            Ok(_) => Err(self.refusal()),
            Err(broken) => Err(broken.outcome("waiting for the reply to EHLO through TLS")),
        }
    }

    /// Who is at the other end, for the record.
    pub(super) fn hop(&self, site: &Arc<str>) -> Hop {
        let peer = Some((Arc::clone(&self.name), self.address));
        let dsn = self.session.capabilities().dsn;
        let (tls, source_address) = (self.tls.clone(), self.from);
        Hop { site: Arc::clone(site), peer, tls, dsn, source: None, source_address }
    }

    /// Sends one message to those of its recipients that are still open.
    pub(super) async fn deliver(
        &mut self,
        envelope: &Envelope,
        open: &[&str],
        body: &Bytes,
        lease: &Lease,
    ) -> Sent {
        let transaction = Transaction {
            from: &envelope.sender,
            recipients: open,
            body_bytes: envelope.message_bytes(),
            eight_bit: envelope.eight_bit,
            smtputf8: envelope.smtputf8,
            binary: envelope.requests.as_ref().is_some_and(|requests| requests.binary),
            require_tls: envelope.requests.as_ref().is_some_and(|requests| requests.require_tls),
        };
        if transaction.require_tls
            && let Some(outcome) = self.breach()
        {
            return Sent::Done(vec![outcome; open.len()]);
        }
        let (requests, of_each) = (envelope.requests.as_deref(), envelope.asked_of(open));
        let asked = Asked {
            ret: requests.and_then(|requests| requests.ret),
            envid: requests.and_then(|requests| requests.envid.as_deref()),
            recipients: &of_each,
        };
        self.began = None;
        let next = match self.session.begin_asking(&transaction, &asked, &mut self.out) {
            Ok(next) => next,
            Err(error) => return Sent::Done(vec![classify::unfit(&error); open.len()]),
        };
        let now = UnixMs::now();
        if !lease.valid_for(LEASE_MARGIN, now) {
            return Sent::LeaseLost;
        }
        let reused = self.deliveries > 0;
        self.deliveries += 1;
        self.began = Some(now);
        let ended = self.transact(next, &envelope.header_prefix, body).await;
        // A server that closed while idle, with 421 or without a word, has not seen this message.
        if reused && !self.answered() && !matches!(ended, Ok(Next::Ready) | Err(Broken::Peer(_))) {
            return Sent::Stale;
        }
        match ended {
            Ok(Next::Ready) => Sent::Done(self.outcomes(open.len())),
            Ok(_) => Sent::Last(self.outcomes(open.len())),
            Err(broken) => Sent::Last(self.outcomes_or(open.len(), &broken.outcome("sending the message"))),
        }
    }

    /// What a message that may travel through TLS only lacks here (RFC 8689 4.2.1).
    fn breach(&self) -> Option<Outcome> {
        let is_safe = self.tls.is_some() && self.posture.peer.is_verified() && self.assured;
        if is_safe && self.session.capabilities().require_tls {
            return None;
        }
        Some(classify::no_required_tls(&self.name, is_safe))
    }

    /// Writes what the session has to say, and the body when its turn comes, until the transaction has ended.
    async fn transact(&mut self, mut next: Next, prefix: &Bytes, body: &Bytes) -> Result<Next, Broken> {
        loop {
            match next {
                Next::Read => {
                    self.write(Bytes::new(), Bytes::new()).await?;
                    next = self.read().await?;
                }
                Next::WriteBody(form) => {
                    let written = match form {
                        BodyForm::Verbatim => self.write(prefix.clone(), body.clone()).await,
                        BodyForm::DotStuffed => {
                            let mut stuffed =
                                Vec::with_capacity(prefix.len() + body.len() + body.len() / 64 + 16);
                            smtp::data::stuff(&[prefix, body], &mut stuffed);
                            self.write(Bytes::from(stuffed), Bytes::new()).await
                        }
                    };
                    self.session.body_written();
                    // A server that refuses early may close while we write; its reply is then still to be read.
                    next = match written {
                        Ok(()) => self.read().await?,
                        Err(error) => self.read().await.map_err(|_| Broken::Io(error))?,
                    };
                }
                // STARTTLS is over before the first transaction, so the session never gets there.
                Next::Ready | Next::Closed | Next::StartTls => return Ok(next),
            }
        }
    }

    async fn until_ready(&mut self) -> Result<Next, Broken> {
        loop {
            self.write(Bytes::new(), Bytes::new()).await?;
            match self.read().await? {
                Next::Read => {}
                next => return Ok(next),
            }
        }
    }

    /// Writes `out` and two more parts as one.
    async fn write(&mut self, prefix: Bytes, body: Bytes) -> io::Result<()> {
        if self.out.is_empty() && prefix.is_empty() {
            return Ok(());
        }
        let deadline = self.session.phase().deadline();
        let mut parts = Buf::chain(Buf::chain(self.out.as_slice(), prefix), body);
        let stream = &mut self.stream;
        let writing = async {
            stream.write_all_buf(&mut parts).await?;
            // The library may hold back what the socket did not take.
            if stream.is_tls() { stream.flush().await } else { Ok(()) }
        };
        let written = timeout(deadline, writing).await;
        self.out.clear();
        written.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    /// Reads replies until the session wants something else.
    async fn read(&mut self) -> Result<Next, Broken> {
        loop {
            // Replies that came while the body was being written wait here already.
            if !self.input.is_empty() {
                let (consumed, next) = self.session.handle(&self.input, &mut self.out)?;
                self.input.drain(..consumed);
                if !matches!(next, Next::Read) || !self.out.is_empty() {
                    return Ok(next);
                }
            }
            if self.input.len() == self.input.capacity() {
                self.input.reserve(INPUT_BYTES);
            }
            let deadline = self.session.phase().deadline();
            let read = timeout(deadline, self.stream.read_buf(&mut self.input)).await;
            let count = read.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))?;
            if count == 0 {
                return Err(Broken::Io(io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
        }
    }

    /// Whether the server has answered any command of this transaction.
    fn answered(&self) -> bool {
        let result = self.session.result();
        result.mail.is_some() || result.body.is_some() || result.recipients.iter().any(Option::is_some)
    }

    fn outcomes(&self, recipients: usize) -> Vec<Outcome> {
        let result = self.session.result();
        (0..recipients).map(|index| classify::reply(result.recipient_reply(index))).collect()
    }

    /// Outcomes of a transaction that broke: what was refused for good stays refused, all else is to be tried again.
    fn outcomes_or(&self, recipients: usize, broken: &Outcome) -> Vec<Outcome> {
        let result = self.session.result();
        let mail_refused = result.mail.as_ref().filter(|reply| !reply.is_positive());
        let one = |index: usize| {
            let refused =
                result.recipients.get(index).and_then(Option::as_ref).filter(|reply| !reply.is_positive());
            mail_refused.or(refused).map_or_else(|| broken.clone(), classify::reply)
        };
        (0..recipients).map(one).collect()
    }

    /// The outcome when the greeting or EHLO was refused.
    fn refusal(&self) -> Outcome {
        let result = self.session.result();
        match &result.closing {
            // A host that turns everybody away says nothing about the recipient: another host, or another hour, may do.
            Some(reply) => classify::turned_away(reply),
            None => {
                classify::lost("waiting for the greeting", &io::Error::from(io::ErrorKind::ConnectionAborted))
            }
        }
    }

    /// Takes leave.
    pub(super) async fn quit(mut self) {
        self.session.quit(&mut self.out);
        let goodbye = async {
            self.write(Bytes::new(), Bytes::new()).await.ok()?;
            self.read().await.ok()
        };
        let _ = timeout(QUIT_PATIENCE, goodbye).await;
    }
}
