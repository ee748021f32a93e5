//! A run from beginning to end: threads started, each second reported, everything added up.
//!
//! Nothing here fails half-way: what the host refuses becomes an error in the report, and the report is
//! always made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use message::date::DateCache;
use reports::latency::new_histogram;
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::claims::Claims;
use crate::clock::{NS_PER_SECOND, now_ns};
use crate::content::{Catalogue, ContentError, Frame};
use crate::pacer::{Pacer, Share};
use crate::plan::Plan;
use crate::report::Report;
use crate::start::Start;
use crate::tally::Tally;
use crate::worker::Worker;

/// How a run is asked to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Not,
    /// Begin nothing more, and wait for the replies that are due.
    Soon,
    /// Give up what is in flight.
    Now,
}

/// The handle with which another thread ends a run.
#[derive(Clone, Debug)]
pub struct Control {
    stop: watch::Sender<Stop>,
}

impl Default for Control {
    fn default() -> Self {
        Self { stop: watch::Sender::new(Stop::Not) }
    }
}

impl Control {
    /// Ends the run: at the first call nothing more is begun and replies are waited for; at the second they
    /// are given up.
    pub fn stop(&self) {
        self.stop.send_modify(|stop| *stop = if *stop == Stop::Not { Stop::Soon } else { Stop::Now });
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow() != Stop::Not
    }
}

/// What an [`Observer`] sees of one second.
#[derive(Debug)]
pub struct Second<'a> {
    /// When it began, counted from the start of the run.
    pub offset: Duration,
    /// How long it was; the last one is shorter.
    pub length: Duration,
    /// Latencies of the messages sent in it, in microseconds.
    pub latency: &'a Histogram<u64>,
    /// Messages sent so far.
    pub sent: u64,
    /// Messages refused so far.
    pub failed: u64,
    /// Messages lost sight of so far.
    pub unknown: u64,
    /// Messages begun and not answered.
    pub in_flight: u64,
    /// Connections open now.
    pub connections: u64,
}

/// Watches a run, once a second, on the thread that runs it.
pub trait Observer {
    /// One second is over, or the rest of one at the end.
    fn second(&mut self, second: &Second<'_>);
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) catalogue: Catalogue,
    pub(crate) claims: Claims,
    pub(crate) start: Start,
    /// When connections begin to be opened.
    begin_ns: u64,
    connections: AtomicU64,
}

