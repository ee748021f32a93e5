//! Where a scheduled queue's mail goes: the sources it may leave from, the site, its hosts in order, the path that leads there from each.
//!
//! Policy is asked first, DNS second; what neither knows falls back to the defaults of KumoMTA. The answer has an end, after which it
//! is looked for again, so that changes of policy and DNS arrive without a restart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::path::Path;
use super::ready::ReadyQueue;
use super::security::Sts;
use super::sources::Weighted;
use super::{Outbound, classify};
use crate::config::{CidrSet, PathConfig, QueueConfig, SourceConfig};
use crate::dns::MailHosts;
use crate::envelope::Outcome;
use crate::queue::{QueueName, Turns};

/// How long an answer holds at most where nobody says more (KumoMTA's `refresh_interval`).
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// How long an answer holds at least, so that one that is out of date at once is not looked for with each message.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// RFC 5321 2.3.5 and IANA: the port of SMTP.
pub(super) const SMTP_PORT: u16 = 25;

/// The ways that a queue's mail may take: a ready queue for each source of its pool.
pub(super) struct Route {
    /// At least one.
    pub(super) ways: Vec<Arc<ReadyQueue>>,
    /// Whose turn it is among them.
    pub(super) turns: Turns,
    /// How long this holds.
    pub(super) until: Instant,
}

impl Route {
    /// The way of the next message.
    pub(super) fn next(&mut self) -> Arc<ReadyQueue> {
        let at = if self.ways.len() == 1 {
            0
        } else {
            let may = |at: usize| !self.ways[at].is_held() && !self.ways[at].is_chosen_enough();
            self.turns.next(may).unwrap_or(0)
        };
        Arc::clone(&self.ways[at])
    }
}

/// A destination and its hosts.
#[derive(Debug)]
pub(super) struct Site {
    /// The name that domains with the same hosts share.
    pub(super) name: Arc<str>,
    /// Its hosts, lowest preference value first.
    pub(super) hosts: Vec<Host>,
    /// Whether somebody who may say so named loopback: a `.localhost` domain, or `--relay-to`.
    pub(super) loopback_allowed: bool,
    /// What the domains ask of them that share this site.
    pub(super) sts: Sts,
    /// Whether it is certain, by signatures, that these are the hosts of those domains; `false` where nobody wants to know.
    pub(super) is_certain: bool,
}

/// One host of a site.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Arc<str>,
    /// Lower is tried first.
    pub(super) preference: u16,
    /// Known without asking, where the destination is a literal.
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

impl Site {
    /// Whether its hosts are certainly those that the domains mean: an operator or the recipient's address named them, a policy does, or
    /// signatures prove it (RFC 8689 4.2.1).
    pub(super) fn is_assured(&self) -> bool {
        let is_literal = self.hosts.iter().all(|host| host.address.is_some());
        is_literal || self.loopback_allowed || self.sts == Sts::Enforced || self.is_certain
    }

    /// The hosts in an order in which to try them: shuffled anew within each preference, so that connections spread (RFC 5321 5.1).
    pub(super) fn attempt_order(&self) -> Vec<&Host> {
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        if hosts.len() > 1 {
            fastrand::shuffle(&mut hosts);
            hosts.sort_by_key(|host| host.preference);
        }
        hosts
    }

    fn of(hosts: &MailHosts, sts: Sts) -> Self {
        let host = |host: &crate::dns::MailHost| Host {
            name: host.name.as_str().into(),
            preference: host.preference,
            address: host.address,
            port: host.port,
        };
        Self {
            name: hosts.site_name.as_str().into(),
            hosts: hosts.hosts.iter().map(host).collect(),
            loopback_allowed: hosts.loopback_by_name,
            sts,
            is_certain: false,
        }
    }
}

/// The retry rules of a queue. A policy that fails leaves the defaults, and says so in the log.
pub(super) fn queue_config(outbound: &Outbound, name: &QueueName) -> QueueConfig {
    let policy = &outbound.parts.policy;
    if !policy.handles_queue_config() {
        return QueueConfig::default();
    }
    let asked = policy.queue_config(
        &name.domain,
        name.tenant.as_deref(),
        name.campaign.as_deref(),
        name.routing_domain.as_deref(),
    );
    asked
        .unwrap_or_else(|error| {
            tracing::error!(%error, queue = %name, "get_queue_config failed; the defaults are used");
            None
        })
        .unwrap_or_default()
}

