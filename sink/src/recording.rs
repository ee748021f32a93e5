//! One connection's mail on its way into files or memory, where the operator asked for either.
//!
//! A connection without a recording pays one branch per event. With one, the text of a message is gathered as it
//! arrives, within what [`crate::capture`] has room for and [`crate::messages`] keeps; what finds no room is
//! counted there and the mail goes on.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use smtp::address::Path;

use crate::body::Arrived;
use crate::capture::{Capture, CaptureStats, Captured, Room};
use crate::config::Config;
use crate::messages::{Messages, RAW_BYTES_MAX, RECIPIENTS_MAX, Remembered, Summary, unix_ms};
use crate::worker::now_ns;

/// What recordings of all connections share.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) capture: Option<Capture>,
    pub(crate) messages: Option<Messages>,
}

/// A recorder, and the thread that writes files where there is one.
pub(crate) type Started = (Arc<Recorder>, Option<JoinHandle<()>>);

impl Recorder {
    /// What the configuration asks for, with the thread that writes files; `None` where it asks for nothing.
    pub(crate) fn start(config: &Config) -> io::Result<Option<Started>> {
        let messages = (config.remember > 0).then(|| Messages::new(config.remember));
        let started =
            config.capture.as_ref().map(|capture| Capture::start(capture, &config.hostname)).transpose()?;
        let (capture, thread) = started.unzip();
        let is_wanted = messages.is_some() || capture.is_some();
        Ok(is_wanted.then(|| (Arc::new(Self { capture, messages }), thread)))
    }

    /// No mail comes any more: the thread that writes files may end.
    pub(crate) fn end(&self) {
        if let Some(capture) = &self.capture {
            capture.end();
        }
    }

    pub(crate) fn capture_stats(&self) -> Option<CaptureStats> {
        self.capture.as_ref().map(Capture::stats)
    }
}

/// What one connection gathers.
#[derive(Debug)]
pub(crate) struct Recording {
    recorder: Arc<Recorder>,
    client: IpAddr,
    connection: u64,
    helo: String,
    tls: bool,
    from: String,
    to: Vec<String>,
    recipients: usize,
    remember: bool,
    /// None where this message is not captured.
    room: Option<Room>,
    raw: Vec<u8>,
}

impl Recording {
    pub(crate) fn new(recorder: Arc<Recorder>, client: IpAddr, connection: u64) -> Self {
        Self {
            recorder,
            client,
            connection,
            helo: String::new(),
            tls: false,
            from: String::new(),
            to: Vec::new(),
            recipients: 0,
            remember: false,
            room: None,
            raw: Vec::new(),
        }
    }

    /// The client has said its name; after STARTTLS it says it again.
    pub(crate) fn greeted(&mut self, helo: &str, tls: bool) {
        self.helo.clear();
        self.helo.push_str(helo);
        self.tls = tls;
    }

    /// A transaction begins: decides whether any of it is kept.
    pub(crate) fn mail(&mut self, from: &Path<'_>) {
        let admits = |messages: &Messages| messages.admits(now_ns() / 1_000_000_000);
        self.remember = self.recorder.messages.as_ref().is_some_and(admits);
        self.room = self.recorder.capture.as_ref().and_then(Capture::room);
        self.raw.clear();
        self.to.clear();
        self.from.clear();
        self.recipients = 0;
        if self.is_on() {
            // Writing into a string cannot fail.
            let _ = write!(self.from, "{from}");
        }
    }

    /// One more recipient was accepted.
    pub(crate) fn recipient(&mut self, to: &Path<'_>) {
        self.recipients += 1;
        if self.is_on() && self.to.len() < RECIPIENTS_MAX {
            self.to.push(to.to_string());
        }
    }

    /// The recipient named last was refused after all.
    pub(crate) fn forget_recipient(&mut self) {
        if self.to.len() == self.recipients {
            self.to.pop();
        }
        self.recipients = self.recipients.saturating_sub(1);
    }

    /// Takes the next bytes of the message.
    pub(crate) fn feed(&mut self, part: &[u8]) {
        if let Some(room) = &mut self.room {
            if room.grow(part.len()) {
                self.raw.extend_from_slice(part);
                return;
            }
            self.room = None;
            self.raw.truncate(RAW_BYTES_MAX);
        }
        if self.remember {
            let kept = part.len().min(RAW_BYTES_MAX.saturating_sub(self.raw.len()));
            self.raw.extend_from_slice(&part[..kept]);
        }
    }

    /// The message has been accepted.
    pub(crate) fn finish(&mut self, arrived: &Arrived) {
        let raw = std::mem::take(&mut self.raw);
        if self.remember
            && let Some(messages) = &self.recorder.messages
        {
            messages.keep(self.remembered(&raw, arrived));
        }
        if let Some(capture) = &self.recorder.capture {
            match self.room.take() {
                Some(room) => capture.take(Captured { envelope: self.envelope(), raw, _room: room }),
                None => capture.miss(),
            }
        }
    }

    fn is_on(&self) -> bool {
        self.remember || self.room.is_some()
    }

    fn remembered(&self, raw: &[u8], arrived: &Arrived) -> Remembered {
        let kept = &raw[..raw.len().min(RAW_BYTES_MAX)];
        Remembered {
            id: 0,
            at_ms: unix_ms(),
            bytes: arrived.bytes,
            from: self.from.clone(),
            to: self.to.clone(),
            recipients: self.recipients,
            client: self.client,
            helo: self.helo.clone(),
            tls: self.tls,
            connection: self.connection,
            run: arrived.traffic.map(|traffic| traffic.run.to_string()),
            seq: arrived.traffic.map(|traffic| traffic.seq),
            intact: arrived.is_intact(),
            header: Summary::of(kept),
            cut: arrived.bytes > kept.len() as u64,
            raw: kept.to_vec(),
        }
    }

    /// The lines that a captured message begins with. What a client says in commands has no line ends, so
    /// these lines are the only ones.
    fn envelope(&self) -> String {
        let Self { from, client, helo, tls, connection, .. } = self;
        let mut lines = format!("Return-Path: <{from}>\r\n");
        for to in &self.to {
            let _ = write!(lines, "Delivered-To: {to}\r\n");
        }
        let tls = if *tls { "yes" } else { "no" };
        let recipients = self.recipients;
        let _ = write!(
            lines,
            "X-Sink: client={client}; helo={helo}; tls={tls}; connection={connection}; recipients={recipients}\r\n"
        );
        lines
    }
}
