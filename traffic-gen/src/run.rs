//! A run from beginning to end: threads started, each second reported, everything added up.
//!
//! Nothing here fails half-way: what the host refuses becomes an error in the report, and the report is
//! always made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use message::date::DateCache;
use reports::latency::new_histogram;
use smtp::client::{Config, Credentials, Mechanism, StartTls};
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::claims::Claims;
use crate::clock::now_ns;
use crate::content::{Catalogue, ContentError, Frame};
use crate::cursor::{Cursor, Slice};
use crate::http::Injector;
use crate::integral::Integral;
use crate::pacer::Pacer;
use crate::plan::{Plan, PlanError};
use crate::recorded::Recorded;
use crate::report::{Gathered, Measured, Report};
use crate::schedule::Schedule;
use crate::second::{Observer, Second};
use crate::start::Start;
use crate::tally::Tally;
use crate::target::Target;
use crate::tls::Connector;
use crate::transport::{Auth, AuthType, Tls};
use crate::watcher::Watcher;
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

    /// How often the end was asked for, up to 2: for whoever passes the wish on to other machines.
    pub fn stops(&self) -> u8 {
        match *self.stop.borrow() {
            Stop::Not => 0,
            Stop::Soon => 1,
            Stop::Now => 2,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stops() > 0
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) catalogue: Catalogue,
    /// For runs that inject over HTTP.
    pub(crate) injector: Option<Injector>,
    /// Where TLS was asked for.
    pub(crate) connector: Option<Connector>,
    pub(crate) claims: Claims,
    pub(crate) start: Start,
    /// When connections begin to be opened.
    pub(crate) begin_ns: u64,
    connections: AtomicU64,
    /// What is added to `CLOCK_MONOTONIC` for what other hosts read; 0 where there are none.
    wire_shift_ns: i64,
}

impl Shared {
    /// Everything that is made before the run.
    pub(crate) fn new(plan: Plan) -> Result<Self, PlanError> {
        plan.check()?;
        let (catalogue, connector) = (catalogue(&plan)?, plan.connector()?);
        let injector = Injector::new(&plan, &catalogue).map_err(PlanError::Injection)?;
        let agreed_ns = plan.start_at_realtime_ns.map(|at_ns| agreed_ns(at_ns, plan.clock_offset_ns));
        let wire_shift_ns = agreed_ns.map_or(0, |_| coordinator_shift_ns(plan.clock_offset_ns));
        Ok(Self {
            claims: Claims::new(plan.share, plan.message_count.unwrap_or(u64::MAX)),
            start: Start::new(plan.workers(), agreed_ns, plan.warm_up, plan.length()),
            begin_ns: now_ns(),
            connections: AtomicU64::new(0),
            wire_shift_ns,
            catalogue,
            injector,
            connector,
            plan,
        })
    }

    pub(crate) fn session_config(&self) -> Config {
        let transport = &self.plan.transport;
        let credentials = |auth: &Auth| Credentials {
            mechanism: auth.mechanism.map(|mechanism| match mechanism {
                AuthType::Plain => Mechanism::Plain,
                AuthType::Login => Mechanism::Login,
            }),
            user: auth.user.clone(),
            password: auth.password.clone(),
            password_needs: None,
            nonce: String::new(),
        };
        Config {
            ehlo_domain: self.plan.helo.clone(),
            pipelining: transport.pipelining,
            chunking: transport.chunking,
            lmtp: transport.lmtp,
            starttls: if transport.tls == Tls::StartTls { StartTls::Required } else { StartTls::Off },
            auth: transport.auth.as_ref().map(credentials),
        }
    }

    /// Where the connection with that number goes.
    pub(crate) fn target(&self, connection: u64) -> &Target {
        let at = connection % self.plan.targets.len() as u64;
        &self.plan.targets[usize::try_from(at).unwrap_or(0)]
    }

