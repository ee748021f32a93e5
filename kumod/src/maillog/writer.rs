//! Brings log lines into files, in the order in which they were noted.
//!
//! Lines gather in one buffer; a thread of its own, or whoever cannot wait, brings them into the current [`Segment`]. A write
//! that fails (a full disk) is reported, counted and tried again from the very byte where it stopped, so that no line is torn
//! or written twice. While it keeps failing, [`MailLog::note`] fills the buffer to its limit and then drops and counts; lines of
//! [`MailLog::write_through`] are never dropped, because mail is only deleted after them.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;

use super::record::Record;
use super::segment::{Segment, settle_leftovers};
use crate::metrics::Sample;

/// Pause of the log's own thread after a write that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Limits of the log.
#[derive(Clone, Debug)]
pub struct LogLimits {
    /// Bytes of one file; then the next is begun. A single batch of lines is never split, so a file may be longer by one batch.
    pub segment_bytes_max: u64,
    /// Age at which a file is finished even if it is short.
    pub segment_age_max: Option<Duration>,
    /// Bytes of lines that may wait in memory.
    pub buffer_bytes_max: usize,
    /// How long a line may wait in memory.
    pub flush_delay_max: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            segment_bytes_max: 1_000_000_000,
            segment_age_max: None,
            buffer_bytes_max: 4 << 20,
            flush_delay_max: Duration::from_millis(200),
        }
    }
}

/// The log folder cannot be used: the operator's to mend.
#[derive(Debug, Error)]
#[error("log folder {}: {source}; make it writable for the user that kumod runs as, or name another", .dir.display())]
pub struct LogError {
    dir: PathBuf,
    source: io::Error,
}

/// The log of one process; a handle that is cheap to copy.
#[derive(Clone, Debug)]
pub struct MailLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: LogLimits,
    /// What was noted and not yet taken. The only lock that those who note ever wait for.
    buffer: Mutex<Buffer>,
    /// Tells the thread that the buffer is no longer empty, is half full, or that the log closes.
    wake: Condvar,
    /// Taken before `buffer` where both are needed.
    file: Mutex<Pen>,
    thread: Mutex<Option<JoinHandle<()>>>,
    write_errors: AtomicU64,
    records_dropped: AtomicU64,
    bytes_written: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    closing: bool,
}

/// The current file and the lines on their way into it.
#[derive(Debug)]
struct Pen {
    dir: PathBuf,
    segment: Option<Segment>,
    pending: Vec<u8>,
    /// Bytes of `pending` that are in the file already.
    written: usize,
    failing: bool,
}

