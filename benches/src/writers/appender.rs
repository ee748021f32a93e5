//! Appenders: tasks that store a message, wait, and have it deleted a little later without waiting, as kumod does.
//!
//! It owns what is stored and how deletes go together. The contents are static and shared by all appenders, so that handing them
//! out costs nothing and a thousand large bodies need the memory of one. An append that is refused ends its appender.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hdrhistogram::Histogram;
use reports::latency::new_histogram;
use spool::{AppendError, Change, Envelope, Id, Spool, Transaction};

use super::measure::Window;

/// Envelope of a message with one recipient.
const ENVELOPE: &[u8] = &[b'e'; 160];
/// What a delete says: recipient, reply and time.
const NOTE: &[u8] = &[b'd'; 64];
/// Deletes that one appender sends together.
const DELETES_TOGETHER_MAX: usize = 16;
/// Bytes that wait for their deletes in all appenders together; where bodies are large, deletes go more often.
const DEAD_BYTES_MAX: usize = 512 << 20;

/// What every append of a run carries.
#[derive(Debug, Clone, Copy)]
pub struct Mail {
    body: &'static [u8],
}

impl Mail {
    /// A body of so many bytes, never given back.
    pub fn of(body_bytes: u64) -> Self {
        let pattern = (0..=u8::MAX).cycle();
        Self {
            body: pattern.take(usize::try_from(body_bytes).unwrap_or(usize::MAX)).collect::<Vec<u8>>().leak(),
        }
    }

    /// The body.
    pub fn body(&self) -> &'static [u8] {
        self.body
    }

    /// The envelope.
    pub fn envelope(&self) -> &'static [u8] {
        ENVELOPE
    }

    /// What is appended under an id.
    pub fn transaction(&self, id: Id) -> Transaction {
        let envelopes = vec![Envelope { id, body: id, bytes: Bytes::from_static(ENVELOPE) }];
        Transaction { body: Some((id, vec![Bytes::from_static(self.body)])), envelopes }
    }

    /// What ends the message.
    pub fn delete(&self, id: Id) -> Change {
        Change::Delete { id, bytes: Bytes::from_static(NOTE) }
    }

    /// Bytes of what a delete says.
    pub fn note_bytes(&self) -> usize {
        NOTE.len()
    }

    /// Deletes that one of so many writers sends together.
    pub fn deletes_together(&self, writers: usize) -> usize {
        deletes_together(self.body.len(), writers)
    }

    /// Most bytes of bodies alive or not yet deleted, with bodies of so many bytes and so many writers.
    pub fn span_bytes(body_bytes: u64, writers: usize) -> u64 {
        let body_bytes = usize::try_from(body_bytes).unwrap_or(usize::MAX);
        (deletes_together(body_bytes, writers) * writers * body_bytes) as u64
    }
}

fn deletes_together(body_bytes: usize, writers: usize) -> usize {
    (DEAD_BYTES_MAX / (writers * body_bytes).max(1)).clamp(1, DELETES_TOGETHER_MAX)
}

/// Ids of one appender. None is ever used twice in the life of a process.
#[derive(Debug)]
pub struct Ids {
    appender: u64,
    last: u64,
}

impl Ids {
    /// Of an appender that is new.
    pub fn of_new_appender() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { appender: NEXT.fetch_add(1, Ordering::Relaxed), last: 0 }
    }

    /// Another one.
    pub fn fresh(&mut self) -> Id {
        self.last += 1;
        Id((u128::from(self.appender) << 64 | u128::from(self.last)).to_be_bytes())
    }
}

/// Appends until the window closes; returns the latencies of what ended within it.
///
/// # Errors
/// The first refusal of the spool.
pub async fn append_until(
    spool: Spool,
    mail: Mail,
    together: usize,
    window: Window,
) -> Result<Histogram<u64>, AppendError> {
    let mut tally = new_histogram();
    let mut ids = Ids::of_new_appender();
    let mut finished = Vec::with_capacity(together);
    loop {
        let begun = Instant::now();
        if begun >= window.until {
            break;
        }
        let id = ids.fresh();
        let _committed = spool.append(mail.transaction(id)).await?;
        window.note(&mut tally, begun, Instant::now());
        finished.push(mail.delete(id));
        if finished.len() >= together {
            let changes = std::mem::replace(&mut finished, Vec::with_capacity(together));
            drop(spool.enqueue(changes).await?);
        }
    }
    spool.settle(finished).await?;
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_are_deleted_more_often() {
        assert_eq!(Mail::of(1000).deletes_together(1000), 16);
        assert_eq!(Mail::of(100_000).deletes_together(1000), 5);
        assert_eq!(Mail::of(1_000_000).deletes_together(1000), 1);
        assert_eq!(Mail::span_bytes(1_000_000, 1000), 1_000_000_000);
    }

    #[test]
    fn ids_differ_between_appenders() {
        let (mut one, mut other) = (Ids::of_new_appender(), Ids::of_new_appender());
        let mut ids = [one.fresh(), one.fresh(), other.fresh(), other.fresh()];
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
