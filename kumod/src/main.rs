//! The command line of kumod. Reads flags and policy, starts the node, and says in one line why it could not.
#![expect(clippy::print_stderr, reason = "the start-up lines and errors are this program's interface")]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueEnum};
use kumod::command::{SpoolCommand, Verdict};
use kumod::config::{
    self, Config, Destination, EnableTls, HttpListener, OutboundSpec, SmtpListener, SpoolSpec,
};
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
  What is in the spool, while it runs or not:
    kumod spool inspect --policy /etc/kumod/relay.lua

Without --policy, mail is relayed for 127.0.0.1 and ::1 only.
SIGTERM and SIGINT stop gracefully. RUST_LOG sets the diagnostic log (default: info).
Exit codes: 0 stopped, 1 could not start, 2 usage; for subcommands see their --help.";

/// A mail transfer agent for high-volume senders: a 250 means the message is on stable storage.
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
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
    /// Whether STARTTLS is used with next hops, and whether their certificates count (docs/outbound-tls.md)
    #[arg(long, value_enum, value_name = "MODE", default_value_t = EnableTlsArg::Opportunistic, conflicts_with = "policy")]
    enable_tls: EnableTlsArg,
    /// The folder of the spool; made when it is not there
    #[arg(long, value_name = "DIR", default_value = config::SPOOL_DIR)]
    spool: PathBuf,
    /// The folder of the log records; made when it is not there
    #[arg(long, value_name = "DIR", default_value = config::LOG_DIR)]
    log_dir: PathBuf,
    /// Certificates (PEM) of authorities to trust in servers, besides the system's
    #[arg(long, value_name = "FILE")]
    trusted_ca: Option<PathBuf>,
    /// What a 250 promises
    #[arg(long, value_enum, default_value = spool::Durability::Commit.name())]
    durability: DurabilityArg,
    /// How the spool is written
    #[arg(long, value_enum, default_value_t = BackendArg::Auto)]
    spool_backend: BackendArg,
    /// Whether the spool is written through the page cache
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    spool_mode: ModeArg,
    /// Bytes of memory in use from which on new mail is refused [default: three quarters of what the host grants]
    #[arg(long, value_name = "BYTES")]
    memory_limit: Option<u64>,
    /// The name of this host in banner, EHLO and Received [default: the kernel's]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Looks at the spool, checks it, compacts it, or takes messages out of it
    Spool(SpoolCommand),
}

/// A durability by its name; the help is its promise.
#[derive(Clone, Copy, Debug)]
struct DurabilityArg(spool::Durability);

impl ValueEnum for DurabilityArg {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self(spool::Durability::Commit),
            Self(spool::Durability::Written),
            Self(spool::Durability::Deferred),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(self.0.promise()))
    }
}

/// KumoMTA's names are kept as they are.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum EnableTlsArg {
    /// Where it is offered; the certificate must then be a valid one for the host
    Opportunistic,
    /// Where it is offered, whatever the certificate
    OpportunisticInsecure,
    /// Always, with a valid certificate for the host
    Required,
    /// Always, whatever the certificate
    RequiredInsecure,
    /// Never
    Disabled,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// What suits the file system
    Auto,
    /// Past the page cache, over blocks that were written before
    Direct,
    /// Through the page cache
    Buffered,
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
        let local = Config::default();
        Config {
            hostname: self.hostname.clone().unwrap_or(local.hostname),
            smtp_listeners: vec![SmtpListener { listen: self.smtp_listen, ..SmtpListener::default() }],
            http_listeners: vec![HttpListener { listen: self.http_listen, ..HttpListener::default() }],
            spool: SpoolSpec {
                dir: self.spool.clone(),
                durability: self.durability.0,
                backend: match self.spool_backend {
                    BackendArg::Auto => spool::Backend::Auto,
                    BackendArg::Uring => spool::Backend::Uring,
                    BackendArg::Threads => spool::Backend::Threads,
                },
                mode: match self.spool_mode {
                    ModeArg::Auto => spool::WriteMode::Auto,
                    ModeArg::Direct => spool::WriteMode::Direct,
                    ModeArg::Buffered => spool::WriteMode::Buffered,
                },
            },
            log_dir: self.log_dir.clone(),
            outbound: OutboundSpec {
                relay_to: self.relay_to.clone(),
                smtp_port: Some(self.smtp_port),
                enable_tls: match self.enable_tls {
                    EnableTlsArg::Opportunistic => EnableTls::Opportunistic,
                    EnableTlsArg::OpportunisticInsecure => EnableTls::OpportunisticInsecure,
                    EnableTlsArg::Required => EnableTls::Required,
                    EnableTlsArg::RequiredInsecure => EnableTls::RequiredInsecure,
                    EnableTlsArg::Disabled => EnableTls::Disabled,
                },
                authorities: self.trusted_ca.clone().map(config::KeySource::File),
                ..local.outbound
            },
            limits: config::Limits { memory_bytes_max: self.memory_limit, ..local.limits },
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A subcommand's own words are its report; of the rooms below only what is wrong is of interest.
    let level = if args.command.is_some() { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // The journal of a host is no terminal.
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let ended = match &args.command {
        Some(Command::Spool(command)) => command.run(&mut std::io::stdout().lock()).map_err(Into::into),
        None => start(&args).map(|()| Verdict::Well),
    };
    match ended {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Amiss) => ExitCode::FAILURE,
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
