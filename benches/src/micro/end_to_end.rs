//! Mail from generator through kumod to sink, all in this process, over loopback.
//!
//! It owns the three, and knows kumod's threads because they are the ones that came with it: what they allocate is counted, to the
//! piece, and nothing of the others. Everything that is sent has to arrive; if not, or if kumod ends early, the operation fails.
//! kumod stops by SIGTERM, which this process sends itself, so one is enough in a process and it should be the last thing that is done.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kumod::config::{Config, Destination, HttpListener, OutboundSpec, SmtpListener, SpoolSpec};
use kumod::node::{self, StartError};
use kumod::policy::Policy;
use rustix::process::{Signal, getpid, kill_process};
use sink::RunStats;
use traffic_gen::{ContentPlan, Plan, Report};

use super::measure::between;
use super::{Operation, Spent};
use crate::allocator::{Asked, asked_by_thread};
use crate::error::{During, Error, Result};
use crate::http;
use crate::processes::READY_WAIT_MAX;
use crate::scratch::Scratch;

/// Connections of the generator.
const CONNECTIONS: usize = 64;
/// Fewer would measure how connections are opened.
const MESSAGES_MIN: u64 = 2000;
/// Bytes of disk for kumod's spool and log.
const SPOOL_BYTES: u64 = 2 << 30;
/// Mail that was promised arrives within this time.
const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at something that tells nobody when it changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The three programs, running.
pub struct EndToEnd {
    body_bytes: usize,
    smtp: SocketAddr,
    http: SocketAddr,
    sink: sink::Server,
    /// Threads that were here before kumod.
    others: BTreeSet<u32>,
    /// Gone once it was joined.
    node: Option<JoinHandle<std::result::Result<(), StartError>>>,
    _folder: Scratch,
}

impl EndToEnd {
    /// Starts all of them; spool and log lie in a folder below `place`.
    ///
    /// # Errors
    /// The place is in memory or full, or one of them does not start.
    pub fn start(place: &Path, body_bytes: usize) -> Result<Self> {
        let folder = Scratch::make(place, "end-to-end", SPOOL_BYTES, "--dir")?;
        let sink = sink::Server::start(sink::Config::on_free_ports());
        let sink = sink.map_err(|error| Error::Peer(format!("sink: {error}")))?;
        let (smtp, http) = (free_address()?, free_address()?);
        let config = config(folder.path(), smtp, http, sink.smtp_addr);
        let others = threads()?;
        let node = std::thread::Builder::new().name("kumod".into());
        let node =
            node.spawn(move || node::run(config, Policy::none(), None)).during(|| "start a thread".into())?;
        let mut this = Self { body_bytes, smtp, http, sink, others, node: Some(node), _folder: folder };
        this.wait("kumod to start", READY_WAIT_MAX, |this| {
            http::text(this.http, "/api/check-liveness/v1").ok().map(drop)
        })?;
        Ok(this)
    }

    fn send(&mut self, messages: u64) -> Result<Spent> {
        let mut plan = Plan::messages(self.smtp, messages);
        plan.concurrency = CONNECTIONS;
        plan.content = ContentPlan::fixed(self.body_bytes);
        let before = asked_by_thread();
        let report = traffic_gen::run(plan);
        let arrived = self.arrival(&report, messages)?;
        let asked = self.asked_since(&before)?;
        let elapsed_ns = arrived.last_ns.saturating_sub(report.first_sent_ns.unwrap_or(arrived.last_ns));
        Ok(Spent { operations: messages, elapsed: Duration::from_nanos(elapsed_ns), asked })
    }

