//! One core's share of the load: its connections, and the watch over them.
//!
//! Runs on a thread of its own. A connection that ends is opened again only with `keep_going`, later and
//! later as long as it is of no use, and not for ever. One look a second finds connections that wait too
//! long for the server.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::thread::gettid;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::clock::now_ns;
use crate::connection::{self, Ending};
use crate::flight::{Flight, Stage};
use crate::pacer::{Pacer, Timer};
use crate::recorded::Book;
use crate::run::{Shared, Stop};
use crate::start::START_WAIT_MAX;
use crate::tally::Tally;

/// Connections of one worker that connect at the same time, so that a start with thousands does not flood
/// the server.
const CONNECTS_MAX: usize = 128;

/// How long a server may take to answer QUIT, in seconds.
const QUIT_SECONDS_MAX: u32 = 2;

/// How often in a row a connection may be opened again without a message being answered on it.
const IN_VAIN_MAX: u32 = 60;

/// The longest pause before a connection is opened again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the connections of one worker share.
pub(crate) struct Worker {
    pub(crate) run: Arc<Shared>,
    pub(crate) pacer: Option<Pacer>,
    pub(crate) connects: Semaphore,
    /// Closed when messages may begin.
    pub(crate) started: Semaphore,
    ready: Notify,
    /// The others know that its connections stand, or never will.
    counted: AtomicBool,
    /// Notified when nothing is left to begin.
    draining: Notify,
    connections: usize,
    book: Mutex<Book>,
    /// The number of its thread in the kernel; 0 before it runs.
    thread: AtomicI32,
    /// Seconds since the worker started.
    second: AtomicU32,
    /// Connections that have been ready, or have ended before they were.
    settled: AtomicU32,
}

impl Worker {
    pub(crate) fn new(run: Arc<Shared>, connections: usize, pacer: Option<Pacer>) -> Self {
        let plan = &run.plan;
        let book = Book::new(plan.schedule.is_open(), !plan.warm_up.is_zero());
        Self {
            run,
            pacer,
            connects: Semaphore::new(CONNECTS_MAX),
            started: Semaphore::new(0),
            ready: Notify::new(),
            counted: AtomicBool::new(false),
            draining: Notify::new(),
            connections,
            book: Mutex::new(book),
            thread: AtomicI32::new(0),
            second: AtomicU32::new(0),
            settled: AtomicU32::new(0),
        }
    }

    /// Works on the counts and distributions. Only the reporter ever wants the lock beside this worker's own
    /// thread.
    pub(crate) fn book<R>(&self, work: impl FnOnce(&mut Book) -> R) -> R {
        work(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Works on the counts alone.
    pub(crate) fn tally<R>(&self, work: impl FnOnce(&mut Tally) -> R) -> R {
        self.book(|book| work(&mut book.tally))
    }

    /// The number of its thread in the kernel, if it runs.
    pub(crate) fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread > 0)
    }

    pub(crate) fn second(&self) -> u32 {
        self.second.load(Ordering::Relaxed)
    }

    /// One more connection can take messages, or never will.
    pub(crate) fn connection_ready(&self) {
        let settled = self.settled.fetch_add(1, Ordering::Relaxed) + 1;
        if settled as usize >= self.connections {
            self.ready.notify_one();
        }
    }

    /// A connection found that no message is left to begin: those that wait for one need not.
    pub(crate) fn nothing_left(&self) {
        self.started.close();
        if let Some(pacer) = &self.pacer {
            pacer.close();
        }
    }

    /// Runs all connections until none is left. The caller runs it on the worker's own runtime.
    pub(crate) async fn work(self: Arc<Self>, mut stop: watch::Receiver<Stop>) {
        self.thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        let mut crew = Crew::new(Arc::clone(&self));
        (0..self.connections).for_each(|_| crew.hire(0));
        // What was asked for before the thread ran is heard too.
        stop.mark_changed();
        let mut sweep = interval(Duration::from_secs(1));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (pace, drained) = (self.pace(), self.drained());
        tokio::pin!(pace, drained);
        loop {
            tokio::select! {
                ended = crew.connections.join_next_with_id() => match ended {
                    Some(ended) => crew.ended(ended),
                    None => break,
                },
                _ = sweep.tick() => crew.sweep(),
                Ok(()) = stop.changed() => crew.stop(*stop.borrow_and_update()),
                () = &mut pace => {}
                () = &mut drained, if !crew.is_over => crew.drained(),
            }
        }
        self.count_as_ready();
    }

    /// Tells the others, once, that this worker is not to be waited for.
    fn count_as_ready(&self) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            self.run.start.one_is_ready();
        }
    }

    /// Begins the run when the connections stand, and releases messages if there is a rate. Never ends.
    async fn pace(&self) {
        // Beginning without some of them is what the limit is for.
        let all_ready = async {
            self.ready.notified().await;
            self.count_as_ready();
            self.run.start.all_are_ready().await;
        };
        let _ = timeout(START_WAIT_MAX, all_ready).await;
        if let Err(error) = self.wait_for_agreed_start().await {
            self.tally(|tally| tally.error(&format!("the host refused a timer: {error}")));
        }
        let start_ns = self.run.start.begin(&self.run.claims);
        self.started.close();
        if let Some(pacer) = &self.pacer
            && let Err(error) = pacer.run(start_ns, &self.run.claims).await
        {
            self.tally(|tally| tally.error(&format!("the host refused a timer: {error}")));
            self.run.claims.close(now_ns());
            pacer.close();
        }
        std::future::pending().await
    }

    /// Waits until replies have been waited for long enough. Ends once.
    async fn drained(&self) {
        self.draining.notified().await;
        sleep(self.run.plan.drain).await;
    }

    /// Waits until the time at which all machines begin, if there is one.
    async fn wait_for_agreed_start(&self) -> io::Result<()> {
        match self.run.start.agreed_ns() {
            Some(agreed_ns) => Timer::new()?.wait_until(agreed_ns).await,
            None => Ok(()),
        }
    }
}

