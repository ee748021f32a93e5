//! The conversation itself: what the protocol wants written is written, what the server says is read, and neither is waited for too long.
//!
//! Knows nothing of messages, recipients and outcomes. A wait ends with the deadline of its phase, or with the watchdog of the path if that comes first;
//! either way the connection is of no more use.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes};
use smtp::client::{BodyForm, Next, Phase};
use smtp::error::PeerError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Connection, INPUT_BYTES};
use crate::envelope::Outcome;
use crate::outbound::classify;

/// Why a conversation stopped.
pub(super) enum Broken {
    Io(io::Error),
    Peer(PeerError),
    /// Nothing happened for as long as the path allows.
    Stuck(Duration),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PeerError> for Broken {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

/// A reply that is waited for.
#[derive(Clone, Copy)]
struct Wait {
    /// Which: a part of it does not make it another one.
    reply: (Phase, u64),
    until: Instant,
    stuck: Option<Duration>,
}

impl Broken {
    pub(super) fn outcome(&self, doing: &str) -> Outcome {
        match self {
            Self::Io(error) => classify::lost(doing, error),
            Self::Peer(error) => classify::misbehaved(error),
            Self::Stuck(limit) => classify::stuck(doing, *limit),
        }
    }
}

impl Connection {
    /// Writes what the session has to say, and the body when its turn comes, until the transaction has ended.
    pub(super) async fn transact(
        &mut self,
        mut next: Next,
        prefix: &Bytes,
        body: &Bytes,
    ) -> Result<Next, Broken> {
        loop {
            match next {
                Next::Read => {
                    self.write(Bytes::new(), Bytes::new()).await?;
                    next = self.read().await?;
                }
                Next::WriteBody(form) => {
                    let written = match form {
                        BodyForm::Verbatim => self.write(prefix.clone(), body.clone()).await,
                        BodyForm::DotStuffed => {
                            let mut stuffed =
                                Vec::with_capacity(prefix.len() + body.len() + body.len() / 64 + 16);
                            smtp::data::stuff(&[prefix, body], &mut stuffed);
                            self.write(Bytes::from(stuffed), Bytes::new()).await
                        }
                    };
                    self.session.body_written();
                    // A server that refuses early may close while we write; its reply is then still to be read.
                    next = match written {
                        Ok(()) => self.read().await?,
                        Err(broken) => self.read().await.map_err(|_| broken)?,
                    };
                }
                // STARTTLS is over before the first transaction, so the session never gets there.
                Next::Ready | Next::Closed | Next::StartTls => return Ok(next),
            }
        }
    }

    pub(super) async fn until_ready(&mut self) -> Result<Next, Broken> {
        loop {
            self.write(Bytes::new(), Bytes::new()).await?;
            match self.read().await? {
                Next::Read => {}
                Next::Ready if !self.input.is_empty() => {
                    self.session.handle(&self.input, &mut self.out)?;
                    return Err(Broken::Io(io::ErrorKind::InvalidData.into()));
                }
                next => return Ok(next),
            }
        }
    }

    /// How long to wait for the next thing, and what it is called when that was in vain.
    fn patience(&self) -> (Duration, Option<Duration>) {
        let (deadline, watchdog) = (self.path.config.deadline(self.session.phase()), self.path.watchdog);
        if watchdog < deadline { (watchdog, Some(watchdog)) } else { (deadline, None) }
    }

    /// Writes `out` and two more parts as one. The server has the patience of the phase for each part that it takes.
    pub(super) async fn write(&mut self, prefix: Bytes, body: Bytes) -> Result<(), Broken> {
        if self.out.is_empty() && prefix.is_empty() {
            return Ok(());
        }
        let (patience, stuck) = self.patience();
        let mut parts = Buf::chain(Buf::chain(self.out.as_slice(), prefix), body);
        let mut written = Ok(());
        while parts.has_remaining() && written.is_ok() {
            written = match timeout(patience, self.stream.write_buf(&mut parts)).await {
                Ok(Ok(0)) => Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(taken) => taken.map(drop).map_err(Broken::Io),
                Err(_) => Err(too_late(stuck)),
            };
        }
        // The library may hold back what the socket did not take.
        if written.is_ok() && self.stream.is_tls() {
            let flushed = timeout(patience, self.stream.flush()).await;
            written = flushed.map_or_else(|_| Err(too_late(stuck)), |flushed| flushed.map_err(Broken::Io));
        }
        self.out.clear();
        written
    }

    /// Reads replies until the session wants something else.
    pub(super) async fn read(&mut self) -> Result<Next, Broken> {
        let mut wait: Option<Wait> = None;
        loop {
            // Replies that came while the body was being written wait here already.
            if !self.input.is_empty() {
                let (consumed, next) = self.session.handle(&self.input, &mut self.out)?;
                self.input.drain(..consumed);
                if !matches!(next, Next::Read) || !self.out.is_empty() {
                    return Ok(next);
                }
            }
            let reply = (self.session.phase(), self.session.replies());
            let Wait { until, stuck, .. } = match wait {
                Some(wait) if wait.reply == reply => wait,
                _ => {
                    let (patience, stuck) = self.patience();
                    Wait { reply, until: Instant::now() + patience, stuck }
                }
            };
            wait = Some(Wait { reply, until, stuck });
            if self.input.len() == self.input.capacity() {
                self.input.reserve(INPUT_BYTES);
            }
            let read = timeout_at(until, self.stream.read_buf(&mut self.input)).await;
            let count = read.map_err(|_| too_late(stuck))??;
            if count == 0 {
                return Err(Broken::Io(io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
        }
    }
}

/// Whether the server missed the deadline of its phase, or the watchdog's.
fn too_late(stuck: Option<Duration>) -> Broken {
    stuck.map_or_else(|| io::Error::from(io::ErrorKind::TimedOut).into(), Broken::Stuck)
}
