//! Egress pools and sources: what `make_egress_pool` and `make_egress_source` say, with KumoMTA's names and defaults.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use super::duration;

/// The pool, and its only source, of a queue that names none.
pub const UNSPECIFIED: &str = "unspecified";
/// How long an answer is used before the policy is asked again.
const TTL: Duration = Duration::from_secs(60);

/// Sources that share the mail of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Its name, as `egress_pool` of a queue has it.
    pub name: String,
    /// The sources and their shares.
    pub entries: Vec<PoolEntry>,
    /// How long this holds.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
}

/// One source of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolEntry {
    /// The source.
    pub name: String,
    /// Its share: of weights 3 and 1 the first sends three messages of four. 0: it is not used.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { name: String::new(), entries: Vec::new(), ttl: TTL }
    }
}

impl PoolConfig {
    /// The pool of queues that name none: the host's default route.
    pub fn unspecified() -> Self {
        let entries = vec![PoolEntry { name: UNSPECIFIED.to_owned(), weight: 1 }];
        Self { name: UNSPECIFIED.to_owned(), entries, ..Self::default() }
    }
}

/// Where mail leaves this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// Its name, which stands before `->` in the names of ready queues, and in the log.
    pub name: String,
    /// The address of this host that connections come from; unset: the kernel's choice.
    pub source_address: Option<IpAddr>,
    /// The name given in EHLO, unless the path has one.
    pub ehlo_domain: Option<String>,
    /// The port to connect to, whatever the path says: where a translation of addresses tells sources apart by port.
    pub remote_port: Option<u16>,
    /// How long this holds.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self { name: String::new(), source_address: None, ehlo_domain: None, remote_port: None, ttl: TTL }
    }
}

impl SourceConfig {
    /// The source of queues that name no pool.
    pub fn unspecified() -> Self {
        Self { name: UNSPECIFIED.to_owned(), ..Self::default() }
    }
}
