//! Rates by the generic cell rate algorithm (GCRA, ITU-T I.371), and connection slots, for one node.
//!
//! A rate of `count` in `period` with burst `b` is kept as the one time at which the next event would be exactly on
//! schedule. The time of the next permitted event is therefore exact, well below a second, and nobody has to poll.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::UnixMs;
use crate::config::ThrottleSpec;
use crate::ports::{BoxFuture, Grant, PermitSource, Rate, SlotLimit};

/// Keys remembered before those that have caught up with their schedule are forgotten, which changes nothing. It doubles where that
/// leaves more than half.
const KEYS_MAX: usize = 100_000;
const SHARDS: usize = 16;

/// Rates and slots of this process alone.
#[derive(Debug, Default)]
pub struct LocalPermits {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug)]
struct Shard {
    /// For each key the theoretical arrival time, in nanoseconds since 1970.
    arrivals: HashMap<String, u128>,
    arrivals_max: usize,
    slots: HashMap<String, usize>,
}

impl Default for Shard {
    fn default() -> Self {
        Self { arrivals: HashMap::new(), arrivals_max: KEYS_MAX / SHARDS, slots: HashMap::new() }
    }
}

impl Shard {
    fn arrival(&self, key: &str) -> u128 {
        self.arrivals.get(key).copied().unwrap_or(0)
    }

    fn set_arrival(&mut self, key: &str, arrival: u128, now_ns: u128) {
        if let Some(known) = self.arrivals.get_mut(key) {
            *known = arrival;
            return;
        }
        if self.arrivals.len() >= self.arrivals_max {
            self.arrivals.retain(|_, arrival| *arrival > now_ns);
            self.arrivals_max = (2 * self.arrivals.len()).max(KEYS_MAX / SHARDS);
        }
        self.arrivals.insert(key.to_owned(), arrival);
    }
}

/// The shards of several keys, locked in the order of their places so that nobody waits for each other.
struct Held<'a>(Vec<(usize, MutexGuard<'a, Shard>)>);

impl Held<'_> {
    fn of(&mut self, key: &str) -> Option<&mut Shard> {
        let place = place(key);
        self.0.iter_mut().find(|(at, _)| *at == place).map(|(_, shard)| &mut **shard)
    }
}

fn place(key: &str) -> usize {
    let hash =
        key.bytes().fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % SHARDS
}

impl LocalPermits {
    fn hold<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Held<'_> {
        let mut places: Vec<usize> = keys.map(place).collect();
        places.sort_unstable();
        places.dedup();
        // A poisoned lock means a panic while counting; the counts are still whole numbers and still the best there is.
        let lock = |at: usize| (at, self.shards[at].lock().unwrap_or_else(PoisonError::into_inner));
        Held(places.into_iter().map(lock).collect())
    }
}

