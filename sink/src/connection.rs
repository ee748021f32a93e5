//! One SMTP connection: bytes in, replies out, nothing kept.
//!
//! All connections of a worker read into one buffer of the thread; only the beginning of a command that has
//! not arrived in full stays with the connection. All replies to what one read brought leave in one write,
//! and nothing more is read until they have left, so a peer that never reads costs at most one buffer of
//! replies. A connection that is silent too long is closed by the worker.
//!
//! Where there are rules of misbehaviour, every question goes to them first; `faulty` does what they want.
//! Where there are none, asking is one branch.

mod faulty;

mod pace;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use smtp::address::Path;
use smtp::reply::Reply;
use smtp::server::{Event, Session, Verb};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use self::faulty::Faulty;
use crate::body::{Arrived, BodyReader};
use crate::faults::Stage;
use crate::ledger::fingerprint;
use crate::recording::{Recorder, Recording};
use crate::tls::Stream;
use crate::worker::{Worker, now_ns};

/// What a worker reads at once, in bytes. Large enough for a body of 100 KB in one call, small enough to
/// stay in the second level cache.
const READ_BYTES: usize = 128 << 10;

/// What a connection keeps allocated between two reads, in bytes.
const KEPT_BYTES: usize = 4 << 10;

const ACCEPTED: Reply = Reply::new(250, (2, 0, 0), "Ok, discarded");
const WRONG_LOGIN: Reply = Reply::new(535, (5, 7, 8), "Wrong user or password");
const GOODBYE: &[u8] = b"421 4.4.2 Closing the connection: silent for too long, or the server stops\r\n";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The second in which a connection was last heard, for the worker's sweep.
pub(crate) type LastHeard = Arc<AtomicU32>;

/// Who has connected.
pub(crate) struct Peer {
    pub(crate) client: IpAddr,
    /// Of the connection; no other of this sink has it.
    pub(crate) number: u64,
    /// It came to the port where TLS comes before the banner.
    pub(crate) tls_first: bool,
    pub(crate) last_heard: LastHeard,
}

pub(crate) struct Connection {
    stream: Stream,
    session: Session,
    /// Is due before anything else.
    handshake: Option<Handshake>,
    worker: Arc<Worker>,
    peer: Peer,
    /// The beginning of a command; more where a rule makes the peer wait.
    leftover: Vec<u8>,
    replies: Vec<u8>,
    replies_written: usize,
    recipients: Vec<u32>,
    body: BodyReader,
    /// The peer has been told that the connection ends, or is not to be told.
    ends: bool,
    /// `None` where nobody wants to look at mail.
    recording: Option<Box<Recording>>,
    /// `None` where there are no rules.
    faults: Option<Box<Faulty>>,
    /// Which state of the rules that was found at.
    revision_without_faults: u64,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// With the connection, before the banner.
    First,
    /// After STARTTLS.
    StartTls,
}

/// Why the connection stops being polled.
enum Pause {
    Handshake,
    End,
}

