//! A worker of the sink and its clients on one runtime with paused time.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::steps;
use crate::config::{Auth, Config};
use crate::faults::{Live, Postman, RuleSet, Stage};
use crate::gate::Gate;
use crate::listener::open_single;
use crate::offer::Offer;
use crate::order::Orders;
use crate::tally::Tally;
use crate::worker::Worker;

/// Longer than any rule of these tests lasts.
const PATIENCE: Duration = Duration::from_secs(20_000);

/// A sink with rules.
pub(super) struct Laboratory {
    pub(super) worker: Arc<Worker>,
    pub(super) address: SocketAddr,
    pub(super) tls_address: SocketAddr,
    gate: Arc<Gate>,
    live: Arc<Live>,
    start: Instant,
    _stop: watch::Sender<bool>,
}

/// What a client got next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The last line of a reply.
    Reply(String),
    End,
    Reset,
    Nothing,
}

impl Seen {
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Reply(line) => line.get(..3)?.parse().ok(),
            _ => None,
        }
    }
}

impl Laboratory {
    pub(super) async fn new(rules: &str) -> Self {
        Self::start(rules, 7, PATIENCE * 10, None).await
    }

    pub(super) async fn with_seed(rules: &str, seed: u64) -> Self {
        Self::start(rules, seed, PATIENCE * 10, None).await
    }

    pub(super) async fn with_idle(rules: &str, idle: Duration) -> Self {
        Self::start(rules, 7, idle, None).await
    }

    pub(super) async fn with_bounces_to(rules: &str, target: SocketAddr) -> Self {
        Self::start(rules, 7, PATIENCE * 10, Some(target)).await
    }

    async fn start(rules: &str, seed: u64, idle: Duration, bounce_to: Option<SocketAddr>) -> Self {
        let free = "127.0.0.1:0".parse().unwrap();
        let config =
            Config { starttls: true, tls_listen: Some(free), auth: Auth::Any, ..Config::on_free_ports() };
        let stop = watch::Sender::new(false);
        let letterbox = bounce_to.map(|target| {
            let (postman, letterbox) = Postman::new(target, "sink.localhost");
            tokio::spawn(postman.run(stop.subscribe()));
            letterbox
        });
        let live = Arc::new(Live::new(RuleSet::from_toml(rules).unwrap(), false, seed, letterbox).unwrap());
        let gate = Arc::new(Gate::new(1_000));
        let offer = Arc::new(Offer::new(&config).unwrap());
        let tally = Tally::new(100, Arc::new(Orders::default()));
        let worker = Arc::new(Worker::new(offer, Arc::clone(&live), Arc::clone(&gate), tally, idle));
        let (listener, tls_listener) = (open_single(free, 64).unwrap(), open_single(free, 64).unwrap());
        let (address, tls_address) = (listener.local_addr().unwrap(), tls_listener.local_addr().unwrap());
        tokio::spawn(Arc::clone(&worker).run(listener, Some(tls_listener), stop.subscribe()));
        Self { worker, address, tls_address, gate, live, start: Instant::now(), _stop: stop }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn put(&self, rules: &str) {
        self.live.replace(toml::from_str(rules).unwrap()).unwrap();
    }

    pub(super) async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), input: Vec::new() }
    }

    /// A client that has come to the stage and has provoked it.
    pub(super) async fn client_at(&self, stage: Stage) -> Client {
        let mut client = self.client().await;
        let (before, trigger) = steps(stage);
        for step in before {
            client.write(step).await;
            let seen = client.see().await;
            assert!(matches!(seen.code(), Some(220 | 250 | 354)), "{step:?} at {stage}: {seen:?}");
        }
        client.write(trigger).await;
        client
    }

    /// Waits until so many connections are open.
    pub(super) async fn open(&self, count: usize) {
        self.until(|| self.gate.open() == count).await;
    }

    pub(super) async fn until(&self, holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("it did not come");
    }
}

/// A client that says what it is told to.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub(super) async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next reply, its last line, or what came in its place.
    pub(super) async fn see(&mut self) -> Seen {
        loop {
            while let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                if line.get(3) != Some(&b'-') {
                    return Seen::Reply(String::from_utf8_lossy(&line[..end]).into_owned());
                }
            }
            let mut part = [0; 4096];
            match timeout(PATIENCE, self.stream.read(&mut part)).await {
                Err(_) => return Seen::Nothing,
                Ok(Ok(0)) => return Seen::End,
                Ok(Ok(read)) => self.input.extend_from_slice(&part[..read]),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => return Seen::Reset,
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// So many bytes as they come.
    pub(super) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }
}
