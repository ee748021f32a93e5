//! THE DOOR OUT: where a message's attempt becomes a log record, a notification where one is due, and then a deletion, a mark or another try.
//!
//! One thread takes what dispatchers hand in, a batch at a time: it writes the records (write(2)), has senders told whose mail is
//! given up, and only then tells the store.
//! A crash loses nothing; it repeats what was delivered and whose deletion the spool had not written yet. This is the only caller of [`MailStore::settle`].
//! When the log cannot be written the batch waits: mail that left without a record would be a lie to whoever reads the log.

mod notify;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::clock::UnixMs;
use crate::config::{QueueConfig, SourceConfig, UNSPECIFIED};
use crate::envelope::{Mark, Outcome, Response};
use crate::maillog::{Attempted, Egress, Kind, MailLog, Note, SourceAddress, Timings, TlsFacts};
use crate::metrics::Metrics;
use crate::ports::{Change, Claimed, MailStore, Settled};
use crate::queue::next_attempt;

pub use notify::{Notifier, Requests};
use notify::{REQUESTS_WAITING_MAX, Request, Told};

/// Attempts that may wait for the log. Over it dispatchers wait, which is the right thing: their mail is not settled yet.
const ATTEMPTS_WAITING_MAX: usize = 1024;
/// Attempts in one batch: one write to the log and one to the spool.
const BATCH_MAX: usize = 256;
/// Pause before the log is tried again after an error.
const LOG_RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a message stays whose sender could not be told that it is given up.
const NOTIFY_RETRY_DELAY: Duration = Duration::from_secs(60);

/// One attempt at one message, as the dispatcher saw it.
#[derive(Debug)]
pub struct Attempt {
    /// The message.
    pub claimed: Claimed,
    /// An outcome for each recipient that was still open, in the envelope's order, or one for all of them.
    pub outcomes: Vec<Outcome>,
    /// The retry rules of its scheduled queue.
    pub queue_config: Arc<QueueConfig>,
    /// Where it went.
    pub hop: Hop,
    /// When the attempt ended.
    pub at: UnixMs,
    /// How long its parts took.
    pub timings: Timings,
    /// What the log says of it.
    pub manner: Manner,
}

/// What the log says of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// How it ended.
    #[default]
    Attempt,
    /// That an operator gave the message up.
    AdminBounce,
    /// Nothing: an operator who gave the message up wanted it so.
    Unlogged,
}

impl Attempt {
    fn egress(&self) -> Egress<'_> {
        let source = self.hop.source.as_ref().map_or(UNSPECIFIED, |source| &source.name);
        Egress {
            pool: &self.queue_config.egress_pool,
            source,
            address: self.hop.source_address,
            provider: self.hop.provider.as_deref(),
            protocol: if self.hop.lmtp { "LMTP" } else { "ESMTP" },
        }
    }
}

/// The next hop of an attempt, for the record.
#[derive(Clone, Debug, Default)]
pub struct Hop {
    /// The site that the ready queue is named for.
    pub site: Arc<str>,
    /// Name and address of the server, where one answered.
    pub peer: Option<(Arc<str>, std::net::SocketAddr)>,
    /// What the handshake with it agreed on, where there was one.
    pub tls: Option<Arc<TlsFacts>>,
    /// Whether the server was asked for the notifications that the sender asked for, and answers for them.
    pub dsn: bool,
    /// What the path calls the provider behind the site.
    pub provider: Option<Arc<str>>,
    /// LMTP was spoken.
    pub lmtp: bool,
    /// The source that it left from, where the queue's pool names one.
    pub source: Option<Arc<SourceConfig>>,
    /// Where the connection came from, where one was open and the source has an address or a proxy.
    pub source_address: Option<SourceAddress>,
}

/// The way in for dispatchers.
#[derive(Clone, Debug)]
pub struct Settle {
    attempts: mpsc::Sender<Option<Attempt>>,
}

