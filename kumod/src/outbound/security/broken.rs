//! Hosts whose handshake failed, for as long as a path says to remember that (`remember_broken_tls`).
//!
//! Kept in memory only, as in KumoMTA. When there are too many, those whose time is over go; if none is over, a further one is not
//! remembered, which costs it a handshake that fails again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Hosts that are remembered at once.
const HOSTS_MAX: usize = 16 * 1024;

/// By name, until when.
#[derive(Debug, Default)]
pub(super) struct Broken(Mutex<HashMap<Box<str>, Instant>>);

impl Broken {
    /// Remembers a host.
    pub(super) fn remember(&self, host: &str, duration: Duration, now: Instant) {
        let mut hosts = self.hosts();
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, until| now < *until);
        }
        if hosts.len() < HOSTS_MAX || hosts.contains_key(host) {
            hosts.insert(host.into(), now + duration);
        }
    }

    /// Whether it is remembered still.
    pub(super) fn contains(&self, host: &str, now: Instant) -> bool {
        self.hosts().get(host).is_some_and(|until| now < *until)
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_remembered_for_its_time_and_no_more_than_there_is_room() {
        let (broken, now, minute) = (Broken::default(), Instant::now(), Duration::from_secs(60));
        broken.remember("mx.test", minute, now);
        assert!(broken.contains("mx.test", now + minute / 2) && !broken.contains("mx.test", now + minute));
        assert!(!broken.contains("other.test", now));
        for number in 0..HOSTS_MAX + 10 {
            broken.remember(&format!("mx{number}.test"), minute, now);
        }
        assert_eq!(broken.hosts().len(), HOSTS_MAX);
        broken.remember("late.test", minute, now + minute);
        assert!(broken.contains("late.test", now + minute));
        assert_eq!(broken.hosts().len(), 1);
    }
}