impl PermitSource for LocalPermits {
    fn take<'a>(&'a self, rates: &[Rate<'_>], wanted: u32, now: UnixMs) -> BoxFuture<'a, Grant> {
        let mut held = self.hold(rates.iter().map(|rate| rate.key));
        let now_ns = u128::from(now.0) * 1_000_000;
        let mut cells = Vec::with_capacity(rates.len());
        for rate in rates {
            let Some(shard) = held.of(rate.key) else { continue };
            let arrival = shard.arrival(rate.key);
            let cell = Cell::new(rate.spec, arrival, now_ns);
            if cell.arrival < arrival {
                // The clock was set back; from here on the schedule follows it.
                shard.set_arrival(rate.key, cell.arrival, now_ns);
            }
            cells.push(cell);
        }
        let granted = cells.iter().map(Cell::room).fold(wanted, u32::min);
        let mut grant = Grant { granted, until: None, limited_by: 0 };
        for (nth, (rate, cell)) in rates.iter().zip(&cells).enumerate() {
            let next = cell.next_after(granted).filter(|_| granted < wanted);
            if next > grant.until {
                (grant.until, grant.limited_by) = (next, nth);
            }
            if let Some(shard) = held.of(rate.key).filter(|_| granted > 0) {
                shard.set_arrival(rate.key, cell.after(granted), now_ns);
            }
        }
        Box::pin(std::future::ready(grant))
    }

    fn take_slots<'a>(&'a self, limits: &[SlotLimit<'_>]) -> BoxFuture<'a, bool> {
        let mut held = self.hold(limits.iter().map(|limit| limit.key));
        let is_free = |limit: &SlotLimit<'_>| {
            held.of(limit.key)
                .is_some_and(|shard| shard.slots.get(limit.key).copied().unwrap_or(0) < limit.limit)
        };
        let free = limits.iter().all(is_free);
        for limit in limits.iter().filter(|_| free) {
            let Some(shard) = held.of(limit.key) else { continue };
            match shard.slots.get_mut(limit.key) {
                Some(used) => *used += 1,
                None => drop(shard.slots.insert(limit.key.to_owned(), 1)),
            }
        }
        Box::pin(std::future::ready(free))
    }

    fn release(&self, keys: &[&str]) {
        let mut held = self.hold(keys.iter().copied());
        for key in keys {
            let Some(shard) = held.of(key) else { continue };
            if let Some(used) = shard.slots.get_mut(*key) {
                *used = used.saturating_sub(1);
                if *used == 0 {
                    shard.slots.remove(*key);
                }
            }
        }
    }
}

/// One rate at one moment.
struct Cell {
    interval: u128,
    tolerance: u128,
    /// When the next event would be exactly on schedule, in nanoseconds since 1970.
    arrival: u128,
    now_ns: u128,
}

impl Cell {
    fn new(spec: &ThrottleSpec, arrival: u128, now_ns: u128) -> Self {
        // Rounded up, so that a rate is never exceeded, not even by a fraction of a nanosecond per event.
        let interval = spec.period.as_nanos().div_ceil(u128::from(spec.count.max(1))).max(1);
        let tolerance = interval * u128::from(spec.burst.max(1) - 1);
        // A clock that was set back must not stop mail for longer than the burst is worth.
        let arrival = arrival.max(now_ns).min(now_ns + tolerance + interval);
        Self { interval, tolerance, arrival, now_ns }
    }

    /// Permits that are free.
    fn room(&self) -> u32 {
        let slack = (self.now_ns + self.tolerance).checked_sub(self.arrival);
        slack.map_or(0, |slack| u32::try_from(slack / self.interval + 1).unwrap_or(u32::MAX))
    }

    fn after(&self, granted: u32) -> u128 {
        self.arrival + self.interval * u128::from(granted)
    }

