//! What the tests of kumod share: the program itself in a folder of its own, a client, a scripted next hop, policies.
//!
//! Nothing here waits for a time to pass: every wait ends with what it waits for, or with a panic that names it when it has not
//! come within [`PATIENCE`], which no healthy run gets near. Every process and folder goes when its owner is dropped.

#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod audit;
pub(crate) mod authority;
pub(crate) mod authority_of_certificates;
pub(crate) mod client;
pub(crate) mod home;
pub(crate) mod house;
pub(crate) mod https;
pub(crate) mod policy;
pub(crate) mod proxy;
pub(crate) mod scripted;
pub(crate) mod signed;
pub(crate) mod spares;
pub(crate) mod strace;
pub(crate) mod tls_hop;
pub(crate) mod trust;
pub(crate) mod unbound;

use std::thread;
use std::time::{Duration, Instant};

/// After this a wait has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at something that tells nobody when it changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::park_timeout(LOOK_INTERVAL);
    }
}

/// Looks until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, || is_so().then_some(()));
}

/// A sink on ports of its own.
pub(crate) fn sink() -> sink::Server {
    sink::Server::start(sink::Config::on_free_ports()).unwrap()
}
