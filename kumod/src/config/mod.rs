//! What kumod was told to be: listeners, spool, logs, limits, and the shape of queues and paths.
//!
//! The tables of a policy and the flags of the command line are read into these types and nowhere else. Option names and
//! defaults are KumoMTA's; an option that is not known is refused with its name, because a misspelt limit is no limit.
//! Nothing here does I/O except [`host_name`], which asks the kernel once.

mod dns;
mod duration;
mod egress;
mod key_source;
mod listener;
mod listener_domain;
mod mta_sts;
mod named;
mod path;
mod proxy;
mod queue;
mod throttle;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

pub use dns::{DnsSpec, ResolverOptions, ResolverSpec, Servers};
pub use duration::parse_duration;
pub use egress::{Ceiling, PoolConfig, PoolEntry, SourceConfig, SuspendRule, Trigger, UNSPECIFIED, WarmUp};
pub use key_source::{FileState, KeySource};
pub use listener::{
    BatchHandling, Change, ClientOverrides, Constants, HttpListener, LineEndings, ListenerTls, SmtpListener,
    SmtpOverride, TraceHeaders,
};
pub(crate) use listener::{check_name, not_zero, parse_network};
pub use listener_domain::ListenerDomain;
pub use mta_sts::MtaStsSpec;
pub use path::{
    AuthMechanism, CipherSuites, EnableTls, IpLookupStrategy, MemoryReduction, OpenSsl, PathConfig,
    ReconnectStrategy, RefreshStrategy, WakeupStrategy,
};
pub use proxy::ProxyTls;
pub use queue::{Dsn, QueueConfig};
pub use throttle::{CountLimit, ThrottleSpec};

/// Everything that kumod needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name this host gives itself in banner, `Received` and EHLO where nothing more exact is set.
    pub hostname: String,
    /// SMTP listeners, at least one.
    pub smtp_listeners: Vec<SmtpListener>,
    /// HTTP listeners, possibly none.
    pub http_listeners: Vec<HttpListener>,
    /// Where accepted mail lies, and what a 250 promises.
    pub spool: SpoolSpec,
    /// The folder of the log records.
    pub log_dir: PathBuf,
    /// Where mail goes next when neither queue nor policy says more.
    pub outbound: OutboundSpec,
    /// Limits that belong to no listener, queue or path.
    pub limits: Limits,
}

/// Where the spool lies unless something else is said.
pub const SPOOL_DIR: &str = "/var/spool/kumod";
/// Where the log records lie unless something else is said.
pub const LOG_DIR: &str = "/var/log/kumod";

impl Default for Config {
    /// What kumod is without flags and policy: a relay for the programs of this host.
    fn default() -> Self {
        Self {
            hostname: host_name(),
            smtp_listeners: vec![SmtpListener::default()],
            http_listeners: vec![HttpListener::default()],
            spool: SpoolSpec::default(),
            log_dir: PathBuf::from(LOG_DIR),
            outbound: OutboundSpec::default(),
            limits: Limits::default(),
        }
    }
}

/// The spool: `define_spool` of a policy, or `--spool` and `--durability`.
#[derive(Clone, Debug)]
pub struct SpoolSpec {
    /// The folder; made, with its parents, when it is not there.
    pub dir: PathBuf,
    /// What a 250 promises.
    pub durability: spool::Durability,
    /// Which way of writing; `Auto` takes io_uring where the host lets it.
    pub backend: spool::Backend,
    /// Direct (past the page cache), buffered, or what suits the file system.
    pub mode: spool::WriteMode,
}

impl Default for SpoolSpec {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(SPOOL_DIR),
            durability: spool::Durability::default(),
            backend: spool::Backend::default(),
            mode: spool::WriteMode::default(),
        }
    }
}

/// The next hop where nothing more exact is known.
#[derive(Clone, Debug, Default)]
pub struct OutboundSpec {
    /// One host for all mail; DNS is not asked for MX records then.
    pub relay_to: Option<Destination>,
    /// The port of next hops that were found by DNS; 25 unless told.
    pub smtp_port: Option<u16>,
    /// Whether and how STARTTLS is used where no policy speaks of paths.
    pub enable_tls: EnableTls,
    /// How DNS is asked.
    pub dns: DnsSpec,
    /// Certificates of authorities that are trusted besides the system's.
    pub authorities: Option<KeySource>,
    /// What is asked of domains about TLS.
    pub mta_sts: MtaStsSpec,
}

/// A host or address with a port: `mx.example.com:2525`, `[::1]:2526`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// A host name, or an address without brackets.
    pub host: String,
    /// The port, if one was given.
    pub port: Option<u16>,
}

