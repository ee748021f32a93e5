//! Allocators that count: what lives, and who asked for it.
//!
//! It owns the counters of a process that declares one of them as its global allocator; everything else goes to the system's. They
//! refuse nothing and cannot fail. [`Counting`] knows what lives, and can watch one thread by its number and keep where its
//! allocations come from. [`CountingByThread`] counts for every thread apart and costs so little that times can be taken beside it.
#![expect(
    unsafe_code,
    reason = "an allocator can only be implemented with unsafe; each call is passed on unchanged"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::thread::gettid;

/// Places that are kept at most.
const PLACES_MAX: usize = 2000;
/// Threads that are told apart by [`CountingByThread`]; those that come later are counted as one.
const THREADS_MAX: usize = 1024;

/// Declare it with `#[global_allocator]`; without, all counters stay at zero.
#[derive(Debug)]
pub struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static LIVE_BYTES_PEAK: AtomicI64 = AtomicI64::new(0);
/// Number of the thread that is watched; 0 is nobody.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static BY_WATCHED: AtomicU64 = AtomicU64::new(0);
static BY_OTHERS: AtomicU64 = AtomicU64::new(0);
/// Of so many allocations the place of one is kept; 0 keeps none.
static PLACES_EVERY: AtomicU64 = AtomicU64::new(0);
static PLACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// Keeping a place allocates, which must not be kept again.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Allocations while a thread was watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// By the thread that is watched.
    pub by_watched: u64,
    /// By all others.
    pub by_others: u64,
}

/// Counts from zero: allocations of this thread, and of all others. Of every so many allocations of the thread one place is
/// kept, until there are enough; 0 keeps none.
pub fn watch(thread: u32, places_every: u64) {
    BY_WATCHED.store(0, Ordering::Relaxed);
    BY_OTHERS.store(0, Ordering::Relaxed);
    PLACES_EVERY.store(places_every, Ordering::Relaxed);
    // Numbers of threads end far below 2^31.
    WATCHED.store(i32::try_from(thread).unwrap_or(0), Ordering::SeqCst);
}

/// Stops counting and returns what was counted.
pub fn stop_watching() -> Counts {
    WATCHED.store(0, Ordering::SeqCst);
    Counts { by_watched: BY_WATCHED.load(Ordering::Relaxed), by_others: BY_OTHERS.load(Ordering::Relaxed) }
}