    /// When one more than `granted` is free, to the millisecond that follows; `None` when it is now.
    fn next_after(&self, granted: u32) -> Option<UnixMs> {
        let next_ns = self.after(granted).saturating_sub(self.tolerance);
        (next_ns > self.now_ns)
            .then(|| UnixMs(u64::try_from(next_ns.div_ceil(1_000_000)).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> ThrottleSpec {
        text.parse().unwrap()
    }

    /// What a source without a wait in it answers.
    fn now<T>(future: BoxFuture<'_, T>) -> T {
        let mut future = future;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("local permits never wait"),
        }
    }

    fn take(permits: &LocalPermits, rates: &[(&str, &ThrottleSpec)], wanted: u32, at: u64) -> Grant {
        let rates: Vec<Rate<'_>> = rates.iter().map(|(key, spec)| Rate { key, spec }).collect();
        now(permits.take(&rates, wanted, UnixMs(at)))
    }

    #[test]
    fn a_burst_passes_and_then_the_pace_holds_to_the_millisecond() {
        let (permits, spec) = (LocalPermits::default(), spec("10/s,max_burst=3"));
        let ask = |wanted, at| {
            let grant = take(&permits, &[("a", &spec)], wanted, at);
            (grant.granted, grant.until)
        };
        assert_eq!(ask(5, 1_000_000), (3, Some(UnixMs(1_000_100))));
        assert_eq!(ask(1, 1_000_099), (0, Some(UnixMs(1_000_100))));
        assert_eq!(ask(1, 1_000_100), (1, None));
    }

    #[test]
    fn what_one_rate_refuses_is_not_taken_from_another() {
        let (permits, narrow, wide) = (LocalPermits::default(), spec("1/s"), spec("100/m,max_burst=5"));
        let both = [("wide", &wide), ("narrow", &narrow)];
        assert_eq!(take(&permits, &both, 2, 5000).granted, 1);
        let refused = take(&permits, &both, 1, 5001);
        assert_eq!((refused.granted, refused.until, refused.limited_by), (0, Some(UnixMs(6000)), 1));
        assert_eq!(take(&permits, &[("wide", &wide)], 9, 5001).granted, 4, "only one was taken");
        assert_eq!(take(&permits, &both, 1, 6000).granted, 1);
    }

    #[test]
    fn a_clock_that_goes_back_neither_stops_mail_nor_gives_more() {
        let (permits, spec) = (LocalPermits::default(), spec("10/s"));
        assert_eq!(take(&permits, &[("a", &spec)], 100, 10_000_000).granted, 10);
        let grant = take(&permits, &[("a", &spec)], 1, 1_000_000);
        assert_eq!((grant.granted, grant.until), (0, Some(UnixMs(1_000_100))));
        assert_eq!(take(&permits, &[("a", &spec)], 100, 1_000_100).granted, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// In no span of time, wherever it begins, more than the burst and the rate: with two rates at once, as odd as they come.
        #[test]
        fn no_span_holds_more_than_burst_and_rate(
            counts in (1_u64..3000, 1_u64..3000), bursts in (1_u64..50, 1_u64..50),
            steps in proptest::collection::vec((0_u64..200, 1_u32..20), 1..100),
        ) {
            let spec = |count, burst| ThrottleSpec { count, period: Duration::from_secs(1), burst, local: false };
            let specs = [spec(counts.0, bursts.0), spec(counts.1, bursts.1)];
            let (permits, mut at, mut given) = (LocalPermits::default(), 1_000_000, Vec::new());
            for (elapsed, wanted) in steps {
                at += elapsed;
                let grant = take(&permits, &[("a", &specs[0]), ("b", &specs[1])], wanted, at);
                given.push((at, u64::from(grant.granted)));
                prop_assert_eq!(grant.until.is_none(), grant.granted == wanted);
                if let Some(until) = grant.until {
                    prop_assert!(until.0 > at, "nobody is told to ask again at once");
                    let early = take(&permits, &[("a", &specs[0]), ("b", &specs[1])], 1, until.0 - 1);
                    given.push((until.0 - 1, u64::from(early.granted)));
                    at = until.0;
                    let kept = take(&permits, &[("a", &specs[0]), ("b", &specs[1])], 1, at).granted;
                    given.push((at, u64::from(kept)));
                    prop_assert_eq!((early.granted, kept), (0, 1), "free exactly at `until`");
                }
            }
            for (nth, (from, _)) in given.iter().enumerate() {
                let mut total = 0;
                for (to, granted) in &given[nth..] {
                    total += granted;
                    for spec in &specs {
                        prop_assert!(total <= spec.burst + (to - from) * spec.count / 1000, "{} from {} to {}", total, from, to);
                    }
                }
            }
        }

        /// Whatever order of takers and givers: no limit is exceeded, and a slot that is free is given.
        #[test]
        fn slots_are_never_more_than_their_limits(
            limits in (1_usize..4, 1_usize..6), steps in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..80),
        ) {
            let permits = LocalPermits::default();
            let (path, shared) = (SlotLimit { key: "path", limit: limits.0 }, SlotLimit { key: "shared", limit: limits.1 });
            let (mut both, mut alone) = (0, 0);
            for (takes, with_path) in steps {
                let wanted: &[SlotLimit<'_>] = if with_path { &[path, shared] } else { &[shared] };
                let held = if with_path { &mut both } else { &mut alone };
                if takes {
                    let free = !with_path || *held < limits.0;
                    let taken = now(permits.take_slots(wanted));
                    *held += usize::from(taken);
                    prop_assert!(both <= limits.0 && both + alone <= limits.1);
                    prop_assert!(taken || !free || both + alone == limits.1);
                } else if *held > 0 {
                    *held -= 1;
                    let keys: Vec<&str> = wanted.iter().map(|limit| limit.key).collect();
                    permits.release(&keys);
                }
            }
        }
    }
}
