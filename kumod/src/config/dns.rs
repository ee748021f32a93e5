//! How DNS is asked: what `kumo.dns.configure_resolver` and its neighbours say, with KumoMTA's names.
//!
//! Each number has a bound, because each is memory, sockets or a wait.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{KeySource, duration, list_of_strings};

/// RFC 1035 4.2: the port of name servers.
const DNS_PORT: u16 = 53;
/// Servers of one resolver.
const SERVERS_MAX: usize = 16;
/// Domains of one search list.
const SEARCH_MAX: usize = 32;

/// The resolvers of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSpec {
    /// The one that finds next hops.
    pub resolver: ResolverSpec,
    /// Those that only a policy's own questions go to, by name.
    pub named: BTreeMap<String, ResolverSpec>,
    /// Time for one question, retries included.
    pub timeout: Duration,
    /// How long "there is none" is believed at most.
    pub negative_ttl_max: Duration,
    /// Questions under way at once; more wait.
    pub lookups_max: usize,
    /// Answers kept, for domains and for hosts each.
    pub cache_entries_max: usize,
}

impl Default for DnsSpec {
    fn default() -> Self {
        Self {
            resolver: ResolverSpec::default(),
            named: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            negative_ttl_max: Duration::from_secs(300),
            lookups_max: 128,
            cache_entries_max: 64 * 1024,
        }
    }
}

/// One resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResolverSpec {
    /// The domain that this host is in.
    pub domain: Option<String>,
    /// Domains that a policy's own questions are tried under, where a name does not end with a dot.
    #[serde(deserialize_with = "list_of_strings")]
    pub search: Vec<String>,
    /// Whom to ask; empty: the servers of `/etc/resolv.conf`.
    pub name_servers: Servers,
    /// How.
    pub options: ResolverOptions,
}

impl ResolverSpec {
    /// Whether every part of it can be used.
    ///
    /// # Errors
    /// Names the option that cannot, and the rule.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.name_servers.0.is_empty() && (self.domain.is_some() || !self.search.is_empty()) {
            return Err(
                "'domain' and 'search' need 'name_servers'; without them /etc/resolv.conf says all three"
                    .to_owned(),
            );
        }
        if self.search.len() > SEARCH_MAX {
            return Err(format!(
                "option 'search' has {} domains; {SEARCH_MAX} are the most",
                self.search.len()
            ));
        }
        let bounds = [
            ("attempts", self.options.attempts, 1, 10),
            ("ndots", self.options.ndots, 0, 15),
            ("num_concurrent_reqs", self.options.num_concurrent_reqs, 1, SERVERS_MAX),
        ];
        for (option, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(format!(
                    "option 'options', '{option}' = {value}: from {least} to {most} can be used"
                ));
            }
        }
        if self.options.positive_min_ttl > self.options.positive_max_ttl {
            return Err("option 'options': positive_min_ttl is above positive_max_ttl".to_owned());
        }
        Ok(())
    }
}

/// Addresses of name servers: `'10.0.0.53'`, `'10.0.0.53:53'`, `'[2001:db8::53]:53'`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Servers(pub Vec<SocketAddr>);

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = list_of_strings(deserializer)?;
        if texts.len() > SERVERS_MAX {
            return Err(D::Error::custom(format!(
                "{} servers are too many; {SERVERS_MAX} are the most",
                texts.len()
            )));
        }
        let one = |text: &String| {
            let with_port = text.parse::<SocketAddr>().ok().filter(|server| server.port() != 0);
            let server = with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS_PORT)));
            server.ok_or_else(|| {
                D::Error::custom(format!(
                    "{text:?} is not an address such as '10.0.0.53' or '[2001:db8::53]:53'"
                ))
            })
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// What can be said of how a resolver asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResolverOptions {
    /// Questions carry EDNS, so that long answers need no TCP.
    pub edns0: bool,
    /// `/etc/hosts` is looked into first; unset: where the servers are those of `/etc/resolv.conf`.
    pub use_hosts_file: Option<bool>,
    /// Times that a server is asked within the time for a question.
    pub attempts: usize,
    /// A name with fewer dots is tried under `search` first.
    pub ndots: usize,
    /// Servers that are asked at once.
    pub num_concurrent_reqs: usize,
    /// TCP is tried where UDP fails.
    pub try_tcp_on_error: bool,
    /// Letters of a name are in random case, which forged answers would have to guess.
    pub case_randomization: bool,
    /// An answer is kept at least this long, whatever its TTL says.
    #[serde(deserialize_with = "duration::deserialize")]
    pub positive_min_ttl: Duration,
    /// And at most this long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub positive_max_ttl: Duration,
    /// The keys from which signatures (DNSSEC) are checked, where they are: DNSKEY records; unset: the root's.
    pub trust_anchor: Option<KeySource>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            edns0: true,
            use_hosts_file: None,
            attempts: 2,
            ndots: 1,
            num_concurrent_reqs: 2,
            try_tcp_on_error: false,
            case_randomization: false,
            // One question per message would be the alternative.
            positive_min_ttl: Duration::from_secs(10),
            positive_max_ttl: Duration::from_secs(86_400),
            trust_anchor: None,
        }
    }
}
