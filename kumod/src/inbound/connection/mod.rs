//! One client: its socket, its buffers, its open transaction.
//!
//! Bytes go to the protocol of `crates/smtp` and its questions are answered here: relay rules at RCPT, the intake at the end of
//! the body. All replies to what was read in one piece leave in one write (RFC 2920 3.2). Large BDAT bodies are read from the socket straight
//! into the buffer that store and delivery share. A client that is silent, or does not read, meets a deadline.

mod opening;
mod reading;
mod rights;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use smtp::data::{BodyError, BodyFacts};
use smtp::reply::Reply;
use smtp::server::{BodyKind, Event, MailParams, RcptParams, Session};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::body::Reservation;
use super::clients::Counted;
use super::listener::Context;
use super::profile::Profile;
use super::stream::Stream;
use crate::client::{Client, TlsFacts};
use crate::config::{LineEndings, ListenerDomain};
use crate::envelope::{RecipientRequests, Requests};
use crate::intake::{Accepted, Incoming};
use crate::ports::Shutdown;

/// Bytes of input kept for a connection. Commands and small messages fit; larger bodies have a way of their own.
const INPUT_BYTES: usize = 8 << 10;
/// From this many missing bytes on, a BDAT chunk is read straight into the body.
const DIRECT_READ_BYTES_MIN: u64 = 2 << 10;
/// Replies that may wait to be written. A client that sends commands and reads nothing is written to before more is read.
const OUTPUT_BYTES_MAX: usize = 16 << 10;
/// Most memory set aside for a body on the word of the client alone; a larger one grows as it comes.
const BODY_BYTES_AHEAD_MAX: usize = 1 << 20;

