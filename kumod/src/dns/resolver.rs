//! Asks DNS, and remembers what it said.
//!
//! Every wait has an end: one question takes at most the time limit, retries included, and no more than a fixed number are under way at once.
//! An answer is kept for its TTL within bounds, a refusal for the negative TTL, a failure for a few seconds (RFC 9520), so that
//! a broken server is not asked once per message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Answer, NetError};
use hickory_resolver::proto::dnssec::TrustAnchors;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use tokio::sync::Semaphore;

use super::cache::{Cache, Flights};
use super::mx::{MailHosts, Target, is_localhost, normalize};
use super::{DnsError, answer};
use crate::config::{DnsSpec, ResolverOptions, ResolverSpec};

/// Addresses of one host, per family, that are looked at.
pub const ADDRESSES_MAX: usize = 16;
/// A refusal is kept at least this long, whatever its TTL says: one question per message would be the alternative.
const NEGATIVE_TTL_MIN: Duration = Duration::from_secs(10);
/// How long what needs no question holds.
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// How long a failure is remembered (RFC 9520 3.2: 1 s to 5 min).
pub(super) const FAILURE_TTL: Duration = Duration::from_secs(5);

/// Whom to ask, and within which limits.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Servers to ask; empty for those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
    /// The domain of this host, where servers are given.
    pub domain: Option<String>,
    /// Domains that questions of a policy are tried under, where servers are given.
    pub search: Vec<String>,
    /// How they are asked, and how long their answers hold.
    pub manner: ResolverOptions,
    /// Time for one question, retries included.
    pub timeout: Duration,
    /// Answers kept, for domains and for hosts each.
    pub cache_entries_max: usize,
    /// How long "there is none" is believed at most.
    pub negative_ttl_max: Duration,
    /// Questions under way at once; more wait.
    pub lookups_max: usize,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            domain: None,
            search: Vec::new(),
            manner: ResolverOptions::default(),
            timeout: Duration::from_secs(5),
            cache_entries_max: 64 * 1024,
            negative_ttl_max: Duration::from_secs(300),
            lookups_max: 128,
        }
    }
}

impl DnsOptions {
    /// Those of one resolver of a configuration.
    pub fn of(spec: &DnsSpec, resolver: &ResolverSpec) -> Self {
        Self {
            nameservers: resolver.name_servers.0.clone(),
            domain: resolver.domain.clone(),
            search: resolver.search.clone(),
            manner: resolver.options.clone(),
            timeout: spec.timeout,
            cache_entries_max: spec.cache_entries_max,
            negative_ttl_max: spec.negative_ttl_max,
            lookups_max: spec.lookups_max,
        }
    }
}

/// The resolver of one process; a handle that is cheap to copy.
#[derive(Clone, Debug)]
pub struct Dns {
    pub(super) inner: Arc<Inner>,
}

type Hosts = Result<Arc<MailHosts>, DnsError>;
type Addresses = Result<Arc<[IpAddr]>, DnsError>;

#[derive(Debug)]
pub(super) struct Inner {
    resolver: TokioResolver,
    pub(super) options: DnsOptions,
    pub(super) lookups: Semaphore,
    hosts: Cache<Hosts>,
    hosts_asked: Flights<Hosts>,
    addresses: Cache<Addresses>,
    addresses_asked: Flights<Addresses>,
}

