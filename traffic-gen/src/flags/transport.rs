//! Flags that say which servers are loaded, from where, and how they are talked to.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use clap::Args;
use traffic_gen::{Plan, Reuse, Target, Tls, parse};

use super::auth::AuthFlags;
use super::tls::TlsFlags;
use super::{Refusal, domain_name, refusal};

#[derive(Args)]
pub(crate) struct TransportFlags {
    /// The server under load; may be repeated, or be a list with commas: connections go to them in turn
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:2025")]
    #[arg(default_value_if("http", "true", "127.0.0.1:8000"))]
    target: Vec<String>,
    /// Allow targets on the public Internet, port 25 too
    #[arg(long)]
    i_own_this_host: bool,
    /// An address of this host that connections come from; may be repeated, or be a list with commas:
    /// connections use them in turn
    #[arg(long, visible_alias = "source", value_name = "ADDRESS", value_delimiter = ',', value_parser = source)]
    local_interface: Vec<IpAddr>,
    /// What EHLO says
    #[arg(long, visible_alias = "ehlo", value_name = "NAME", value_parser = domain_name)]
    #[arg(default_value = "traffic-gen.localhost")]
    helo: String,
    /// LMTP instead of SMTP
    #[arg(long, conflicts_with = "http")]
    lmtp: bool,
    /// One command at a time, even where PIPELINING is offered
    #[arg(long)]
    no_pipelining: bool,
    /// DATA, even where CHUNKING is offered
    #[arg(long)]
    no_chunking: bool,
    /// Messages over one connection, after which it is closed and another one opened: N, MIN:MAX (drawn from
    /// the seed) or inf
    #[arg(long, visible_alias = "msgs-per-conn", value_name = "N", default_value = "5000")]
    messages_per_connection: Reuse,
    /// Open lost connections again
    #[arg(long)]
    keep_going: bool,
    /// How long the server may be silent while it owes a reply
    #[arg(short, long, value_name = "TIME", default_value = "60s", value_parser = parse::duration)]
    timeout: Duration,
    #[command(flatten, next_help_heading = "Encryption and identity")]
    tls: TlsFlags,
    #[command(flatten)]
    auth: AuthFlags,
}

impl TransportFlags {
    /// A plan for these servers; everything else is as by default.
    pub(crate) fn plan(&self) -> Result<Plan, Refusal> {
        let resolve = |name: &String| Target::resolve(name, self.i_own_this_host).map_err(refusal);
        let targets: Vec<Target> = self.target.iter().map(resolve).collect::<Result<_, _>>()?;
        let Some(first) = targets.first() else {
            return Err(Refusal::usage("no target to send to; name one, such as 127.0.0.1:2025".to_owned()));
        };
        let mut plan = Plan { targets: targets.clone(), ..Plan::new(first.clone()) };
        plan.sources.clone_from(&self.local_interface);
        plan.helo.clone_from(&self.helo);
        plan.keep_going = self.keep_going;
        plan.timeout = self.timeout;
        plan.transport.lmtp = self.lmtp;
        plan.transport.pipelining = !self.no_pipelining;
        plan.transport.chunking = !self.no_chunking;
        plan.transport.messages_per_connection = self.messages_per_connection;
        plan.transport.auth = self.auth.credentials()?;
        self.tls.apply(&mut plan.transport)?;
        let encrypted = plan.transport.tls != Tls::None
            || plan.targets.iter().any(|target| target.name.starts_with("https:"));
        match self.tls.without_encryption() {
            Some(flag) if !encrypted => Err(Refusal::usage(format!(
                "{flag} says nothing without encryption; add --starttls or --tls-on-connect"
            ))),
            _ => Ok(plan),
        }
    }

    /// How long the server may be silent.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// An address of this host.
fn source(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no IP address; write one of this host's, such as 127.0.0.2"))?;
    TcpListener::bind((address, 0))
        .map(|_| address)
        .map_err(|error| format!("nothing can be sent from {address}: {error}; name an address of this host"))
}
