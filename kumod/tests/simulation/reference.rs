//! A second way of counting what the rates and slots of kumod grant: a list of all grants, without arithmetic that could be wrong in the
//! same way.
//!
//! Time is what the clock has gone forward, steps forward included and steps back left out: setting the clock must never give more.

use std::collections::BTreeMap;

use kumod::config::ThrottleSpec;
use kumod::ports::{Rate, SlotLimit};

/// GCRA rounds the pause between two permits up, so that it may be this much later than the list says.
const LATE_MS: u64 = 2;

#[derive(Default)]
pub(crate) struct Reference {
    grants: BTreeMap<String, Vec<u64>>,
    slots: BTreeMap<String, usize>,
}

impl Reference {
    /// A permit under each of these rates was granted.
    ///
    /// # Errors
    /// One of them is exceeded by it.
    pub(crate) fn granted<'a>(
        &mut self,
        rates: impl Iterator<Item = Rate<'a>>,
        at: u64,
    ) -> Result<(), String> {
        for Rate { key, spec } in rates {
            let grants = self.grants.entry(key.to_owned()).or_default();
            if !has_room(grants, spec, at) {
                return Err(format!("rate {key} ({spec}) is exceeded at {at}: {grants:?}"));
            }
            grants.push(at);
        }
        Ok(())
    }

    /// Whether each of these rates has had a permit for a while.
    pub(crate) fn are_free<'a>(&self, mut rates: impl Iterator<Item = Rate<'a>>, at: u64) -> bool {
        let before = at.saturating_sub(LATE_MS);
        rates.all(|Rate { key, spec }| {
            self.grants.get(key).is_none_or(|grants| {
                grants.last().is_none_or(|last| *last <= before) && has_room(grants, spec, before)
            })
        })
    }

    /// Slots were taken.
    ///
    /// # Errors
    /// There are more connections now than one of the limits allows.
    pub(crate) fn connected(&mut self, limits: &[SlotLimit<'_>]) -> Result<(), String> {
        for SlotLimit { key, limit } in limits {
            let used = self.slots.entry((*key).to_owned()).or_default();
            *used += 1;
            if *used > *limit {
                return Err(format!("{used} connections under {key}, which allows {limit}"));
            }
        }
        Ok(())
    }

    pub(crate) fn disconnected(&mut self, keys: &[&str]) {
        for key in keys {
            if let Some(used) = self.slots.get_mut(*key) {
                *used -= 1;
            }
        }
    }

    pub(crate) fn has_slots(&self, limits: &[SlotLimit<'_>]) -> bool {
        limits.iter().all(|SlotLimit { key, limit }| self.slots.get(*key).is_none_or(|used| used < limit))
    }
}

/// Whether one more grant leaves every span of time within the burst and the rate.
fn has_room(grants: &[u64], spec: &ThrottleSpec, at: u64) -> bool {
    let period_ms = u64::try_from(spec.period.as_millis()).unwrap();
    let allowed = |from: u64| spec.burst + at.saturating_sub(from) * spec.count / period_ms;
    let spans = grants.iter().enumerate();
    spans
        .map(|(nth, from)| ((grants.len() - nth) as u64 + 1, *from))
        .all(|(total, from)| total <= allowed(from))
}