impl Settle {
    /// Hands an attempt in. Waits while the log or the spool is behind.
    pub async fn submit(&self, attempt: Attempt) {
        // The receiver lives until the process is stopping, so before that this only fails when the thread has panicked: the
        // message is still in the spool then, and is delivered again after the restart that follows.
        if self.attempts.send(Some(attempt)).await.is_err() {
            tracing::error!("the settling thread is gone; the message will be tried again after a restart");
        }
    }
}

/// The settling thread.
#[derive(Debug)]
pub struct Settling {
    thread: JoinHandle<()>,
    /// `None` is the last thing that is handed in.
    last: mpsc::Sender<Option<Attempt>>,
}

impl Settling {
    /// Waits until everything handed in so far is settled; nothing is taken after that. Not to be called inside a runtime, and the
    /// [`Notifier`]'s must still be at work.
    pub fn finish(self) {
        // Fails only where the thread has ended already.
        let _ = self.last.blocking_send(None);
        if self.thread.join().is_err() {
            tracing::error!("the settling thread ended in a panic");
        }
    }
}

/// Starts the thread. The requests are for a [`Notifier`].
///
/// # Errors
/// The host has no thread to give.
pub fn start(
    store: Arc<dyn MailStore>,
    log: MailLog,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Settle, Settling, Requests)> {
    let (requests, notices) = mpsc::channel(REQUESTS_WAITING_MAX);
    let (attempts, mut waiting) = mpsc::channel(ATTEMPTS_WAITING_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut room = Room { store, log, metrics, requests, lines: Vec::new() };
    let thread = std::thread::Builder::new().name("settle".to_owned()).spawn(move || {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        runtime.block_on(async {
            let mut is_last = false;
            while !is_last && waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
                is_last = batch.iter().any(Option::is_none);
                room.settle(&mut batch).await;
            }
        });
    })?;
    let last = attempts.clone();
    Ok((Settle { attempts }, Settling { thread, last }, Requests(notices)))
}

struct Room {
    store: Arc<dyn MailStore>,
    log: MailLog,
    metrics: Arc<Metrics>,
    /// The way to the notifier.
    requests: mpsc::Sender<Request>,
    /// The lines of one batch; kept for its memory.
    lines: Vec<u8>,
}

impl Room {
    async fn settle(&mut self, batch: &mut Vec<Option<Attempt>>) {
        self.lines.clear();
        let mut owed = Vec::new();
        let mut settled: Vec<Settled> = Vec::with_capacity(batch.len());
        for attempt in batch.drain(..).flatten() {
            let told = self.conclude(&attempt, &mut settled);
            if !told.is_empty() {
                owed.push((settled.len() - 1, attempt, told));
            }
        }
        // The log keeps the lines that it could not write, so the tries after the first bring none of their own.
        let mut lines = self.lines.as_slice();
        while let Err(error) = self.log.write_through(lines) {
            lines = &[];
            tracing::error!(%error, "the log cannot be written; deliveries wait for it");
            tokio::time::sleep(LOG_RETRY_DELAY).await;
        }
        if !owed.is_empty() {
            self.notify(owed, &mut settled).await;
        }
        let gone = settled.iter().filter(|settled| matches!(settled.change, Change::Gone { .. })).count();
        if let Err(fenced) = self.store.settle(settled).await {
            tracing::error!(%fenced, "settled elsewhere");
        }
        self.metrics.message_count.dec_by(i64::try_from(gone).unwrap_or(0));
    }

