//! Batches written by a small fixed number of threads, each calling pwritev2 with RWF_DSYNC.
//! For hosts where io_uring is refused. Owns its threads and ends them when dropped. A failed write is handed back
//! as it came from the kernel.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::{Done, GATHER_BYTES_MIN, Lane, Waker, Write, write_load};

/// As many threads as batches may be in flight, so nothing here queues for long.
pub(crate) struct ThreadsLane {
    desk: Arc<Desk>,
    waker: Arc<Waker>,
    workers: Vec<JoinHandle<()>>,
    buffered: bool,
}

#[derive(Default)]
struct Desk {
    papers: Mutex<Papers>,
    arrived: Condvar,
}

#[derive(Default)]
struct Papers {
    /// At most `batches_in_flight_max`: the writer submits no more.
    waiting: VecDeque<Write>,
    done: Vec<Done>,
    closing: bool,
}

impl ThreadsLane {
    /// `buffered`: files are written through the page cache, for which memory need not be aligned.
    pub(crate) fn new(waker: Arc<Waker>, threads: usize, buffered: bool) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let mut lane = Self { desk, waker, workers: Vec::with_capacity(threads), buffered };
        for number in 0..threads {
            let (desk, waker) = (Arc::clone(&lane.desk), Arc::clone(&lane.waker));
            let name = format!("spool-write-{number}");
            lane.workers.push(Builder::new().name(name).spawn(move || work(&desk, &waker))?);
        }
        Ok(lane)
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.desk.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane for ThreadsLane {
    fn submit(&mut self, write: Write) {
        self.papers().waiting.push_back(write);
        self.desk.arrived.notify_one();
    }

    fn gather_bytes_min(&self) -> Option<usize> {
        self.buffered.then_some(GATHER_BYTES_MIN)
    }

    fn collect(&mut self, block: bool, done: &mut Vec<Done>) {
        done.append(&mut self.papers().done);
        if block && done.is_empty() {
            // Workers ring after they have filed a batch, so a ring is never missed.
            self.waker.wait();
            done.append(&mut self.papers().done);
        }
    }
}

impl Drop for ThreadsLane {
    fn drop(&mut self) {
        self.papers().closing = true;
        self.desk.arrived.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to hand over.
            let _ = worker.join();
        }
    }
}

fn work(desk: &Desk, waker: &Waker) {
    while let Some(write) = next(desk) {
        let result = write_load(&write);
        let done = Done { token: write.token, load: write.load, result };
        desk.papers.lock().unwrap_or_else(PoisonError::into_inner).done.push(done);
        waker.ring();
    }
}

fn next(desk: &Desk) -> Option<Write> {
    let mut papers = desk.papers.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(write) = papers.waiting.pop_front() {
            return Some(write);
        }
        if papers.closing {
            return None;
        }
        papers = desk.arrived.wait(papers).unwrap_or_else(PoisonError::into_inner);
    }
}
