//! One connection to a next hop, used for message after message.
//!
//! Where the server offers PIPELINING and CHUNKING, a message is one write (commands, our header prefix, the body, by vectored I/O) and
//! one read. Every wait has the deadline of its phase, and none is longer than the watchdog of the path; a server that is late loses the
//! connection, not the message. What a server is late with is a whole reply: one that comes byte by byte is no sooner there.

mod talk;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smtp::client::{BeginError, Config, Credentials, NO_REPLY, Next, Secured, Session, Transaction};
use smtp::dsn::Asked;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::batches::{Batch, Batches};
use super::dial::Dialed;
use super::path::Path;
use super::security::{Posture, Security, Target};
use super::stream::Stream;
use super::{Outbound, classify, needs};
use crate::clock::UnixMs;
use crate::envelope::{Envelope, Outcome};
use crate::maillog::{SourceAddress, TlsFacts};
use crate::metrics::{Metrics, OpenConnection};
use crate::ports::{BoxFuture, Lease};
use crate::settle::Hop;
use talk::Broken;

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
    /// Where it comes from, if the source has an address or a proxy.
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
    /// As it was when the connection was opened.
    path: Arc<Path>,
    metrics: Arc<Metrics>,
    counted: Option<OpenConnection>,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Messages sent over it.
    pub(super) deliveries: u32,
    /// Transactions begun over it.
    transactions: u32,
    /// When the last message was begun with, where one was.
    pub(super) began: Option<UnixMs>,
}

/// How an attempt over a connection went. What became of each recipient stands in [`Batches`].
pub(super) enum Sent {
    /// Every recipient has an outcome; the connection can be used again.
    Done,
    /// The server takes no more over this connection, and some recipients are left.
    UsedUp,
    /// The server has ended the session with this, which is the outcome of those who are left.
    Closed(Outcome),
    /// The connection broke, which is the outcome of those who are left.
    Broken(Outcome),
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

/// A message on its way.
pub(super) struct Letter<'a> {
    pub(super) envelope: &'a Envelope,
    /// The recipients that still needed something when the attempt began.
    pub(super) open: &'a [&'a str],
    pub(super) body: &'a Bytes,
    pub(super) lease: &'a Lease,
}

impl Connection {
    /// Reads the greeting and says EHLO, through TLS if that is what the connection has to be, and is offered; logs in where the path says
    /// so.
    ///
    /// # Errors
    /// The outcome for the message that wanted the connection.
    pub(super) async fn open(
        dialed: Dialed,
        posture: Posture,
        ehlo_domain: &str,
        path: &Arc<Path>,
        outbound: &Outbound,
    ) -> Result<Self, NotOpen> {
        let plainly = |outcome| NotOpen { outcome, tls_took: None };
        let credentials = path.credentials().map_err(|reason| plainly(classify::no_password(&reason)))?;
        let mut connection = Self::new(dialed, posture, ehlo_domain, path, credentials, outbound);
        let opened = match connection.until_ready().await {
            Ok(Next::Ready) => {
                outbound.security.note_open(&connection.posture, false);
                Ok(())
            }
            Ok(Next::StartTls) => {
                let began = UnixMs::now();
                let secured = connection.secure(&outbound.security).await;
                connection.tls_took = Some(UnixMs::now().since(began));
                secured.map_err(|outcome| NotOpen { outcome, tls_took: connection.tls_took })
            }
            Ok(_) => Err(plainly(connection.refusal())),
            Err(broken) => Err(plainly(broken.outcome("waiting for the greeting and EHLO"))),
        };
        opened.map(|()| connection.counted())
    }

