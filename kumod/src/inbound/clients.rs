//! How many connections each client address has open (RFC 5321 7.8).
//!
//! A client is an address of IPv4, or a network of 64 bits of IPv6, in which one host can have every address (RFC 4291 2.5.1). There are never
//! more entries than open connections. Asked once for a connection, and only where the limit concerns the client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts of a process, shared by its listeners.
#[derive(Debug, Default)]
pub struct ClientCounts(Mutex<HashMap<IpAddr, usize>>);

/// One counted connection; dropping it takes it off.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<ClientCounts>,
    client: IpAddr,
}

impl ClientCounts {
    /// Counts a connection, unless the client has `connections_max` already.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, connections_max: usize) -> Option<Counted> {
        let client = client_of(peer);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = counts.entry(client).or_default();
        if *open >= connections_max {
            return None;
        }
        *open += 1;
        Some(Counted { counts: Arc::clone(self), client })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = counts.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

fn client_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_client_has_its_own_count_and_gives_back_what_it_took() {
        let counts = Arc::new(ClientCounts::default());
        let enter = |peer: &str| counts.enter(peer.parse().unwrap(), 2);
        let first = enter("192.0.2.1").unwrap();
        let second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        let other = enter("192.0.2.2").unwrap();
        drop(first);
        let third = enter("192.0.2.1").unwrap();
        drop((second, third, other));
        assert!(counts.0.lock().unwrap().is_empty(), "nothing is kept of who is gone");
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let counts = Arc::new(ClientCounts::default());
        let enter = |peer: &str| counts.enter(peer.parse().unwrap(), 1);
        let _one = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::ffff:1").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
    }
}
