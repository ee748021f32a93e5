//! Tells senders what became of their mail: a notification (RFC 3464) that comes in by the same door as all mail.
//!
//! The settling thread asks and waits for the answer, so that a message leaves the spool only when its notification is as safe as the
//! durability in force promises: a crash in between makes a second one, never none. Where a failure cannot be told of now, the message
//! stays and is tried again a little later; a delay, or that another server has the message, is then left untold.
//! A message from nobody causes no notification, and a notification is from nobody: no two hosts can bounce at each other for ever.

use std::sync::Arc;

use message::date::DateCache;
use message::notification::{Action, HEADER_BYTES_MAX, Notification, Reported, WHOLE_BYTES_MAX};
use smtp::dsn::{Ret, decode_xtext};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Attempt, Manner, expired};
use crate::clock::UnixMs;
use crate::config::Dsn;
use crate::envelope::{Envelope, Outcome, Response};
use crate::intake::{Intake, Notice};
use crate::ports::{MailStore, StoreError};

/// Requests that may wait: as many as there are attempts in one batch.
pub(super) const REQUESTS_WAITING_MAX: usize = 256;
/// Notifications that are written at once.
const WRITING_MAX: usize = 64;

/// What happened to a recipient that its sender is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Failed,
    Delayed,
    Relayed,
}

/// A recipient of whom the sender is to be told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Its place in the envelope.
    index: usize,
    fate: Fate,
    response: Response,
    /// The server that said so.
    remote: Option<String>,
}

impl Told {
    /// What is to be told of the recipient at `index` after an attempt, if anything; `next` is when the next attempt is due.
    pub(super) fn of(
        attempt: &Attempt,
        index: usize,
        outcome: &Outcome,
        next: Option<UnixMs>,
    ) -> Option<Self> {
        let envelope = &attempt.claimed.envelope;
        // RFC 5321 6.1: nobody is told of what nobody sent.
        if envelope.sender.is_empty() {
            return None;
        }
        let requests = envelope.requests.as_ref().and_then(|requests| requests.recipients.get(index));
        let dsn = match (attempt.manner, attempt.queue_config.dsn) {
            // One order may give up a million messages. Who asked to be told is told; to tell everybody else, too, is not what was ordered.
            (Manner::AdminBounce | Manner::Unlogged, Dsn::Failure) => Dsn::Requested,
            (_, dsn) => dsn,
        };
        let wish = dsn.wish(requests.and_then(|recipient| recipient.notify));
        let (fate, response) = match (outcome, next) {
            // RFC 3461 5.2.1, 5.2.2: a server that was asked tells of the delivery itself, and of one that was not, we tell.
            (Outcome::Delivered(response), _) if wish.success && !attempt.hop.dsn => {
                (Fate::Relayed, response.clone())
            }
            // RFC 3461 5.2.6.
            (Outcome::Failed(response), _) if wish.failure => (Fate::Failed, response.clone()),
            (Outcome::Retry(last), None) if wish.failure => (Fate::Failed, expired(last)),
            (Outcome::Retry(last), Some(next)) if wish.delay && attempt.is_late_by(next) => {
                (Fate::Delayed, last.clone())
            }
            _ => return None,
        };
        let peer = attempt.hop.peer.as_ref().filter(|_| !matches!(outcome, Outcome::Retry(_)));
        Some(Self { index, fate, response, remote: peer.map(|(name, _)| name.to_string()) })
    }

    /// The place of a recipient that was given up; for it the message must stay until its sender is told.
    pub(super) fn failed(&self) -> Option<usize> {
        (self.fate == Fate::Failed).then_some(self.index)
    }
}

impl Attempt {
    /// Whether this is the attempt after which the message has been waiting for long (RFC 3461 5.2.5): its queue's `dsn_delay` ends between the time
    /// at which this attempt was due and that of the next. The spans of all attempts lie end to end, so it is one of them.
    fn is_late_by(&self, next: UnixMs) -> bool {
        let late = self.claimed.envelope.created.after(self.queue_config.dsn_delay);
        self.claimed.mark.due <= late && late < next
    }
}

/// A message whose sender is to be told something, of all recipients of one attempt together (RFC 3461 5.2.8).
#[derive(Debug)]
pub(super) struct Request {
    pub(super) envelope: Arc<Envelope>,
    pub(super) told: Vec<Told>,
    pub(super) attempts: u32,
    pub(super) at: UnixMs,
    /// When the message expires.
    pub(super) expires: UnixMs,
    /// Says whether the sender is told, or can never be.
    pub(super) done: oneshot::Sender<bool>,
}

/// Requests on their way to [`Notifier::run`].
#[derive(Debug)]
pub struct Requests(pub(super) mpsc::Receiver<Request>);

/// Writes notifications.
pub struct Notifier {
    /// The door in.
    pub intake: Arc<Intake>,
    /// Where the message that is written of is read.
    pub store: Arc<dyn MailStore>,
    /// The name of this host.
    pub hostname: String,
}