impl Shared {
    fn new(plan: Plan, catalogue: Catalogue) -> Self {
        let duration_ns =
            plan.duration().map(|duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
        Self {
            claims: Claims::new(plan.message_count.unwrap_or(u64::MAX)),
            start: Start::new(duration_ns),
            begin_ns: now_ns(),
            connections: AtomicU64::new(0),
            catalogue,
            plan,
        }
    }

    pub(crate) fn session_config(&self) -> smtp::client::Config {
        smtp::client::Config {
            ehlo_domain: self.plan.helo.clone(),
            pipelining: self.plan.pipelining,
            chunking: self.plan.chunking,
            ..smtp::client::Config::default()
        }
    }

    pub(crate) fn connection_number(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

/// Does what the plan says, and returns when no message is left to begin and none is in flight.
pub fn run(plan: Plan) -> Report {
    struct Nobody;
    impl Observer for Nobody {
        fn second(&mut self, _: &Second<'_>) {}
    }
    run_observed(plan, &Control::default(), &mut Nobody)
}

/// [`run`], with a handle to end it and somebody to watch it.
pub fn run_observed(mut plan: Plan, control: &Control, observer: &mut dyn Observer) -> Report {
    plan.concurrency = plan.concurrency.max(1);
    let catalogue = match catalogue(&plan) {
        Ok(catalogue) => catalogue,
        Err(error) => return report_of_nothing(&plan, &error.to_string()),
    };
    let shared = Arc::new(Shared::new(plan, catalogue));
    let workers: Vec<Arc<Worker>> = make_workers(&shared);
    let (done, all_done) = sync_channel(0);
    let threads: Vec<_> = workers.iter().map(|worker| spawn(worker, control, &done)).collect();
    drop(done);
    let latency = watch_workers(&shared, &workers, &all_done, observer);
    for thread in threads.into_iter().flatten() {
        // A thread that panicked has already printed why; what it counted is still in its tally.
        let _ = thread.join();
    }
    let behind = workers.iter().filter_map(|worker| worker.pacer.as_ref()).map(Pacer::behind).sum();
    let body_bytes = shared.catalogue.body_bytes_mean();
    Report::new(&shared.plan, body_bytes, total(&workers), latency, behind, control.is_stopped())
}

fn catalogue(plan: &Plan) -> Result<Catalogue, ContentError> {
    let unix_seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    let unix_seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
    let frame = Frame {
        run_id: plan.run_id,
        seed: plan.seed,
        host: plan.helo.clone(),
        date: DateCache::new().rfc5322(unix_seconds).to_owned(),
    };
    Catalogue::new(&plan.content, &plan.recipients, frame)
}

fn report_of_nothing(plan: &Plan, error: &str) -> Report {
    let mut tally = Tally::new();
    tally.error(error);
    Report::new(plan, 0.0, tally, new_histogram(), 0, false)
}

fn make_workers(shared: &Arc<Shared>) -> Vec<Arc<Worker>> {
    let count = shared.plan.workers();
    let make = |index: usize| {
        let connections = (shared.plan.concurrency + index) / count;
        let pacer = shared.plan.rate_per_second.map(|rate| {
            let interval_ns = NS_PER_SECOND as f64 / rate;
            Pacer::new(Share { interval_ns, workers: count as u64, index: index as u64 })
        });
        Arc::new(Worker::new(Arc::clone(shared), connections, pacer))
    };
    (0..count).map(make).collect()
}

/// Starts a worker's thread. `done` is held until it ends.
fn spawn(worker: &Arc<Worker>, control: &Control, done: &SyncSender<()>) -> Option<JoinHandle<()>> {
    let (worker_of_thread, stop, done) = (Arc::clone(worker), control.stop.subscribe(), done.clone());
    let started = Builder::new_current_thread().enable_io().enable_time().build().and_then(|runtime| {
        thread::Builder::new().name("load".to_owned()).spawn(move || {
            runtime.block_on(worker_of_thread.work(stop));
            drop(done);
        })
    });
    started
        .inspect_err(|error| {
            worker.tally(|tally| tally.error(&format!("the host refused a thread: {error}")));
            // The others would wait for this one's part of the schedule.
            worker.run.claims.close();
        })
        .ok()
}

/// Collects the latencies of each second until all workers are done.
fn watch_workers(
    shared: &Shared,
    workers: &[Arc<Worker>],
    all_done: &Receiver<()>,
    observer: &mut dyn Observer,
) -> Histogram<u64> {
    let (mut all, mut second, mut spare) = (new_histogram(), new_histogram(), new_histogram());
    let (mut begin_ns, mut tick) = (shared.begin_ns, 0);
    loop {
        tick += 1;
        let end_ns = shared.begin_ns + tick * NS_PER_SECOND;
        let wait = Duration::from_nanos(end_ns.saturating_sub(now_ns()));
        let running = all_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout);
        second.reset();
        for worker in workers {
            spare.reset();
            worker.tally(|tally| tally.turn(&mut spare));
            add(&mut second, &spare);
        }
        add(&mut all, &second);
        let now_ns = now_ns();
        observer.second(&seen(shared, workers, &second, begin_ns, now_ns));
        begin_ns = now_ns;
        if !running {
            return all;
        }
    }
}

fn seen<'a>(
    shared: &Shared,
    workers: &[Arc<Worker>],
    latency: &'a Histogram<u64>,
    begin_ns: u64,
    end_ns: u64,
) -> Second<'a> {
    // The count of what has begun is read last, so that nothing answered seems to be in flight twice.
    let total = total(workers);
    Second {
        offset: Duration::from_nanos(begin_ns - shared.begin_ns),
        length: Duration::from_nanos(end_ns - begin_ns),
        latency,
        sent: total.sent,
        failed: total.failed,
        unknown: total.unknown,
        in_flight: shared.claims.begun().saturating_sub(total.sent + total.failed + total.unknown),
        connections: total.connections_open,
    }
}

fn total(workers: &[Arc<Worker>]) -> Tally {
    let mut total = Tally::new();
    workers.iter().for_each(|worker| worker.tally(|tally| total.add(tally)));
    total
}

fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    // All histograms are made by the same function with the same bounds, which is the only thing that could
    // be refused.
    sum.add(part).unwrap_or_default();
}
