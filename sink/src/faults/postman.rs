//! Brings notifications to where the operator wants them, by SMTP.
//!
//! Bounces wait in a queue with a limit; what finds it full is dropped and counted, and mail never waits for
//! it. One connection takes what has gathered. What is not accepted at once is counted as failed and not
//! tried again: it is a fault that was asked for, not mail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use message::date::DateCache;
use serde_json::{Value, json};
use smtp::client::{BodyForm, Config, Next, Session, Transaction};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::notice::Bounce;

/// The most bounces that wait.
const WAITING_MAX: usize = 10_000;

/// How long the other side may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read at once, in bytes.
const READ_BYTES: usize = 4 << 10;

/// Where workers put bounces.
#[derive(Clone, Debug)]
pub(crate) struct Letterbox {
    queue: mpsc::Sender<Bounce>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Empties the letterbox.
pub(crate) struct Postman {
    queue: mpsc::Receiver<Bounce>,
    counts: Arc<Counts>,
    target: SocketAddr,
    hostname: String,
    number: u64,
    date: DateCache,
}

impl Letterbox {
    /// Never waits. Nothing is written for the null sender (RFC 5321 6.1).
    pub(crate) fn post(&self, bounce: Bounce) {
        if !bounce.sender.is_empty() && self.queue.try_send(bounce).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many notifications were accepted, were not, and found the queue full.
    pub(super) fn report(&self) -> Value {
        let Counts { sent, failed, dropped } = &*self.counts;
        let [sent, failed, dropped] = [sent, failed, dropped].map(|count| count.load(Ordering::Relaxed));
        json!({ "sent": sent, "failed": failed, "dropped": dropped })
    }
}

impl Postman {
    pub(crate) fn new(target: SocketAddr, hostname: &str) -> (Self, Letterbox) {
        let (sender, queue) = mpsc::channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let letterbox = Letterbox { queue: sender, counts: Arc::clone(&counts) };
        let postman =
            Self { queue, counts, target, hostname: hostname.to_owned(), number: 0, date: DateCache::new() };
        (postman, letterbox)
    }

    /// Works until it is told to stop; what waits then is lost.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        tokio::select! {
            () = self.work() => {}
            // An error means that the server object is gone, which is the same wish.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        Ok(())
    }

    async fn work(&mut self) {
        while let Some(first) = self.queue.recv().await {
            let mut next = Some(first);
            let mut round = None;
            while let Some(bounce) = next {
                if round.is_none() {
                    round = Round::begin(self.target, &self.hostname).await.ok();
                }
                let sent = self.deliver(round.as_mut(), &bounce).await;
                let count = if sent.is_ok() { &self.counts.sent } else { &self.counts.failed };
                count.fetch_add(1, Ordering::Relaxed);
                round = round.filter(|_| sent.is_ok());
                next = self.queue.try_recv().ok();
            }
            if let Some(round) = round {
                round.end().await;
            }
        }
    }

    async fn deliver(&mut self, round: Option<&mut Round>, bounce: &Bounce) -> io::Result<()> {
        let round = round.ok_or(io::ErrorKind::NotConnected)?;
        self.number += 1;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let date = self.date.rfc5322(i64::try_from(seconds).unwrap_or(i64::MAX));
        let notice = bounce.notice(&self.hostname, date, self.number);
        round.send(&bounce.sender, &notice).await
    }
}

/// One connection to whoever takes the notifications.
struct Round {
    stream: TcpStream,
    session: Session,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Round {
    async fn begin(target: SocketAddr, hostname: &str) -> io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(target)).await??;
        let session = Session::new(Config { ehlo_domain: hostname.to_owned(), ..Config::default() });
        let mut round = Self { stream, session, out: Vec::new(), input: Vec::new() };
        round.until_ready(Next::Read, &[]).await?;
        Ok(round)
    }

    async fn send(&mut self, to: &str, notice: &[u8]) -> io::Result<()> {
        let recipients = [to];
        let transaction = Transaction {
            from: "",
            recipients: &recipients,
            body_bytes: notice.len() as u64,
            eight_bit: !notice.is_ascii(),
            smtputf8: !to.is_ascii(),
            binary: false,
            require_tls: false,
        };
        let next = self.session.begin(&transaction, &mut self.out).map_err(io::Error::other)?;
        self.until_ready(next, notice).await?;
        if self.session.result().is_delivered(0) { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
    }

    /// A goodbye that fails changes nothing any more.
    async fn end(mut self) {
        self.session.quit(&mut self.out);
        let _ = timeout(PATIENCE, self.stream.write_all(&self.out)).await;
    }

    async fn until_ready(&mut self, mut next: Next, body: &[u8]) -> io::Result<()> {
        loop {
            next = match next {
                Next::Ready => return Ok(()),
                Next::Closed | Next::StartTls => return Err(io::ErrorKind::ConnectionAborted.into()),
                Next::Read => {
                    self.write().await?;
                    self.read().await?
                }
                Next::WriteBody(form) => {
                    match form {
                        BodyForm::Verbatim => self.out.extend_from_slice(body),
                        BodyForm::DotStuffed => smtp::data::stuff(&[body], &mut self.out),
                    }
                    self.write().await?;
                    self.session.body_written();
                    self.handle()?
                }
            };
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(&self.out)).await??;
        self.out.clear();
        Ok(())
    }

    async fn read(&mut self) -> io::Result<Next> {
        let start = self.input.len();
        self.input.resize(start + READ_BYTES, 0);
        let read = timeout(PATIENCE, self.stream.read(&mut self.input[start..])).await??;
        self.input.truncate(start + read);
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.handle()
    }

    fn handle(&mut self) -> io::Result<Next> {
        let (consumed, next) = self.session.handle(&self.input, &mut self.out).map_err(io::Error::other)?;
        self.input.drain(..consumed);
        Ok(next)
    }
}
