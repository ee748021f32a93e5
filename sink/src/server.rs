//! The sink as a whole: opens the listeners, starts a thread for each worker and one for HTTP, and stops
//! them.
//!
//! A port in use or a refused thread ends the start with an error that names it, and nothing stays behind.
//! Dropping the server stops it like [`Server::stop`], without the statistics.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::config::Config;
use crate::ending::Ending;
use crate::faults::{Live, Postman, RuleError};
use crate::gate::Gate;
use crate::http;
use crate::ledger::CHUNK_BYTES;
use crate::ledger_report::LedgerReport;
use crate::listener::{open_shared, open_single};
use crate::messages::Messages;
use crate::offer::Offer;
use crate::order::Orders;
use crate::recording::{Recorder, Started};
use crate::stats::Stats;
use crate::tally::Tally;
use crate::tls::TlsError;
use crate::worker::{Worker, now_ns};

/// Connections waiting on the HTTP side.
const HTTP_BACKLOG: i32 = 64;

/// Why a sink did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator asked for an address that cannot be had.
    #[error(
        "cannot listen on {address} for {service}: {error}; choose another address, or stop what uses it"
    )]
    Listen {
        /// `smtp`, `smtps` or `http`.
        service: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The operator's rules are wrong.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// The operator's certificate is of no use.
    #[error("no TLS: {0}")]
    Certificate(#[from] CertificateError),
    /// The operator asked for mail in a folder that cannot be had.
    #[error("cannot capture mail in {folder}: {error}; name a folder that can be made and written to")]
    Capture {
        /// The folder asked for.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The host refused a thread or a runtime.
    #[error("the host refused a thread or an event queue: {0}; raise its limits")]
    Host(#[from] io::Error),
}

impl StartError {
    /// Whether what was asked for is wrong in itself.
    #[must_use]
    pub fn is_of_flags(&self) -> bool {
        matches!(self, Self::Rules(_) | Self::Certificate(_))
    }
}

/// What is wrong with certificate or key.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CertificateError(TlsError);

/// What HTTP and the server object read from.
pub(crate) struct Shared {
    workers: Vec<Arc<Worker>>,
    gate: Arc<Gate>,
    pub(crate) faults: Arc<Live>,
    recorder: Option<Arc<Recorder>>,
    ending: Option<Arc<Ending>>,
}

impl Shared {
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        self.workers.iter().map(|worker| worker.tally()).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::new(&self.tallies(), now_ns());
        stats.connections = self.gate.open();
        stats.connections_total = self.gate.opened();
        stats.capture = self.recorder.as_ref().and_then(|recorder| recorder.capture_stats());
        stats
    }

    /// Recent mail, where it is remembered.
    pub(crate) fn messages(&self) -> Option<&Messages> {
        self.recorder.as_ref()?.messages.as_ref()
    }
}

/// A running sink.
pub struct Server {
    /// Where SMTP is served.
    pub smtp_addr: SocketAddr,
    /// Where SMTP is served that begins with TLS.
    pub smtps_addr: Option<SocketAddr>,
    /// Where statistics are served.
    pub http_addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    /// Ends when everybody who has mail for it has gone.
    capture_thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Opens both addresses and starts serving; connections are accepted when it returns.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let listen = |service, address| move |error| StartError::Listen { service, address, error };
        let workers = config.workers.max(1);
        let open = |address| open_shared(address, workers, config.backlog, config.receive_buffer_bytes);
        let listeners = open(config.listen).map_err(listen("smtp", config.listen))?;
        let http = open_single(config.http, HTTP_BACKLOG).map_err(listen("http", config.http))?;
        let gate = Arc::new(Gate::new(config.connections_max.max(1)));
        let chunks = config.ledger_bytes_max / CHUNK_BYTES / workers;
        let orders = Arc::new(Orders::default());
        let tls_listeners = match config.tls_listen {
            Some(address) => open(address).map_err(listen("smtps", address))?,
            None => Vec::new(),
        };
        let post = config.bounce_to.map(|target| Postman::new(target, &config.hostname));
        let (postman, letterbox) = post.unzip();
        let faults = Live::new(config.rules.clone(), config.magic, config.seed, letterbox)?;
        let faults = Arc::new(faults);
        let offer = Arc::new(Offer::new(&config).map_err(CertificateError)?);
        let (recorder, capture_thread) = start_recorder(&config)?.unzip();
        let ending = Ending::new(config.messages_max, config.sessions_max).map(Arc::new);
        let make = || {
            let tally = Tally::new(chunks, Arc::clone(&orders));
            let (offer, faults, gate) = (Arc::clone(&offer), Arc::clone(&faults), Arc::clone(&gate));
            let worker = Worker::new(offer, faults, gate, tally, config.idle_timeout);
            worker.watched(recorder.clone(), ending.clone())
        };
        let made = (0..workers).map(|_| Arc::new(make())).collect();
        let shared = Arc::new(Shared { workers: made, gate, faults, recorder, ending });
        let mut server = Self {
            smtp_addr: listeners[0].local_addr()?,
            smtps_addr: tls_listeners.first().map(TcpListener::local_addr).transpose()?,
            http_addr: http.local_addr()?,
            shared: Arc::clone(&shared),
            stop: watch::Sender::new(false),
            threads: Vec::with_capacity(workers + 1),
            capture_thread: capture_thread.flatten(),
        };
        // From here on a failure drops the server, which stops the threads that run already.
        let mut tls_listeners = tls_listeners.into_iter();
        for (worker, listener) in shared.workers.iter().zip(listeners) {
            server.spawn_worker(Arc::clone(worker), listener, tls_listeners.next())?;
        }
        if let Some(postman) = postman {
            let stop = server.stop.subscribe();
            server.spawn("sink-postman".to_owned(), postman.run(stop))?;
        }
        server.spawn_http(http, shared)?;
        Ok(server)
    }

    /// What has been counted so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What has arrived of one run; `None` where nothing has.
    pub fn ledger(&self, run: message::traffic::RunId) -> Option<LedgerReport> {
        LedgerReport::new(&self.shared.tallies(), run)
    }

    /// Waits until one of the limits is reached that the configuration set; for ever where it set none.
    pub async fn ended(&self) {
        match &self.shared.ending {
            Some(ending) => ending.reached().await,
            None => std::future::pending().await,
        }
    }

    /// Closes all connections with 421 and returns the final count.
    pub fn stop(mut self) -> Stats {
        self.halt();
        self.shared.stats()
    }

    fn halt(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A thread that panicked has already printed why.
            let _ = thread.join();
        }
        if let (Some(recorder), Some(thread)) = (&self.shared.recorder, self.capture_thread.take()) {
            recorder.end();
            // As above; no mail comes any more, so it ends when the last is written.
            let _ = thread.join();
        }
    }

    fn spawn_worker(
        &mut self,
        worker: Arc<Worker>,
        listener: TcpListener,
        tls_listener: Option<TcpListener>,
    ) -> io::Result<()> {
        let stop = self.stop.subscribe();
        let name = format!("sink-{}", self.threads.len());
        self.spawn(name, async move { worker.run(listener, tls_listener, stop).await })
    }

    fn spawn_http(&mut self, listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
        let stop = self.stop.subscribe();
        self.spawn("sink-http".to_owned(), http::serve(listener, shared, stop))
    }

    fn spawn<F>(&mut self, name: String, service: F) -> io::Result<()>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let runtime: Runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let run = move || {
            if let Err(error) = runtime.block_on(service) {
                eprintln!("the event queue of this thread failed: {error}");
            }
        };
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt();
    }
}

fn start_recorder(config: &Config) -> Result<Option<Started>, StartError> {
    let folder = config.capture.as_ref().map(|capture| capture.folder.clone()).unwrap_or_default();
    Recorder::start(config).map_err(|error| StartError::Capture { folder, error })
}
