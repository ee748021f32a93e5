//! Where the sink listens, with how many threads, and how patient it is.
//!
//! Refuses an address that is none, or none of the family asked for; everything else here is bounded by its
//! type.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;
use sink::{Config, connections_that_fit};

/// Flags about the listeners.
#[derive(Args)]
pub(crate) struct ListenFlags {
    /// Where to serve SMTP, as Postfix's smtp-sink takes it: [inet:][HOST]:PORT
    #[arg(value_name = "ADDRESS", value_parser = smtp_sink_address, conflicts_with = "listen")]
    address: Option<Addresses>,
    /// The same as --backlog, behind ADDRESS
    #[arg(value_name = "BACKLOG", value_parser = clap::value_parser!(i32).range(1..))]
    #[arg(conflicts_with = "backlog")]
    backlog_behind: Option<i32>,
    /// Where to serve SMTP; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2026", value_parser = addresses)]
    listen: Addresses,
    /// Take an IPv4 address where a name has several
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Take an IPv6 address where a name has several
    #[arg(short = '6')]
    ipv6: bool,
    /// Where to serve statistics; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8002", value_parser = address)]
    http: SocketAddr,
    /// What the banner calls this host
    #[arg(long, short = 'h', value_name = "NAME", default_value = "sink.localhost")]
    hostname: String,
    /// Threads that serve SMTP, each with its own listener [default: the cores given to this process]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Connections that the kernel keeps ready for each listener
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(i32).range(1..))]
    backlog: i32,
    /// Connections served at once; the rest waits [default: as many as files may be open]
    #[arg(long, short = 'm', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: Option<u32>,
    /// Close a connection that says nothing for so many seconds
    #[arg(long, short = 't', value_name = "SECONDS", default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    idle_timeout: u32,
    /// What the kernel keeps of what a client sent ahead; it is the TCP window [default: the kernel decides]
    #[arg(long, short = 'T', value_name = "BYTES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    receive_buffer: Option<u32>,
}

impl ListenFlags {
    /// Writes this group's part of the configuration.
    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), String> {
        config.listen = self.choose(self.address.as_ref().unwrap_or(&self.listen))?;
        config.http = self.http;
        config.hostname.clone_from(&self.hostname);
        config.workers = self.workers.map_or(config.workers, usize::from);
        let fit = connections_that_fit(config.workers);
        let wanted = self.connections_max.and_then(|wanted| usize::try_from(wanted).ok());
        config.connections_max = wanted.map_or(fit, |wanted| wanted.min(fit));
        config.backlog = self.backlog_behind.unwrap_or(self.backlog);
        config.idle_timeout = Duration::from_secs(u64::from(self.idle_timeout));
        config.receive_buffer_bytes = self.receive_buffer.and_then(|bytes| usize::try_from(bytes).ok());
        Ok(())
    }

    fn choose(&self, addresses: &Addresses) -> Result<SocketAddr, String> {
        let wanted = |address: &&SocketAddr| match (self.ipv4, self.ipv6) {
            (true, _) => address.is_ipv4(),
            (_, true) => address.is_ipv6(),
            _ => true,
        };
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let found = addresses.0.iter().find(wanted).copied();
        found.ok_or_else(|| {
            format!("{:?} is no {family} address; give one, or leave -4 and -6 out", addresses.0)
        })
    }
}

/// All addresses of a name, at least one.
#[derive(Clone, Debug)]
struct Addresses(Vec<SocketAddr>);

fn addresses(text: &str) -> Result<Addresses, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("{error}; write it as HOST:PORT"))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(format!("{text} has no address")) } else { Ok(Addresses(found)) }
}

/// An address, or the first one of a name.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    addresses(text).map(|addresses| addresses.0[0])
}

/// `[inet:][HOST]:PORT`, without a host every address of this one.
fn smtp_sink_address(text: &str) -> Result<Addresses, String> {
    if text.starts_with("unix:") {
        return Err("sink serves TCP only; give [inet:]HOST:PORT".to_owned());
    }
    let text = text.strip_prefix("inet:").unwrap_or(text);
    match text.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
            let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
            Ok(Addresses(all.map(|all| SocketAddr::new(all, port)).to_vec()))
        }
        None => addresses(text),
    }
}
