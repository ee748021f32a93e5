//! What a connection does when a rule wants it to misbehave.
//!
//! A wait stops the connection between two commands: what has arrived stays where it is, replies to earlier
//! commands leave first, and the question that the rule is about is answered when the wait is over. While
//! the sink itself is slow, the peer does not count as silent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use smtp::reply::Reply;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::pace::Pace;
use super::{ACCEPTED, BUFFER, Connection, Flow, Handshake, Peer, now_ns};
use crate::body::Arrived;
use crate::faults::{Acting, Action, BadTls, Dialogue, Found, Live, Stage, Then, asked_for};

/// The socket buffer of a slow reader, in bytes; with more of it the peer would not notice.
const SLOW_READER_BUFFER_BYTES: usize = 4 << 10;

/// Stands in the place of a reply that nobody reads.
const UNSAID: Reply = Reply::new(451, (4, 3, 0), "Garbage was sent instead");

/// Comes in the place of a handshake: no TLS record begins with these bytes (RFC 8446 5.1).
const NO_TLS: &[u8] = b"\xff\xfe\xfd this is no handshake \xff\xfe\xfd";

/// How much of the client's first flight is read before the garbage goes back, in bytes.
const CLIENT_HELLO_BYTES: usize = 4 << 10;

/// A connection that may misbehave.
pub(super) struct Faulty {
    pub(super) dialogue: Dialogue,
    /// What comes next, when the wait is over.
    next: Option<Next>,
    wait: Option<Pin<Box<Sleep>>>,
    writes: Option<Pace>,
    reads: Option<Pace>,
    hearing: Hearing,
    /// What the next handshake is spoilt with.
    pub(super) bad_tls: Option<BadTls>,
    /// What has arrived is not worked through yet.
    held: bool,
}

/// What the wait is for.
enum Next {
    /// The rules of a stage are asked.
    Ask(Stage),
    /// A question is answered as a rule wants, or as usual.
    Answer(Stage, Option<Acting>),
    /// The peer's next bytes are worked through.
    GoOn,
}

/// What becomes of the bytes of the peer.
enum Hearing {
    Usual,
    /// They stay in the socket.
    Deaf,
    /// Our side is to be closed once the replies have left.
    Closing,
    /// Our side is closed, and they are thrown away.
    Closed,
}

impl Faulty {
    /// `None` where there are no rules.
    pub(super) fn new(live: &Arc<Live>, peer: &Peer) -> Option<Box<Self>> {
        if live.is_empty() {
            return None;
        }
        let mut faulty = Self::quiet(live, peer);
        faulty.next = Some(Next::Ask(Stage::Connect));
        Some(faulty)
    }

    /// For a connection that has been greeted already.
    fn quiet(live: &Arc<Live>, peer: &Peer) -> Box<Self> {
        Box::new(Self {
            dialogue: Dialogue::new(live, peer.client, peer.number),
            next: None,
            wait: None,
            writes: None,
            reads: None,
            hearing: Hearing::Usual,
            bad_tls: None,
            held: false,
        })
    }
}

impl Connection {
    /// The revision of the rules that this connection goes by.
    pub(super) fn revision(&self) -> u64 {
        self.faults.as_ref().map_or(self.revision_without_faults, |faults| faults.dialogue.revision())
    }

    /// The rules have changed.
    pub(super) fn refresh_faults(&mut self) {
        let live = &self.worker.faults;
        self.revision_without_faults = live.revision();
        match &mut self.faults {
            Some(faults) => faults.dialogue.refresh(),
            None if live.is_empty() => {}
            none => *none = Some(Faulty::quiet(live, &self.peer)),
        }
    }

    /// Asks the rules of a stage, and answers unless there is something to wait for.
    pub(super) fn ask_rules(&mut self, stage: Stage) -> Flow {
        let Some(faults) = &mut self.faults else { return Flow::On };
        let Found { delay, tarpit_bytes_per_s, slow_reader_bytes_per_s, last } = faults.dialogue.ask(stage);
        if let Some(bytes_per_s) = tarpit_bytes_per_s {
            faults.writes = Some(Pace::new(bytes_per_s));
        }
        if let Some(bytes_per_s) = slow_reader_bytes_per_s {
            faults.reads = Some(Pace::new(bytes_per_s));
            // A kernel that refuses leaves a larger buffer, and the peer notices later.
            if let Some(tcp) = self.stream.tcp() {
                let _ = SockRef::from(tcp).set_recv_buffer_size(SLOW_READER_BUFFER_BYTES);
            }
        }
        if delay.is_zero() {
            self.answer_as(stage, last)
        } else {
            self.wait(delay, Next::Answer(stage, last))
        }
    }

