//! What rules remember of clients over all connections: greylists, rates, connections at once.
//!
//! Each table has a limit. A full one forgets what it has known longest, so a client may be greeted anew or
//! get a fresh allowance; it never refuses for want of room. Keys are 64-bit sums: two clients that share
//! one are taken for one, which happens once in thousands of millions.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most entries of each table; about 40 bytes each.
pub(super) const ENTRIES_MAX: usize = 1 << 18;

/// All tables, shared by all workers. Only a rule that needs one locks it.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// When a triple was first seen.
    greylist: Mutex<Table<Duration>>,
    /// The theoretical arrival time of the generic cell rate algorithm.
    rates: Mutex<Table<Duration>>,
    connections: Mutex<Table<u32>>,
}

#[derive(Debug, Default)]
struct Table<V> {
    entries: HashMap<u64, V>,
    /// Keys in the order in which they came.
    order: VecDeque<u64>,
}

impl Tables {
    /// Whether a greylist lets the triple pass: it was first seen at least `wait` ago.
    pub(super) fn greylist_passes(&self, key: u64, now: Duration, wait: Duration) -> bool {
        let first = *lock(&self.greylist).entry(key, || now);
        now.saturating_sub(first) >= wait
    }

    /// Whether the rate allows one more event now, which is then counted.
    pub(super) fn rate_allows(&self, key: u64, now: Duration, interval: Duration, burst: u32) -> bool {
        let mut rates = lock(&self.rates);
        let arrival = rates.entry(key, || now);
        let next = next_arrival(*arrival, now, interval, burst);
        if let Some(next) = next {
            *arrival = next;
        }
        next.is_some()
    }

    /// Takes a seat among the connections of `key`; `false` where `seats_max` are taken.
    pub(super) fn sit_down(&self, key: u64, seats_max: u32) -> bool {
        let mut connections = lock(&self.connections);
        let taken = connections.entry(key, || 0);
        let free = *taken < seats_max;
        *taken += u32::from(free);
        free
    }

    /// Gives the seat back.
    pub(super) fn stand_up(&self, key: u64) {
        if let Some(taken) = lock(&self.connections).entries.get_mut(&key) {
            *taken = taken.saturating_sub(1);
        }
    }
}

impl<V> Table<V> {
    fn entry(&mut self, key: u64, new: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            while self.entries.len() >= ENTRIES_MAX {
                let Some(oldest) = self.order.pop_front() else { break };
                self.entries.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.entries.entry(key).or_insert_with(new)
    }
}

/// The generic cell rate algorithm: `arrival` is when the next event would be due at the rate allowed.
fn next_arrival(arrival: Duration, now: Duration, interval: Duration, burst: u32) -> Option<Duration> {
    let tolerance = interval.saturating_mul(burst.saturating_sub(1));
    (arrival <= now.saturating_add(tolerance)).then(|| arrival.max(now).saturating_add(interval))
}

/// A sum of what an entry is about.
pub(super) fn key(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// The network that a greylist takes for one client: /24 and /64, because large senders change hosts.
pub(super) fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => (address & std::net::Ipv4Addr::new(255, 255, 255, 0)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// No lock is held while something can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_allows_its_burst_and_then_its_rate() {
        let tables = Tables::default();
        let allows = |at: Duration| tables.rate_allows(7, at, SECOND, 3);
        assert_eq!([0, 0, 0, 0].map(|at| allows(at * SECOND)), [true, true, true, false]);
        assert_eq!([1, 1].map(|at| allows(at * SECOND)), [true, false]);
        assert_eq!([100, 100, 100, 100].map(|at| allows(at * SECOND)), [true, true, true, false]);
        assert!(tables.rate_allows(8, Duration::ZERO, SECOND, 1), "another client has its own allowance");
    }

    #[test]
    fn a_greylist_passes_after_its_wait() {
        let tables = Tables::default();
        let passes = |key, at: u32| tables.greylist_passes(key, at * SECOND, 5 * SECOND);
        assert_eq!([passes(1, 10), passes(1, 14), passes(2, 15), passes(1, 15)], [false, false, false, true]);
    }

    #[test]
    fn seats_are_given_back() {
        let tables = Tables::default();
        assert_eq!(
            [tables.sit_down(1, 2), tables.sit_down(1, 2), tables.sit_down(1, 2)],
            [true, true, false]
        );
        tables.stand_up(1);
        assert!(tables.sit_down(1, 2));
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let mut table = Table::default();
        for key in 0..ENTRIES_MAX as u64 + 10 {
            table.entry(key, || key);
        }
        assert_eq!((table.entries.len(), table.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        assert!(!table.entries.contains_key(&9) && table.entries.contains_key(&10));
    }

    #[test]
    fn neighbours_are_one_client() {
        let same =
            |left: &str, right: &str| network_of(left.parse().unwrap()) == network_of(right.parse().unwrap());
        assert!(same("192.0.2.1", "192.0.2.200") && !same("192.0.2.1", "192.0.3.1"));
        assert!(same("2001:db8::1", "2001:db8::ffff:1") && !same("2001:db8::1", "2001:db8:0:1::1"));
    }
}
