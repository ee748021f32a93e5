//! The floor's durable log: aligned messages go in, and come back when they are on stable storage.
//!
//! It owns the file, two writer threads and the order in which batches are released. A batch is whatever gathered while
//! the writers were busy (group commit), and it leaves as one `pwritev2` with `RWF_DSYNC` on an `O_DIRECT` file whose
//! extents have all been written before. It refuses to release a batch before all earlier ones, as a log must. A failed
//! write ends the program.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::EventfdFlags;
use rustix::io::ReadWriteFlags;

use super::wire::{COMMAND_BYTES_MAX, MESSAGES_IN_RELAY_MAX};
use crate::direct::{ALIGN_BYTES, aligned, open_written};
use crate::error::{During, Error, Result};

/// Batches being written at the same time.
const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// A batch takes no further message once it holds this many bytes.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The log is a ring of this many bytes, so that every write lands on extents written before.
pub const LOG_BYTES: u64 = 512 * 1024 * 1024;
/// Length, checksum and sequence number in front of each message.
const HEADER_BYTES: usize = 16;
/// Up to here a message is copied into the batch; above, the kernel gathers it from where it was received.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// Room for one message, aligned for the disk; the same memory receives it, stores it and delivers it.
pub(super) struct Slot {
    memory: &'static mut [u8],
    /// Bytes received so far.
    pub(super) filled: usize,
    /// Bytes of the whole message, 0 while unknown.
    pub(super) frame: usize,
    /// The connection that waits for the 250.
    pub(super) inbound: usize,
}

impl Slot {
    /// The message as received; deliver it from here.
    pub(super) fn message(&self) -> &[u8] {
        &self.memory[HEADER_BYTES..HEADER_BYTES + self.filled]
    }

    /// Where the next bytes from the socket go.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.memory[HEADER_BYTES + self.filled..]
    }

    /// Forgets the message.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
        self.frame = 0;
    }

    /// Bytes that the record takes on disk.
    fn record_bytes(&self) -> usize {
        (HEADER_BYTES + self.filled).next_multiple_of(if self.is_copied() { 8 } else { ALIGN_BYTES })
    }

    fn is_copied(&self) -> bool {
        self.filled <= COPY_BYTES_MAX
    }

    fn seal(&mut self, sequence: u64) {
        let checksum = crc32c::crc32c(self.message());
        // A frame is bounded by the slot, which is far below 4 GiB.
        let length = u32::try_from(self.filled).unwrap_or(u32::MAX);
        self.memory[..4].copy_from_slice(&length.to_le_bytes());
        self.memory[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.memory[8..HEADER_BYTES].copy_from_slice(&sequence.to_le_bytes());
    }
}

/// All the slots of a relay for bodies of at most `body_bytes`, cut from one allocation that lives as long as the
/// program.
pub(super) fn slots(body_bytes: usize) -> Vec<Slot> {
    let slot_bytes = (HEADER_BYTES + COMMAND_BYTES_MAX + body_bytes).next_multiple_of(ALIGN_BYTES);
    let memory = aligned(slot_bytes * MESSAGES_IN_RELAY_MAX);
    memory
        .chunks_exact_mut(slot_bytes)
        .map(|memory| Slot { memory, filled: 0, frame: 0, inbound: 0 })
        .collect()
}

struct Batch {
    number: u64,
    sequence: u64,
    offset: u64,
    slots: Vec<Slot>,
}

struct Finished {
    writer: usize,
    batch: Batch,
    result: Result<u64>,
}

/// What the log did over its life.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Durable writes.
    pub(super) barriers: u64,
    /// Bytes written, padding included.
    pub(super) bytes: u64,
}

/// The log. Messages are given with `push`, written by `dispatch`, and come back in order from `collect`.
pub(super) struct Disk {
    pending: Vec<Slot>,
    idle: Vec<usize>,
    writers: Vec<SyncSender<Batch>>,
    finished: Receiver<Finished>,
    wake: Arc<OwnedFd>,
    held: Vec<Batch>,
    spare: Vec<Vec<Slot>>,
    next_number: u64,
    next_release: u64,
    next_sequence: u64,
    cursor: u64,
    counts: Counts,
}

