//! Accepts clients, counts them, and takes each to where it wants to go.
//!
//! Who is not on the list, or one too many, is closed before a byte is read. When the proxy stops, nobody new is taken, and those who are
//! there have the time of `drain` to end by themselves; then they are cut.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::handshake::{self, Arrived, Refused};
use crate::http;
use crate::metrics::{Metrics, count};
use crate::options::Options;
use crate::pipes::Pipes;
use crate::relay::{self, Counters, Ended};

/// Connections that the kernel may hold before they are accepted; `net.core.somaxconn` may allow fewer.
const BACKLOG_MAX: i32 = 4096;
/// Pause before accepting again when the host is out of descriptors or memory.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Tells everybody that the proxy is stopping.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// The signal, and what gives it.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether it is.
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(&mut self) {
        // A sender that is gone counts as the signal.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

/// A proxy with its ports bound.
#[derive(Debug)]
pub struct Server {
    options: Arc<Options>,
    listeners: Vec<StdListener>,
    http: Option<StdListener>,
    metrics: Arc<Metrics>,
}

/// What all clients share.
#[derive(Debug)]
struct House {
    options: Arc<Options>,
    metrics: Arc<Metrics>,
    pipes: Pipes,
    /// Clients by address. An address without one is not in it.
    present: Mutex<HashMap<IpAddr, usize>>,
}

impl Server {
    /// Binds all ports.
    ///
    /// # Errors
    /// One cannot be had; the text names it.
    pub fn bind(options: Options) -> Result<Self, String> {
        let bind = |address: &SocketAddr| {
            listen(*address).map_err(|error| format!("cannot listen on {address}: {error}"))
        };
        let listeners = options.listen.iter().map(bind).collect::<Result<_, _>>()?;
        let http = options.http_listen.as_ref().map(bind).transpose()?;
        Ok(Self { options: Arc::new(options), listeners, http, metrics: Arc::default() })
    }

    /// Where clients are waited for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Where liveness and metrics are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.local_addr().ok()
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `stopping`, and then until the last client has ended or the time for that is over.
    ///
    /// # Errors
    /// The sockets cannot be used with the runtime.
    pub async fn run(self, stopping: Stopping) -> io::Result<()> {
        let Self { options, listeners, http, metrics } = self;
        let drain = options.limits.drain;
        let house = Arc::new(House { options, metrics, pipes: Pipes::default(), present: Mutex::default() });
        if let Some(listener) = http {
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(http::serve(listener, Arc::clone(&house.metrics), stopping.clone()));
        }
        let mut doors = JoinSet::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener)?;
            doors.spawn(Arc::clone(&house).accept(listener, stopping.clone()));
        }
        let mut clients = Vec::new();
        while let Some(door) = doors.join_next().await {
            clients.extend(door);
        }
        let all_end = async {
            for set in &mut clients {
                while set.join_next().await.is_some() {}
            }
        };
        if timeout(drain, all_end).await.is_err() {
            let left: usize = clients.iter().map(JoinSet::len).sum();
            tracing::warn!(left, "connections were still open after {drain:?}; they are cut");
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl House {
    /// Takes clients until the proxy stops, and hands over those who are there then.
    async fn accept(self: Arc<Self>, listener: TcpListener, mut stopping: Stopping) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopping.wait() => return clients,
                Some(_) = clients.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(presence) = Presence::enter(&self, peer.ip().to_canonical()) {
                        clients.spawn(Arc::clone(&self).serve(stream, peer, presence));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, presence: Presence) {
        // Without these a connection only learns later that its peer is gone, and small writes wait.
        let _ = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_keepalive(true));
        let ended = match &self.options.tls {
            None => self.serve_plain(stream, peer).await,
            Some(tls) => {
                let shaken = timeout(self.options.limits.handshake, tls.acceptor().accept(stream)).await;
                match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(stream) => self.serve_tls(stream, peer).await,
                    Err(error) => {
                        count(&self.metrics.tls_failures);
                        Err(error.into())
                    }
                }
            }
        };
        match ended {
            Ok(()) => count(&self.metrics.completed),
            Err(reason) => {
                count(&self.metrics.failed);
                tracing::info!(%peer, %reason, "not served");
            }
        }
        drop(presence);
    }

    async fn serve_plain(&self, mut client: TcpStream, peer: SocketAddr) -> Result<(), Refused> {
        let (mut server, place) = self.arrive(&mut client).await?;
        let pipes = self.options.splices.then_some(&self.pipes);
        let idle = self.options.limits.idle;
        let ended = relay::plain(&mut client, &mut server, pipes, idle, self.counters()).await;
        self.note_end(&ended, peer, &place);
        Ok(())
    }

    async fn serve_tls<S>(&self, mut client: S, peer: SocketAddr) -> Result<(), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut server, place) = self.arrive(&mut client).await?;
        let idle = self.options.limits.idle;
        let ended = relay::copied(&mut client, &mut server, idle, self.counters()).await;
        self.note_end(&ended, peer, &place);
        Ok(())
    }

    /// Up to the first byte that is moved, those included that the client sent ahead.
    async fn arrive<S>(&self, client: &mut S) -> Result<(TcpStream, String), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Arrived { mut server, ahead, place } =
            handshake::receive(client, &self.options, &self.metrics).await?;
        server.write_all(&ahead).await?;
        self.metrics.bytes_from_client.fetch_add(ahead.len() as u64, Ordering::Relaxed);
        Ok((server, place.to_string()))
    }

    fn counters(&self) -> Counters<'_> {
        Counters { up: &self.metrics.bytes_from_client, down: &self.metrics.bytes_to_client }
    }

    fn note_end(&self, ended: &Ended, peer: SocketAddr, place: &str) {
        if let Ended::Idle = ended {
            count(&self.metrics.idle);
        }
        tracing::debug!(%peer, place, ?ended, "done");
    }
}

/// A client in the house, counted as long as this is held.
struct Presence {
    house: Arc<House>,
    client: IpAddr,
}

impl Presence {
    /// `None` for who is not allowed or one too many.
    fn enter(house: &Arc<House>, client: IpAddr) -> Option<Self> {
        match Self::refusal(house, client) {
            None => {
                count(&house.metrics.accepted);
                Some(Self { house: Arc::clone(house), client })
            }
            Some(reason) => {
                count(&house.metrics.denied);
                tracing::debug!(%client, reason, "turned away");
                None
            }
        }
    }

    /// Why a client cannot come in; who can is counted.
    fn refusal(house: &House, client: IpAddr) -> Option<&'static str> {
        let (limits, active) = (house.options.limits, &house.metrics.active);
        if !house.options.rules.allows_client(client) {
            return Some("it is not among the allowed clients");
        }
        // Held while the clients of all addresses are counted, too, so that two at once cannot both be the last.
        let mut present = house.present.lock().unwrap_or_else(PoisonError::into_inner);
        if active.load(Ordering::Relaxed) >= limits.connections_max as u64 {
            return Some("there are as many connections as there may be");
        }
        let own = present.entry(client).or_default();
        if *own >= limits.connections_per_client_max {
            return Some("this address has as many connections as one may have");
        }
        *own += 1;
        count(active);
        None
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut present = self.house.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = present.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                present.remove(&self.client);
            }
        }
        self.house.metrics.active.fetch_sub(1, Ordering::Relaxed);
    }
}