/// How a connection ended.
#[derive(Debug, Error)]
pub(super) enum End {
    /// The client closed, or a reply said that we do.
    #[error("closed")]
    Closed,
    /// The client was silent for too long.
    #[error("deadline passed")]
    Deadline,
    /// The client did not read its replies; half a line may have been written, so nothing can follow it.
    #[error("the client does not read")]
    NotReading,
    /// The process is stopping.
    #[error("stopping")]
    Stopping,
    /// The client was told why it cannot stay.
    #[error("turned away: {0}")]
    TurnedAway(&'static str),
    /// The network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A client's connection.
pub(super) struct Connection {
    context: Arc<Context>,
    profile: Arc<Profile>,
    stream: Stream,
    /// What the handshake agreed on, where TLS is up.
    tls: Option<Arc<TlsFacts>>,
    peer: SocketAddr,
    via: SocketAddr,
    /// Where the connection is from and to in truth, where a proxy has said for whom it speaks.
    original: Option<Box<(SocketAddr, SocketAddr)>>,
    may_relay: bool,
    /// The user, once it has shown a password.
    user: Option<Arc<str>>,
    /// What the policy said of domains.
    domains: Vec<(String, ListenerDomain)>,
    /// The client's place among its connections, where they are counted.
    _counted: Option<Counted>,
    session: Session,
    input: Vec<u8>,
    /// Bytes of `input` that the session has taken.
    taken: usize,
    out: Vec<u8>,
    /// When the command has to be complete of which only a part is there.
    command_deadline: Option<Instant>,
    /// Bad commands for which the client has waited already.
    errors_punished: u32,
    helo: String,
    extended: bool,
    /// Made of what is known when the first message comes; empty again when something of it changes.
    client: Option<Arc<Client>>,
    transaction: Transaction,
    shutdown: Shutdown,
}

/// What MAIL, RCPT and the body have said so far.
#[derive(Default)]
struct Transaction {
    sender: String,
    recipients: Vec<String>,
    smtputf8: bool,
    /// What was asked for about notifications; most ask for nothing.
    requests: Option<Box<Requests>>,
    body: Vec<u8>,
    /// When the body began to come, and what has come of it.
    began: Option<Instant>,
    bytes_received: u64,
    reservation: Option<Reservation>,
}

/// What the next step of a connection needs the outside world for.
enum Need {
    /// More bytes.
    Read,
    /// The client to take its replies before it gets more of them.
    Write,
    /// Room for a body.
    Room { bytes_expected: u64 },
    /// The intake's word.
    Decision,
    /// TLS.
    Handshake,
    /// An end.
    Close,
}

impl Connection {
    pub(super) fn new(
        context: Arc<Context>,
        profile: Arc<Profile>,
        stream: TcpStream,
        (peer, via): (SocketAddr, SocketAddr),
    ) -> Self {
        let session = Session::new(profile.session_for(peer));
        Self {
            stream: Stream::Plain(stream),
            tls: None,
            peer,
            via,
            original: None,
            user: None,
            domains: Vec::new(),
            may_relay: profile.listener.relay_hosts.contains(peer.ip()),
            _counted: None,
            session,
            input: Vec::new(),
            taken: 0,
            out: Vec::new(),
            command_deadline: None,
            errors_punished: 0,
            helo: String::new(),
            extended: false,
            client: None,
            transaction: Transaction::default(),
            shutdown: context.inbound.shutdown.clone(),
            context,
            profile,
        }
    }

    /// Talks until one side has had enough.
    pub(super) async fn run(mut self) -> End {
        let end = match self.talk().await {
            Ok(end) | Err(end) => end,
        };
        self.farewell(&end).await;
        self.recycle_body();
        end
    }

    async fn converse(&mut self) -> Result<End, End> {
        loop {
            match self.advance() {
                Need::Read => {
                    if !self.profile.listener.tarpit_delay.is_zero() {
                        self.tarpit().await;
                    }
                    self.flush().await?;
                    self.read().await?;
                }
                Need::Write => self.flush().await?,
                Need::Room { bytes_expected } => self.make_room(bytes_expected).await?,
                Need::Decision => {
                    if self.decide().await {
                        self.flush().await?;
                        return Ok(End::Closed);
                    }
                }
                Need::Handshake => {
                    self.start_tls().await?;
                }
                Need::Close => {
                    self.flush().await?;
                    return Ok(End::Closed);
                }
            }
        }
    }

    /// Runs the protocol over what has been read, as far as it goes without waiting for anybody.
    fn advance(&mut self) -> Need {
        loop {
            if self.out.len() > OUTPUT_BYTES_MAX && self.taken < self.input.len() {
                return Need::Write;
            }
            let step = self.session.handle(&self.input[self.taken..], &mut self.out);
            self.taken += step.consumed;
            match step.event {
                Event::NeedMore => return Need::Read,
                Event::Ehlo { domain, extended } => {
                    self.helo.clear();
                    self.helo.push_str(domain);
                    self.extended = extended;
                    self.client = None;
                    self.session.accept(&mut self.out);
                }
                Event::Mail { from, params } => {
                    self.transaction.sender = from.to_string();
                    self.transaction.smtputf8 = params.smtputf8;
                    self.transaction.recipients.clear();
                    self.transaction.requests = requests_of_mail(&params);
                    self.session.accept(&mut self.out);
                }
                Event::Rcpt { to, params } => {
                    if params != RcptParams::default() || self.transaction.requests.is_some() {
                        let request = request_of_rcpt(&params);
                        self.transaction.request(request);
                    }
                    let text = to.to_string();
                    if self.may_relay {
                        self.transaction.recipients.push(text);
                        self.session.accept(&mut self.out);
                    } else {
                        let domain = to.domain().to_owned();
                        self.answer_stranger(text, &domain);
                    }
                }
                Event::BodyStart { bytes_expected } => return Need::Room { bytes_expected },
                Event::Body(piece) => self.transaction.body.extend_from_slice(piece),
                Event::BodyEnd => return Need::Decision,
                Event::Reset => self.recycle_body(),
                Event::StartTls => return Need::Handshake,
                // Not asked for, so it does not come; closing is right whatever brought it.
                Event::Command { .. } => return Need::Close,
                Event::AuthKeys => self.challenge(),
                Event::Auth { .. } => self.log_in(),
                Event::XClient(client) => self.speaks_for(&client),
                Event::Quit => return Need::Close,
                Event::Close => {
                    self.count_close();
                    return Need::Close;
                }
            }
        }
    }

    /// Waits for a part of the budget of bodies in reception, then takes a buffer.
    async fn make_room(&mut self, bytes_expected: u64) -> Result<(), End> {
        let expected = usize::try_from(bytes_expected).unwrap_or(usize::MAX);
        let context = Arc::clone(&self.context);
        let inbound = &context.inbound;
        let reservation = match inbound.budget.try_reserve(expected) {
            Some(reservation) => reservation,
            None => {
                // The replies so far must not wait with the body.
                self.flush().await?;
                inbound.budget.reserve(expected).await
            }
        };
        self.transaction.reservation = Some(reservation);
        self.transaction.body = inbound.pool.take(expected.min(BODY_BYTES_AHEAD_MAX));
        if self.session.body_bytes_expected().is_none() {
            let wanted = self.profile.listener.data_buffer_size;
            self.input.reserve(wanted.saturating_sub(self.input.len()));
        }
        Ok(())
    }

    /// Asks the intake and answers the client. `true`: the answer was 421, after which the connection ends (RFC 5321 3.8).
    async fn decide(&mut self) -> bool {
        let Transaction { sender, recipients, smtputf8, requests, mut body, reservation, .. } =
            mem::take(&mut self.transaction);
        let binary = requests.as_ref().is_some_and(|requests| requests.binary);
        let reply = match self.check(&mut body, binary) {
            Err(error) => {
                self.context.inbound.pool.give(body);
                Err(error.reply())
            }
            Ok(facts) => {
                let incoming = Incoming {
                    client: self.client(),
                    sender,
                    recipients,
                    body: self.context.inbound.pool.freeze(body),
                    eight_bit: facts.eight_bit,
                    smtputf8,
                    requests,
                };
                self.take_in(incoming).await
            }
        };
        drop(reservation);
        let closing = matches!(&reply, Err(reply) if reply.code == 421);
        match reply {
            Ok(accepted) => {
                self.session.accept_with(&Reply::owned(250, (2, 0, 0), accepted.text()), &mut self.out)
            }
            Err(reply) => {
                self.context.inbound.metrics.reject("message refused");
                self.session.reject(&reply, &mut self.out);
            }
        }
        closing
    }

    /// Looks at the body, and mends its line endings where that is wanted. One without lines is anything, and never leaves by DATA,
    /// where its dots could be taken for an end.
    fn check(&self, body: &mut Vec<u8>, binary: bool) -> Result<BodyFacts, BodyError> {
        if binary {
            return Ok(BodyFacts { eight_bit: true });
        }
        let rules = &self.profile.body_rules;
        match smtp::data::check(body, rules) {
            Err(BodyError::BareLineEnding { .. })
                if self.profile.listener.invalid_line_endings == LineEndings::Fix =>
            {
                *body = smtp::data::fix_line_endings(body);
                smtp::data::check(body, rules)
            }
            other => other,
        }
    }

    fn client(&mut self) -> Arc<Client> {
        let made = self.client.get_or_insert_with(|| {
            Arc::new(Client {
                received_from: self.peer,
                received_via: self.via,
                original: self.original.clone(),
                helo: self.helo.clone(),
                extended: self.extended,
                user: self.user.clone(),
                tls: self.tls.clone(),
                hostname: Arc::clone(&self.profile.hostname),
                listener: Arc::clone(&self.profile.listener),
            })
        });
        Arc::clone(made)
    }

    /// The intake runs to its end even when the client is told 451 meanwhile: what is stored must also be queued.
    async fn take_in(&mut self, incoming: Incoming) -> Result<Accepted, Reply> {
        let intake = Arc::clone(&self.context.inbound.intake);
        let mut work = Box::pin(intake.accept(incoming));
        match timeout(self.profile.listener.data_processing_timeout, &mut work).await {
            Ok(result) => result,
            Err(_) => {
                tokio::spawn(work);
                Err(Reply::new(451, (4, 4, 5), "data_processing_timeout exceeded; try again later"))
            }
        }
    }

    /// Says why we go, to a client that may still listen.
    async fn farewell(&mut self, end: &End) {
        let why = match end {
            End::Deadline => "idle too long",
            End::Stopping => "shutting down",
            End::Closed | End::NotReading | End::Io(_) | End::TurnedAway(_) => return,
        };
        let code = if matches!(end, End::Deadline) { (4, 4, 2) } else { (4, 3, 2) };
        self.out.clear();
        Reply::owned(421, code, format!("{} {why}", self.profile.hostname)).write(true, &mut self.out);
        // One attempt without waiting: whoever let the deadline pass is not waited for again.
        self.stream.try_write(&self.out);
    }

    fn recycle_body(&mut self) {
        let transaction = mem::take(&mut self.transaction);
        if transaction.body.capacity() > 0 {
            self.context.inbound.pool.give(transaction.body);
        }
    }
}

impl Transaction {
    /// Notes what was asked for at the place that the next recipient takes; refused, its place is taken by the one after it, and
    /// what that asks for.
    fn request(&mut self, request: RecipientRequests) {
        let at = self.recipients.len();
        let recipients = &mut self.requests.get_or_insert_default().recipients;
        recipients.truncate(at);
        recipients.resize_with(at, RecipientRequests::default);
        recipients.push(request);
    }
}

fn requests_of_mail(params: &MailParams<'_>) -> Option<Box<Requests>> {
    let MailParams { ret, envid, body, require_tls, .. } = *params;
    let binary = body == BodyKind::BinaryMime;
    if ret.is_none() && envid.is_none() && !binary && !require_tls {
        return None;
    }
    Some(Box::new(Requests {
        ret,
        envid: envid.map(str::to_owned),
        binary,
        require_tls,
        ..Requests::default()
    }))
}

fn request_of_rcpt(params: &RcptParams<'_>) -> RecipientRequests {
    RecipientRequests { notify: params.notify, orcpt: params.orcpt.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_asked_for_a_refused_recipient_is_not_the_next_ones() {
        let request = |orcpt: &str| RecipientRequests { notify: None, orcpt: Some(orcpt.to_owned()) };
        let mut transaction = Transaction::default();
        transaction.recipients.push("asks-for-nothing@there.test".to_owned());
        transaction.request(request("rfc822;refused@there.test"));
        transaction.request(RecipientRequests::default());
        transaction.recipients.push("asks-for-nothing-either@there.test".to_owned());
        transaction.request(request("rfc822;third@there.test"));
        transaction.recipients.push("third@there.test".to_owned());
        let requests = transaction.requests.unwrap();
        assert!(requests.of_recipients(&[0]).is_none() && requests.of_recipients(&[1]).is_none());
        assert_eq!(requests.of_recipients(&[2]).unwrap().recipients, [request("rfc822;third@there.test")]);
    }
}