impl Disk {
    /// Opens `path`, writes it through if it is not a full ring yet, and starts the writers.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = Arc::new(open_written(path, LOG_BYTES)?);
        let wake = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC);
        let wake = Arc::new(wake.during(|| "floor: eventfd".into())?);
        let (finished_sender, finished) = sync_channel(BATCHES_IN_FLIGHT_MAX);
        let mut writers = Vec::new();
        for writer in 0..BATCHES_IN_FLIGHT_MAX {
            let (sender, batches) = sync_channel(1);
            let (file, wake, finished) = (file.clone(), wake.clone(), finished_sender.clone());
            let name = format!("floor-writer-{writer}");
            let body = move || write_batches(writer, &file, &wake, &batches, &finished);
            std::thread::Builder::new().name(name).spawn(body).during(|| "floor: start a writer".into())?;
            writers.push(sender);
        }
        Ok(Self {
            pending: Vec::with_capacity(MESSAGES_IN_RELAY_MAX),
            idle: (0..BATCHES_IN_FLIGHT_MAX).collect(),
            writers,
            finished,
            wake,
            held: Vec::new(),
            spare: Vec::new(),
            next_number: 0,
            next_release: 0,
            next_sequence: 0,
            cursor: 0,
            counts: Counts::default(),
        })
    }

    /// Readable when `collect` has something to do.
    pub(super) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Queues a complete message.
    pub(super) fn push(&mut self, slot: Slot) {
        self.pending.push(slot);
    }

    /// Hands what has gathered to idle writers. Call it once per round of events, so that batches grow with load.
    pub(super) fn dispatch(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            let Some(writer) = self.idle.pop() else {
                return Ok(());
            };
            let batch = self.next_batch();
            if self.writers[writer].send(batch).is_err() {
                return Err(Error::Peer(format!("floor: writer {writer} is gone")));
            }
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Batch {
        let mut bytes = 0;
        let fits = |slot: &&Slot| {
            let take = bytes < BATCH_BYTES_MAX;
            bytes += slot.record_bytes();
            take
        };
        let count = self.pending.iter().take_while(fits).count();
        let mut slots = self.spare.pop().unwrap_or_default();
        slots.extend(self.pending.drain(..count));
        let bytes: usize = slots.iter().map(Slot::record_bytes).sum();
        let bytes = bytes.next_multiple_of(ALIGN_BYTES) as u64;
        if self.cursor + bytes > LOG_BYTES {
            self.cursor = 0;
        }
        let batch =
            Batch { number: self.next_number, sequence: self.next_sequence, offset: self.cursor, slots };
        self.cursor += bytes;
        self.next_number += 1;
        self.next_sequence += count as u64;
        batch
    }

    /// Appends to `durable` every message that is now on stable storage, in the order of the log.
    pub(super) fn collect(&mut self, durable: &mut Vec<Slot>) -> Result<()> {
        // The count in the eventfd is of no interest; reading it re-arms the edge.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        while let Ok(finished) = self.finished.try_recv() {
            self.idle.push(finished.writer);
            self.counts.bytes += finished.result?;
            self.counts.barriers += 1;
            self.held.push(finished.batch);
        }
        while let Some(at) = self.held.iter().position(|batch| batch.number == self.next_release) {
            let mut batch = self.held.swap_remove(at);
            durable.append(&mut batch.slots);
            self.spare.push(batch.slots);
            self.next_release += 1;
        }
        Ok(())
    }
}

fn write_batches(
    writer: usize,
    file: &File,
    wake: &OwnedFd,
    batches: &Receiver<Batch>,
    finished: &SyncSender<Finished>,
) {
    let staging = aligned(MESSAGES_IN_RELAY_MAX * (COPY_BYTES_MAX + HEADER_BYTES + 8) + ALIGN_BYTES);
    while let Ok(mut batch) = batches.recv() {
        for (slot, sequence) in batch.slots.iter_mut().zip(batch.sequence..) {
            slot.seal(sequence);
        }
        let result = write_batch(file, &batch, staging);
        if finished.send(Finished { writer, batch, result }).is_err() {
            return;
        }
        let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
    }
}

/// Writes one batch durably; returns the bytes written.
fn write_batch(file: &File, batch: &Batch, staging: &mut [u8]) -> Result<u64> {
    let copied = batch.slots.iter().all(Slot::is_copied);
    let staged = if copied { stage(&batch.slots, staging) } else { 0 };
    let slices: Vec<IoSlice<'_>> = if copied {
        vec![IoSlice::new(&staging[..staged])]
    } else {
        let aligned = |slot: &Slot| (HEADER_BYTES + slot.filled).next_multiple_of(ALIGN_BYTES);
        batch.slots.iter().map(|slot| IoSlice::new(&slot.memory[..aligned(slot)])).collect()
    };
    let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
    let written = rustix::io::pwritev2(file, &slices, batch.offset, ReadWriteFlags::DSYNC)
        .during(|| format!("floor: write {bytes} bytes at {}", batch.offset))?;
    if written != bytes {
        return Err(Error::Peer(format!("floor: the disk took {written} of {bytes} bytes")));
    }
    Ok(bytes as u64)
}

/// Packs small messages one behind the other; returns the padded length.
fn stage(slots: &[Slot], staging: &mut [u8]) -> usize {
    let mut at = 0;
    for slot in slots {
        let record = HEADER_BYTES + slot.filled;
        staging[at..at + record].copy_from_slice(&slot.memory[..record]);
        at += slot.record_bytes();
    }
    at.next_multiple_of(ALIGN_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn slots_are_aligned_and_bounded() {
        let slots = slots(1000);
        assert_eq!(slots.len(), MESSAGES_IN_RELAY_MAX);
        for slot in &slots {
            assert_eq!(slot.memory.as_ptr().align_offset(ALIGN_BYTES), 0);
            assert!(slot.memory.len() >= 1000 + COMMAND_BYTES_MAX);
        }
    }

    #[test]
    fn small_records_are_packed_and_the_batch_is_padded() {
        let mut all = slots(1000);
        for (sequence, slot) in (7_u64..).zip(all.iter_mut().take(3)) {
            slot.room()[..5].copy_from_slice(b"hello");
            slot.filled = 5;
            slot.seal(sequence);
        }
        let mut staging = vec![0; 3 * ALIGN_BYTES];
        assert_eq!(stage(&all[..3], &mut staging), ALIGN_BYTES);
        assert_eq!(&staging[HEADER_BYTES..HEADER_BYTES + 5], b"hello");
        assert_eq!(staging[8], 7);
        assert_eq!(staging[24 + 8], 8);
        assert_eq!(u32::from_le_bytes(staging[4..8].try_into().unwrap()), crc32c::crc32c(b"hello"));
    }
}