impl Notifier {
    /// Answers requests until the settling thread has ended.
    pub async fn run(self, mut requests: Requests) {
        let own = Arc::new(self);
        let mut writing = JoinSet::new();
        while let Some(request) = requests.0.recv().await {
            while writing.len() >= WRITING_MAX {
                writing.join_next().await;
            }
            while writing.try_join_next().is_some() {}
            writing.spawn(Arc::clone(&own).answer(request));
        }
        writing.join_all().await;
    }

    async fn answer(self: Arc<Self>, request: Request) {
        let told = match self.tell(&request).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, id = %request.envelope.id, "a notification cannot be stored now");
                false
            }
        };
        // Whoever asked may be gone, because the process is stopping.
        let _ = request.done.send(told);
    }

    async fn tell(&self, request: &Request) -> Result<(), StoreError> {
        let envelope = &request.envelope;
        let whole = gives_back_whole(request);
        let original = self.original(envelope, whole).await;
        let bytes = self.write(request, &original, whole);
        match Notice::new(&envelope.sender, bytes, &self.hostname) {
            Ok(notice) => self.intake.accept_notice(notice).await.map(drop),
            Err(error) => {
                tracing::warn!(%error, id = %envelope.id, sender = %envelope.sender, "a sender cannot be told");
                Ok(())
            }
        }
    }

    /// The message as it was sent, or its beginning. Where it cannot be read, its sender is told without it.
    async fn original(&self, envelope: &Envelope, whole: bool) -> Vec<u8> {
        match self.store.read_body(envelope.body).await {
            Ok(body) => {
                let bytes_max = if whole { body.len() } else { body.len().min(HEADER_BYTES_MAX) };
                [&envelope.header_prefix[..], &body[..bytes_max]].concat()
            }
            Err(error) => {
                tracing::warn!(%error, id = %envelope.id, "a notification goes without the message's header");
                envelope.header_prefix.to_vec()
            }
        }
    }

    fn write(&self, request: &Request, original: &[u8], whole: bool) -> Vec<u8> {
        let Request { envelope, told, attempts, at, expires, .. } = request;
        let date = |at: UnixMs| DateCache::new().rfc5322(at.seconds()).to_owned();
        let (now, until) = (date(*at), date(*expires));
        let said: Vec<String> = told.iter().map(|told| told.response.to_string()).collect();
        let asked: Vec<_> = told.iter().map(|told| original_recipient(envelope, told.index)).collect();
        let recipients = told.iter().zip(&said).zip(&asked).map(|((told, said), asked)| Reported {
            recipient: envelope.recipients.get(told.index).map_or("", String::as_str),
            original_recipient: asked.as_ref().map(|(kind, address)| (*kind, address.as_str())),
            action: told.action(&until),
            status: told.status(),
            said,
            remote: told.remote.as_deref(),
            attempts: *attempts,
        });
        let recipients: Vec<_> = recipients.collect();
        let envid = envelope.requests.as_ref().and_then(|requests| requests.envid.as_deref());
        let envid = envid.map(|text| decode_xtext(text).unwrap_or_else(|| text.to_owned()));
        let notification = Notification {
            reporter: &self.hostname,
            to: &envelope.sender,
            id: &format!("{}.{attempts}", envelope.id),
            date: &now,
            arrival_date: &date(envelope.created),
            envelope_id: envid.as_deref(),
            recipients: &recipients,
            original,
            whole,
        };
        notification.write()
    }
}

impl Told {
    fn action<'a>(&self, until: &'a str) -> Action<'a> {
        match self.fate {
            Fate::Failed => Action::Failed,
            Fate::Delayed => Action::Delayed(until),
            Fate::Relayed => Action::Relayed,
        }
    }

    /// What the server said, where that has the class of what happened (RFC 3463 2).
    fn status(&self) -> (u8, u16, u16) {
        let class = match self.fate {
            Fate::Failed => 5,
            Fate::Delayed => 4,
            Fate::Relayed => 2,
        };
        self.response.enhanced.filter(|(given, ..)| *given == class).unwrap_or((class, 0, 0))
    }
}

/// RFC 3461 4.3: the whole message goes back where that was asked for, and for failures alone. One that is large does not, nor one
/// whose header needs SMTPUTF8, which the way back may not offer, nor one that may travel through TLS only (RFC 8689 5).
fn gives_back_whole(request: &Request) -> bool {
    let Request { envelope, told, .. } = request;
    let is_asked = envelope.requests.as_ref().is_some_and(|requests| requests.ret == Some(Ret::Full));
    let is_small = usize::try_from(envelope.message_bytes()).is_ok_and(|bytes| bytes <= WHOLE_BYTES_MAX);
    let is_protected = envelope.requests.as_ref().is_some_and(|requests| requests.require_tls);
    is_asked
        && is_small
        && !is_protected
        && !envelope.smtputf8
        && told.iter().any(|told| told.fate == Fate::Failed)
}

/// The type and address of ORCPT, where it was given (RFC 3461 6.3).
fn original_recipient(envelope: &Envelope, index: usize) -> Option<(&str, String)> {
    let orcpt = envelope.requests.as_ref()?.recipients.get(index)?.orcpt.as_deref()?;
    let (kind, address) = orcpt.split_once(';')?;
    Some((kind, decode_xtext(address).unwrap_or_else(|| address.to_owned())))
}
