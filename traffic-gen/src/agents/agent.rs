//! The machine that sends: waits for a controller, does its part of a run, and tells how it went.
//!
//! Works for one controller at a time; another is answered 409. A plan comes as data: names of servers are
//! resolved here, and public addresses are refused unless the agent itself was started with
//! `--i-own-this-host`, whatever the controller's operator says of himself. A controller that is not heard
//! of for [`SILENCE_MAX`] has lost its claim: the run is ended and the agent is free again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;
use traffic_gen::{
    Control, Observer, Plan, Second, Target, connections_that_fit, file_limit_raise, run_observed,
};

use super::clock::realtime_ns;
use super::token::Token;
use super::wire::{
    Clock, Order, PLAN_BYTES_MAX, Refused, SECONDS_PER_ANSWER_MAX, Seconds, VERSION, WireReport, WireSecond,
};
use crate::serve::Service;

/// How long a controller may be silent.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a question for seconds that are not over yet is kept waiting.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Seconds that wait for the controller at most; it would have been given up before there are more.
const SECONDS_MAX: usize = 300;

/// The largest body of a request that is no plan, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Listens for a controller; whoever lacks the token is answered 401.
pub(crate) fn start(address: SocketAddr, token: Token, owned: bool) -> std::io::Result<Service> {
    let agent = Arc::new(Agent { token, owned, job: Mutex::new(None) });
    let plan = post(order).layer(DefaultBodyLimit::max(PLAN_BYTES_MAX));
    let routes = Router::new()
        .route("/clock", get(clock))
        .route("/run", plan)
        .route("/run/{run}/seconds", get(seconds))
        .route("/run/{run}/stop", post(stop))
        .route("/run/{run}/report", get(report))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&agent), only_with_the_token))
        .with_state(agent);
    Service::start(address, "agent", routes)
}

struct Agent {
    token: Token,
    owned: bool,
    job: Mutex<Option<Arc<Job>>>,
}

impl Agent {
    fn job(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job of that run. Asking for it is how a controller is heard.
    fn job_of(&self, run: &str) -> Result<Arc<Job>, No> {
        let job = self.job().as_ref().filter(|job| job.run == run).cloned();
        let job = job.ok_or_else(|| No(StatusCode::NOT_FOUND, format!("no run {run:?} is here")))?;
        job.log().heard = Instant::now();
        Ok(job)
    }
}

/// The part of one run that is this agent's.
struct Job {
    run: String,
    control: Control,
    log: Mutex<Log>,
    /// How many seconds are in the log, and one more when the report is.
    news: watch::Sender<usize>,
}

struct Log {
    /// Seconds that the controller has not asked beyond yet.
    seconds: VecDeque<WireSecond>,
    /// How many stood before them.
    forgotten: usize,
    report: Option<Arc<WireReport>>,
    delivered: bool,
    heard: Instant,
}

impl Log {
    fn count(&self) -> usize {
        self.forgotten + self.seconds.len()
    }