thread_local! {
    /// Memory in which a record is written before the buffer is locked.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl MailLog {
    /// Opens the log: makes the folder where it is missing, finishes files that an earlier process left open, begins a new one.
    ///
    /// # Errors
    /// The folder cannot be made or written to, or the host has no thread to give.
    pub fn open(dir: &Path, limits: LogLimits) -> Result<Self, LogError> {
        let refuse = |source| LogError { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(refuse)?;
        settle_leftovers(dir).map_err(refuse)?;
        let segment = Segment::create(dir).map_err(refuse)?;
        let log = Self::with_pen(Pen::new(dir, segment), limits);
        let shared = Arc::clone(&log.shared);
        let thread = std::thread::Builder::new()
            .name("mail-log".to_owned())
            .spawn(move || shared.run())
            .map_err(refuse)?;
        *lock(&log.shared.thread) = Some(thread);
        Ok(log)
    }

    fn with_pen(pen: Pen, limits: LogLimits) -> Self {
        let shared = Shared {
            limits,
            buffer: Mutex::default(),
            wake: Condvar::new(),
            file: Mutex::new(pen),
            thread: Mutex::new(None),
            write_errors: AtomicU64::new(0),
            records_dropped: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts a record into the buffer; it reaches the file within `flush_delay_max`, when the buffer is full, or with the next
    /// [`write_through`](Self::write_through). Dropped and counted when the buffer is full and the disk takes nothing.
    pub fn note<'r>(&self, record: impl Into<Record<'r>>) {
        let record = record.into();
        LINE.with_borrow_mut(|line| {
            line.clear();
            record.render(line);
            if !self.shared.append(line) {
                // Full: whoever comes first writes. It fails only when the disk does.
                let _ = self.shared.drain();
                if !self.shared.append(line) {
                    self.shared.records_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// Appends `lines` (each ended by its line feed) and brings everything noted until now into the file, in order (write(2),
    /// not synced). Blocks for the time of one write.
    ///
    /// # Errors
    /// The file could not be written. The lines are kept and stay in their place; call again **with no lines** to try again.
    pub fn write_through(&self, lines: &[u8]) -> io::Result<()> {
        lock(&self.shared.buffer).lines.extend_from_slice(lines);
        self.shared.drain()
    }

    /// Brings everything noted until now into the file. An error is counted and reported, and the lines are kept.
    pub fn flush(&self) {
        // What went wrong has been reported where it happened.
        let _ = self.shared.drain();
    }

    /// Writes what is left and finishes the current file. To be called when nothing is noted any more.
    pub fn close(&self) {
        lock(&self.shared.buffer).closing = true;
        self.shared.wake.notify_all();
        let thread = lock(&self.shared.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the mail log ended in a panic");
        }
        self.flush();
        lock(&self.shared.file).finish();
    }

    /// Counters of the log, for [`Metrics::register_source`](crate::metrics::Metrics::register_source).
    pub fn samples(&self) -> Vec<Sample> {
        let Shared { write_errors, records_dropped, bytes_written, .. } = &*self.shared;
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        vec![
            Sample::counter(
                "log_write_errors_total",
                "Writes to the mail log that failed",
                read(write_errors),
            ),
            Sample::counter(
                "log_records_dropped_total",
                "Records lost because the mail log could not be written for long",
                read(records_dropped),
            ),
            Sample::counter("log_bytes_written_total", "Bytes written to the mail log", read(bytes_written)),
        ]
    }
}

impl Shared {
    /// Puts a line into the buffer; `false` when there is no room.
    fn append(&self, line: &[u8]) -> bool {
        let mut buffer = lock(&self.buffer);
        let before = buffer.lines.len();
        if before > 0 && before + line.len() > self.limits.buffer_bytes_max {
            return false;
        }
        buffer.lines.extend_from_slice(line);
        let wake = before == 0 || (before < self.half_full() && buffer.lines.len() >= self.half_full());
        drop(buffer);
        if wake {
            self.wake.notify_one();
        }
        true
    }

    fn half_full(&self) -> usize {
        self.limits.buffer_bytes_max / 2
    }

    /// Brings what is left from an earlier failure, and then the buffer, into the file.
    fn drain(&self) -> io::Result<()> {
        let mut pen = lock(&self.file);
        let written = self.drain_into(&mut pen);
        match &written {
            Ok(()) if pen.failing => {
                pen.failing = false;
                let dropped = self.records_dropped.load(Ordering::Relaxed);
                tracing::info!(dropped, "the mail log can be written again");
            }
            Err(error) => {
                self.write_errors.fetch_add(1, Ordering::Relaxed);
                if !pen.failing {
                    pen.failing = true;
                    tracing::error!(%error, dir = %pen.dir.display(), "the mail log cannot be written; it is tried again and again");
                }
            }
            Ok(()) => {}
        }
        written
    }

    fn drain_into(&self, pen: &mut Pen) -> io::Result<()> {
        self.write_pending(pen)?;
        std::mem::swap(&mut lock(&self.buffer).lines, &mut pen.pending);
        self.write_pending(pen)?;
        if pen.segment.as_ref().is_some_and(|segment| segment.is_over(0, &self.limits)) {
            pen.finish();
        }
        Ok(())
    }

    fn write_pending(&self, pen: &mut Pen) -> io::Result<()> {
        let before = pen.written;
        let result = pen.write_pending(&self.limits);
        self.bytes_written.fetch_add((pen.written - before) as u64, Ordering::Relaxed);
        if result.is_ok() {
            pen.pending.clear();
            pen.written = 0;
        }
        result
    }

    /// The log's own thread: nothing waits in the buffer for longer than it may.
    fn run(&self) {
        loop {
            let buffer =
                self.wait(lock(&self.buffer), self.limits.segment_age_max, |buffer| buffer.lines.is_empty());
            let full = self.half_full();
            let some = !buffer.lines.is_empty();
            let delay = Some(self.limits.flush_delay_max).filter(|_| some).or(Some(Duration::ZERO));
            let buffer = self.wait(buffer, delay, |buffer| buffer.lines.len() < full);
            if buffer.closing {
                return;
            }
            drop(buffer);
            while self.drain().is_err() {
                if self.wait(lock(&self.buffer), Some(RETRY_DELAY), |_| true).closing {
                    return;
                }
            }
        }
    }

    /// Waits while `idle` says so, at most for `time` if there is one; ends at once when the log closes.
    fn wait<'b>(
        &self,
        buffer: MutexGuard<'b, Buffer>,
        time: Option<Duration>,
        idle: impl Fn(&Buffer) -> bool,
    ) -> MutexGuard<'b, Buffer> {
        let go_on = |buffer: &mut Buffer| !buffer.closing && idle(buffer);
        match time {
            Some(time) => {
                self.wake.wait_timeout_while(buffer, time, go_on).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.wake.wait_while(buffer, go_on).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Pen {
    fn new(dir: &Path, segment: Segment) -> Self {
        Self { dir: dir.to_owned(), segment: Some(segment), pending: Vec::new(), written: 0, failing: false }
    }

    /// Writes `pending` from where it stopped. A new file is only begun between batches, so that no line spans two.
    fn write_pending(&mut self, limits: &LogLimits) -> io::Result<()> {
        if self.pending.len() == self.written {
            return Ok(());
        }
        let length = self.pending.len() as u64;
        if self.written == 0 && self.segment.as_ref().is_some_and(|segment| segment.is_over(length, limits)) {
            self.finish();
        }
        let segment = match &mut self.segment {
            Some(segment) => segment,
            none => none.insert(Segment::create(&self.dir)?),
        };
        while self.written < self.pending.len() {
            match segment.write(&self.pending[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        if let Some(segment) = self.segment.take() {
            segment.finish();
        }
    }
}

/// A panic elsewhere leaves bytes and counters as they were between two statements, which is a state to go on from.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