impl Destination {
    /// The address, when the host is a literal rather than a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: Some(address.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if bare.parse::<IpAddr>().is_ok() {
            return Ok(Self { host: bare.to_owned(), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let port =
                    port.parse().map_err(|_| format!("{text:?}: {port:?} is not a port (1 to 65535)"))?;
                (host, Some(port))
            }
            None => (text, None),
        };
        let valid = !host.is_empty()
            && host.len() <= 255
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        if !valid {
            return Err(format!("{text:?} is not HOST, HOST:PORT or [ADDRESS]:PORT"));
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

/// Limits of the whole process. Each is a named bound on memory, time or count; none is a tuning knob that must be touched.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of message bodies that may wait in memory between the 250 and the end of the first attempt.
    /// Over it a body is read back from the spool when its turn comes.
    pub resident_body_bytes_max: usize,
    /// Bytes of bodies that may be in reception at once. Over it connections are not read, never refused.
    pub inbound_body_bytes_max: usize,
    /// How long a new body may wait for room in memory while deliveries make progress, before it is left to the spool.
    pub inflow_delay_max: Duration,
    /// Bytes of memory in use from which on new mail is refused; `None`: three quarters of what host and control group grant.
    pub memory_bytes_max: Option<u64>,
    /// Messages in all queues together; over it new mail gets 452 4.3.1.
    pub queued_messages_max: usize,
    /// How long a graceful stop waits for sessions that are in the middle of a message.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resident_body_bytes_max: 64 << 20,
            inbound_body_bytes_max: 64 << 20,
            inflow_delay_max: Duration::from_millis(100),
            memory_bytes_max: None,
            queued_messages_max: 10_000_000,
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

/// A list of networks, as `relay_hosts` and `prohibited_hosts` write them: `10.0.0.0/8`, `::1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet(Vec<IpNet>);

impl CidrSet {
    /// Reads each entry as a network or a single address.
    ///
    /// # Errors
    /// Names the entry that is neither.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, String> {
        let one = |entry: &S| {
            let text = entry.as_ref();
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| format!("{text:?} is not an address or a network such as 10.0.0.0/8"))
        };
        entries.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The two loopback networks, and the unspecified addresses that reach them too.
    pub fn loopback() -> Self {
        let entries = ["127.0.0.0/8", "::1", "0.0.0.0/8", "::"];
        Self::parse(&entries).unwrap_or_default()
    }

    /// Whether the set holds the address. An IPv4 address mapped into IPv6 counts as the IPv4 address that it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The set of this network alone.
    pub fn of(network: IpNet) -> Self {
        Self(vec![network])
    }

    /// Each network as text.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(IpNet::to_string).collect()
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An empty Lua table reads as an empty map; it means an empty list here.
impl<'de> Deserialize<'de> for CidrSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = list_of_strings(deserializer)?;
        Self::parse(&entries).map_err(serde::de::Error::custom)
    }
}

/// A list of strings, where an empty map counts as an empty list (Lua cannot tell the two apart).
///
/// # Errors
/// Whatever else was there is refused.
pub(crate) fn list_of_strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ListOrEmpty {
        List(Vec<String>),
        Empty(std::collections::BTreeMap<String, ()>),
    }
    match ListOrEmpty::deserialize(deserializer) {
        Ok(ListOrEmpty::List(list)) => Ok(list),
        Ok(ListOrEmpty::Empty(map)) if map.is_empty() => Ok(Vec::new()),
        _ => Err(serde::de::Error::custom("a list of strings is wanted, such as { '127.0.0.1', '::1' }")),
    }
}

/// The name of this host as the kernel has it, or `localhost` where it has none that can stand in a banner.
pub fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().unwrap_or_default().trim().to_ascii_lowercase();
    let usable = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if usable { name } else { "localhost".to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn destinations_read_and_print_alike() {
        for (text, host, port) in [
            ("mx.example.com", "mx.example.com", None),
            ("MX.example.com:2525", "mx.example.com", Some(2525)),
            ("127.0.0.1:25", "127.0.0.1", Some(25)),
            ("[::1]:2526", "::1", Some(2526)),
            ("[10.0.0.1]", "10.0.0.1", None),
            ("::1", "::1", None),
        ] {
            let destination: Destination = text.parse().unwrap();
            assert_eq!((destination.host.as_str(), destination.port), (host, port), "{text}");
            assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
        }
        for text in ["", "a b", "host:99999", "host:", "exa<mple"] {
            assert!(text.parse::<Destination>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn networks_hold_single_addresses_ranges_and_mapped_addresses() {
        let set = CidrSet::parse(&["10.0.0.0/8", "::1"]).unwrap();
        assert!(set.contains("10.2.3.4".parse().unwrap()));
        assert!(set.contains("::ffff:10.2.3.4".parse().unwrap()));
        assert!(set.contains("::1".parse().unwrap()));
        assert!(!set.contains("192.0.2.1".parse().unwrap()));
        let error = CidrSet::parse(&["10.0.0.0/8", "nonsense"]).unwrap_err();
        assert!(error.contains("nonsense"), "{error}");
    }

    #[test]
    fn loopback_includes_the_unspecified_addresses() {
        let set = CidrSet::loopback();
        for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"] {
            assert!(set.contains(address.parse().unwrap()), "{address}");
        }
    }
}
