//! What is kept of past handshakes, so that the next one with the same host is cheap.
//!
//! The library's own store keeps eight tickets for each host, each with a copy of the host's certificates; with ten thousand hosts
//! that would be most of the memory. Here a host has [`TICKETS_PER_HOST_MAX`], and the host that was met first goes when there are too many. A
//! session is only taken up again by a handshake with the same verifier and the same certificate of ours: the library sees to that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Hosts whose sessions are kept.
const HOSTS_MAX: usize = 16 * 1024;
/// Tickets of TLS 1.3 that are kept for a host. Each is used once, and each handshake brings new ones.
const TICKETS_PER_HOST_MAX: usize = 2;

/// The sessions of all paths.
pub(super) struct Sessions {
    hosts_max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    hosts: HashMap<ServerName<'static>, Host>,
    /// In the order in which they were met.
    order: VecDeque<ServerName<'static>>,
}

#[derive(Default)]
struct Host {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { hosts_max: HOSTS_MAX, table: Mutex::default() }
    }
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, name: ServerName<'static>, change: impl FnOnce(&mut Host)) {
        let table = &mut *self.table();
        if !table.hosts.contains_key(&name) {
            if table.hosts.len() >= self.hosts_max
                && let Some(first) = table.order.pop_front()
            {
                table.hosts.remove(&first);
            }
            table.order.push_back(name.clone());
        }
        change(table.hosts.entry(name).or_default());
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |host| host.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.table().hosts.get(name)?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(name, |host| host.tls12 = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.table().hosts.get(name)?.tls12.clone()
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(host) = self.table().hosts.get_mut(name) {
            host.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(name, |host| {
            if host.tickets.len() >= TICKETS_PER_HOST_MAX {
                host.tickets.pop_front();
            }
            host.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.table().hosts.get_mut(name)?.tickets.pop_back()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_limit_holds_and_who_was_met_first_goes_first() {
        let sessions = Sessions { hosts_max: 3, table: Mutex::default() };
        let name = |number: usize| ServerName::try_from(format!("mx{number}.test")).unwrap();
        for number in 0..5 {
            sessions.set_kx_hint(name(number), NamedGroup::X25519);
        }
        let known: Vec<bool> = (0..5).map(|number| sessions.kx_hint(&name(number)).is_some()).collect();
        assert_eq!(known, [false, false, true, true, true]);
        let table = sessions.table();
        assert_eq!((table.hosts.len(), table.order.len()), (3, 3));
    }
}
