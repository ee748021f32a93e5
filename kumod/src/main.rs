//! The command line of kumod. Reads flags and policy, starts the node, and says in one line why it could not.
#![expect(clippy::print_stderr, reason = "the start-up lines and errors are this program's interface")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use kumod::config::{self, Config, Destination, HttpListener, Limits, OutboundSpec, SmtpListener, SpoolSpec};
use kumod::node::{self, User};
use kumod::policy::Policy;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  A local relay that finds next hops by DNS, spool and log below ./mail:
    kumod --spool ./mail/spool --log-dir ./mail/log
  Everything to one host:
    kumod --spool ./mail/spool --log-dir ./mail/log --relay-to 127.0.0.1:2026
  A policy in KumoMTA's language, as an unprivileged user:
    kumod --policy /etc/kumod/relay.lua --user kumod

Without --policy, mail is relayed for 127.0.0.1 and ::1 only.
SIGTERM and SIGINT stop gracefully. RUST_LOG sets the diagnostic log (default: info).
Exit codes: 0 stopped, 1 could not start, 2 usage.";

/// A mail transfer agent for high-volume senders: a 250 means the message is on stable storage.
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// A policy in KumoMTA's Lua; it says which listeners there are
    #[arg(long, value_name = "FILE.lua")]
    policy: Option<PathBuf>,
    /// Become this user once the ports are bound
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Where to listen for SMTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2025", conflicts_with = "policy")]
    smtp_listen: SocketAddr,
    /// Where to listen for HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8000", conflicts_with = "policy")]
    http_listen: SocketAddr,
    /// Send all mail to this host instead of asking DNS
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "policy")]
    relay_to: Option<Destination>,
    /// The port of next hops found by DNS
    #[arg(long, value_name = "N", default_value_t = 25)]
    smtp_port: u16,
    /// The folder of the spool; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "/var/spool/kumod")]
    spool: PathBuf,
    /// The folder of the log records; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "/var/log/kumod")]
    log_dir: PathBuf,
    /// What a 250 promises
    #[arg(long, value_enum, default_value_t = DurabilityArg::Commit)]
    durability: DurabilityArg,
    /// How the spool is written
    #[arg(long, value_enum, default_value_t = BackendArg::Auto)]
    spool_backend: BackendArg,
    /// The name of this host in banner, EHLO and Received [default: the kernel's]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DurabilityArg {
    /// The message is on stable storage
    Commit,
    /// The message survives a crash of the process, not of the machine
    Written,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendArg {
    /// io_uring where the host lets it, else threads
    Auto,
    /// io_uring
    Uring,
    /// pwritev2 on threads
    Threads,
}

impl Args {
    fn config(&self) -> Config {
        let limits = Limits::default();
        Config {
            hostname: self.hostname.clone().unwrap_or_else(config::host_name),
            smtp_listeners: vec![SmtpListener { listen: self.smtp_listen, ..SmtpListener::default() }],
            http_listeners: vec![HttpListener { listen: self.http_listen, ..HttpListener::default() }],
            spool: SpoolSpec {
                dir: self.spool.clone(),
                durability: match self.durability {
                    DurabilityArg::Commit => spool::Durability::Commit,
                    DurabilityArg::Written => spool::Durability::Written,
                },
                backend: match self.spool_backend {
                    BackendArg::Auto => spool::Backend::Auto,
                    BackendArg::Uring => spool::Backend::Uring,
                    BackendArg::Threads => spool::Backend::Threads,
                },
                mode: spool::WriteMode::Direct,
            },
            log_dir: self.log_dir.clone(),
            outbound: OutboundSpec { relay_to: self.relay_to.clone(), smtp_port: Some(self.smtp_port) },
            limits,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kumod: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let mut config = args.config();
    let policy = match &args.policy {
        Some(path) => Policy::load(path, &mut config)?,
        None => Policy::none(),
    };
    let user = args.user.as_deref().map(User::find).transpose()?;
    node::run(config, policy, user.as_ref())?;
    Ok(())
}
