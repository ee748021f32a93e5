//! Rates by the generic cell rate algorithm (GCRA, ITU-T I.371), and connection slots, for one node.
//!
//! A rate of `count` in `period` with burst `b` is kept as the one time at which the next event would be exactly on
//! schedule. The time of the next permitted event is therefore exact, well below a second, and nobody has to poll.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::UnixMs;
use crate::config::ThrottleSpec;
use crate::ports::{BoxFuture, Grant, PermitSource};

/// Keys that may be remembered; over it those that have caught up with their schedule are forgotten, which changes nothing.
const KEYS_MAX: usize = 100_000;
const SHARDS: usize = 16;

/// Rates and slots of this process alone.
#[derive(Debug, Default)]
pub struct LocalPermits {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// For each key the theoretical arrival time, in nanoseconds since 1970.
    arrivals: HashMap<String, u128>,
    slots: HashMap<String, usize>,
}

impl LocalPermits {
    fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        let hash = key
            .bytes()
            .fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        // A poisoned lock means a panic while counting; the counts are still whole numbers and still the best there is.
        self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PermitSource for LocalPermits {
    fn take(&self, key: &str, spec: &ThrottleSpec, wanted: u32, now: UnixMs) -> BoxFuture<'_, Grant> {
        let mut shard = self.shard(key);
        let now_ns = u128::from(now.0) * 1_000_000;
        if shard.arrivals.len() >= KEYS_MAX / SHARDS {
            shard.arrivals.retain(|_, arrival| *arrival > now_ns);
        }
        let arrival = shard.arrivals.get(key).copied().unwrap_or(0);
        let (grant, arrival) = gcra(spec, arrival, wanted, now_ns);
        shard.arrivals.insert(key.to_owned(), arrival);
        Box::pin(std::future::ready(grant))
    }

    fn take_slot(&self, key: &str, limit: usize) -> BoxFuture<'_, bool> {
        let mut shard = self.shard(key);
        let used = shard.slots.entry(key.to_owned()).or_default();
        let free = *used < limit;
        *used += usize::from(free);
        Box::pin(std::future::ready(free))
    }

    fn release(&self, key: &str) {
        let mut shard = self.shard(key);
        if let Some(used) = shard.slots.get_mut(key) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                shard.slots.remove(key);
            }
        }
    }
}

/// The grant, and the new theoretical arrival time.
fn gcra(spec: &ThrottleSpec, arrival: u128, wanted: u32, now_ns: u128) -> (Grant, u128) {
    let interval = (spec.period.as_nanos() / u128::from(spec.count)).max(1);
    let tolerance = interval * u128::from(spec.burst - 1);
    let mut arrival = arrival.max(now_ns);
    // A clock that was set back must not stop mail for longer than the burst is worth.
    arrival = arrival.min(now_ns + tolerance + interval);
    let room = (now_ns + tolerance).checked_sub(arrival).map_or(0, |slack| slack / interval + 1);
    let granted = u32::try_from(room).unwrap_or(u32::MAX).min(wanted);
    arrival += interval * u128::from(granted);
    let wait_ns = arrival.saturating_sub(tolerance).saturating_sub(now_ns);
    let wait = Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX));
    let until = (granted < wanted).then(|| {
        let millis = wait.as_micros().div_ceil(1000);
        UnixMs(u64::try_from(now_ns / 1_000_000 + millis).unwrap_or(u64::MAX))
    });
    (Grant { granted, until }, arrival)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> ThrottleSpec {
        text.parse().unwrap()
    }

    #[test]
    fn a_burst_passes_and_then_the_pace_holds_to_the_millisecond() {
        let spec = spec("10/s,max_burst=3");
        let (grant, arrival) = gcra(&spec, 0, 5, 1_000_000_000_000);
        assert_eq!(grant, Grant { granted: 3, until: Some(UnixMs(1_000_100)) });
        let (grant, arrival) = gcra(&spec, arrival, 1, 1_000_099_000_000);
        assert_eq!(grant, Grant { granted: 0, until: Some(UnixMs(1_000_100)) });
        let (grant, _) = gcra(&spec, arrival, 1, 1_000_100_000_000);
        assert_eq!(grant, Grant { granted: 1, until: None });
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate(
            count in 1_u64..2000, burst in 1_u64..50, steps in proptest::collection::vec((0_u64..200, 1_u32..20), 1..100),
        ) {
            let spec = ThrottleSpec { count, period: Duration::from_secs(1), burst, local: false };
            let (start, mut now, mut arrival, mut total) = (1_000_000_u64, 1_000_000_u64, 0_u128, 0_u64);
            for (elapsed, wanted) in steps {
                now += elapsed;
                let (grant, next) = gcra(&spec, arrival, wanted, u128::from(now) * 1_000_000);
                arrival = next;
                total += u64::from(grant.granted);
                prop_assert!(total <= burst + 1 + (now - start) * count / 1000 + 1);
                if let Some(until) = grant.until {
                    let (later, _) = gcra(&spec, arrival, 1, u128::from(until.0) * 1_000_000);
                    prop_assert_eq!(later.granted, 1, "asking again at `until` must succeed");
                }
            }
        }
    }

    #[tokio::test]
    async fn slots_are_counted_and_given_back() {
        let permits = LocalPermits::default();
        assert!(permits.take_slot("a", 2).await);
        assert!(permits.take_slot("a", 2).await);
        assert!(!permits.take_slot("a", 2).await);
        assert!(permits.take_slot("b", 1).await);
        permits.release("a");
        assert!(permits.take_slot("a", 2).await);
    }
}
