//! The command `sink`: reads the flags, starts the server, waits for a signal, writes the report.
//!
//! Exit codes: 0 stopped by a signal, 1 could not start or write its report, 2 wrong flags.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sink::{Config, Server, Stats, connections_that_fit, file_limit_raise};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Examples:
  sink                                           swallow mail on 127.0.0.1:2026, statistics on 127.0.0.1:8002
  sink --listen 127.0.0.1:0 --json sink.json     take a free port, write the statistics when stopped
  curl -s http://127.0.0.1:8002/stats            what has arrived, over all runs
  curl -s http://127.0.0.1:8002/ledger/RUN       sequence numbers had and missing of one run of traffic-gen
  curl -s http://127.0.0.1:8002/hlog/RUN         end to end latency as an HdrHistogram interval log

On start it prints, one a line on standard error,
`smtp listener on ADDR`, `http listener on ADDR` and `initialization complete`.
SIGTERM and SIGINT stop it.
Exit codes: 0 stopped by a signal, 1 failed, 2 usage.";

/// An SMTP server that accepts and discards everything, and remembers what it saw.
#[derive(Parser)]
#[command(name = "sink", version, after_help = EXAMPLES)]
struct Flags {
    /// Where to serve SMTP; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2026", value_parser = address)]
    listen: SocketAddr,
    /// Where to serve statistics; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8002", value_parser = address)]
    http: SocketAddr,
    /// What the banner calls this host
    #[arg(long, value_name = "NAME", default_value = "sink.localhost")]
    hostname: String,
    /// Threads that serve SMTP, each with its own listener [default: the cores given to this process]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Connections that the kernel keeps ready for each listener
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
    /// Close a connection that says nothing for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    idle_timeout: u32,
    /// Write the statistics to this file when stopped
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    file_limit_raise();
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    // Both are caught before anybody can know that the sink runs.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(flags.config())?;
    eprintln!("smtp listener on {}", server.smtp_addr);
    eprintln!("http listener on {}", server.http_addr);
    eprintln!("initialization complete");
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let stats = server.stop();
    match &flags.json {
        Some(file) => write_report(file, &stats),
        None => Ok(()),
    }
}

impl Flags {
    fn config(&self) -> Config {
        let defaults = Config::default();
        let workers = self.workers.map_or(defaults.workers, usize::from);
        Config {
            listen: self.listen,
            http: self.http,
            hostname: self.hostname.clone(),
            workers,
            connections_max: connections_that_fit(workers),
            backlog: self.backlog,
            idle_timeout: Duration::from_secs(u64::from(self.idle_timeout)),
            ..defaults
        }
    }
}

fn write_report(file: &Path, stats: &Stats) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = serde_json::to_string_pretty(stats)?;
    text.push('\n');
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("{error}; write it as HOST:PORT"))?;
    addresses.next().ok_or_else(|| format!("{text} has no address"))
}
