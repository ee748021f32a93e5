//! Whether a message may go now: what its queue, its path and its source's plan allow, and what orders and its own schedule say.
//!
//! A permit is taken from everything that limits the message at once, or from nothing. Nothing here fails; a permit that cannot be had is a
//! reason to wait, to go elsewhere, or to give the message back.

use std::time::Duration;

use super::{Dispatcher, EXPIRY_TICK};
use crate::clock::UnixMs;
use crate::config::Ceiling;
use crate::outbound::path::Path;
use crate::outbound::ready::Item;
use crate::outbound::scheduled::Rules;
use crate::ports::Rate;
use crate::store::Untaken;

/// How long a warming source pauses when its count could not be written.
const COUNT_RETRY_DELAY: Duration = Duration::from_secs(10);

/// What the rates say about a message.
pub(super) enum Permitted {
    /// It may go; the time at which that was said.
    Since(UnixMs),
    /// Its own queue's rate is used up until then.
    NotBefore(UnixMs),
    /// The source has been chosen as often as it may be until then.
    NotFromHere(UnixMs),
    /// It waited longer than its queue allows.
    TooOld,
    /// An order has come.
    Held,
    /// It may not be sent before then; others of its queue may.
    Outside(UnixMs),
    /// The source has sent what its plan allows for the day.
    DayIsOver(Ceiling),
    Stopping,
}

/// What refuses a permit.
enum By {
    Queue,
    Selection,
    Path,
    /// The source's plan for the day.
    Day(Ceiling),
}

impl Dispatcher {
    /// Waits until all rates of the queue and the path have a permit for the message. A rate of the queue alone must not hold up
    /// other queues, so that its message is not waited for.
    pub(super) async fn permitted(&mut self, item: &Item, rules: &Rules, path: &Path) -> Permitted {
        let expires = item.expires();
        loop {
            let now = UnixMs::now();
            if now > expires {
                return Permitted::TooOld;
            }
            if item.queue.is_held() {
                return Permitted::Held;
            }
            if let Some(scheduling) = &item.entry.claimed.envelope.scheduling {
                let due = scheduling.adjust(now).min(expires.after(EXPIRY_TICK));
                if due > now {
                    return Permitted::Outside(due);
                }
            }
            let ceiling = path.source.warm_up.as_ref().and_then(|plan| plan.today(now.0));
            let is_unlimited = rules.rates.is_empty() && path.message_rates.is_empty();
            if is_unlimited && path.selection_rates.is_empty() && ceiling.is_none() {
                return Permitted::Since(now);
            }
            let Some((until, by)) = self.refusal(rules, path, ceiling, now).await else {
                return Permitted::Since(now);
            };
            match by {
                By::Day(ceiling) => return Permitted::DayIsOver(ceiling),
                By::Queue => return Permitted::NotBefore(until.min(expires.after(EXPIRY_TICK))),
                By::Selection => return Permitted::NotFromHere(until.min(expires.after(EXPIRY_TICK))),
                By::Path if !self.wait_until(until.min(expires.after(EXPIRY_TICK))).await => {
                    return Permitted::Stopping;
                }
                By::Path if self.ready.is_held() => return Permitted::Held,
                By::Path => {}
            }
        }
    }

    /// Asks for a permit of everything that limits the message. Where one is refused: until when, and by what.
    async fn refusal(
        &self,
        rules: &Rules,
        path: &Path,
        ceiling: Option<Ceiling>,
        now: UnixMs,
    ) -> Option<(UnixMs, By)> {
        let of_path = path.selection_rates.rates().chain(path.message_rates.rates());
        let rates: Vec<Rate<'_>> = rules.rates.rates().chain(of_path).collect();
        let grant = self.outbound.parts.permits.take(&rates, 1, now).await;
        if let Some(until) = grant.until {
            let by = match grant.limited_by.checked_sub(rules.rates.len()) {
                None => By::Queue,
                Some(at) if at < path.selection_rates.len() => By::Selection,
                Some(_) => By::Path,
            };
            return Some((until, by));
        }
        // Last, because what it takes cannot be given back.
        let ceiling = ceiling?;
        match self.outbound.parts.allowances.take(&path.source.name, &ceiling).await {
            Ok(()) => None,
            Err(Untaken::UsedUp) => Some((UnixMs(ceiling.ends_ms), By::Day(ceiling))),
            Err(Untaken::Unwritten(error)) => {
                tracing::error!(%error, source = path.source.name, "what a warming source sends cannot be counted; its mail waits");
                Some((now.after(COUNT_RETRY_DELAY), By::Path))
            }
        }
    }
}
