//! Addresses of a site that did not answer, which are tried last for a while.
//!
//! Without it, a dead first MX costs each connection the time that it is waited for. Now and then one connection tries such an address in
//! its own turn, so that a host that is back is noticed; those that come meanwhile still leave it for the end. Where everything has
//! answered, asking costs one look at a number.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::lock;

/// How long an address is tried last before one connection tries it in its turn again.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// Addresses remembered; of more, those that were noted first are forgotten.
const ADDRESSES_MAX: usize = 64;

/// The addresses that are quiet, of one ready queue.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    count: AtomicUsize,
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    address: SocketAddr,
    probe_at: Instant,
}

impl Quiet {
    /// Whether to try an address last. Once in each interval the answer is no, and whoever gets it is the one to see whether it is back.
    pub(super) fn is_quiet(&self, address: SocketAddr, now: Instant) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut known = lock(&self.known);
        match known.iter_mut().find(|known| known.address == address) {
            Some(known) if known.probe_at <= now => {
                known.probe_at = now + PROBE_INTERVAL;
                false
            }
            found => found.is_some(),
        }
    }

    /// It did not answer.
    pub(super) fn note_silence(&self, address: SocketAddr, now: Instant) {
        let mut known = lock(&self.known);
        known.retain(|known| known.address != address);
        if known.len() >= ADDRESSES_MAX {
            known.remove(0);
        }
        known.push(Known { address, probe_at: now + PROBE_INTERVAL });
        self.count.store(known.len(), Ordering::Relaxed);
    }

    /// It did.
    pub(super) fn note_answer(&self, address: SocketAddr) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut known = lock(&self.known);
        known.retain(|known| known.address != address);
        self.count.store(known.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(last: usize) -> SocketAddr {
        format!("192.0.2.{last}:25").parse().unwrap()
    }

    #[test]
    fn an_address_that_was_silent_is_left_for_last_and_one_connection_at_a_time_looks_again() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        assert!(!quiet.is_quiet(address(1), start));
        quiet.note_silence(address(1), start);
        assert!(quiet.is_quiet(address(1), start) && !quiet.is_quiet(address(2), start));
        let later = start + PROBE_INTERVAL;
        assert!(!quiet.is_quiet(address(1), later), "this one looks");
        assert!(quiet.is_quiet(address(1), later), "the others go on without");
        quiet.note_answer(address(1));
        assert!(!quiet.is_quiet(address(1), later));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let (quiet, now) = (Quiet::default(), Instant::now());
        for last in 0..=ADDRESSES_MAX {
            quiet.note_silence(address(last), now);
        }
        assert_eq!(lock(&quiet.known).len(), ADDRESSES_MAX);
        assert!(!quiet.is_quiet(address(0), now) && quiet.is_quiet(address(ADDRESSES_MAX), now));
    }
}