    fn new(
        dialed: Dialed,
        posture: Posture,
        ehlo_domain: &str,
        path: &Arc<Path>,
        auth: Option<Credentials>,
        outbound: &Outbound,
    ) -> Self {
        let Dialed { stream, name, address, from } = dialed;
        let config = Config {
            ehlo_domain: ehlo_domain.to_owned(),
            pipelining: path.config.enable_pipelining,
            lmtp: path.config.use_lmtp,
            starttls: posture.starttls,
            auth,
            ..Config::default()
        };
        Self {
            stream: Stream::Plain(stream),
            name,
            address,
            from,
            posture,
            assured: false,
            session: Session::new(config),
            tls: None,
            tls_took: None,
            path: Arc::clone(path),
            metrics: Arc::clone(&outbound.parts.metrics),
            counted: None,
            out: Vec::new(),
            input: Vec::with_capacity(INPUT_BYTES),
            deliveries: 0,
            transactions: 0,
            began: None,
        }
    }

    fn counted(mut self) -> Self {
        self.metrics.total_connection_count.smtp_client.inc();
        self.counted = Some(OpenConnection::count(&self.metrics.connection_count.smtp_client));
        self
    }

    /// The handshake, and EHLO once more behind it.
    async fn secure(&mut self, security: &Security) -> Result<(), Outcome> {
        let Self { stream, posture, name, address, path, .. } = self;
        let target = Target { name, address: address.ip() };
        let shaken = security.handshake(stream, target, posture, &path.config).await;
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
        Hop {
            site: Arc::clone(site),
            peer,
            tls: self.tls.clone(),
            dsn: self.session.capabilities().dsn,
            provider: self.path.provider.clone(),
            lmtp: self.path.config.use_lmtp,
            source: None,
            source_address: self.from,
        }
    }

    /// Whether it can take another message.
    pub(super) fn is_of_use(&self) -> bool {
        let config = &self.path.config;
        self.deliveries < config.max_deliveries_per_connection
            && !self.session.is_used_up()
            && (config.enable_rset || !self.session.needs_rset())
    }

    /// Where it leads.
    pub(super) fn host(&self) -> (Arc<str>, SocketAddr) {
        (Arc::clone(&self.name), self.address)
    }

    /// Gives back the memory that is of use between messages in a row only.
    pub(super) fn rest(&mut self) {
        self.session.rest();
        self.out = Vec::new();
        if self.input.is_empty() {
            self.input = Vec::new();
        }
    }

    /// Ends when the server says something between messages, or hangs up: whatever it is, the session is over (RFC 5321 3.8).
    pub(super) async fn until_server_speaks(&mut self) {
        let _ = self.stream.read_buf(&mut self.input).await;
    }