    fn forget(&mut self, seconds: usize) {
        let seconds = seconds.min(self.seconds.len());
        self.seconds.drain(..seconds);
        self.forgotten += seconds;
    }
}

impl Job {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another controller may have the agent.
    fn is_over(&self) -> bool {
        let log = self.log();
        log.report.is_some() && (log.delivered || log.heard.elapsed() > SILENCE_MAX)
    }
}

/// Writes the log of a job, and ends the run when nobody wants it any more.
struct Recorder(Arc<Job>);

impl Observer for Recorder {
    fn second(&mut self, second: &Second<'_>) {
        let mut log = self.0.log();
        if log.seconds.len() == SECONDS_MAX {
            log.forget(1);
        }
        log.seconds.push_back(WireSecond::new(second));
        let silence = log.heard.elapsed();
        let count = log.count();
        drop(log);
        self.0.news.send_replace(count);
        if silence > SILENCE_MAX {
            self.0.control.stop();
        }
    }
}

async fn only_with_the_token(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    if header.is_some_and(|header| agent.token.is_shown_by(header.as_bytes())) {
        next.run(request).await
    } else {
        No(StatusCode::UNAUTHORIZED, "the token is missing or another one".to_owned()).into_response()
    }
}

async fn clock() -> Json<Clock> {
    Json(Clock { version: VERSION.to_owned(), realtime_ns: realtime_ns(), cores: cores() })
}

async fn order(State(agent): State<Arc<Agent>>, order: Bytes) -> Result<StatusCode, No> {
    begin(&agent, &order).map(|()| StatusCode::ACCEPTED)
}

/// The part of an order that every version has.
#[derive(Deserialize)]
struct Version {
    version: String,
}

fn begin(agent: &Agent, order: &[u8]) -> Result<(), No> {
    let bad = |error: String| No(StatusCode::BAD_REQUEST, error);
    // It is looked at first: the plan of another version may not even parse.
    let Version { version } =
        serde_json::from_slice(order).map_err(|error| bad(format!("no order: {error}")))?;
    if version != VERSION {
        return Err(bad(format!("this agent is traffic-gen {VERSION}, the controller is {version}")));
    }
    let Order { plan, .. } =
        serde_json::from_slice(order).map_err(|error| bad(format!("no order: {error}")))?;
    let plan = fit_here(plan, agent.owned).map_err(|error| No(StatusCode::UNPROCESSABLE_ENTITY, error))?;
    let mut current = agent.job();
    if current.as_ref().is_some_and(|job| !job.is_over()) {
        return Err(No(StatusCode::CONFLICT, "this agent works for another controller".to_owned()));
    }
    let job = Arc::new(Job {
        run: plan.run_id.to_string(),
        control: Control::default(),
        log: Mutex::new(Log {
            seconds: VecDeque::new(),
            forgotten: 0,
            report: None,
            delivered: false,
            heard: Instant::now(),
        }),
        news: watch::Sender::new(0),
    });
    let worker = Arc::clone(&job);
    let thread = thread::Builder::new().name("run".to_owned()).spawn(move || work(&worker, plan));
    thread.map_err(|error| No(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    *current = Some(job);
    Ok(())
}

/// The plan as it can be done on this machine.
fn fit_here(mut plan: Plan, owned: bool) -> Result<Plan, String> {
    for target in &mut plan.targets {
        // What the controller resolved is not taken on trust: an address decides whether mail may be sent.
        *target = Target::resolve(&target.name, owned).map_err(|error| {
            format!("{error} The agent itself must be started with --i-own-this-host for a public target.")
        })?;
    }
    plan.workers = cores();
    plan.concurrency_asked = plan.concurrency;
    plan.concurrency = connections_that_fit(file_limit_raise(), plan.workers).min(plan.concurrency);
    Ok(plan)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn work(job: &Arc<Job>, plan: Plan) {
    let report = run_observed(plan, &job.control, &mut Recorder(Arc::clone(job)));
    let mut log = job.log();
    log.report = Some(Arc::new(WireReport::new(report)));
    let count = log.count() + 1;
    drop(log);
    job.news.send_replace(count);
}

#[derive(Deserialize)]
struct From {
    from: usize,
}

async fn seconds(
    State(agent): State<Arc<Agent>>,
    Path(run): Path<String>,
    Query(From { from }): Query<From>,
) -> Result<Json<Seconds>, No> {
    let job = agent.job_of(&run)?;
    // Whether something new came or the time is over: what there is goes out.
    let _ = timeout(ANSWER_WAIT_MAX, job.news.subscribe().wait_for(|count| *count > from)).await;
    let mut log = job.log();
    // What is asked beyond has arrived.
    let before = from.saturating_sub(log.forgotten);
    log.forget(before);
    let seconds: Vec<_> = log.seconds.iter().take(SECONDS_PER_ANSWER_MAX).cloned().collect();
    let over = log.report.is_some() && seconds.len() == log.seconds.len();
    Ok(Json(Seconds { seconds, over }))
}

async fn stop(State(agent): State<Arc<Agent>>, Path(run): Path<String>) -> Result<StatusCode, No> {
    agent.job_of(&run)?.control.stop();
    Ok(StatusCode::OK)
}

async fn report(State(agent): State<Arc<Agent>>, Path(run): Path<String>) -> Result<Response, No> {
    let job = agent.job_of(&run)?;
    let report = {
        let mut log = job.log();
        log.delivered = log.report.is_some();
        log.report.clone()
    };
    let report = report.ok_or_else(|| No(StatusCode::CONFLICT, "the run is not over".to_owned()))?;
    Ok(Json(&*report).into_response())
}

/// A refusal, and why.
struct No(StatusCode, String);

impl IntoResponse for No {
    fn into_response(self) -> Response {
        (self.0, Json(Refused { error: self.1 })).into_response()
    }
}