    /// Waits until all has arrived and kumod has nothing left to settle.
    fn arrival(&mut self, report: &Report, messages: u64) -> Result<RunStats> {
        if report.sent != messages {
            self.still_there()?;
            let (sent, errors) = (report.sent, &report.errors);
            return Err(Error::Peer(format!("kumod took {sent} of {messages} messages: {errors:?}")));
        }
        let arrived = self.wait("all mail to arrive", ARRIVAL_WAIT_MAX, |this| {
            let run = this.sink.stats().runs.remove(&report.run_id)?;
            (run.distinct >= messages).then_some(run)
        })?;
        self.wait("kumod to settle all mail", ARRIVAL_WAIT_MAX, |this| {
            let metrics = http::json(this.http, "/metrics.json?prefix=message_count").ok()?;
            (http::metric(&metrics, "message_count") == Some(0.0)).then_some(())
        })?;
        Ok(arrived)
    }

    /// What kumod's threads have asked for since `before`. The generator's have ended by now.
    fn asked_since(&self, before: &[(u32, Asked)]) -> Result<Asked> {
        let kumod: BTreeSet<u32> = threads()?.difference(&self.others).copied().collect();
        let earlier = |thread| before.iter().find(|(other, _)| *other == thread).map(|(_, asked)| *asked);
        let mut sum = Asked::default();
        for (thread, asked) in asked_by_thread() {
            if kumod.contains(&thread) {
                let asked = between(earlier(thread).unwrap_or_default(), asked);
                sum.allocations += asked.allocations;
                sum.bytes += asked.bytes;
            }
        }
        Ok(sum)
    }

    /// Looks until there is something to see.
    fn wait<T>(&mut self, what: &str, limit: Duration, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            self.still_there()?;
            if begun.elapsed() > limit {
                return Err(Error::Peer(format!("waited {} s in vain for {what}", limit.as_secs())));
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// kumod takes the signals of this process, so its end is how an interruption shows.
    fn still_there(&mut self) -> Result<()> {
        let Some(node) = self.node.take_if(|node| node.is_finished()) else {
            return Ok(());
        };
        match node.join() {
            Ok(Ok(())) => Err(Error::Interrupted),
            Ok(Err(error)) => Err(Error::Peer(format!("kumod: {error}"))),
            Err(_) => Err(Error::Peer("kumod panicked; it has said where".into())),
        }
    }
}

impl Operation for EndToEnd {
    fn run(&mut self, operations: u64) -> Result<Spent> {
        self.send(operations)
    }

    fn operations_min(&self) -> u64 {
        MESSAGES_MIN
    }
}

impl Drop for EndToEnd {
    fn drop(&mut self) {
        // It answered, so it handles the signal; where it did not, it has ended or never will, and nothing is sent.
        if let Some(node) =
            self.node.take().filter(|_| http::text(self.http, "/api/check-liveness/v1").is_ok())
        {
            let _ = kill_process(getpid(), Signal::TERM);
            let _ = node.join();
        }
    }
}

fn config(folder: &Path, smtp: SocketAddr, http: SocketAddr, next_hop: SocketAddr) -> Config {
    let listener = SmtpListener {
        listen: smtp,
        // A connection that is closed after so many would be part of the figures.
        max_messages_per_connection: u32::MAX,
        ..SmtpListener::default()
    };
    let next_hop = Destination { host: next_hop.ip().to_string(), port: Some(next_hop.port()) };
    Config {
        hostname: "mx.localhost".to_owned(),
        smtp_listeners: vec![listener],
        http_listeners: vec![HttpListener { listen: http, ..HttpListener::default() }],
        spool: SpoolSpec { dir: folder.join("spool"), ..SpoolSpec::default() },
        log_dir: folder.join("log"),
        outbound: OutboundSpec { relay_to: Some(next_hop), ..OutboundSpec::default() },
        ..Config::default()
    }
}

/// An address that is free now. kumod says its own on standard error only, where this process cannot read it.
fn free_address() -> Result<SocketAddr> {
    let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    address.during(|| "find a free port".into())
}

/// Numbers of all threads of this process.
fn threads() -> Result<BTreeSet<u32>> {
    let tasks = std::fs::read_dir("/proc/self/task").during(|| "list /proc/self/task".into())?;
    Ok(tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect())
}