impl Dns {
    /// A resolver. Nothing is asked yet.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is wanted and cannot be read.
    pub fn new(options: DnsOptions) -> Result<Self, DnsError> {
        let inner = Inner {
            resolver: build(&options, None).map_err(|error| DnsError::Setup(error.to_string()))?,
            lookups: Semaphore::new(options.lookups_max),
            hosts: Cache::new(options.cache_entries_max),
            hosts_asked: Flights::default(),
            addresses: Cache::new(options.cache_entries_max),
            addresses_asked: Flights::default(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The hosts that take the mail of a domain (RFC 5321 5.1), from memory or from DNS.
    ///
    /// # Errors
    /// There is none, or it could not be found out this time; see [`DnsError::is_permanent`].
    pub async fn mail_hosts(&self, domain: &str) -> Hosts {
        let now = Instant::now();
        match Target::parse(domain)? {
            Target::Literal(address, port) => Ok(Arc::new(MailHosts::literal(address, port, now + TTL_MAX))),
            Target::Loopback(name) => Ok(Arc::new(MailHosts::itself(&name, now + TTL_MAX, true))),
            Target::Domain(name) => match self.inner.hosts.get(&name, now) {
                Some(known) => known,
                None => self.inner.hosts_asked.join(&name, || self.inner.find_hosts(&name)).await,
            },
        }
    }

    /// The hosts of a domain, if they are known without asking anybody.
    pub fn cached(&self, domain: &str) -> Option<Arc<MailHosts>> {
        let now = Instant::now();
        match Target::parse(domain).ok()? {
            Target::Literal(address, port) => {
                Some(Arc::new(MailHosts::literal(address, port, now + TTL_MAX)))
            }
            Target::Loopback(name) => Some(Arc::new(MailHosts::itself(&name, now + TTL_MAX, true))),
            Target::Domain(name) => self.inner.hosts.get(&name, now)?.ok(),
        }
    }

    /// The addresses of a host (RFC 5321 5.2), IPv4 before IPv6, each in random order, at most [`ADDRESSES_MAX`] of a family.
    ///
    /// # Errors
    /// It has none, or they could not be found out this time.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = normalize(host).map_err(|reason| DnsError::Invalid { domain: host.to_owned(), reason })?;
        if is_localhost(&name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut addresses = self.inner.addresses_of(&name).await?.to_vec();
        fastrand::shuffle(&mut addresses);
        addresses.sort_by_key(IpAddr::is_ipv6);
        Ok(addresses)
    }
}

impl Inner {
    async fn find_hosts(&self, domain: &str) -> Hosts {
        // Somebody may have brought the answer between our look into the cache and our turn to ask.
        if let Some(known) = self.hosts.get(domain, Instant::now()) {
            return known;
        }
        let (hosts, expires) = match self.ask(domain, RecordType::MX).await {
            Ok(records) => {
                let expires = self.expiry(&records);
                (answer::hosts(domain, &records, expires).map(Arc::new), expires)
            }
            Err(Refusal::NoRecords { ttl }) => self.implicit_hosts(domain, ttl).await,
            Err(Refusal::NoName { ttl }) => {
                let error = DnsError::NoSuchDomain { domain: domain.to_owned() };
                (Err(error), Instant::now() + self.negative_ttl(ttl))
            }
            Err(Refusal::Failed(reason)) => (Err(temporary(domain, reason)), Instant::now() + FAILURE_TTL),
        };
        self.hosts.insert(domain, hosts.clone(), expires, Instant::now());
        hosts
    }

    /// RFC 5321 5.1: without an MX the domain itself is the host, provided that it has an address.
    async fn implicit_hosts(&self, domain: &str, ttl: Option<Duration>) -> (Hosts, Instant) {
        let until = Instant::now() + self.negative_ttl(ttl);
        match self.addresses_of(domain).await {
            Ok(_) => (Ok(Arc::new(MailHosts::itself(domain, until, false))), until),
            Err(error) if error.is_permanent() => (Err(error), until),
            Err(error) => (Err(error), Instant::now() + FAILURE_TTL),
        }
    }

    async fn addresses_of(&self, host: &str) -> Addresses {
        match self.addresses.get(host, Instant::now()) {
            Some(known) => known,
            None => self.addresses_asked.join(host, || self.find_addresses(host)).await,
        }
    }

    /// Both families at once. One address is enough; that there is none is only believed when both say so.
    async fn find_addresses(&self, host: &str) -> Addresses {
        if let Some(known) = self.addresses.get(host, Instant::now()) {
            return known;
        }
        let (v4, v6) = tokio::join!(self.ask(host, RecordType::A), self.ask(host, RecordType::AAAA));
        let found: Vec<Record> = [&v4, &v6].into_iter().flatten().flatten().cloned().collect();
        let addresses: Arc<[IpAddr]> = answer::addresses(&found).collect();
        let (answer, expires) = if addresses.is_empty() {
            self.no_address(host, [v4.err(), v6.err()])
        } else {
            (Ok(addresses), self.expiry(&found))
        };
        self.addresses.insert(host, answer.clone(), expires, Instant::now());
        answer
    }

    fn no_address(&self, host: &str, refusals: [Option<Refusal>; 2]) -> (Addresses, Instant) {
        let mut ttl = None;
        for refusal in refusals.into_iter().flatten() {
            match refusal {
                Refusal::Failed(reason) => {
                    return (Err(temporary(host, reason)), Instant::now() + FAILURE_TTL);
                }
                Refusal::NoName { ttl: seconds } | Refusal::NoRecords { ttl: seconds } => {
                    ttl = ttl.max(seconds)
                }
            }
        }
        (Err(DnsError::NoAddress { host: host.to_owned() }), Instant::now() + self.negative_ttl(ttl))
    }

    /// One question. The wait for a place among those under way is not part of its time limit: it is us who are slow then.
    pub(super) async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Refusal> {
        let mut question = Name::from_ascii(name).map_err(|error| Refusal::Failed(error.to_string()))?;
        // Without the root at its end the name would be tried under the search domains.
        question.set_fqdn(true);
        self.ask_for(question, kind).await
    }

    /// The same for a name that may be meant to be tried under the search domains.
    pub(super) async fn ask_for(&self, question: Name, kind: RecordType) -> Result<Vec<Record>, Refusal> {
        let _place = self.lookups.acquire().await.map_err(|closed| Refusal::Failed(closed.to_string()))?;
        match tokio::time::timeout(self.options.timeout, self.resolver.lookup(question, kind)).await {
            Ok(Ok(answer)) if answer.answers().iter().any(|record| record.record_type() == kind) => {
                Ok(answer.answers().to_vec())
            }
            Ok(Ok(_)) => Err(Refusal::NoRecords { ttl: None }),
            Ok(Err(error)) => Err(Refusal::from(error)),
            Err(_) => Err(Refusal::Failed(format!("no answer within {:?}", self.options.timeout))),
        }
    }

    /// When the first of the records runs out, within bounds.
    pub(super) fn expiry(&self, records: &[Record]) -> Instant {
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        Instant::now()
            + Duration::from_secs(u64::from(ttl))
                .clamp(self.options.manner.positive_min_ttl, self.options.manner.positive_max_ttl)
    }

    /// RFC 2308 5: a refusal without an SOA record says nothing of how long it holds.
    pub(super) fn negative_ttl(&self, ttl: Option<Duration>) -> Duration {
        ttl.unwrap_or(NEGATIVE_TTL_MIN).max(NEGATIVE_TTL_MIN).min(self.options.negative_ttl_max)
    }
}

/// Why a question brought no records.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The name does not exist.
    NoName { ttl: Option<Duration> },
    /// It exists, without records of this kind.
    NoRecords { ttl: Option<Duration> },
    /// There was no answer to go by.
    Failed(String),
}

impl From<NetError> for Refusal {
    fn from(error: NetError) -> Self {
        let NetError::Dns(Answer::NoRecordsFound(none)) = error else {
            return Self::Failed(error.to_string());
        };
        let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(u64::from(seconds)));
        match none.response_code {
            ResponseCode::NXDomain => Self::NoName { ttl },
            ResponseCode::NoError => Self::NoRecords { ttl },
            code => Self::Failed(code.to_string()),
        }
    }
}

fn temporary(name: &str, reason: String) -> DnsError {
    DnsError::Temporary { name: name.to_owned(), reason }
}

/// With `anchors` signatures are asked for, and checked from those keys on.
pub(super) fn build(options: &DnsOptions, anchors: Option<TrustAnchors>) -> Result<TokioResolver, NetError> {
    let mut builder = if options.nameservers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = options.nameservers.iter().map(|server| name_server(*server)).collect();
        let domain = options.domain.as_deref().map(Name::from_ascii).transpose()?;
        let search = options.search.iter().map(Name::from_ascii).collect::<Result<_, _>>()?;
        let config = ResolverConfig::from_parts(domain, search, servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let chosen = builder.options_mut();
    // The cache is ours: it knows hosts, not records, and has one limit.
    chosen.cache_size = 0;
    let manner = &options.manner;
    chosen.timeout = options.timeout / u32::try_from(manner.attempts).unwrap_or(1).max(1);
    chosen.attempts = manner.attempts.saturating_sub(1);
    chosen.edns0 = manner.edns0;
    chosen.ndots = manner.ndots;
    chosen.num_concurrent_reqs = manner.num_concurrent_reqs;
    chosen.try_tcp_on_error = manner.try_tcp_on_error;
    chosen.case_randomization = manner.case_randomization;
    if let Some(reads) = manner.use_hosts_file {
        chosen.use_hosts_file = if reads { ResolveHosts::Always } else { ResolveHosts::Never };
    }
    chosen.max_active_requests = options.lookups_max;
    match anchors {
        None => builder.build(),
        Some(anchors) => {
            chosen.validate = true;
            chosen.edns0 = true;
            chosen.use_hosts_file = ResolveHosts::Never;
            builder.with_trust_anchor(Arc::new(anchors)).build()
        }
    }
}

/// UDP first, and TCP for answers that do not fit.
fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

#[cfg(test)]
mod tests;
