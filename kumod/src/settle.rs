//! THE DOOR OUT: where a message's attempt becomes a log record and then a deletion, a mark or another try.
//!
//! One thread takes what dispatchers hand in, a batch at a time: it writes the records (write(2)), and only then tells the store.
//! A crash loses nothing; it repeats what was delivered and whose deletion the spool had not written yet. This is the only caller of [`MailStore::settle`].
//! When the log cannot be written the batch waits: mail that left without a record would be a lie to whoever reads the log.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::clock::UnixMs;
use crate::config::QueueConfig;
use crate::envelope::{Mark, Outcome, Response};
use crate::maillog::{Attempted, MailLog, Note};
use crate::metrics::Metrics;
use crate::ports::{Change, Claimed, MailStore, Settled};
use crate::queue::next_attempt;

/// Attempts that may wait for the log. Over it dispatchers wait, which is the right thing: their mail is not settled yet.
const ATTEMPTS_WAITING_MAX: usize = 1024;
/// Attempts in one batch: one write to the log and one to the spool.
const BATCH_MAX: usize = 256;
/// Pause before the log is tried again after an error.
const LOG_RETRY_DELAY: Duration = Duration::from_millis(500);

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
}

/// The next hop of an attempt, for the record.
#[derive(Clone, Debug, Default)]
pub struct Hop {
    /// The site that the ready queue is named for.
    pub site: Arc<str>,
    /// Name and address of the server, where one answered.
    pub peer: Option<(Arc<str>, std::net::SocketAddr)>,
}

/// The way in for dispatchers.
#[derive(Clone, Debug)]
pub struct Settle {
    attempts: mpsc::Sender<Attempt>,
}

impl Settle {
    /// Hands an attempt in. Waits while the log or the spool is behind.
    pub async fn submit(&self, attempt: Attempt) {
        // The receiver lives until every sender is gone, so this only fails when the thread has panicked: the message is
        // still in the spool then, and is delivered again after the restart that follows.
        if self.attempts.send(attempt).await.is_err() {
            tracing::error!("the settling thread is gone; the message will be tried again after a restart");
        }
    }
}

/// The settling thread.
#[derive(Debug)]
pub struct Settling {
    thread: JoinHandle<()>,
}

impl Settling {
    /// Waits until everything handed in is settled. Every [`Settle`] must have been dropped.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the settling thread ended in a panic");
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// The host has no thread to give.
pub fn start(
    store: Arc<dyn MailStore>,
    log: MailLog,
    metrics: Arc<Metrics>,
) -> std::io::Result<(Settle, Settling)> {
    let (attempts, mut waiting) = mpsc::channel(ATTEMPTS_WAITING_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut room = Room { store, log, metrics, lines: Vec::new() };
    let thread = std::thread::Builder::new().name("settle".to_owned()).spawn(move || {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        runtime.block_on(async {
            while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
                room.settle(&mut batch).await;
            }
        });
    })?;
    Ok((Settle { attempts }, Settling { thread }))
}

struct Room {
    store: Arc<dyn MailStore>,
    log: MailLog,
    metrics: Arc<Metrics>,
    /// The lines of one batch; kept for its memory.
    lines: Vec<u8>,
}

impl Room {
    async fn settle(&mut self, batch: &mut Vec<Attempt>) {
        self.lines.clear();
        let settled: Vec<Settled> = batch.drain(..).map(|attempt| self.conclude(attempt)).collect();
        // The log keeps the lines that it could not write, so the tries after the first bring none of their own.
        let mut lines = self.lines.as_slice();
        while let Err(error) = self.log.write_through(lines) {
            lines = &[];
            tracing::error!(%error, "the log cannot be written; deliveries wait for it");
            tokio::time::sleep(LOG_RETRY_DELAY).await;
        }
        let gone = settled.iter().filter(|settled| matches!(settled.change, Change::Gone { .. })).count();
        if let Err(fenced) = self.store.settle(settled).await {
            tracing::error!(%fenced, "settled elsewhere");
        }
        self.metrics.message_count.dec_by(i64::try_from(gone).unwrap_or(0));
    }

    fn count(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered(_) => self.metrics.total_messages_delivered.inc(),
            Outcome::Retry(_) => self.metrics.total_messages_transfail.inc(),
            Outcome::Failed(_) => self.metrics.total_messages_fail.inc(),
        };
    }

    /// Writes the records of one attempt into `lines` and says what becomes of the message.
    fn conclude(&mut self, attempt: Attempt) -> Settled {
        let Claimed { envelope, mark, lease } = &attempt.claimed;
        let attempts = mark.attempts.saturating_add(1);
        let mut done = mark.done.clone();
        done.resize(envelope.recipients.len(), false);
        let luck = u64::from(envelope.id.0[15]) << 8 | u64::from(envelope.id.0[14]);
        let due = next_attempt(&attempt.queue_config, attempts, envelope.created, attempt.at, luck);
        let mut note = Vec::new();
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
                peer: attempt.hop.peer.as_ref().map(|(name, address)| (name.as_ref(), *address)),
                at: attempt.at,
            };
            record.render(outcome, &mut self.lines);
            self.count(outcome);
            done[index] = !matches!(outcome, Outcome::Retry(_)) || due.is_none();
            if matches!(outcome, Outcome::Retry(_)) && due.is_none() {
                record.render_expiration(&expired(outcome.response()), &mut self.lines);
                self.metrics.total_messages_fail.inc();
            }
            Note::of(attempt.at, &envelope.recipients[index], outcome).encode(&mut note);
        }
        let change = match due {
            Some(due) if done.contains(&false) => Change::Again(Mark { attempts, due, done }),
            _ => Change::Gone { note: Bytes::from(note) },
        };
        Settled { envelope: Arc::clone(envelope), lease: *lease, change }
    }
}

/// RFC 3463 4.4.7: the message was too old; the last reply tells why it got so old.
fn expired(last: &Response) -> Response {
    Response::internal(551, (5, 4, 7), format!("Next delivery time would be past its max_age; last: {last}"))
}
