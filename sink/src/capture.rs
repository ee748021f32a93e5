//! Mail written to files as it comes in: a maildir, or one `.eml` file per message.
//!
//! A thread of its own writes; mail passes on without waiting for it. What the disk is too slow for, what comes
//! after the limit of bytes, and what cannot be written is counted as not captured, and the first of each is
//! told on standard error. At the limit capturing ends: nothing that was written is ever removed. File names are
//! made of the time and a number, so no peer has a say in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Messages that wait for the disk.
const QUEUE_MESSAGES_MAX: usize = 4096;

/// Memory of the messages that wait for the disk or are just arriving, in bytes.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How captured mail is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureFormat {
    /// Folders `tmp`, `new` and `cur`, as mail readers expect them.
    #[default]
    Maildir,
    /// A file `*.eml` for each message.
    Eml,
}

/// What is captured, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// The folder, made where there is none.
    pub folder: PathBuf,
    /// The layout.
    pub format: CaptureFormat,
    /// Bytes that are written before capturing ends; what lies in the folder already does not count.
    pub bytes_max: u64,
}

/// What capturing has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaptureStats {
    /// Messages in files.
    pub captured: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Messages accepted and not captured.
    pub not_captured: u64,
    /// Whether the limit of bytes has been reached.
    pub ended: bool,
}

/// Takes messages and hands them to the thread that writes.
#[derive(Debug)]
pub(crate) struct Capture {
    queue: SyncSender<Order>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    captured: AtomicU64,
    bytes: AtomicU64,
    not_captured: AtomicU64,
    ended: AtomicBool,
    queued_bytes: AtomicUsize,
}

enum Order {
    Write(Captured),
    /// Everything before this has been written when the thread ends.
    End,
}

/// One message on its way to a file.
#[derive(Debug)]
pub(crate) struct Captured {
    /// Lines that say who it was from and for.
    pub(crate) envelope: String,
    /// Header and body as they came.
    pub(crate) raw: Vec<u8>,
    /// Given back when the message is written.
    pub(crate) _room: Room,
}

/// Memory that a message may take; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    counts: Arc<Counts>,
    bytes: usize,
}

impl Room {
    /// Asks for more.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.counts.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > QUEUE_BYTES_MAX {
            self.counts.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.counts.queued_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Capture {
    /// Makes the folders and starts the thread. The handle ends after [`Capture::end`].
    pub(crate) fn start(config: &CaptureConfig, hostname: &str) -> io::Result<(Self, JoinHandle<()>)> {
        let folders: &[&str] = match config.format {
            CaptureFormat::Maildir => &["tmp", "new", "cur"],
            CaptureFormat::Eml => &[""],
        };
        for folder in folders {
            fs::create_dir_all(config.folder.join(folder))?;
        }
        let counts = Arc::new(Counts::default());
        let (queue, orders) = sync_channel(QUEUE_MESSAGES_MAX);
        let writer = Writer {
            folder: config.folder.clone(),
            format: config.format,
            bytes_max: config.bytes_max,
            names: Names::new(hostname),
            counts: Arc::clone(&counts),
            failed: false,
        };
        let thread =
            thread::Builder::new().name("sink-capture".to_owned()).spawn(move || writer.run(&orders))?;
        Ok((Self { queue, counts }, thread))
    }

    /// Room for a message that begins; none once capturing has ended.
    pub(crate) fn room(&self) -> Option<Room> {
        let open = !self.counts.ended.load(Ordering::Relaxed);
        open.then(|| Room { counts: Arc::clone(&self.counts), bytes: 0 })
    }

    /// Takes a message that has arrived in full. Never waits.
    pub(crate) fn take(&self, captured: Captured) {
        if self.queue.try_send(Order::Write(captured)).is_err() {
            self.miss();
        }
    }

    /// A message was accepted that there was no room for.
    pub(crate) fn miss(&self) {
        if self.counts.not_captured.fetch_add(1, Ordering::Relaxed) == 0 {
            eprintln!("some mail is not captured: see capture.not_captured in /stats");
        }
    }

    pub(crate) fn stats(&self) -> CaptureStats {
        CaptureStats {
            captured: self.counts.captured.load(Ordering::Relaxed),
            bytes: self.counts.bytes.load(Ordering::Relaxed),
            not_captured: self.counts.not_captured.load(Ordering::Relaxed),
            ended: self.counts.ended.load(Ordering::Relaxed),
        }
    }

    /// Lets the thread end when it has written what waits.
    pub(crate) fn end(&self) {
        // A thread that has gone needs no telling.
        let _ = self.queue.send(Order::End);
    }
}

/// The thread's side.
struct Writer {
    folder: PathBuf,
    format: CaptureFormat,
    bytes_max: u64,
    names: Names,
    counts: Arc<Counts>,
    /// The first failure has been told.
    failed: bool,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(Order::Write(captured)) = orders.recv() {
            self.write(&captured);
        }
    }

