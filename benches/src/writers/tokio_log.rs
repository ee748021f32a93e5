//! A plain log over tokio's files: one task drains a bounded channel, writes what has gathered, syncs, and acknowledges.
//!
//! It owns a ring file whose extents were all written before. It does what a careful author would write in an afternoon: group
//! commit, whole blocks, checksums made by the callers; recovery, reclaim and a second batch in flight it does not have. The first
//! failed call ends it, and with it every append.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use reports::latency::new_histogram;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::appender::Mail;
use super::measure::{Edge, Load, Outcome, Stage, Way, Window, merged};
use crate::direct::{ALIGN_BYTES, open_written};
use crate::error::{During, Error, Result};

/// Length of the ring.
pub(super) const RING_BYTES: u64 = 512 << 20;
/// Records that wait; callers beyond it wait for room. As the spool's own.
const QUEUE_MAX: usize = 16_384;
/// Records and bytes in one batch, as the spool's own.
const BATCH_RECORDS_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Length, checksum and id of a record; as many bytes as the spool's own.
const HEADER_BYTES: usize = 64;

pub(super) struct TokioLog {
    ring: Arc<Path>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    batches: AtomicU64,
    appends: AtomicU64,
}

enum Record {
    Message { mail: Mail, checksum: u32, stored: oneshot::Sender<()> },
    Deletes { mail: Mail, count: usize },
}

impl TokioLog {
    pub(super) fn new(path: &Path) -> Result<Self> {
        drop(open_written(path, RING_BYTES)?);
        Ok(Self { ring: path.into(), counts: Arc::default() })
    }
}

impl Way for TokioLog {
    fn run(&mut self, load: &Load, stage: &Stage<'_>) -> Result<Outcome> {
        let window = stage.window();
        let (sender, records) = mpsc::channel(QUEUE_MAX);
        let log = stage.runtime.spawn(keep(Arc::clone(&self.ring), records, Arc::clone(&self.counts)));
        let together = load.mail.deletes_together(load.writers);
        let appender = || append_until(sender.clone(), load.mail, together, window);
        let tasks: Vec<_> = (0..load.writers).map(|_| stage.runtime.spawn(appender())).collect();
        drop(sender);
        let edges = stage.watch(window, || Edge {
            batches: self.counts.batches.load(Ordering::Relaxed),
            batched: self.counts.appends.load(Ordering::Relaxed),
            ..Edge::of_process()
        });
        stage.runtime.block_on(async {
            let mut tallies = Vec::with_capacity(tasks.len());
            for task in tasks {
                tallies.push(task.await.map_err(|error| Error::Peer(error.to_string()))?);
            }
            log.await.map_err(|error| Error::Peer(error.to_string()))??;
            Ok(Outcome { latencies: merged(tallies), length: stage.length, edges })
        })
    }
}

/// Appends until the window closes or the log has ended, which says itself why.
async fn append_until(
    log: mpsc::Sender<Record>,
    mail: Mail,
    together: usize,
    window: Window,
) -> Histogram<u64> {
    let mut tally = new_histogram();
    let mut count = 0;
    loop {
        let begun = Instant::now();
        if begun >= window.until {
            return tally;
        }
        let checksum = crc32c::crc32c(mail.body());
        let (stored, durable) = oneshot::channel();
        let taken = log.send(Record::Message { mail, checksum, stored }).await.is_ok();
        if !taken || durable.await.is_err() {
            return tally;
        }
        window.note(&mut tally, begun, Instant::now());
        count += 1;
        if count == together {
            count = 0;
            // A log that has ended refuses the next append as well.
            let _ = log.send(Record::Deletes { mail, count: together }).await;
        }
    }
}

async fn keep(path: Arc<Path>, mut records: mpsc::Receiver<Record>, counts: Arc<Counts>) -> Result<()> {
    let mut ring = Ring::open(&path, counts).await.during(|| format!("open {}", path.display()))?;
    let mut gathered = Vec::with_capacity(BATCH_RECORDS_MAX);
    while records.recv_many(&mut gathered, BATCH_RECORDS_MAX).await > 0 {
        let mut rest = gathered.drain(..).peekable();
        while rest.peek().is_some() {
            while let Some(record) = rest.next_if(|_| ring.batch.len() < BATCH_BYTES_MAX) {
                ring.waiting.extend(record.write_to(&mut ring.batch));
            }
            ring.commit().await.during(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

struct Ring {
    file: File,
    offset: u64,
    batch: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
    counts: Arc<Counts>,
}

impl Ring {
    async fn open(path: &Path, counts: Arc<Counts>) -> io::Result<Self> {
        let mut file = File::options().write(true).open(path).await?;
        // The default would cut each batch into pieces and wait for a thread with each.
        file.set_max_buf_size(2 * BATCH_BYTES_MAX);
        let batch = Vec::with_capacity(2 * BATCH_BYTES_MAX);
        Ok(Self { file, offset: 0, batch, waiting: Vec::with_capacity(BATCH_RECORDS_MAX), counts })
    }

    /// Makes the batch durable and wakes everybody who waits for it.
    async fn commit(&mut self) -> io::Result<()> {
        // Whole blocks spare the kernel from reading what it would have to keep.
        self.batch.resize(self.batch.len().next_multiple_of(ALIGN_BYTES), 0);
        if self.offset + self.batch.len() as u64 > RING_BYTES {
            self.offset = self.file.seek(SeekFrom::Start(0)).await?;
        }
        self.file.write_all(&self.batch).await?;
        self.file.sync_data().await?;
        self.offset += self.batch.len() as u64;
        self.batch.clear();
        self.counts.batches.fetch_add(1, Ordering::Relaxed);
        self.counts.appends.fetch_add(self.waiting.len() as u64, Ordering::Relaxed);
        for stored in self.waiting.drain(..) {
            // An appender that no longer waits needs no answer.
            let _ = stored.send(());
        }
        Ok(())
    }
}

impl Record {
    /// The one who waits for it, if anybody does.
    fn write_to(self, batch: &mut Vec<u8>) -> Option<oneshot::Sender<()>> {
        match self {
            Self::Message { mail, checksum, stored } => {
                put(batch, mail.envelope(), 0);
                put(batch, mail.body(), checksum);
                Some(stored)
            }
            Self::Deletes { mail, count } => {
                for _ in 0..count {
                    put(batch, &mail.envelope()[..mail.note_bytes()], 0);
                }
                None
            }
        }
    }
}

fn put(batch: &mut Vec<u8>, payload: &[u8], checksum: u32) {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    batch.extend_from_slice(&header);
    batch.extend_from_slice(payload);
    batch.resize(batch.len().next_multiple_of(8), 0);
}
