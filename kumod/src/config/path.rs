//! Egress paths: what `make_egress_path` says of one `source->site`, with KumoMTA's names and defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::{CipherSuite, SupportedCipherSuite};
use serde::{Deserialize, Deserializer};

use super::{CidrSet, CountLimit, KeySource, ThrottleSpec, duration, named};

/// How mail to one site travels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathConfig {
    /// Connections to the site at once.
    pub connection_limit: CountLimit,
    /// New connections to the site over time.
    pub max_connection_rate: Option<ThrottleSpec>,
    /// Messages to the site over time.
    pub max_message_rate: Option<ThrottleSpec>,
    /// Further limits on connections at once; paths that name the same one share it.
    #[serde(deserialize_with = "named::deserialize")]
    pub additional_connection_limits: BTreeMap<String, CountLimit>,
    /// Further rates of messages; paths that name the same one share it.
    #[serde(deserialize_with = "named::deserialize")]
    pub additional_message_rate_throttles: BTreeMap<String, ThrottleSpec>,
    /// Connections in a row that failed before all mail for the site is put off.
    pub consecutive_connection_failures_before_delay: u32,
    /// Messages that may be ready at once; more wait in their scheduled queues.
    pub max_ready: usize,
    /// Messages over one connection, after which it is closed and another opened.
    pub max_deliveries_per_connection: u32,
    /// Addresses that mail is never sent to. Unset: loopback, for hosts other than `.localhost` and `--relay-to`.
    pub prohibited_hosts: Option<CidrSet>,
    /// Addresses that are passed over; a site with no others is tried again later.
    pub skip_hosts: CidrSet,
    /// Which families of addresses hosts are looked up in.
    pub ip_lookup_strategy: IpLookupStrategy,
    /// Whether and how STARTTLS is used.
    pub enable_tls: EnableTls,
    /// Whether what a domain publishes by MTA-STS is stronger than `enable_tls`.
    pub enable_mta_sts: bool,
    /// Whether what hosts publish by DANE is stronger than both.
    pub enable_dane: bool,
    /// Where the handshake fails with a host that need not do TLS: whether to connect to it again, without.
    pub opportunistic_tls_reconnect_on_failed_handshake: bool,
    /// For how long a host whose handshake failed is not asked for TLS again, where it need not do TLS.
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub remember_broken_tls: Option<Duration>,
    /// The certificate to show to a server that asks for one, with those that vouch for it.
    pub tls_certificate: Option<KeySource>,
    /// The key to it.
    pub tls_private_key: Option<KeySource>,
    /// The cipher suites to offer; empty: all that are known.
    pub rustls_cipher_suites: CipherSuites,
    /// Time for the reply to STARTTLS and for the handshake, each.
    #[serde(deserialize_with = "duration::deserialize")]
    pub starttls_timeout: Duration,
    /// The port of hosts found by DNS.
    pub smtp_port: Option<u16>,
    /// The name given in EHLO; the host's own unless set.
    pub ehlo_domain: Option<String>,
    /// Time for a TCP connection to open.
    #[serde(deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// How long a connection is kept without mail to send.
    #[serde(deserialize_with = "duration::deserialize")]
    pub idle_timeout: Duration,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            connection_limit: CountLimit(32),
            max_connection_rate: None,
            max_message_rate: None,
            additional_connection_limits: BTreeMap::new(),
            additional_message_rate_throttles: BTreeMap::new(),
            consecutive_connection_failures_before_delay: 100,
            max_ready: 1024,
            max_deliveries_per_connection: 1024,
            prohibited_hosts: None,
            skip_hosts: CidrSet::default(),
            ip_lookup_strategy: IpLookupStrategy::default(),
            enable_tls: EnableTls::Opportunistic,
            enable_mta_sts: true,
            enable_dane: false,
            opportunistic_tls_reconnect_on_failed_handshake: false,
            remember_broken_tls: None,
            tls_certificate: None,
            tls_private_key: None,
            rustls_cipher_suites: CipherSuites::default(),
            starttls_timeout: Duration::from_secs(5),
            smtp_port: None,
            ehlo_domain: None,
            connect_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Which families of addresses a host is looked up in. An address that the source cannot reach does not count as found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum IpLookupStrategy {
    /// Both, IPv4 first.
    #[default]
    V4AndV6,
    /// IPv4 alone.
    V4Only,
    /// IPv6 alone.
    V6Only,
    /// IPv6 where there is no address of IPv4.
    V4ThenV6,
    /// IPv4 where there is no address of IPv6.
    V6ThenV4,
}

impl IpLookupStrategy {
    /// As policies write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4AndV6 => "V4AndV6",
            Self::V4Only => "V4Only",
            Self::V6Only => "V6Only",
            Self::V4ThenV6 => "V4ThenV6",
            Self::V6ThenV4 => "V6ThenV4",
        }
    }
}

/// Whether and how STARTTLS is used, with KumoMTA's names. docs/outbound-tls.md says what each does when a server does not play along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
pub enum EnableTls {
    /// Where it is offered; the certificate must then be a valid one for the host.
    #[default]
    Opportunistic,
    /// Where it is offered, whatever the certificate.
    OpportunisticInsecure,
    /// Always, with a valid certificate for the host.
    Required,
    /// Always, whatever the certificate.
    RequiredInsecure,
    /// Never.
    Disabled,
}

/// Cipher suites by their numbers, in the order in which they are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CipherSuites(Vec<u16>);

impl CipherSuites {
    /// What is offered: those that are named, or all that are known.
    pub fn chosen(&self) -> Vec<SupportedCipherSuite> {
        if self.0.is_empty() {
            return ALL_CIPHER_SUITES.to_vec();
        }
        let known = |number: &u16| ALL_CIPHER_SUITES.iter().find(|suite| u16::from(suite.suite()) == *number);
        self.0.iter().filter_map(known).copied().collect()
    }
}

impl<'de> Deserialize<'de> for CipherSuites {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let known = || ALL_CIPHER_SUITES.iter().map(|suite| suite.suite());
        let named = |suite: CipherSuite| format!("{suite:?}");
        let find = |name: String| {
            known().find(|suite| named(*suite) == name).map(u16::from).ok_or_else(|| {
                let known = known().map(named).collect::<Vec<_>>().join(", ");
                serde::de::Error::custom(format!("there is no cipher suite {name:?}; known are: {known}"))
            })
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(find).collect::<Result<_, _>>().map(Self)
    }
}
