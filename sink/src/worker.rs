//! One core's share: its listener, its connections, its tally.
//!
//! Runs on a thread of its own. Nothing here waits for another worker; what is shared (the count of
//! connections) is touched only when a connection opens or closes. Silent connections are found by one look
//! a second, not by a timer each.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::body::Arrived;
use crate::connection::{Connection, LastHeard, Peer};
use crate::ending::Ending;
use crate::faults::Live;
use crate::gate::{Gate, is_exhaustion};
use crate::offer::Offer;
use crate::recording::Recorder;
use crate::tally::Tally;

/// What a connection's task and its worker share.
pub(crate) struct Worker {
    pub(crate) offer: Arc<Offer>,
    /// The rules of misbehaviour; none, as a rule.
    pub(crate) faults: Arc<Live>,
    /// Where mail is kept to be looked at, if it is.
    pub(crate) recorder: Option<Arc<Recorder>>,
    ending: Option<Arc<Ending>>,
    gate: Arc<Gate>,
    tally: Mutex<Tally>,
    /// Seconds since the worker started.
    second: AtomicU32,
    idle_seconds_max: u32,
    connections: Mutex<HashMap<u64, Open>>,
}

struct Open {
    last_heard: LastHeard,
    task: AbortHandle,
}

impl Worker {
    pub(crate) fn new(
        offer: Arc<Offer>,
        faults: Arc<Live>,
        gate: Arc<Gate>,
        tally: Tally,
        idle: Duration,
    ) -> Self {
        Self {
            offer,
            faults,
            recorder: None,
            ending: None,
            gate,
            tally: Mutex::new(tally),
            second: AtomicU32::new(0),
            idle_seconds_max: u32::try_from(idle.as_secs()).unwrap_or(u32::MAX),
            connections: Mutex::new(HashMap::new()),
        }
    }

    /// The same worker, whose mail is kept and counted towards the end, where that is asked for.
    pub(crate) fn watched(self, recorder: Option<Arc<Recorder>>, ending: Option<Arc<Ending>>) -> Self {
        Self { recorder, ending, ..self }
    }

    /// A copy of what has been counted so far.
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    pub(crate) fn record(&self, arrived: &Arrived, recipients: &[u32], now_ns: u64) {
        lock(&self.tally).record(arrived, recipients, now_ns);
        if let Some(ending) = &self.ending {
            ending.message();
        }
    }

    pub(crate) fn second(&self) -> u32 {
        self.second.load(Ordering::Relaxed)
    }

    /// The connection of that number has gone.
    pub(crate) fn leave(&self, number: u64) {
        lock(&self.connections).remove(&number);
        self.gate.leave();
        if let Some(ending) = &self.ending {
            ending.session();
        }
    }

    /// Serves the listeners until it is told to stop; on the second one TLS comes before the banner. The
    /// caller runs it on the worker's own runtime.
    pub(crate) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        tls_listener: Option<TcpListener>,
        mut stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let tls_listener = tls_listener.map(tokio::net::TcpListener::from_std).transpose()?;
        let mut sweep = interval(Duration::from_secs(1));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sweep_all = async {
            loop {
                sweep.tick().await;
                self.sweep();
            }
        };
        let accept_tls = async {
            match tls_listener {
                Some(listener) => self.accept_all(listener, true).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.accept_all(listener, false) => {}
            () = accept_tls => {}
            () = sweep_all => {}
            // An error means that the server object is gone, which is the same wish.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        Ok(())
    }

    async fn accept_all(self: &Arc<Self>, listener: tokio::net::TcpListener, tls_first: bool) {
        loop {
            if self.gate.is_full() {
                self.gate.wait().await;
                continue;
            }
            match listener.accept().await {
                Ok((stream, peer)) => self.seat(stream, peer.ip(), tls_first),
                Err(error) if is_exhaustion(&error) => self.gate.wait().await,
                // Anything else concerns the one connection that was taken, and it has gone (accept(2)).
                Err(_) => {}
            }
        }
    }

    fn seat(self: &Arc<Self>, stream: TcpStream, client: IpAddr, tls_first: bool) {
        let number = self.gate.enter();
        let last_heard = LastHeard::new(AtomicU32::new(self.second()));
        let peer = Peer { client, number, tls_first, last_heard: Arc::clone(&last_heard) };
        let connection = Connection::new(stream, Arc::clone(self), peer);
        // The task runs on this thread, so it cannot end before it is listed.
        let task = tokio::spawn(connection.serve()).abort_handle();
        lock(&self.connections).insert(number, Open { last_heard, task });
    }

    fn sweep(&self) {
        let second = self.second.fetch_add(1, Ordering::Relaxed);
        for open in lock(&self.connections).values() {
            if second.saturating_sub(open.last_heard.load(Ordering::Relaxed)) > self.idle_seconds_max {
                open.task.abort();
            }
        }
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock that the generator stamps with.
pub(crate) fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// How long ago `sent_ns` was. It is a time of [`now_ns`], or in a run of several machines the time of day,
/// which is far beyond it: then this host's own time of day decides, and the answer is as good as the clocks
/// agree.
pub(crate) fn since_ns(sent_ns: u64, now_ns: u64) -> u64 {
    now_ns.checked_sub(sent_ns).unwrap_or_else(|| clock_ns(ClockId::Realtime).saturating_sub(sent_ns))
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// No lock is held while something can panic half-way, so a poisoned one still holds good numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
