//! Where the sink listens, with how many threads, and how patient it is.
//!
//! Refuses an address that is none; everything else here is bounded by its type.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use sink::{Config, connections_that_fit};

/// Flags about the listeners.
#[derive(Args)]
pub(crate) struct ListenFlags {
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
}

impl ListenFlags {
    /// Writes this group's part of the configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        config.listen = self.listen;
        config.http = self.http;
        config.hostname.clone_from(&self.hostname);
        config.workers = self.workers.map_or(config.workers, usize::from);
        config.connections_max = connections_that_fit(config.workers);
        config.backlog = self.backlog;
        config.idle_timeout = Duration::from_secs(u64::from(self.idle_timeout));
    }
}

/// An address, or the first one of a name.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| format!("{error}; write it as HOST:PORT"))?;
    addresses.next().ok_or_else(|| format!("{text} has no address"))
}
