//! Messages that have waited too long, wherever they wait: `max_age` holds in a ready queue too (KumoMTA's issue 539), and for mail that
//! is due and finds no place in one.
//!
//! Whoever is about to send a message looks at its age; this looks after the messages that nobody comes to, because all connections are
//! taken or a rate is used up. It owns nothing. A message that it misses is found by the next look.

use std::sync::Arc;
use std::time::Duration;

use super::{Outbound, classify};
use crate::clock::UnixMs;
use crate::ports::Wanted;

/// How often is looked, and so how much later than its time a message may expire.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Looks until the process stops.
pub(super) async fn run(outbound: Arc<Outbound>) {
    let mut shutdown = outbound.parts.shutdown.clone();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            _ = looks.tick() => {}
        }
        expire_ready(&outbound).await;
        expire_due(&outbound).await;
    }
}

async fn expire_ready(outbound: &Arc<Outbound>) {
    for ready in outbound.ready.all() {
        for item in ready.take_expired(outbound, UnixMs::now()) {
            let site = ready.site();
            outbound.fail(&item.queue, item.entry, classify::too_old(), &site.name).await;
        }
    }
}

/// What is due and has no place in a ready queue lies in the store.
async fn expire_due(outbound: &Arc<Outbound>) {
    let mut from = (outbound.parts.store.due() > 0).then_some(0);
    while let Some(at) = from.filter(|_| !outbound.parts.shutdown.is_stopping()) {
        let now = UnixMs::now();
        let mut born_before = |queue: &str| outbound.scheduled.get(queue)?.expired_if_born_before(now);
        let wanted = Wanted { due_only: true, born_before: &mut born_before };
        let withdrawn = outbound.parts.store.withdraw(at, wanted).await;
        for (name, claims) in withdrawn.claims {
            let queue = outbound.queue(&name);
            for entry in outbound.readable(&name, claims) {
                if queue.expiry(&entry.claimed.envelope) > now {
                    // It has a time of its own.
                    outbound.postpone(entry, Duration::ZERO);
                    continue;
                }
                outbound.fail(&queue, entry, classify::too_old(), "").await;
            }
        }
        from = withdrawn.next;
    }
}