    fn wait(&mut self, delay: Duration, next: Next) -> Flow {
        let Some(faults) = &mut self.faults else { return Flow::On };
        faults.next = Some(next);
        faults.wait = Some(Box::pin(sleep(delay)));
        faults.held = true;
        // The sink is the silent one, so the peer is not to be closed for it.
        let seconds = u32::try_from(delay.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let until = self.worker.second().saturating_add(seconds);
        self.peer.last_heard.store(until, Ordering::Relaxed);
        Flow::Stop
    }

    /// Answers as a rule wants.
    fn answer_as(&mut self, stage: Stage, acting: Option<Acting>) -> Flow {
        let (Some(acting), Some(faults)) = (acting, &mut self.faults) else {
            self.answer(stage);
            return self.go_on_after(stage);
        };
        let rules = faults.dialogue.rules();
        let action = acting.action(&rules);
        if let Some(reply) = action.reply() {
            return self.reply_with(stage, reply);
        }
        match action {
            Action::AsAddressed => match asked_for(faults.dialogue.last_local_part()) {
                Some(reply) => self.reply_with(stage, &reply),
                None => self.answer_as(stage, None),
            },
            Action::Drop => self.end(),
            Action::Reset => {
                // What cannot be set leaves an ordinary end.
                if let Some(tcp) = self.stream.tcp() {
                    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
                }
                self.end()
            }
            Action::HalfClose => self.hear(Hearing::Closing),
            Action::Stall(time) => self.stall(stage, *time),
            Action::Garbage { bytes } => self.garble(stage, acting, *bytes),
            Action::Say { text, times, then } => self.say(stage, &text.repeat(*times), *then),
            Action::BadTls(kind) => {
                faults.bad_tls = Some(*kind);
                self.answer_as(stage, None)
            }
            Action::Bounce { .. } => {
                if let Some(bounce) = faults.dialogue.bounce(acting, self.body.finish().traffic) {
                    self.worker.faults.bounce(bounce);
                }
                self.answer_as(stage, None)
            }
            Action::Lose => {
                self.session.accept_with(&ACCEPTED, &mut self.replies);
                Flow::On
            }
            Action::Double => {
                self.worker.record(&self.body.finish(), &self.recipients, now_ns());
                self.answer_as(stage, None)
            }
            Action::Corrupt => {
                let arrived = self.body.finish();
                self.record(&Arrived { crc: !arrived.crc, ..arrived });
                self.session.accept_with(&ACCEPTED, &mut self.replies);
                Flow::On
            }
            _ => self.answer_as(stage, None),
        }
    }

    /// The banner follows the connect; everything else waits for the peer.
    fn go_on_after(&mut self, stage: Stage) -> Flow {
        match stage {
            Stage::Connect if self.peer.tls_first => {
                self.handshake = Some(Handshake::First);
                Flow::Stop
            }
            Stage::Connect => self.ask_rules(Stage::Banner),
            _ => Flow::On,
        }
    }

    fn reply_with(&mut self, stage: Stage, reply: &Reply) -> Flow {
        match stage {
            Stage::Banner => {
                self.session.greet_with(reply, &mut self.replies);
            }
            // Nobody has asked; the peer is in the middle of its message, and nothing more of it is read.
            Stage::Body => {
                reply.write(true, &mut self.replies);
                if reply.code != 421 {
                    return self.hear(Hearing::Deaf);
                }
            }
            Stage::FinalDot if reply.is_positive() => {
                self.record(&self.body.finish());
                self.session.accept_with(reply, &mut self.replies);
            }
            _ if reply.is_positive() => self.session.accept_with(reply, &mut self.replies),
            _ => {
                let before = self.replies.len();
                self.session.reject(reply, &mut self.replies);
                self.forget_refused(stage);
                // The answer to BDAT comes behind its chunk, for which a server that closes does not wait.
                if reply.code == 421 && self.replies.len() == before {
                    reply.write(true, &mut self.replies);
                }
            }
        }
        // RFC 5321 3.8: whoever says 421 closes.
        if reply.code == 421 { self.end() } else { Flow::On }
    }

    fn forget_refused(&mut self, stage: Stage) {
        if stage != Stage::Rcpt {
            return;
        }
        self.recipients.pop();
        if let Some(recording) = &mut self.recording {
            recording.forget_recipient();
        }
        if let Some(faults) = &mut self.faults {
            faults.dialogue.forget_recipient();
        }
    }

    fn stall(&mut self, stage: Stage, time: Option<Duration>) -> Flow {
        match time {
            // The stall is after 354, when the peer begins to send.
            Some(time) if stage == Stage::Data => {
                self.answer(stage);
                self.wait(time, Next::GoOn)
            }
            Some(time) => self.wait(time, Next::Answer(stage, None)),
            None => {
                if stage == Stage::Data {
                    self.answer(stage);
                }
                self.hear(Hearing::Deaf)
            }
        }
    }

    /// Something else was said in place of the reply, and the command counts as refused.
    fn refuse_unsaid(&mut self, stage: Stage) {
        let mut unsaid = Vec::new();
        if stage == Stage::Banner {
            self.session.greet(&mut unsaid);
        } else {
            self.session.reject(&UNSAID, &mut unsaid);
            self.forget_refused(stage);
        }
    }

    fn say(&mut self, stage: Stage, text: &str, then: Then) -> Flow {
        match then {
            Then::Refuse => self.refuse_unsaid(stage),
            Then::Accept if stage == Stage::Banner => self.refuse_unsaid(stage),
            Then::Accept => {
                if stage == Stage::FinalDot {
                    self.record(&self.body.finish());
                }
                self.session.accept_with(&ACCEPTED, &mut Vec::new());
            }
            Then::Drop | Then::Stall => {}
        }
        self.replies.extend_from_slice(text.as_bytes());
        match then {
            Then::Refuse | Then::Accept => Flow::On,
            Then::Drop => self.end(),
            Then::Stall => self.hear(Hearing::Deaf),
        }
    }

    fn garble(&mut self, stage: Stage, acting: Acting, bytes: usize) -> Flow {
        self.refuse_unsaid(stage);
        let start = self.replies.len();
        self.replies.resize(start + bytes, 0);
        acting.fill(&mut self.replies[start..]);
        // A peer that reads lines is to find the end of this one.
        self.replies.extend_from_slice(b"\r\n");
        Flow::On
    }

    /// What comes back for a handshake is no TLS.
    pub(super) async fn send_garbage(&mut self) -> io::Result<()> {
        // The client speaks first; what came before would not look like an answer to it.
        let read = self.stream.read(&mut [0; CLIENT_HELLO_BYTES]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.stream.write_all(NO_TLS).await?;
        Err(io::Error::other("a rule wants no handshake"))
    }

    fn end(&mut self) -> Flow {
        self.ends = true;
        Flow::Stop
    }

    fn hear(&mut self, hearing: Hearing) -> Flow {
        if let Some(faults) = &mut self.faults {
            faults.hearing = hearing;
        }
        Flow::Stop
    }

    /// Does what is due. `On` means: look again from the start, there may be replies.
    pub(super) fn poll_faults(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Flow>> {
        let Some(faults) = &mut self.faults else { return Poll::Ready(Ok(Flow::Stop)) };
        if let Some(wait) = &mut faults.wait {
            ready!(wait.as_mut().poll(context));
            faults.wait = None;
            self.heard();
        }
        let Some(faults) = &mut self.faults else { return Poll::Ready(Ok(Flow::Stop)) };
        if let Some(next) = faults.next.take() {
            match next {
                Next::Ask(stage) => self.ask_rules(stage),
                Next::Answer(stage, acting) => self.answer_as(stage, acting),
                Next::GoOn => Flow::On,
            };
            return Poll::Ready(Ok(Flow::On));
        }
        match faults.hearing {
            Hearing::Usual => {}
            // The worker ends it when it has been silent for too long.
            Hearing::Deaf => return Poll::Pending,
            Hearing::Closing => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                faults.hearing = Hearing::Closed;
            }
            Hearing::Closed => {}
        }
        if let Hearing::Closed = faults.hearing {
            ready!(BUFFER.with_borrow_mut(|buffer| self.poll_discard(context, buffer)))?;
            return Poll::Ready(Ok(Flow::On));
        }
        if std::mem::take(&mut faults.held) {
            let held = std::mem::take(&mut self.leftover);
            let taken = self.take(&held);
            self.leftover.extend_from_slice(&held[taken..]);
            return Poll::Ready(Ok(Flow::On));
        }
        if let Some(pace) = &mut faults.reads {
            ready!(pace.poll(context));
        }
        Poll::Ready(Ok(Flow::Stop))
    }

    /// How much may be read at once.
    pub(super) fn read_bytes_max(&self) -> usize {
        let pace = self.faults.as_ref().and_then(|faults| faults.reads.as_ref());
        pace.map_or(usize::MAX, Pace::piece_bytes)
    }

    /// So much has been read.
    pub(super) fn spend_read(&mut self, bytes: usize) {
        if let Some(pace) = self.faults.as_mut().and_then(|faults| faults.reads.as_mut()) {
            pace.spend(bytes);
        }
    }

    /// Writes a piece of the replies, no larger than a tarpit allows.
    pub(super) fn poll_flush_slowly(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pace = self.faults.as_mut().and_then(|faults| faults.writes.as_mut());
        let mut rest = &self.replies[self.replies_written..];
        if let Some(pace) = &mut pace {
            ready!(pace.poll(context));
            rest = &rest[..rest.len().min(pace.piece_bytes())];
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
        if let Some(pace) = pace {
            pace.spend(written);
            self.heard();
        }
        self.replies_written += written;
        Poll::Ready(Ok(()))
    }

    fn poll_discard(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<()>> {
        let mut target = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut target))?;
        if target.filled().is_empty() {
            self.ends = true;
        }
        Poll::Ready(Ok(()))
    }
}