    /// Has senders told. A message whose sender could not be told that it is given up stays for a while.
    async fn notify(&self, owed: Vec<(usize, Attempt, Vec<Told>)>, settled: &mut [Settled]) {
        let mut waiting = Vec::with_capacity(owed.len());
        for (index, attempt, told) in owed {
            let (done, answer) = oneshot::channel();
            let Claimed { envelope, mark, .. } = attempt.claimed;
            let attempts = mark.attempts.saturating_add(1);
            let failed: Vec<usize> = told.iter().filter_map(Told::failed).collect();
            let expires = envelope.created.after(attempt.queue_config.max_age);
            let request = Request { envelope, told, attempts, at: attempt.at, expires, done };
            // Where the notifier is gone the answer is, too.
            let _ = self.requests.send(request).await;
            let untold = Mark { attempts, due: attempt.at.after(NOTIFY_RETRY_DELAY), done: Vec::new() };
            waiting.push((index, untold, failed, answer));
        }
        for (index, untold, failed, answer) in waiting {
            if !answer.await.unwrap_or(false) && !failed.is_empty() {
                reopen(&mut settled[index], untold, &failed);
            }
        }
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered(_) => self.metrics.total_messages_delivered.inc(),
            Outcome::Retry(_) => self.metrics.total_messages_transfail.inc(),
            Outcome::Failed(_) => self.metrics.total_messages_fail.inc(),
        };
    }

    /// Writes the records of one attempt into `lines`, adds to `settled` what becomes of the message, and says of which recipients
    /// the sender is to be told.
    fn conclude(&mut self, attempt: &Attempt, settled: &mut Vec<Settled>) -> Vec<Told> {
        let Claimed { envelope, mark, lease } = &attempt.claimed;
        let attempts = mark.attempts.saturating_add(1);
        let mut done = mark.done.clone();
        done.resize(envelope.recipients.len(), false);
        let luck = u64::from(envelope.id.0[15]) << 8 | u64::from(envelope.id.0[14]);
        let due = next_attempt(&attempt.queue_config, attempts, envelope.created, attempt.at, luck);
        let (mut note, mut told) = (Vec::new(), Vec::new());
        let open = (0..done.len()).filter(|index| !done[*index]).collect::<Vec<_>>();
        for (nth, index) in open.into_iter().enumerate() {
            let Some(outcome) = attempt.outcomes.get(nth).or_else(|| attempt.outcomes.last()) else {
                continue;
            };
            let record = Attempted {
                envelope,
                recipient: &envelope.recipients[index],
                attempts,
                site: &attempt.hop.site,
                egress: attempt.egress(),
                peer: attempt.hop.peer.as_ref().map(|(name, address)| (name.as_ref(), *address)),
                tls: attempt.hop.tls.as_deref(),
                at: attempt.at,
                timings: attempt.timings,
            };
            match attempt.manner {
                Manner::Attempt => record.render(outcome, &mut self.lines),
                Manner::AdminBounce => record.render_as(Kind::AdminBounce, outcome, &mut self.lines),
                Manner::Unlogged => {}
            }
            self.count(outcome);
            done[index] = !matches!(outcome, Outcome::Retry(_)) || due.is_none();
            if matches!(outcome, Outcome::Retry(_)) && due.is_none() {
                record.render_expiration(&expired(outcome.response()), &mut self.lines);
                self.metrics.total_messages_fail.inc();
            }
            told.extend(Told::of(attempt, index, outcome, due));
            if attempt.manner != Manner::Unlogged {
                Note::of(attempt.at, &envelope.recipients[index], outcome).encode(&mut note);
            }
        }
        let change = match due {
            Some(due) if done.contains(&false) => Change::Again(Mark { attempts, due, done }),
            _ => Change::Gone { note: Bytes::from(note) },
        };
        settled.push(Settled { envelope: Arc::clone(envelope), lease: *lease, change });
        told
    }
}

/// Keeps a message for recipients that were given up without word to the sender; those that have it do not get it again.
fn reopen(settled: &mut Settled, untold: Mark, failed: &[usize]) {
    let mut done = match &settled.change {
        Change::Again(mark) => mark.done.clone(),
        Change::Gone { .. } => vec![true; settled.envelope.recipients.len()],
    };
    for index in failed {
        done[*index] = false;
    }
    settled.change = Change::Again(Mark { done, ..untold });
}

/// RFC 3463 4.4.7: the message was too old; the last reply tells why it got so old.
fn expired(last: &Response) -> Response {
    Response::internal(551, (5, 4, 7), format!("Next delivery time would be past its max_age; last: {last}"))
}
