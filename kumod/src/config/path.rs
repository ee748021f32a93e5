//! Egress paths: what `make_egress_path` says of one `source->site`, with KumoMTA's names and defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{CidrSet, CountLimit, ThrottleSpec, duration, named};

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
    /// Whether and how STARTTLS is used.
    pub enable_tls: EnableTls,
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
            enable_tls: EnableTls::Disabled,
            smtp_port: None,
            ehlo_domain: None,
            connect_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Whether STARTTLS is used. Delivery is in clear text, so any value that promises more is refused when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnableTls {
    /// Mail travels in clear text.
    Disabled,
}

impl<'de> Deserialize<'de> for EnableTls {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "Disabled" => Ok(Self::Disabled),
            other => Err(serde::de::Error::custom(format!(
                "enable_tls = {other:?} is not available: mail is delivered in clear text; write 'Disabled'"
            ))),
        }
    }
}
