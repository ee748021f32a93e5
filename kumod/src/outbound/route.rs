//! Where a scheduled queue's mail goes: the site, its hosts in order, the path that leads there.
//!
//! Policy is asked first, DNS second; what neither knows falls back to the defaults of KumoMTA. The answer has an end, after which it
//! is looked for again, so that changes of policy and DNS arrive without a restart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ready::{Path, ReadyQueue};
use super::{Outbound, classify};
use crate::config::{CidrSet, PathConfig, QueueConfig};
use crate::dns::MailHosts;
use crate::envelope::Outcome;
use crate::queue::QueueName;

/// The egress source of a host that has only one.
pub(super) const SOURCE: &str = "unspecified";
/// How long an answer holds at most (KumoMTA's `refresh_interval`).
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// RFC 5321 2.3.5 and IANA: the port of SMTP.
const SMTP_PORT: u16 = 25;

/// A destination and its hosts.
#[derive(Debug)]
pub(super) struct Site {
    /// The name that domains with the same hosts share.
    pub(super) name: Arc<str>,
    /// Hosts in the order in which to try them.
    pub(super) hosts: Vec<Host>,
    /// Whether somebody who may say so named loopback: a `.localhost` domain, or `--relay-to`.
    pub(super) loopback_allowed: bool,
}

/// One host of a site.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Arc<str>,
    /// Known without asking, where the destination is a literal.
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
}

impl Site {
    fn of(hosts: &MailHosts) -> Self {
        let host = |host: &crate::dns::MailHost| Host {
            name: host.name.as_str().into(),
            address: host.address,
            port: host.port,
        };
        Self {
            name: hosts.site_name.as_str().into(),
            hosts: hosts.hosts.iter().map(host).collect(),
            loopback_allowed: hosts.loopback_by_name,
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

/// Finds the ready queue for a scheduled queue, and until when the answer holds.
///
/// # Errors
/// The outcome for every message that waits for it.
pub(super) async fn find(
    outbound: &Arc<Outbound>,
    name: &QueueName,
) -> Result<(Arc<ReadyQueue>, Instant), Outcome> {
    let now = Instant::now();
    let (site, expires) = match (&name.routing_domain, &outbound.parts.spec.relay_to) {
        (None, Some(relay)) => {
            let host = Host { name: relay.host.as_str().into(), address: relay.address(), port: relay.port };
            let site = Site { name: relay.to_string().into(), hosts: vec![host], loopback_allowed: true };
            (site, now + REFRESH_INTERVAL)
        }
        _ => {
            let hosts = outbound.parts.dns.mail_hosts(name.destination()).await;
            let hosts = hosts.map_err(|error| classify::dns(&error))?;
            (Site::of(&hosts), hosts.expires)
        }
    };
    let config = path_config(outbound, name.destination(), &site.name)?;
    let site = Arc::new(site);
    let queue_name = format!("{SOURCE}->{}@smtp_client", site.name);
    let path = Arc::new(Path::new(&queue_name, config));
    let ready =
        outbound.ready.get_or_insert(&queue_name, || ReadyQueue::new(Arc::clone(&site), Arc::clone(&path)));
    ready.refresh(site, path);
    Ok((ready, expires.min(now + REFRESH_INTERVAL).max(now + Duration::from_secs(1))))
}

fn path_config(outbound: &Outbound, routing_domain: &str, site: &str) -> Result<PathConfig, Outcome> {
    let policy = &outbound.parts.policy;
    if !policy.handles_egress_path_config() {
        return Ok(PathConfig::default());
    }
    // Unlike a retry rule, a path may hold what must not be ignored (prohibited_hosts), so mail waits until it can be asked.
    let asked = policy.egress_path_config(routing_domain, SOURCE, site).map_err(|error| {
        tracing::error!(%error, routing_domain, "get_egress_path_config failed; mail for it waits");
        classify::policy()
    })?;
    Ok(asked.unwrap_or_default())
}

/// The port of a host.
pub(super) fn port(outbound: &Outbound, path: &PathConfig, host: &Host) -> u16 {
    host.port.or(path.smtp_port).or(outbound.parts.spec.smtp_port).unwrap_or(SMTP_PORT)
}

/// Whether mail may go to an address on this path.
pub(super) fn is_prohibited(site: &Site, path: &PathConfig, address: IpAddr) -> bool {
    match &path.prohibited_hosts {
        Some(hosts) => hosts.contains(address),
        None => !site.loopback_allowed && CidrSet::loopback().contains(address),
    }
}
