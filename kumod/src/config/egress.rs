//! Egress pools and sources: what `make_egress_pool` and `make_egress_source` say, with KumoMTA's names and defaults.

use std::net::IpAddr;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{Destination, KeySource, ProxyTls, ThrottleSpec, duration, proxy};

/// The pool, and its only source, of a queue that names none.
pub const UNSPECIFIED: &str = "unspecified";
/// How long an answer is used before the policy is asked again.
const TTL: Duration = Duration::from_secs(60);

/// How long a source is suspended whose rule says nothing else.
const SUSPENDED: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 86_400_000;

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
    /// The address of this host that connections come from, those to its proxy if it has one; unset: the kernel's choice.
    pub source_address: Option<IpAddr>,
    /// The name given in EHLO, unless the path has one.
    pub ehlo_domain: Option<String>,
    /// The port to connect to, whatever the path says: where a translation of addresses tells sources apart by port.
    pub remote_port: Option<u16>,
    /// The HAProxy server that connections are made through.
    #[serde(deserialize_with = "proxy::deserialize")]
    pub ha_proxy_server: Option<Destination>,
    /// The address of that server's host which they come from.
    pub ha_proxy_source_address: Option<IpAddr>,
    /// The SOCKS5 server that connections are made through.
    #[serde(deserialize_with = "proxy::deserialize")]
    pub socks5_proxy_server: Option<Destination>,
    /// The address of that server's host which they come from; unset: that server's choice.
    pub socks5_proxy_source_address: Option<IpAddr>,
    /// Whether TLS is spoken with that server.
    pub socks5_proxy_tls: ProxyTls,
    /// Who we are to the SOCKS5 server.
    pub socks5_proxy_username: Option<String>,
    /// What proves it; read anew for each connection.
    pub socks5_proxy_password: Option<KeySource>,
    /// When and for how long it is suspended if its address is not on this host.
    pub suspend_when_unplumbed: SuspendRule,
    /// When and for how long it is suspended if its proxy does not serve; unset: never.
    pub suspend_when_proxy_unhealthy: Option<SuspendRule>,
    /// What it may send on each of its first days.
    pub warm_up: Option<WarmUp>,
    /// How long this holds.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            source_address: None,
            ehlo_domain: None,
            remote_port: None,
            ha_proxy_server: None,
            ha_proxy_source_address: None,
            socks5_proxy_server: None,
            socks5_proxy_source_address: None,
            socks5_proxy_tls: ProxyTls::Disabled,
            socks5_proxy_username: None,
            socks5_proxy_password: None,
            suspend_when_unplumbed: SuspendRule::default(),
            suspend_when_proxy_unhealthy: None,
            warm_up: None,
            ttl: TTL,
        }
    }
}

/// When a source that fails is suspended, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuspendRule {
    /// After how many failures.
    #[serde(default)]
    pub trigger: Trigger,
    /// For how long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub duration: Duration,
}

impl Default for SuspendRule {
    fn default() -> Self {
        Self { trigger: Trigger::Immediate, duration: SUSPENDED }
    }
}

/// After how many failures a rule holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Trigger {
    /// The first.
    #[default]
    Immediate,
    /// As many as the count within the period: `{ Threshold = '3/5m' }`.
    Threshold(ThrottleSpec),
}

/// The plan by which a new address earns its reputation: so many messages on its first day, so many on its second, and no ceiling after
/// the last. Days are those of UTC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// The first day, as `2026-11-01`. Before it nothing is sent.
    #[serde(deserialize_with = "date")]
    pub begins: Date,
    /// Messages for each day, at least one day.
    pub messages_per_day: Vec<u32>,
}

impl WarmUp {
    /// The ceiling of the day that holds `now_ms`, in milliseconds since 1970; `None` where the plan is over.
    pub fn today(&self, now_ms: u64) -> Option<Ceiling> {
        let today =
            Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?.to_zoned(TimeZone::UTC).date();
        let age = self.begins.until((Unit::Day, today)).ok()?.get_days();
        let messages = match usize::try_from(age) {
            Ok(age) => *self.messages_per_day.get(age)?,
            Err(_) => 0,
        };
        let day = now_ms / DAY_MS;
        Some(Ceiling { messages, day, ends_ms: (day + 1) * DAY_MS })
    }
}

/// What may be sent on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Messages in all.
    pub messages: u32,
    /// The day's number, counted from 1970.
    pub day: u64,
    /// When the next day begins, in milliseconds since 1970.
    pub ends_ms: u64,
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("{text:?} is not a day; write for example '2026-11-01'")))
}

impl SourceConfig {
    /// The source of queues that name no pool.
    pub fn unspecified() -> Self {
        Self { name: UNSPECIFIED.to_owned(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_plan_has_a_ceiling_for_each_of_its_days_and_none_after() {
        let plan = WarmUp { begins: "2026-11-01".parse().unwrap(), messages_per_day: vec![50, 200] };
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond().unsigned_abs();
        let ceiling = |text| plan.today(at(text)).map(|ceiling| ceiling.messages);
        assert_eq!(ceiling("2026-10-01T12:00:00Z"), Some(0), "it has not begun");
        assert_eq!(ceiling("2026-11-01T00:00:00Z"), Some(50));
        assert_eq!(ceiling("2026-11-01T23:59:59.999Z"), Some(50));
        assert_eq!(ceiling("2026-11-02T00:00:00Z"), Some(200));
        assert_eq!(ceiling("2026-11-03T00:00:00Z"), None);
        let ends = plan.today(at("2026-11-01T17:30:00Z")).unwrap().ends_ms;
        assert_eq!(ends, at("2026-11-02T00:00:00Z"));
        assert_eq!(plan.today(at("2027-02-01T00:00:00Z")), None, "months later, too");
    }
}