/// Finds the ways of a scheduled queue's mail.
///
/// # Errors
/// The outcome for every message that waits for it.
pub(super) async fn find(outbound: &Arc<Outbound>, name: &QueueName, pool: &str) -> Result<Route, Outcome> {
    let now = Instant::now();
    let (sources, sources_until) = outbound.sources.of_pool(&outbound.parts.policy, pool)?;
    let (mut site, found, site_until) =
        site(outbound, name.routing_domain.as_deref(), name.destination()).await?;
    let turns = Turns::new(sources.iter().map(|weighted| weighted.weight));
    let with_path = |weighted: Weighted| {
        let source = weighted.source;
        path_config(outbound, name.destination(), &source.name, &site.name).map(|config| (source, config))
    };
    let paths = sources.into_iter().map(with_path).collect::<Result<Vec<_>, _>>()?;
    if let Some(hosts) = found
        && paths.iter().any(|(_, config)| config.enable_dane)
    {
        site.is_certain = outbound.security.are_certain(name.destination(), &hosts).await?;
    }
    let site = Arc::new(site);
    let ways: Vec<_> =
        paths.into_iter().map(|(source, config)| ready_queue(outbound, source, config, &site)).collect();
    let refresh = |way: &Arc<ReadyQueue>| way.path().config.refresh_interval;
    let paths_until = now + ways.iter().map(refresh).min().unwrap_or(REFRESH_INTERVAL);
    let until = site_until.min(sources_until).min(paths_until);
    Ok(Route { ways, turns, until: until.max(now + REFRESH_INTERVAL_MIN) })
}

/// The site of a destination, with what DNS said of it, and until when that holds. A destination that is not a routing domain may have to go
/// to the one relay.
///
/// # Errors
/// The outcome for mail to there.
pub(super) async fn site(
    outbound: &Outbound,
    routing_domain: Option<&str>,
    destination: &str,
) -> Result<(Site, Option<Arc<MailHosts>>, Instant), Outcome> {
    if let (None, Some(relay)) = (routing_domain, &outbound.parts.spec.relay_to) {
        let (name, address) = (relay.host.as_str().into(), relay.address());
        let host = Host { name, preference: 0, address, port: relay.port };
        let (name, sts) = (relay.to_string().into(), Sts::Nothing);
        let site = Site { name, hosts: vec![host], loopback_allowed: true, sts, is_certain: false };
        return Ok((site, None, Instant::now() + REFRESH_INTERVAL));
    }
    let hosts = outbound.parts.dns.mail_hosts(destination).await;
    let hosts = hosts.map_err(|error| classify::dns(&error))?;
    let (hosts, sts) = outbound.security.allowed(destination, hosts).await?;
    let expires = hosts.expires;
    Ok((Site::of(&hosts, sts), Some(hosts), expires))
}

/// The name under which the limits of a source and a site are counted.
pub(super) fn limits_name(source: &str, site: &str) -> String {
    format!("{source}->{site}@smtp_client")
}

/// What a ready queue is called. Domains that share their hosts and differ in what they ask of them have the limits in common, and no
/// connection.
pub(super) fn ready_queue_name(limits: &str, site: &Site, config: &PathConfig) -> String {
    let dane = if config.enable_dane && site.is_certain { "+dane" } else { "" };
    format!("{limits}{}{dane}", site.sts.suffix())
}

/// The ready queue of a source and a site, with the path that leads there now.
fn ready_queue(
    outbound: &Arc<Outbound>,
    source: Arc<SourceConfig>,
    config: PathConfig,
    site: &Arc<Site>,
) -> Arc<ReadyQueue> {
    let limits = limits_name(&source.name, &site.name);
    let name = ready_queue_name(&limits, site, &config);
    let path = Arc::new(Path::new(&limits, source, config));
    let make = || ReadyQueue::new(&name, Arc::clone(site), Arc::clone(&path));
    let ready = outbound.ready.get_or_insert(&name, make);
    ready.refresh(Arc::clone(site), path);
    // It may be new, and the orders older than it.
    outbound.heed(vec![Arc::clone(&ready)]);
    ready
}

/// What the policy says of the way from a source to a site.
///
/// # Errors
/// The outcome for mail that would take it: the policy failed.
pub(super) fn path_config(
    outbound: &Outbound,
    routing_domain: &str,
    source: &str,
    site: &str,
) -> Result<PathConfig, Outcome> {
    let policy = &outbound.parts.policy;
    if !policy.handles_egress_path_config() {
        return Ok(PathConfig { enable_tls: outbound.parts.spec.enable_tls, ..PathConfig::default() });
    }
    // Unlike a retry rule, a path may hold what must not be ignored (prohibited_hosts), so mail waits until it can be asked.
    let asked = policy.egress_path_config(routing_domain, source, site).map_err(|error| {
        tracing::error!(%error, routing_domain, source, "get_egress_path_config failed; mail for it waits");
        classify::policy()
    })?;
    Ok(asked.unwrap_or_default())
}

/// The port of a host.
pub(super) fn port(outbound: &Outbound, path: &Path, host: &Host) -> u16 {
    let of_path = || path.config.smtp_port.or(outbound.parts.spec.smtp_port);
    path.source.remote_port.or(host.port).or_else(of_path).unwrap_or(SMTP_PORT)
}

/// Whether mail may go to an address on this path.
pub(super) fn is_prohibited(site: &Site, path: &PathConfig, address: IpAddr) -> bool {
    match &path.prohibited_hosts {
        Some(hosts) => hosts.contains(address),
        None => !site.loopback_allowed && CidrSet::loopback().contains(address),
    }
}