    /// Whether it has said something since its last reply, a goodbye or what nobody asked for, or hung up. A reply too many would be taken
    /// for that to the next command, and so on: a message could count as delivered that is refused.
    async fn has_server_spoken(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.until_server_speaks() => true,
            () = std::future::ready(()) => !self.input.is_empty(),
        }
    }

    /// Sends one message to those of its recipients who have no outcome yet, in as many transactions as it takes.
    pub(super) async fn deliver(&mut self, letter: &Letter<'_>, batches: &mut Batches) -> Sent {
        self.began = None;
        self.deliveries += 1;
        loop {
            let batch_max = self.path.config.max_recipients_per_batch.min(self.session.recipients_max());
            let Some(batch) = batches.next(batch_max) else { return Sent::Done };
            if self.transactions > 0 && !self.takes_another_transaction() {
                return Sent::UsedUp;
            }
            if self.transactions > 0 && self.has_server_spoken().await {
                return Sent::Stale;
            }
            if let Some(ended) = self.deliver_batch(letter, &batch, batches).await {
                return ended;
            }
        }
    }

    fn takes_another_transaction(&self) -> bool {
        !self.session.is_used_up() && (self.path.config.enable_rset || !self.session.needs_rset())
    }

    /// One transaction; how the attempt ended, if it did.
    async fn deliver_batch(
        &mut self,
        letter: &Letter<'_>,
        batch: &Batch,
        batches: &mut Batches,
    ) -> Option<Sent> {
        if letter.envelope.requests.as_ref().is_some_and(|requests| requests.require_tls)
            && let Some(outcome) = self.breach()
        {
            batches.conclude_rest(&outcome);
            return Some(Sent::Done);
        }
        let recipients = batch.of(letter.open);
        let next = match self.begin(letter, &recipients) {
            Ok(next) => next,
            Err(error) => {
                batches.conclude_rest(&classify::unfit(&error));
                return Some(Sent::Done);
            }
        };
        let now = UnixMs::now();
        if !letter.lease.valid_for(LEASE_MARGIN, now) {
            return Some(Sent::LeaseLost);
        }
        let reused = self.transactions > 0;
        self.transactions += 1;
        self.began.get_or_insert(now);
        let ended = self.transact(next, &letter.envelope.header_prefix, letter.body).await;
        // A server that closed while idle, with 421 or without a word, has not seen this message.
        if reused
            && !self.answered()
            && !matches!(ended, Ok(Next::Ready) | Err(Broken::Peer(_) | Broken::Stuck(_)))
        {
            return Some(Sent::Stale);
        }
        match ended {
            Ok(Next::Ready) => {
                batches.conclude(batch, self.session.result());
                None
            }
            Ok(_) => {
                batches.conclude(batch, self.session.result());
                let closing = self.session.result().closing.as_ref().unwrap_or(&NO_REPLY);
                Some(Sent::Closed(classify::turned_away(closing)))
            }
            Err(broken) => {
                batches.conclude_broken(batch, self.session.result());
                if let Broken::Stuck(limit) = broken {
                    self.metrics.dispatcher_watchdog_aborted_total.inc();
                    let (site, limit) = (&self.name, limit.as_secs());
                    tracing::warn!(%site, limit, id = %letter.envelope.id, "a session is given up: it made no progress");
                }
                Some(Sent::Broken(broken.outcome("sending the message")))
            }
        }
    }

    fn begin(&mut self, letter: &Letter<'_>, recipients: &[&str]) -> Result<Next, BeginError> {
        let Letter { envelope, body, .. } = letter;
        let capabilities = self.session.capabilities();
        let needs = needs::of(envelope, body, recipients, capabilities, self.path.config.ignore_8bit_checks);
        let transaction = Transaction {
            from: &envelope.sender,
            recipients,
            body_bytes: envelope.message_bytes(),
            eight_bit: needs.eight_bit,
            smtputf8: needs.smtputf8,
            binary: envelope.requests.as_ref().is_some_and(|requests| requests.binary),
            require_tls: envelope.requests.as_ref().is_some_and(|requests| requests.require_tls),
        };
        let (requests, of_each) = (envelope.requests.as_deref(), envelope.asked_of(recipients));
        let asked = Asked {
            ret: requests.and_then(|requests| requests.ret),
            envid: requests.and_then(|requests| requests.envid.as_deref()),
            recipients: &of_each,
        };
        self.session.begin_asking(&transaction, &asked, &mut self.out)
    }

    /// What a message that may travel through TLS only lacks here (RFC 8689 4.2.1).
    fn breach(&self) -> Option<Outcome> {
        let is_safe = self.tls.is_some() && self.posture.peer.is_verified() && self.assured;
        if is_safe && self.session.capabilities().require_tls {
            return None;
        }
        Some(classify::no_required_tls(&self.name, is_safe))
    }

    /// Whether the server has answered any command of this transaction.
    fn answered(&self) -> bool {
        let result = self.session.result();
        result.mail.is_some() || result.body.is_some() || result.recipients.iter().any(Option::is_some)
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

    /// Takes leave. Boxed, because it is rare.
    pub(super) fn quit(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.session.quit(&mut self.out);
            let goodbye = async {
                self.write(Bytes::new(), Bytes::new()).await.ok()?;
                self.read().await.ok()
            };
            let _ = timeout(QUIT_PATIENCE, goodbye).await;
        })
    }
}