/// One connection as the worker sees it.
struct Seat {
    flight: Arc<Flight>,
    task: AbortHandle,
    /// How often in a row it was of no use.
    in_vain: u32,
    /// Why the worker ended it.
    given_up: Option<&'static str>,
}

/// The connections of a worker.
struct Crew {
    worker: Arc<Worker>,
    connections: JoinSet<Ending>,
    seats: HashMap<Id, Seat>,
    /// The worker saw that nothing is left to begin.
    is_draining: bool,
    /// Replies are not waited for any more.
    is_over: bool,
}

impl Crew {
    fn new(worker: Arc<Worker>) -> Self {
        Self {
            worker,
            connections: JoinSet::new(),
            seats: HashMap::new(),
            is_draining: false,
            is_over: false,
        }
    }

    fn hire(&mut self, in_vain: u32) {
        let worker = Arc::clone(&self.worker);
        let flight = Arc::new(Flight::new(worker.second()));
        let number = worker.run.connection_number();
        let task =
            self.connections.spawn(connection::run(worker, Arc::clone(&flight), number, pause(in_vain)));
        self.seats.insert(task.id(), Seat { flight, task, in_vain, given_up: None });
    }

    fn ended(&mut self, ended: Result<(Id, Ending), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(seat) = self.seats.remove(&id) else {
            return;
        };
        if seat.flight.stage() <= Stage::Opening {
            // It will not become ready any more; the schedule must not wait for it.
            self.worker.connection_ready();
        }
        let (kind, useful, unfit) = match ended {
            Ok((_, Ending::Done)) => return self.drain_if_done(),
            Ok((_, Ending::Retired)) => return self.replace(),
            Ok((_, Ending::Lost { kind, useful, unfit })) => (kind, useful, unfit),
            Err(_) => match seat.given_up {
                Some(kind) => (kind.to_owned(), false, false),
                // Ended without fault because nothing is left to do.
                None => return,
            },
        };
        self.worker.tally(|tally| {
            tally.connections_lost += 1;
            tally.connections_unfit += u64::from(unfit);
            tally.error(&kind);
        });
        let in_vain = if useful { 0 } else { seat.in_vain + 1 };
        if self.worker.run.plan.keep_going
            && !unfit
            && in_vain < IN_VAIN_MAX
            && self.worker.run.claims.are_open(now_ns())
        {
            self.hire(in_vain);
        }
    }

    /// A connection that has carried its share is followed by a new one.
    fn replace(&mut self) {
        if self.worker.run.claims.are_open(now_ns()) {
            self.hire(0);
        } else {
            self.drain_if_done();
        }
    }

    fn drain_if_done(&mut self) {
        if !self.is_draining && !self.worker.run.claims.are_open(now_ns()) {
            self.is_draining = true;
            self.worker.draining.notify_one();
            self.worker.nothing_left();
            // Those that have no message yet will not get one.
            self.give_up(|seat, _| (seat.flight.stage() <= Stage::Opening).then_some(None));
        }
    }

    /// Once a second.
    fn sweep(&mut self) {
        self.worker.second.fetch_add(1, Ordering::Relaxed);
        self.drain_if_done();
        if self.worker.run.start.times().is_some() {
            // Another worker has its connections and has begun; this one's missing ones may never come.
            self.worker.ready.notify_one();
        }
        let timeout = u32::try_from(self.worker.run.plan.timeout.as_secs()).unwrap_or(u32::MAX).max(1);
        self.give_up(|seat, second| {
            let silent = seat.flight.silent_seconds(second);
            match seat.flight.stage() {
                Stage::Opening if silent > timeout => Some(Some("timeout: no greeting")),
                Stage::InMessage if silent > timeout => Some(Some("timeout: no final reply")),
                Stage::Quitting if silent > QUIT_SECONDS_MAX => Some(None),
                _ => None,
            }
        });
    }

    /// Replies have been waited for long enough: what has none is unknown.
    fn drained(&mut self) {
        self.is_over = true;
        self.give_up(|seat, _| {
            (seat.flight.stage() == Stage::InMessage)
                .then_some(Some("no final reply before the drain was over"))
        });
    }

    fn stop(&mut self, stop: Stop) {
        if stop == Stop::Not {
            return;
        }
        self.worker.run.claims.close(now_ns());
        self.drain_if_done();
        if stop == Stop::Now {
            self.give_up(|_, _| Some(Some("interrupted")));
        }
    }

    /// Ends the connections for which `verdict` gives an answer; inside of it stands what to count it as,
    /// if anything.
    fn give_up(&mut self, verdict: impl Fn(&Seat, u32) -> Option<Option<&'static str>>) {
        let second = self.worker.second();
        for seat in self.seats.values_mut() {
            if let Some(kind) = verdict(seat, second) {
                seat.given_up = kind;
                seat.task.abort();
            }
        }
    }
}

/// How long to wait before a connection is opened again: not at all, then 50 ms, doubled each time.
fn pause(in_vain: u32) -> Duration {
    match in_vain.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (Duration::from_millis(50) * 2u32.pow(doublings.min(10))).min(PAUSE_MAX),
    }
}
