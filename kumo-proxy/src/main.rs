//! The command line of kumo-proxy. Reads flags and files, binds, says where, and serves until a signal.
#![expect(clippy::print_stderr, reason = "the start-up lines and errors are this program's interface")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use kumo_proxy::options::{self, Limits, Options};
use kumo_proxy::rules::Rules;
use kumo_proxy::server::{Server, Stopping};
use kumo_proxy::tls::Tls;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  For the nodes of a cluster, which come from 10.0.0.0/24 and send from the addresses of this host:
    kumo-proxy --listen 10.0.0.5:5000 --allow-client 10.0.0.0/24
  Only from some of these addresses, with passwords and TLS:
    kumo-proxy --listen 10.0.0.5:5000 --allow-client 10.0.0.0/24 --allow-source 192.0.2.0/28 \\
        --users /etc/kumod/proxy-users --tls-certificate proxy.pem --tls-key proxy.key
  What it does:
    curl -s http://127.0.0.1:8005/metrics

Who is not on a list is not served: without flags only this host is, and only to ports of mail on other hosts.
A client says with BIND which address of this host it comes from, then with CONNECT where it goes.
On start it prints, one a line on standard error, `proxy listener on ADDR`, `http listener on ADDR`, and
`initialization complete`. SIGTERM and SIGINT stop it once connections have ended; RUST_LOG sets the diagnostic log.
Exit codes: 0 stopped, 1 failed, 2 usage.";

/// A SOCKS5 server through which a cluster shares its source addresses
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Where to wait for clients; port 0 takes a free one; may be repeated
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:5000")]
    listen: Vec<SocketAddr>,
    /// Where to answer for liveness and metrics; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8005")]
    http_listen: SocketAddr,
    /// No liveness, no metrics
    #[arg(long, conflicts_with = "http_listen")]
    no_http: bool,
    /// Move bytes by copying, even where splice(2) works
    #[arg(long)]
    no_splice: bool,

    /// Networks that clients may come from; may be repeated
    #[arg(long, value_name = "NETWORK", default_values = ["127.0.0.0/8", "::1/128"], help_heading = "What is allowed")]
    allow_client: Vec<IpNet>,
    /// Addresses that they may send from; may be repeated [default: all of this host]
    #[arg(long, value_name = "NETWORK", help_heading = "What is allowed")]
    allow_source: Vec<IpNet>,
    /// Networks that they may reach; may be repeated [default: all but this host and its link]
    #[arg(long, value_name = "NETWORK", help_heading = "What is allowed")]
    allow_destination: Vec<IpNet>,
    /// Ports that they may reach; may be repeated
    #[arg(long, value_name = "PORT", default_values_t = [25, 465, 587], help_heading = "What is allowed")]
    allow_port: Vec<u16>,
    /// A file with a line USER:PASSWORD for each user; everybody has to be one then
    #[arg(long, value_name = "FILE", help_heading = "What is allowed")]
    users: Option<PathBuf>,

    /// The certificate in PEM, with which clients speak TLS; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    tls_certificate: Option<PathBuf>,
    /// Its key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Clients at once; more are closed
    #[arg(long, value_name = "N", default_value_t = 32768, value_parser = at_least_one(), help_heading = "Limits")]
    connections_max: u64,
    /// Clients at once from one address; more are closed
    #[arg(long, value_name = "N", default_value_t = 32768, value_parser = at_least_one(), help_heading = "Limits")]
    connections_per_client_max: u64,
    /// Time to say what is wanted, and time to reach it
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = at_least_one(), help_heading = "Limits")]
    timeout_seconds: u64,
    /// A connection on which nothing passes for so long is cut
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = at_least_one(), help_heading = "Limits")]
    idle_seconds: u64,
    /// How long a stop waits for connections to end
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Limits")]
    drain_seconds: u64,
}

fn at_least_one() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

impl Args {
    fn options(self) -> Result<Options, String> {
        let users = self.users.as_deref().map(options::users).transpose()?.unwrap_or_default();
        let tls = match (self.tls_certificate, self.tls_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Tls::new(certificate, key)?)),
            _ => None,
        };
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let time = Duration::from_secs(self.timeout_seconds);
        Ok(Options {
            listen: self.listen,
            http_listen: (!self.no_http).then_some(self.http_listen),
            rules: Rules {
                clients: self.allow_client,
                sources: self.allow_source,
                destinations: self.allow_destination,
                ports: self.allow_port,
                users,
            },
            limits: Limits {
                connections_max: count(self.connections_max),
                connections_per_client_max: count(self.connections_per_client_max),
                handshake: time,
                connect: time,
                idle: Duration::from_secs(self.idle_seconds),
                drain: Duration::from_secs(self.drain_seconds),
            },
            splices: !self.no_splice,
            tls,
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // The journal of a host is no terminal.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    match args.options().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kumo-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Options) -> Result<(), String> {
    raise_file_limit();
    let server = Server::bind(options)?;
    server.addresses().iter().for_each(|address| eprintln!("proxy listener on {address}"));
    server.http_address().iter().for_each(|address| eprintln!("http listener on {address}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    let ended = runtime.block_on(until_signal(server)).map_err(|error| error.to_string());
    // Clients that are left after the drain are cut here.
    runtime.shutdown_background();
    ended
}

async fn until_signal(server: Server) -> std::io::Result<()> {
    let (stop, stopping) = Stopping::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: nobody new is taken, connections may end");
        stop.send_replace(true);
    });
    eprintln!("initialization complete");
    server.run(stopping).await
}

/// Takes as many descriptors as the host gives: two for each connection, and two more for each direction while bytes pass.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
