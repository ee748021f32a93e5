//! Standing orders: what is not to be sent from here now, why, and until when.
//!
//! A source whose address is gone, or whose day is used up, is suspended: its ready queues hand over what they hold to the other sources of
//! the pool, and what finds no place waits in the store. When an order ends, the queues that it held are filled again at once. Orders live in
//! memory: a restart forgets them, and finds out anew what still holds.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ready::{Held, ReadyQueue};
use super::{Outbound, lock, ready, scheduled};
use crate::clock::UnixMs;
use crate::config::{SourceConfig, Trigger};

/// Orders that stand at once; more are refused.
const ORDERS_MAX: usize = 10_000;

/// All orders.
#[derive(Default)]
pub(super) struct Orders {
    standing: Mutex<Vec<Standing>>,
    /// When sources failed last, as far back as their rules look.
    failures: Mutex<HashMap<String, VecDeque<Instant>>>,
}

struct Standing {
    what: What,
    until: UnixMs,
}

/// What an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Everything that leaves from a source.
    Source(String),
}

impl Orders {
    /// Whether a ready queue of this source is held.
    pub(super) fn holds(&self, source: &str) -> bool {
        lock(&self.standing).iter().any(|standing| match &standing.what {
            What::Source(name) => name == source,
        })
    }

    /// Adds an order. `false`: it stands already for as long, or there are too many.
    fn add(&self, what: What, until: UnixMs) -> bool {
        let mut standing = lock(&self.standing);
        if let Some(known) = standing.iter_mut().find(|known| known.what == what) {
            known.until = known.until.max(until);
            return false;
        }
        if standing.len() >= ORDERS_MAX {
            return false;
        }
        standing.push(Standing { what, until });
        true
    }

    /// Ends an order whose time has come, or says how much longer it stands.
    fn end(&self, what: &What, now: UnixMs) -> Option<Duration> {
        let mut standing = lock(&self.standing);
        let at = standing.iter().position(|known| known.what == *what)?;
        if standing[at].until > now {
            return Some(standing[at].until.since(now));
        }
        standing.swap_remove(at);
        None
    }

    /// Counts a failure of a source and says whether its rule holds now.
    fn is_last_straw(&self, source: &SourceConfig, now: Instant) -> bool {
        let Trigger::Threshold(spec) = source.suspend_when_unplumbed.trigger else { return true };
        let mut failures = lock(&self.failures);
        let times = failures.entry(source.name.clone()).or_default();
        times.push_back(now);
        while times.front().is_some_and(|time| now.duration_since(*time) > spec.period) {
            times.pop_front();
        }
        let holds = times.len() as u64 >= spec.count;
        if holds {
            failures.remove(&source.name);
        }
        holds
    }
}

impl Outbound {
    /// A source's address is not on this host.
    pub(super) fn source_unplumbed(self: &Arc<Self>, source: &SourceConfig) {
        if self.orders.is_last_straw(source, Instant::now()) {
            let duration = source.suspend_when_unplumbed.duration;
            self.suspend_source(
                &source.name,
                "its address is not on this host",
                UnixMs::now().after(duration),
            );
        }
    }

    /// Sends nothing from a source until then.
    pub(super) fn suspend_source(self: &Arc<Self>, source: &str, reason: &str, until: UnixMs) {
        let what = What::Source(source.to_owned());
        if !self.orders.add(what.clone(), until) {
            return;
        }
        tracing::warn!(source, reason, until = until.rfc3339(), "an egress source is suspended");
        self.heed(self.ready.all());
        let outbound = Arc::clone(self);
        tokio::spawn(async move {
            let mut wait = Some(until.since(UnixMs::now()));
            while let Some(left) = wait {
                tokio::time::sleep(left).await;
                wait = outbound.orders.end(&what, UnixMs::now());
            }
            tracing::info!(?what, "a suspension is over");
            outbound.heed(outbound.ready.all());
        });
    }

    /// Holds and lets go of ready queues as the orders say now.
    pub(super) fn heed(self: &Arc<Self>, queues: Vec<Arc<ReadyQueue>>) {
        let mut resumed = Vec::new();
        for ready in queues {
            match ready.heed(&self.orders) {
                Held::AsBefore => {}
                Held::Now(items) => {
                    for item in items {
                        scheduled::offer(self, &item.queue, item.entry);
                    }
                }
                Held::NoMore => resumed.push(ready),
            }
        }
        if !resumed.is_empty() {
            resumed.iter().for_each(|ready| ready::wake(self, ready));
            for queue in self.scheduled.all() {
                if queue.feeds(&resumed) {
                    scheduled::stir(self, &queue);
                }
            }
        }
    }
}
