//! Which addresses of a site to try, in which order, and which not at all.
//!
//! Hosts come by preference, shuffled anew within one for each connection (RFC 5321 5.1), and are looked up as their turn comes; each
//! address comes once. What the path prohibits or skips, and what the source cannot reach, is left out; what was silent lately comes last.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::path::Path;
use super::quiet::Quiet;
use super::route::{Host, Site, is_prohibited, port};
use super::{Outbound, classify};
use crate::config::IpLookupStrategy;
use crate::envelope::Outcome;

/// Addresses tried for one connection. A site with more is tried again with the next attempt, in another order.
pub(super) const ADDRESSES_TRIED_MAX: usize = 8;

/// An address and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
}

/// The addresses of a site, one after the other.
pub(super) struct Candidates<'a> {
    outbound: &'a Outbound,
    site: &'a Site,
    path: &'a Path,
    quiet: &'a Quiet,
    avoid: &'a [SocketAddr],
    hosts: std::vec::IntoIter<&'a Host>,
    /// Of the host whose turn it is.
    next: VecDeque<Candidate>,
    /// Those that were silent.
    last: VecDeque<Candidate>,
    seen: Vec<SocketAddr>,
    given: usize,
    passed_over: PassedOver,
}

/// Why addresses were not tried, or did not do.
#[derive(Default)]
struct PassedOver {
    /// The last thing that went wrong.
    failed: Option<String>,
    /// One is in `skip_hosts`.
    skipped: bool,
    /// One was to be avoided.
    avoided: bool,
}

impl<'a> Candidates<'a> {
    /// `avoid`: what was tried already, or has ended a connection.
    pub(super) fn new(
        outbound: &'a Outbound,
        site: &'a Site,
        path: &'a Path,
        quiet: &'a Quiet,
        avoid: &'a [SocketAddr],
    ) -> Self {
        Self {
            outbound,
            site,
            path,
            quiet,
            avoid,
            hosts: site.attempt_order().into_iter(),
            next: VecDeque::new(),
            last: VecDeque::new(),
            seen: Vec::new(),
            given: 0,
            passed_over: PassedOver::default(),
        }
    }

    /// The next address to try; `None` when there is none, or enough were given.
    pub(super) async fn next(&mut self) -> Option<Candidate> {
        if self.given >= ADDRESSES_TRIED_MAX {
            return None;
        }
        let found = loop {
            if let Some(next) = self.next.pop_front() {
                break Some(next);
            }
            let Some(host) = self.hosts.next() else { break self.last.pop_front() };
            match host.address {
                Some(address) => self.sort_in(host, vec![address]),
                None => match self.outbound.parts.dns.addresses(&host.name).await {
                    Ok(found) => self.look_over(host, found),
                    Err(error) => self.note_failure(format!("{}: {error}", host.name)),
                },
            }
        };
        self.given += usize::from(found.is_some());
        found
    }

    /// An address that was tried, or could not be, did not do.
    pub(super) fn note_failure(&mut self, reason: String) {
        self.passed_over.failed = Some(reason);
    }

    /// What it means that no address did; `None` where there were none but those to avoid.
    pub(super) fn outcome(self) -> Option<Outcome> {
        Some(match self.passed_over {
            PassedOver { failed: Some(reason), .. } => classify::unreachable(&self.site.name, &reason),
            PassedOver { avoided: true, .. } => return None,
            PassedOver { skipped: true, .. } => classify::skipped(&self.site.name),
            PassedOver { .. } => classify::prohibited(&self.site.name),
        })
    }

    /// Addresses that were looked up: of the families that the path wants.
    fn look_over(&mut self, host: &Host, found: Vec<IpAddr>) {
        let reachable: Vec<IpAddr> =
            found.iter().copied().filter(|address| is_of_family(*address, self.path)).collect();
        if let (true, Some(address)) = (reachable.is_empty(), found.first()) {
            self.note_other_family(host, *address);
        }
        let wanted = of_strategy(self.path.config.ip_lookup_strategy, &reachable);
        if wanted.is_empty() && !reachable.is_empty() {
            let strategy = self.path.config.ip_lookup_strategy.name();
            self.note_failure(format!(
                "{}: it has no address that ip_lookup_strategy = '{strategy}' allows",
                host.name
            ));
        }
        self.sort_in(host, wanted);
    }

    fn sort_in(&mut self, host: &Host, addresses: Vec<IpAddr>) {
        let (now, config) = (Instant::now(), &self.path.config);
        for address in addresses {
            if is_prohibited(self.site, config, address) {
                continue;
            }
            if config.skip_hosts.contains(address) {
                self.passed_over.skipped = true;
                continue;
            }
            if !is_of_family(address, self.path) {
                self.note_other_family(host, address);
                continue;
            }
            let address = SocketAddr::new(address, port(self.outbound, self.path, host));
            if self.avoid.contains(&address) {
                self.passed_over.avoided = true;
                continue;
            }
            if self.seen.contains(&address) {
                continue;
            }
            self.seen.push(address);
            let candidate = Candidate { name: Arc::clone(&host.name), address };
            let line = if self.quiet.is_quiet(address, now) { &mut self.last } else { &mut self.next };
            line.push_back(candidate);
        }
    }

    fn note_other_family(&mut self, host: &Host, address: IpAddr) {
        self.note_failure(format!("{}[{address}]: the source's address is of the other family", host.name));
    }
}

/// Whether an address can be reached from the one that mail of the source comes from.
fn is_of_family(address: IpAddr, path: &Path) -> bool {
    path.source.visible_address().is_none_or(|from| from.is_ipv4() == address.is_ipv4())
}

/// The addresses that a strategy leaves, in its order.
fn of_strategy(strategy: IpLookupStrategy, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let of = |is_v4: bool| -> Vec<IpAddr> {
        addresses.iter().copied().filter(|address| address.is_ipv4() == is_v4).collect()
    };
    let or_else = |first: Vec<IpAddr>, is_v4: bool| if first.is_empty() { of(is_v4) } else { first };
    match strategy {
        IpLookupStrategy::V4AndV6 => [of(true), of(false)].concat(),
        IpLookupStrategy::V4Only => of(true),
        IpLookupStrategy::V6Only => of(false),
        IpLookupStrategy::V4ThenV6 => or_else(of(true), false),
        IpLookupStrategy::V6ThenV4 => or_else(of(false), true),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_strategy_says_which_families_are_tried_and_in_which_order() {
        let parse =
            |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let both = parse(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        let (v4, v6) = (parse(&["192.0.2.1", "192.0.2.2"]), parse(&["2001:db8::1"]));
        for (strategy, of_both, of_v4, of_v6) in [
            (IpLookupStrategy::V4AndV6, [v4.clone(), v6.clone()].concat(), v4.clone(), v6.clone()),
            (IpLookupStrategy::V4Only, v4.clone(), v4.clone(), vec![]),
            (IpLookupStrategy::V6Only, v6.clone(), vec![], v6.clone()),
            (IpLookupStrategy::V4ThenV6, v4.clone(), v4.clone(), v6.clone()),
            (IpLookupStrategy::V6ThenV4, v6.clone(), v4.clone(), v6.clone()),
        ] {
            let left = [&both, &v4, &v6].map(|given| of_strategy(strategy, given));
            assert_eq!(left, [of_both, of_v4, of_v6], "{strategy:?}");
        }
    }
}
