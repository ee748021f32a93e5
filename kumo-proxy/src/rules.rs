//! Who may come, from which address of this host, and where to.
//!
//! Without a word from the operator only this host itself may come, and nobody is let in to the services of the host or its link: a
//! proxy that serves strangers, or that opens doors behind it, is what attackers look for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// What is allowed. An empty list of sources or destinations means the default, not everything.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Networks that clients come from.
    pub clients: Vec<IpNet>,
    /// Addresses that they may come from through us; none named: any that this host has.
    pub sources: Vec<IpNet>,
    /// Networks that they may reach; none named: all but this host, its link, and what is no single host.
    pub destinations: Vec<IpNet>,
    /// Ports that they may reach.
    pub ports: Vec<u16>,
    /// Names and passwords; with one, everybody has to show one.
    pub users: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Rules {
    /// Whether a client is heard at all.
    pub fn allows_client(&self, client: IpAddr) -> bool {
        holds(&self.clients, client)
    }

    /// Whether mail may come from this address.
    pub fn allows_source(&self, source: IpAddr) -> bool {
        self.sources.is_empty() || holds(&self.sources, source)
    }

    /// Whether this address may be reached.
    pub fn allows_destination(&self, destination: SocketAddr) -> bool {
        let ip = destination.ip().to_canonical();
        let is_open =
            if self.destinations.is_empty() { is_elsewhere(ip) } else { holds(&self.destinations, ip) };
        is_open && self.ports.contains(&destination.port())
    }

    /// Whether everybody has to show a password.
    pub fn wants_password(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether a password is the user's. Takes as long for a wrong one as for the right one of its length.
    pub fn knows(&self, user: &[u8], password: &[u8]) -> bool {
        let Some(right) = self.users.get(user) else { return false };
        let differences = right.iter().zip(password).fold(0, |sum, (one, other)| sum | (one ^ other));
        right.len() == password.len() && differences == 0
    }
}

fn holds(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

/// Not this host, not its link, and one host.
fn is_elsewhere(ip: IpAddr) -> bool {
    let is_near = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0 || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    !is_near && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn nobody_is_served_and_nothing_near_is_reached_unless_it_is_said() {
        let rules = Rules { ports: vec![25], ..Rules::default() };
        assert!(!rules.allows_client("127.0.0.1".parse().unwrap()));
        for near in
            ["127.0.0.1:25", "0.0.0.0:25", "169.254.169.254:25", "[::1]:25", "[fe80::1]:25", "224.0.0.1:25"]
        {
            assert!(!rules.allows_destination(near.parse().unwrap()), "{near}");
        }
        assert!(!rules.allows_destination("[::ffff:127.0.0.1]:25".parse().unwrap()), "in other clothes");
        assert!(rules.allows_destination("192.0.2.1:25".parse().unwrap()));
        assert!(!rules.allows_destination("192.0.2.1:26".parse().unwrap()));
    }

    #[test]
    fn lists_say_who_comes_from_where_to_where() {
        let rules = Rules {
            clients: networks(&["10.0.0.0/8"]),
            sources: networks(&["192.0.2.0/28"]),
            destinations: networks(&["127.0.0.0/8"]),
            ports: vec![2525],
            ..Rules::default()
        };
        let ip = |text: &str| text.parse().unwrap();
        assert!(rules.allows_client(ip("10.1.2.3")) && rules.allows_client(ip("::ffff:10.1.2.3")));
        assert!(!rules.allows_client(ip("11.1.2.3")));
        assert!(rules.allows_source(ip("192.0.2.15")) && !rules.allows_source(ip("192.0.2.16")));
        assert!(rules.allows_destination("127.0.0.1:2525".parse().unwrap()));
        assert!(!rules.allows_destination("192.0.2.1:2525".parse().unwrap()));
    }

    #[test]
    fn a_password_is_the_users_own_and_whole() {
        let users = BTreeMap::from([(b"me".to_vec(), b"secret".to_vec())]);
        let rules = Rules { users, ..Rules::default() };
        assert!(rules.wants_password() && rules.knows(b"me", b"secret"));
        for (user, password) in [("me", "secre"), ("me", "secretly"), ("me", ""), ("you", "secret"), ("", "")]
        {
            assert!(!rules.knows(user.as_bytes(), password.as_bytes()), "{user}:{password}");
        }
    }
}