/// Where the watched thread allocated, as far as places were kept.
pub fn take_places() -> Vec<Backtrace> {
    std::mem::take(&mut *PLACES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Bytes allocated and not freed.
pub fn live_bytes() -> i64 {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// The most that [`live_bytes`] was since this was last called.
pub fn take_live_bytes_peak() -> i64 {
    LIVE_BYTES_PEAK.swap(live_bytes(), Ordering::Relaxed)
}

fn count() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched == 0 || INSIDE.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    if gettid().as_raw_nonzero().get() == watched {
        let before = BY_WATCHED.fetch_add(1, Ordering::Relaxed);
        let every = PLACES_EVERY.load(Ordering::Relaxed);
        if every > 0 && before.is_multiple_of(every) {
            keep_place();
        }
    } else {
        BY_OTHERS.fetch_add(1, Ordering::Relaxed);
    }
}

fn keep_place() {
    INSIDE.set(true);
    let place = Backtrace::force_capture();
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    if places.len() < PLACES_MAX {
        places.push(place);
    }
    drop(places);
    INSIDE.set(false);
}

fn grow(bytes: usize) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    LIVE_BYTES_PEAK.fetch_max(live, Ordering::Relaxed);
}

fn shrink(bytes: usize) {
    LIVE_BYTES.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with the arguments it came with, and what that returns is returned; counting
// touches only atomics and, guarded against entering itself, a list of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        grow(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        shrink(layout.size());
        grow(bytes);
        // SAFETY: as above; `memory` came from the system's allocator, as all memory here does.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Declare it with `#[global_allocator]`; without, nobody ever allocates.
#[derive(Debug)]
pub struct CountingByThread;

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Times that memory was asked for; making a piece larger or smaller is one.
    pub allocations: u64,
    /// Bytes asked for; of a piece that grows, those that are new.
    pub bytes: u64,
}

/// What this thread has asked [`CountingByThread`] for.
pub fn asked_by_this_thread() -> Asked {
    slot().asked()
}

/// What every thread has asked [`CountingByThread`] for since its start, with its number; threads that have ended are among them.
/// Number 0 stands for the threads beyond the first 1024.
pub fn asked_by_thread() -> Vec<(u32, Asked)> {
    let taken = SLOTS_TAKEN.load(Ordering::Acquire).min(THREADS_MAX);
    let slots = SLOTS[..taken].iter().chain(SLOTS.last());
    slots.map(|slot| (slot.thread.load(Ordering::Relaxed).unsigned_abs(), slot.asked())).collect()
}

/// The counters of one thread, on a cache line that no other thread writes to.
#[repr(align(64))]
struct Slot {
    /// 0 until it is known, and for the last one.
    thread: AtomicI32,
    allocations: AtomicU64,
    bytes: AtomicU64,
}

/// The last one belongs to all threads that found no other.
static SLOTS: [Slot; THREADS_MAX + 1] =
    [const { Slot { thread: AtomicI32::new(0), allocations: AtomicU64::new(0), bytes: AtomicU64::new(0) } };
        THREADS_MAX + 1];
static SLOTS_TAKEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which slot is this thread's; [`usize::MAX`] until it has one.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn slot() -> &'static Slot {
    let mut mine = MINE.get();
    if mine == usize::MAX {
        mine = SLOTS_TAKEN.fetch_add(1, Ordering::AcqRel).min(THREADS_MAX);
        if mine < THREADS_MAX {
            SLOTS[mine].thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        }
        MINE.set(mine);
    }
    &SLOTS[mine]
}

impl Slot {
    fn asked(&self) -> Asked {
        Asked {
            allocations: self.allocations.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn note(&self, bytes: usize) {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: as for `Counting`; counting touches only atomics and a cell of the thread that has no destructor and is made without
// allocating.
unsafe impl GlobalAlloc for CountingByThread {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        slot().note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        slot().note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        slot().note(bytes.saturating_sub(layout.size()));
        // SAFETY: as above; `memory` came from the system's allocator, as all memory here does.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_apart() {
        let ask = |layout: Layout, more_bytes: usize| {
            // SAFETY: the layout is not empty, the new size is not 0 and does not overflow, and the memory is freed once, with the size it has.
            unsafe {
                let memory = CountingByThread.realloc(CountingByThread.alloc(layout), layout, more_bytes);
                CountingByThread.dealloc(memory, Layout::array::<u8>(more_bytes).unwrap_or(layout));
            }
            (gettid().as_raw_nonzero().get().unsigned_abs(), asked_by_this_thread())
        };
        let bytes = |bytes| Layout::array::<u8>(bytes).unwrap_or(Layout::new::<u8>());
        let (small, large) = (bytes(10), bytes(100));
        let one = std::thread::spawn(move || ask(small, 30)).join().ok();
        let other = std::thread::spawn(move || ask(large, 50)).join().ok();
        assert_eq!(one.map(|(_, asked)| asked), Some(Asked { allocations: 2, bytes: 30 }));
        assert_eq!(other.map(|(_, asked)| asked), Some(Asked { allocations: 2, bytes: 100 }));
        let all = asked_by_thread();
        assert!(one.is_some_and(|one| all.contains(&one)) && other.is_some_and(|other| all.contains(&other)));
    }

    // The tests' own process has another allocator; what is asked of this one directly is counted all the same.
    #[test]
    fn what_is_asked_for_is_counted_until_it_is_freed() {
        watch(gettid().as_raw_nonzero().get().unsigned_abs(), 1);
        let layout = Layout::new::<[u64; 8]>();
        take_live_bytes_peak();
        let before = live_bytes();
        // SAFETY: the layout is not empty, and the memory is freed once, with the layout it was allocated with.
        let lived = unsafe {
            let memory = Counting.alloc(layout);
            let lived = live_bytes() - before;
            Counting.dealloc(memory, layout);
            lived
        };
        assert_eq!((lived, live_bytes()), (64, before));
        assert!(take_live_bytes_peak() >= before + 64);
        let other = std::thread::spawn(move || {
            // SAFETY: as above.
            unsafe { Counting.dealloc(Counting.alloc_zeroed(layout), layout) };
        });
        assert!(other.join().is_ok());
        assert_eq!(stop_watching(), Counts { by_watched: 1, by_others: 1 });
        assert_eq!(take_places().len(), 1);
    }
}