    /// A time as messages and reports say it: `CLOCK_MONOTONIC` on one host, and the coordinator's
    /// `CLOCK_REALTIME` where several have parts of one run.
    pub(crate) fn wire_ns(&self, ns: u64) -> u64 {
        ns.saturating_add_signed(self.wire_shift_ns)
    }

    pub(crate) fn connection_number(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// What mail calls that connection: a number that no connection of another part of the run has, so that the
    /// far end can tell in which order each of them sent.
    pub(crate) fn connection_name(&self, number: u64) -> u64 {
        let share = self.plan.share;
        number.saturating_mul(share.of.max(1)).saturating_add(share.index)
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
    let shared = match Shared::new(plan.clone()) {
        Ok(shared) => Arc::new(shared),
        Err(error) => return report_of_nothing(&plan, &error.to_string()),
    };
    let workers: Vec<Arc<Worker>> = make_workers(&shared);
    let (done, all_done) = sync_channel(0);
    let threads: Vec<_> = workers.iter().map(|worker| spawn(worker, control, &done)).collect();
    drop(done);
    let mut watcher = Watcher::new(&shared, &workers);
    watcher.watch(&all_done, observer);
    for thread in threads.into_iter().flatten() {
        // A thread that panicked has already printed why; what it counted is still in its tally.
        let _ = thread.join();
    }
    let mut total = Tally::new();
    workers.iter().for_each(|worker| worker.tally(|tally| total.add(tally)));
    let gathered = watcher.finish(&total, control.is_stopped());
    let mut report = Report::new(&shared.plan, shared.catalogue.body_bytes_mean(), total, gathered);
    for time_ns in [&mut report.first_sent_ns, &mut report.last_reply_ns].into_iter().flatten() {
        *time_ns = shared.wire_ns(*time_ns);
    }
    report
}

/// An agreed time by this host's `CLOCK_MONOTONIC`. A time that is over means now.
fn agreed_ns(at_realtime_ns: u64, clock_offset_ns: i64) -> u64 {
    let realtime_ns = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
    let agreed_ns = i128::from(at_realtime_ns) - i128::from(clock_offset_ns);
    let wait_ns = agreed_ns - i128::try_from(realtime_ns).unwrap_or(i128::MAX);
    now_ns().saturating_add(u64::try_from(wait_ns.max(0)).unwrap_or(u64::MAX))
}

/// What the coordinator's `CLOCK_REALTIME` shows less what this host's `CLOCK_MONOTONIC` does.
fn coordinator_shift_ns(clock_offset_ns: i64) -> i64 {
    let realtime_ns = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
    let realtime_ns = i64::try_from(realtime_ns).unwrap_or(i64::MAX);
    realtime_ns.saturating_add(clock_offset_ns).saturating_sub_unsigned(now_ns())
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
    let gathered = Gathered {
        recorded: Recorded::new(),
        hiccup: new_histogram(),
        measured: Measured::default(),
        cpu_cores: 0.0,
        threads: Vec::new(),
        due: 0,
        behind: 0,
        generator_limited: Vec::new(),
        interrupted: false,
    };
    Report::new(plan, 0.0, tally, gathered)
}

fn make_workers(shared: &Arc<Shared>) -> Vec<Arc<Worker>> {
    let count = shared.plan.workers();
    let integral = match &shared.plan.schedule {
        Schedule::Closed => None,
        Schedule::Open { arrivals, stages } => Some((*arrivals, Arc::new(Integral::new(stages)))),
    };
    let share = shared.plan.share;
    let make = |index: usize| {
        let connections = (shared.plan.concurrency + index) / count;
        let pacer = integral.as_ref().map(|(arrivals, integral)| {
            // Of the messages of this process every worker has every so manieth.
            let slice = Slice {
                offset: share.index + index as u64 * share.of.max(1),
                stride: share.of.max(1) * count as u64,
            };
            Pacer::new(Cursor::new(Arc::clone(integral), *arrivals, slice, shared.plan.seed))
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
            worker.run.claims.close(now_ns());
        })
        .ok()
}