/// Whether what has arrived may be worked through further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    On,
    /// The rest waits: the peer has to, or the connection ends.
    Stop,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, worker: Arc<Worker>, peer: Peer) -> Self {
        // Read first: a change between the two is then noticed.
        let revision_without_faults = worker.faults.revision();
        let faults = Faulty::new(&worker.faults, &peer);
        let asks_commands = faults.as_ref().is_some_and(|faults| faults.dialogue.rules().ask_commands());
        let session = Session::new(worker.offer.protocol(peer.tls_first, asks_commands));
        let body = BodyReader::of(peer.number);
        let handshake = (peer.tls_first && faults.is_none()).then_some(Handshake::First);
        let record = |recorder: &Arc<Recorder>| {
            Box::new(Recording::new(Arc::clone(recorder), peer.client, peer.number))
        };
        let recording = worker.recorder.as_ref().map(record);
        let mut connection = Self {
            stream: Stream::Plain(stream),
            session,
            handshake,
            worker,
            peer,
            leftover: Vec::new(),
            replies: Vec::new(),
            replies_written: 0,
            recipients: Vec::new(),
            body,
            ends: false,
            recording,
            faults,
            revision_without_faults,
        };
        if connection.faults.is_none() && connection.handshake.is_none() {
            connection.answer(Stage::Banner);
        }
        connection
    }

    /// Serves the peer until either side ends it. An error on the socket means that the peer has gone.
    pub(crate) async fn serve(mut self) {
        loop {
            let pause = std::future::poll_fn(|context| self.poll(context)).await;
            match pause {
                // Boxed, because most connections have no handshake and should not pay for its size.
                Ok(Pause::Handshake) if Box::pin(self.shake_hands()).await.is_ok() => {}
                // Whether the peer left with QUIT or without, there is nobody to tell.
                _ => break,
            }
        }
        self.ends = true;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pause>> {
        loop {
            ready!(self.poll_flush(context))?;
            if self.ends {
                return self.poll_end(context);
            }
            if self.handshake.is_some() {
                return Poll::Ready(Ok(Pause::Handshake));
            }
            if self.faults.is_some() && ready!(self.poll_faults(context))? == Flow::On {
                continue;
            }
            ready!(BUFFER.with_borrow_mut(|buffer| self.poll_read(context, buffer)))?;
        }
    }

    /// Where there is TLS, its end is told apart from a cut (RFC 8446 6.1).
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pause>> {
        if self.stream.is_tls() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        Poll::Ready(Ok(Pause::End))
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        let handshake = self.handshake.take();
        let flaw = self.faults.as_mut().and_then(|faults| faults.bad_tls.take());
        let worker = Arc::clone(&self.worker);
        let Some(acceptor) = worker.offer.acceptor(flaw) else {
            return self.send_garbage().await;
        };
        self.stream.start_tls(acceptor).await?;
        self.leftover.clear();
        self.heard();
        if let Some(faults) = &mut self.faults {
            faults.dialogue.note_tls();
        }
        match handshake {
            Some(Handshake::StartTls) => self.session.tls_started(),
            _ => {
                self.ask(Stage::Banner);
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.replies_written < self.replies.len() {
            if self.faults.is_some() {
                ready!(self.poll_flush_slowly(context))?;
                continue;
            }
            let rest = &self.replies[self.replies_written..];
            self.replies_written += ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
        }
        self.replies.clear();
        self.replies.shrink_to(KEPT_BYTES);
        self.replies_written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        // The protocol bounds a command line far below the buffer, so there is always room to read.
        let kept = self.leftover.len().min(buffer.len() / 2);
        buffer[..kept].copy_from_slice(&self.leftover[..kept]);
        let room = if self.faults.is_none() { usize::MAX } else { self.read_bytes_max() };
        let end = buffer.len().min(kept.saturating_add(room));
        let mut target = ReadBuf::new(&mut buffer[kept..end]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut target))?;
        let read = target.filled().len();
        if read == 0 {
            self.ends = true;
            return Poll::Ready(Ok(()));
        }
        self.heard();
        if self.faults.is_some() {
            self.spend_read(read);
        }
        if self.worker.faults.revision() != self.revision() {
            self.refresh_faults();
        }
        let taken = self.take(&buffer[..kept + read]);
        self.leftover.clear();
        self.leftover.extend_from_slice(&buffer[taken..kept + read]);
        Poll::Ready(Ok(()))
    }

    /// Works through what has arrived and returns how much of it is done with.
    fn take(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let step = self.session.handle(&input[taken..], &mut self.replies);
            taken += step.consumed;
            let flow = match step.event {
                Event::NeedMore => return taken,
                Event::Body(part) => {
                    self.body.feed(part);
                    if let Some(recording) = &mut self.recording {
                        recording.feed(part);
                    }
                    Flow::On
                }
                Event::Rcpt { to, .. } => {
                    self.note_recipient(&to);
                    self.ask(Stage::Rcpt)
                }
                Event::Mail { from, .. } => {
                    self.note_sender(&from);
                    self.ask(Stage::Mail)
                }
                Event::BodyStart { .. } => {
                    self.body.start();
                    self.ask(Stage::Body)
                }
                Event::BodyEnd => {
                    if let Some(faults) = &mut self.faults {
                        faults.dialogue.note_message(self.body.finish().traffic.as_ref());
                    }
                    self.ask(Stage::FinalDot)
                }
                Event::Ehlo { domain, extended } => {
                    if let Some(faults) = &mut self.faults {
                        faults.dialogue.note_helo(domain);
                    }
                    if let Some(recording) = &mut self.recording {
                        recording.greeted(domain, self.stream.is_tls());
                    }
                    self.ask(if extended { Stage::Ehlo } else { Stage::Helo })
                }
                Event::Auth { .. } | Event::AuthKeys => self.ask(Stage::Auth),
                // Not on offer, so it does not come.
                Event::XClient(_) => {
                    self.session.accept(&mut self.replies);
                    Flow::On
                }
                Event::Command { verb: Verb::Help } => {
                    self.session.accept(&mut self.replies);
                    Flow::On
                }
                Event::Command { verb } => self.ask(stage_of(verb)),
                Event::Reset => Flow::On,
                Event::StartTls => {
                    self.handshake = Some(Handshake::StartTls);
                    Flow::Stop
                }
                Event::Quit | Event::Close => {
                    self.ends = true;
                    Flow::Stop
                }
            };
            if flow == Flow::Stop {
                return taken;
            }
        }
    }

    #[inline]
    fn note_sender(&mut self, from: &Path<'_>) {
        self.recipients.clear();
        if let Some(faults) = &mut self.faults {
            faults.dialogue.note_mail(from.local(), from.domain());
        }
        if let Some(recording) = &mut self.recording {
            recording.mail(from);
        }
    }

    #[inline]
    fn note_recipient(&mut self, to: &Path<'_>) {
        self.recipients.push(fingerprint(to.local(), to.domain()));
        if let Some(faults) = &mut self.faults {
            faults.dialogue.note_recipient(to.local(), to.domain());
        }
        if let Some(recording) = &mut self.recording {
            recording.recipient(to);
        }
    }

    /// Answers as the rules want, or as usual where there are none.
    #[inline]
    fn ask(&mut self, stage: Stage) -> Flow {
        if self.faults.is_some() {
            return self.ask_rules(stage);
        }
        self.answer(stage);
        Flow::On
    }

    /// Answers as usual.
    #[inline]
    fn answer(&mut self, stage: Stage) {
        match stage {
            Stage::Connect | Stage::Body => {}
            Stage::Banner => self.session.greet(&mut self.replies),
            Stage::FinalDot => {
                self.record(&self.body.finish());
                self.session.accept_with(&ACCEPTED, &mut self.replies);
            }
            Stage::Auth => self.log_in(),
            _ => self.session.accept(&mut self.replies),
        }
    }

    /// The message is accepted: it counts, and is kept where somebody wants to look at it.
    fn record(&mut self, arrived: &Arrived) {
        self.worker.record(arrived, &self.recipients, now_ns());
        if let Some(recording) = &mut self.recording {
            recording.finish(arrived);
        }
    }

    fn log_in(&mut self) {
        let login = self.session.login();
        if login.is_some_and(|(user, password)| self.worker.offer.admits(user, password)) {
            self.session.accept(&mut self.replies);
        } else {
            self.session.reject(&WRONG_LOGIN, &mut self.replies);
        }
    }

    /// The peer is not silent.
    fn heard(&self) {
        self.peer.last_heard.store(self.worker.second(), Ordering::Relaxed);
    }
}

/// Where in the conversation a command stands that is asked about on demand.
fn stage_of(verb: Verb) -> Stage {
    match verb {
        Verb::Data | Verb::Bdat => Stage::Data,
        Verb::StartTls => Stage::Starttls,
        Verb::Rset => Stage::Rset,
        Verb::Vrfy => Stage::Vrfy,
        Verb::Quit => Stage::Quit,
        Verb::Noop | Verb::Help => Stage::Noop,
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.ends {
            // The worker ends it: RFC 5321 3.8 wants a 421 first. A full socket is no reason to wait.
            if let Stream::Plain(stream) = &self.stream {
                let _ = stream.try_write(GOODBYE);
            }
        }
        self.worker.leave(self.peer.number);
    }
}
