//! Keeps answers until they expire, and lets one question for a name be under way at a time.
//!
//! The cache is cut into shards, so that readers on different cores seldom meet. It never holds more than its limit: when a
//! shard is full, what has expired goes first, then whatever lies in the way; an answer that was thrown out is merely asked for again.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::OnceCell;

const SHARDS: usize = 16;

/// Answers by name.
#[derive(Debug)]
pub(super) struct Cache<V> {
    shards: [RwLock<HashMap<Box<str>, Entry<V>>>; SHARDS],
    shard_entries_max: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    expires: Instant,
}

impl<V: Clone> Cache<V> {
    /// A cache of at most `entries_max` answers (rounded up to a multiple of the shards).
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            shard_entries_max: entries_max.div_ceil(SHARDS).max(1),
            hasher: RandomState::new(),
        }
    }

    /// The answer for a name, if there is one that still holds.
    pub(super) fn get(&self, name: &str, now: Instant) -> Option<V> {
        let shard = self.shard(name).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(name).filter(|entry| now < entry.expires).map(|entry| entry.value.clone())
    }

    /// Keeps an answer until `expires`.
    pub(super) fn insert(&self, name: &str, value: V, expires: Instant, now: Instant) {
        let mut shard = self.shard(name).write().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= self.shard_entries_max && !shard.contains_key(name) {
            self.make_room(&mut shard, now);
        }
        shard.insert(name.into(), Entry { value, expires });
    }

    /// Frees at least a sixteenth of a full shard, so that the walk over it is paid for by many insertions.
    fn make_room(&self, shard: &mut HashMap<Box<str>, Entry<V>>, now: Instant) {
        shard.retain(|_, entry| now < entry.expires);
        let wanted = self.shard_entries_max - self.shard_entries_max.div_ceil(16);
        let mut surplus = shard.len().saturating_sub(wanted);
        shard.retain(|_, _| {
            let keep = surplus == 0;
            surplus = surplus.saturating_sub(1);
            keep
        });
    }

    fn shard(&self, name: &str) -> &RwLock<HashMap<Box<str>, Entry<V>>> {
        let hash = self.hasher.hash_one(name);
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let index = hash as usize % SHARDS;
        &self.shards[index]
    }
}

/// Questions that are under way, by name.
#[derive(Debug)]
pub(super) struct Flights<V> {
    open: Mutex<HashMap<Box<str>, Arc<OnceCell<V>>>>,
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self { open: Mutex::default() }
    }
}

impl<V: Clone> Flights<V> {
    /// The answer to the question for `name` that is under way, or else to `ask`. When the one who asks is cancelled, the next who
    /// waits asks in his place.
    pub(super) async fn join<F: Future<Output = V>>(&self, name: &str, ask: impl FnOnce() -> F) -> V {
        let cell = Arc::clone(lock(&self.open).entry(name.into()).or_default());
        let seat = Seat { flights: self, name, cell };
        seat.cell.get_or_init(ask).await.clone()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.open).len()
    }
}

/// One who waits. The last to leave, or the first after the answer has come, clears the name.
struct Seat<'f, V> {
    flights: &'f Flights<V>,
    name: &'f str,
    cell: Arc<OnceCell<V>>,
}

impl<V> Drop for Seat<'_, V> {
    fn drop(&mut self) {
        let mut open = lock(&self.flights.open);
        let ours = open.get(self.name).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // Two owners: the map and this seat. New ones only come through the map, which is locked.
        if ours && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            open.remove(self.name);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_answer_holds_until_it_expires() {
        let cache = Cache::new(100);
        let now = Instant::now();
        let expires = now + Duration::from_secs(10);
        cache.insert("a.example", 1, expires, now);
        assert_eq!(cache.get("a.example", now), Some(1));
        assert_eq!(cache.get("a.example", expires - Duration::from_nanos(1)), Some(1));
        assert_eq!(cache.get("a.example", expires), None);
        assert_eq!(cache.get("b.example", now), None);
    }

    #[test]
    fn the_limit_holds_and_the_expired_go_first() {
        let cache = Cache::new(320);
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        let late = now + Duration::from_secs(100);
        for number in 0..10_000 {
            let expires = if number < 100 { late } else { soon };
            cache.insert(&format!("{number}.example"), number, expires, now);
        }
        let held: usize = cache.shards.iter().map(|shard| shard.read().unwrap().len()).sum();
        assert!(held <= 320, "{held}");
        cache.insert("kept.example", 1, late, soon);
        for number in 0..8 {
            cache.insert(&format!("new-{number}.example"), number, late, soon);
        }
        assert_eq!(cache.get("kept.example", soon), Some(1));
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn those_who_come_while_a_question_is_under_way_share_its_answer() {
        runtime().block_on(async {
            let flights = Flights::default();
            let (answer, answered) = tokio::sync::oneshot::channel();
            let first = flights.join("a.example", || async { answered.await.unwrap() });
            let second = flights.join("a.example", || async { panic!("asked twice") });
            let third = async {
                assert_eq!(flights.len(), 1);
                answer.send(7).unwrap();
                flights.join("b.example", || async { 8 }).await
            };
            assert_eq!(tokio::join!(first, second, third), (7, 7, 8));
            assert_eq!(flights.len(), 0);
        });
    }

    #[test]
    fn when_the_one_who_asks_gives_up_the_next_asks() {
        runtime().block_on(async {
            let flights = Flights::default();
            let mut first = Box::pin(flights.join("a.example", std::future::pending::<i32>));
            let mut second = Box::pin(flights.join("a.example", || async { 2 }));
            tokio::select! {
                biased;
                _ = &mut first => panic!("nobody answers"),
                _ = &mut second => panic!("somebody asks already"),
                () = std::future::ready(()) => {}
            }
            drop(first);
            assert_eq!(second.await, 2);
            assert_eq!(flights.len(), 0);
        });
    }

    #[test]
    fn a_question_that_everybody_has_left_is_forgotten() {
        runtime().block_on(async {
            let flights = Flights::default();
            let mut only = Box::pin(flights.join("a.example", std::future::pending::<i32>));
            tokio::select! {
                biased;
                _ = &mut only => panic!("nobody answers"),
                () = std::future::ready(()) => {}
            }
            drop(only);
            assert_eq!(flights.len(), 0);
        });
    }
}