    fn write(&mut self, captured: &Captured) {
        let bytes = (captured.envelope.len() + captured.raw.len()) as u64;
        let written = self.counts.bytes.load(Ordering::Relaxed);
        if written.saturating_add(bytes) > self.bytes_max {
            if !self.counts.ended.swap(true, Ordering::Relaxed) {
                eprintln!(
                    "capturing ends: {written} bytes written, and the next message would pass the limit"
                );
            }
            self.counts.not_captured.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.write_file(captured) {
            Ok(()) => {
                self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.counts.captured.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                self.counts.not_captured.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failed, true) {
                    eprintln!("cannot write mail to {}: {error}; it is not captured", self.folder.display());
                }
            }
        }
    }

    /// Under another name first, so that who watches the folder sees whole messages only.
    fn write_file(&mut self, captured: &Captured) -> io::Result<()> {
        let name = self.names.next();
        let (unfinished, finished) = match self.format {
            CaptureFormat::Maildir => {
                (self.folder.join("tmp").join(&name), self.folder.join("new").join(&name))
            }
            CaptureFormat::Eml => {
                (self.folder.join(format!(".{name}.tmp")), self.folder.join(format!("{name}.eml")))
            }
        };
        let result = write_new(&unfinished, captured).and_then(|()| fs::rename(&unfinished, &finished));
        if result.is_err() {
            // It may never have been made.
            let _ = fs::remove_file(&unfinished);
        }
        result
    }
}

fn write_new(path: &Path, captured: &Captured) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(captured.envelope.as_bytes())?;
    file.write_all(&captured.raw)
}

/// Names that no two files get: time, process, number, host, as maildir has them.
struct Names {
    process: u32,
    number: u64,
    host: String,
}

impl Names {
    fn new(hostname: &str) -> Self {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
        let host = hostname.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
        Self { process: std::process::id(), number: 0, host }
    }

    fn next(&mut self) -> String {
        self.number += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Self { process, number, host } = self;
        format!("{}.M{:06}P{process}Q{number}.{host}", now.as_secs(), now.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn captured(capture: &Capture, raw: &[u8]) -> Captured {
        let mut room = capture.room().unwrap();
        assert!(room.grow(raw.len()));
        Captured { envelope: "Return-Path: <>\r\n".to_owned(), raw: raw.to_vec(), _room: room }
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect()
    }

    #[test]
    fn each_format_has_its_place_and_nothing_unfinished_stays() {
        for (format, place, end) in
            [(CaptureFormat::Maildir, "new", ".a_b"), (CaptureFormat::Eml, ".", ".eml")]
        {
            let folder = tempdir().unwrap();
            let config = CaptureConfig { folder: folder.path().join("mail"), format, bytes_max: 1 << 20 };
            let (capture, thread) = Capture::start(&config, "a/b").unwrap();
            for body in [&b"one\r\n"[..], b"two\r\n"] {
                capture.take(captured(&capture, body));
            }
            capture.end();
            thread.join().unwrap();
            assert_eq!(capture.stats().captured, 2);
            let found = files(&config.folder.join(place));
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.iter().all(|path| path.to_string_lossy().ends_with(end)), "{found:?}");
            let mut texts: Vec<Vec<u8>> = found.iter().map(|path| fs::read(path).unwrap()).collect();
            texts.sort();
            assert_eq!(texts, [&b"Return-Path: <>\r\none\r\n"[..], b"Return-Path: <>\r\ntwo\r\n"]);
        }
    }

    #[test]
    fn at_the_limit_capturing_ends_and_the_rest_is_counted() {
        let folder = tempdir().unwrap();
        let config =
            CaptureConfig { folder: folder.path().to_owned(), format: CaptureFormat::Eml, bytes_max: 250 };
        let (capture, thread) = Capture::start(&config, "h").unwrap();
        for _ in 0..3 {
            let mail = captured(&capture, &[b'x'; 100]);
            capture.take(mail);
        }
        capture.end();
        thread.join().unwrap();
        let bytes = 2 * (100 + 17);
        assert_eq!(capture.stats(), CaptureStats { captured: 2, bytes, not_captured: 1, ended: true });
        assert!(capture.room().is_none());
        assert_eq!(files(folder.path()).len(), 2);
    }

    #[test]
    fn what_the_disk_is_too_slow_for_does_not_take_the_memory() {
        let folder = tempdir().unwrap();
        let config = CaptureConfig {
            folder: folder.path().to_owned(),
            format: CaptureFormat::Eml,
            bytes_max: u64::MAX,
        };
        let (capture, thread) = Capture::start(&config, "h").unwrap();
        let mut first = capture.room().unwrap();
        assert!(first.grow(QUEUE_BYTES_MAX));
        assert!(!capture.room().unwrap().grow(1));
        drop(first);
        assert!(capture.room().unwrap().grow(1));
        capture.end();
        thread.join().unwrap();
    }
}
