//! Durable appends through the spool itself: its batches, its back end, its syncs.
//!
//! Owns an open spool with spare segments enough that none is made while it is measured. Messages are deleted a little
//! later, as a mail server does, so that segments are used again.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reports::latency::{new_histogram, record_ns, summary};
use reports::run::Latency;
use serde::Serialize;
use spool::{Change, Envelope, Id, Options, Spool, Transaction};
use tokio::runtime::Runtime;

use super::{MeasureError, WRITERS, processor};

/// Size of a segment, bytes; small, so that a measurement needs some hundred megabytes.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Deletes that one writer sends together.
const DELETES_TOGETHER: usize = 4;
/// Envelope of a message with one recipient.
const ENVELOPE: &[u8] = &[b'e'; 160];
/// What a delete says.
const NOTE: &[u8] = &[b'd'; 64];

/// One point of the batch curve.
#[derive(Debug, Clone, Serialize)]
pub struct DiskPoint {
    /// Size of each message.
    pub body_bytes: usize,
    /// Appends under way at the same time.
    pub writers: usize,
    /// Durable appends each second.
    pub per_s: f64,
    /// Bytes of bodies each second.
    pub bytes_per_s: f64,
    /// From the append to its acknowledgement, microseconds.
    pub latency_us: Latency,
    /// Messages in one write.
    pub batch: f64,
    /// Processor time of the process for each append, microseconds.
    pub processor_us: f64,
    /// How the spool wrote: `uring` or `threads`.
    pub backend: &'static str,
}

pub(super) struct Probe {
    spool: Spool,
    runtime: Runtime,
    body: Bytes,
}

impl Probe {
    pub(super) fn open(directory: &Path, body_bytes: usize) -> Result<Self, MeasureError> {
        let mut options = Options::new(directory);
        let most = WRITERS.iter().max().copied().unwrap_or(1);
        let alive_bytes = (most * DELETES_TOGETHER * body_bytes) as u64;
        options.segment_bytes = SEGMENT_BYTES;
        // The spool makes new segments when half of the spares are in use.
        options.segments_spare =
            u32::try_from(2 * (alive_bytes.div_ceil(SEGMENT_BYTES) + 4)).unwrap_or(u32::MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| MeasureError::Spool(error.to_string()))?;
        let (spool, _) = Spool::open(options).map_err(|error| MeasureError::Spool(error.to_string()))?;
        Ok(Self { spool, runtime, body: Bytes::from(vec![b'b'; body_bytes]) })
    }

    pub(super) fn run(&self, writers: usize, length: Duration) -> Result<DiskPoint, MeasureError> {
        let before = self.spool.stats();
        let (begun, processor) = (Instant::now(), processor::time());
        let tallies = self.runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|writer| {
                    tokio::spawn(append_until(self.spool.clone(), self.body.clone(), writer, begun + length))
                })
                .collect();
            let mut tallies = Vec::new();
            for task in tasks {
                let tally = task.await.map_err(|error| MeasureError::Spool(error.to_string()))?;
                tallies.push(tally.map_err(|error| MeasureError::Spool(error.to_string()))?);
            }
            Ok::<_, MeasureError>(tallies)
        })?;
        let (elapsed, processor) = (begun.elapsed().as_secs_f64(), processor::time() - processor);
        let mut latencies = new_histogram();
        for tally in tallies {
            // All have the range of new_histogram, so nothing can be out of it.
            latencies.add(tally).expect("both histograms have the same range");
        }
        let after = self.spool.stats();
        let appends = latencies.len() as f64;
        let per_s = appends / elapsed;
        Ok(DiskPoint {
            body_bytes: self.body.len(),
            writers,
            per_s,
            bytes_per_s: per_s * self.body.len() as f64,
            latency_us: summary(&latencies),
            batch: (after.appends - before.appends) as f64 / (after.batches - before.batches).max(1) as f64,
            processor_us: processor.as_secs_f64() * 1e6 / appends.max(1.0),
            backend: after.backend,
        })
    }

    pub(super) fn close(self) -> Result<(), MeasureError> {
        self.spool.close().map_err(|error| MeasureError::Spool(error.to_string()))
    }
}

/// Appends one after the other; returns how long each took.
async fn append_until(
    spool: Spool,
    body: Bytes,
    writer: usize,
    until: Instant,
) -> Result<hdrhistogram::Histogram<u64>, spool::AppendError> {
    let mut tally = new_histogram();
    let mut finished = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let id = fresh_id(writer);
        let envelopes = vec![Envelope { id, body: id, bytes: Bytes::from_static(ENVELOPE) }];
        let _committed =
            spool.append(Transaction { body: Some((id, vec![body.clone()])), envelopes }).await?;
        record_ns(&mut tally, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        finished.push(Change::Delete { id, bytes: Bytes::from_static(NOTE) });
        if finished.len() >= DELETES_TOGETHER {
            drop(spool.enqueue(std::mem::take(&mut finished)).await?);
        }
    }
    spool.settle(finished).await?;
    Ok(tally)
}

/// No id is used twice in the life of a process.
fn fresh_id(writer: usize) -> Id {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Id(((writer as u128) << 64 | u128::from(number)).to_be_bytes())
}
