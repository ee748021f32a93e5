//! Puts the rooms together, runs them, and takes them apart again in the right order.
//!
//! Ports are bound and privileges dropped before anything else starts; the store is open before the first connection is taken; on
//! the way out listeners close first, then deliveries, then the log, and the store last, so that nothing is ever said that cannot be kept.

mod ending;
mod privileges;
mod service_manager;
mod spool_samples;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::admin::{self, AdminState, Liveness, ResolveEgressPath};
use crate::clock::UnixMs;
use crate::config::{Config, HttpListener, SmtpListener};
use crate::dns::{Dns, DnsOptions};
use crate::envelope::{IdSource, NodeId};
use crate::inbound::{BodyBudget, BodyPool, Inbound, SmtpDoor, TlsError};
use crate::intake::{Intake, Residency};
use crate::maillog::{LogLimits, MailLog};
use crate::metrics::{Metrics, Sample};
use crate::outbound::{Dispatcher, Outbound, Parts, check_authorities};
use crate::policy::{Lookups, Policy};
use crate::ports::{Dispatch, MailStore, PermitSource, Shutdown};
use crate::pressure::{self, Pressure};
use crate::queue::LocalPermits;
use crate::recover;
use crate::settle::{self, Notifier, Settling};
use crate::store::{Allowances, LocalStore, Restored};

use service_manager::{Condition, ServiceManager};

pub use privileges::{PrivilegeError, User};

/// Connections that the kernel may hold before they are accepted; `net.core.somaxconn` may allow fewer.
const BACKLOG_MAX: i32 = 4096;
/// Part of the memory budget for bodies that each size class of the buffer pool may keep.
const POOL_CLASS_PART: usize = 2;
/// Worker threads of the blocking pool: reads of bodies that are no longer in memory.
const BLOCKING_THREADS_MAX: usize = 32;

/// Why kumod does not start. The text names what was asked, and the remedy.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", remedy(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the host said.
        source: io::Error,
    },
    /// A listener's certificate or key cannot be used.
    #[error("listener on {address}: {source}")]
    Tls {
        /// The listener.
        address: SocketAddr,
        /// What is wrong.
        source: TlsError,
    },
    /// The user cannot be changed.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The spool cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::OpenStoreError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] crate::maillog::LogError),
    /// DNS cannot be set up.
    #[error("DNS: {0}")]
    Dns(#[from] crate::dns::DnsError),
    /// A file or a thread cannot be had.
    #[error("{what}: {source}")]
    Host {
        /// What was wanted.
        what: String,
        /// What the host said.
        source: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has it: stop that one, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; this host does not have that address",
        _ => "",
    }
}

fn host_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Host { what, source }
}

/// Runs kumod until SIGTERM or SIGINT.
///
/// # Errors
/// Anything that keeps it from starting; nothing has been accepted then.
pub fn run(config: Config, policy: Policy, user: Option<&User>) -> Result<(), StartError> {
    let manager = Arc::new(ServiceManager::of_this_process());
    run_under(&manager, config, policy, user).inspect_err(|error| manager.refused(error))
}

fn run_under(
    manager: &Arc<ServiceManager>,
    config: Config,
    policy: Policy,
    user: Option<&User>,
) -> Result<(), StartError> {
    raise_file_limit();
    let sockets = Sockets::bind(&config)?;
    for dir in [&config.spool.dir, &config.log_dir] {
        privileges::make_dir(dir, user)?;
    }
    if let Some(user) = user {
        user.become_it()?;
    }
    // Affinity and the quota of a control group, version 1 or 2, are both in this number; half a processor is one.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tracing::info!(processors, "sized to the processors given");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(host_error("the runtime cannot start"))?;
    let node = Node::assemble(config, policy, manager)?;
    let store = Arc::clone(&node.store);
    let log = node.log.clone();
    let settling = runtime.block_on(node.serve(sockets, manager))?;
    // Before the runtime ends: senders are told of what is settled last.
    settling.finish();
    runtime.shutdown_timeout(Duration::from_secs(1));
    log.close();
    if let Err(error) = store.close() {
        tracing::error!(%error, "the spool did not close cleanly; the next start recovers it");
    }
    Ok(())
}

/// Bound listeners, before privileges are dropped.
struct Sockets {
    smtp: Vec<(TcpListener, SmtpListener)>,
    http: Vec<(TcpListener, HttpListener)>,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let smtp = config.smtp_listeners.iter().map(|spec| Ok((listen(spec.listen, "smtp")?, spec.clone())));
        let smtp = smtp.collect::<Result<_, StartError>>()?;
        let http = config.http_listeners.iter().map(|spec| Ok((listen(spec.listen, "http")?, spec.clone())));
        Ok(Self { smtp, http: http.collect::<Result<_, StartError>>()? })
    }
}

/// Listens and says so; whoever chose port 0 reads the port there.
fn listen(address: SocketAddr, protocol: &str) -> Result<TcpListener, StartError> {
    let open = || -> io::Result<TcpListener> {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_MAX)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    let socket = open().map_err(|source| StartError::Listen { address, source })?;
    let address = socket.local_addr().unwrap_or(address);
    eprintln!("{protocol} listener on {address}");
    Ok(socket)
}

struct Node {
    config: Config,
    policy: Policy,
    store: Arc<LocalStore>,
    log: MailLog,
    metrics: Arc<Metrics>,
    ids: IdSource,
}

impl Node {
    fn assemble(config: Config, policy: Policy, manager: &ServiceManager) -> Result<Self, StartError> {
        let node_id = node_id(&config.spool.dir)?;
        let metrics = Arc::new(Metrics::new());
        // The spool first: its lock keeps a second process away from the files of the log, too.
        manager.starting("opening the spool");
        let tell = |progress| manager.starting(&format!("reading the spool: {progress}"));
        let (store, restored) = LocalStore::open(&config.spool, UnixMs::now(), &tell)?;
        manager.starting("reading the end of the log");
        let log = MailLog::open(&config.log_dir, LogLimits::default())?;
        let store = Arc::new(store);
        tell_promise(&store.stats());
        metrics.message_count.set(i64::try_from(restored.messages).unwrap_or(i64::MAX));
        let missing = recover::write_missing_records(&restored.gone, &config.log_dir, &log)
            .map_err(host_error(config.log_dir.display().to_string()))?;
        let Restored { messages, unreadable, damaged, orphans, .. } = restored;
        if messages > 0 || unreadable > 0 || damaged > 0 || orphans > 0 || missing > 0 {
            tracing::info!(
                messages,
                unreadable,
                damaged,
                without_body = orphans,
                missing_log_lines = missing,
                "the spool held mail from before"
            );
        }
        let ids = IdSource::new(node_id, fastrand::u64(..));
        Ok(Self { config, policy, store, log, metrics, ids })
    }

    /// Starts everything, waits for the signal, and stops everything but the settling thread.
    async fn serve(self, sockets: Sockets, manager: &Arc<ServiceManager>) -> Result<Settling, StartError> {
        let (stop, shutdown) = Shutdown::new();
        let grace = self.config.limits.shutdown_grace;
        let store: Arc<dyn MailStore> = Arc::clone(&self.store) as _;
        let (settle, settling, notices) =
            settle::start(Arc::clone(&store), self.log.clone(), Arc::clone(&self.metrics))
                .map_err(host_error("the settling thread cannot start"))?;
        let allowances = Allowances::open(&self.config.spool.dir, UnixMs::now());
        let outbound = self.outbound(Arc::clone(&store), settle, allowances.clone(), shutdown.clone())?;
        let residency =
            Residency::new(self.config.limits.resident_body_bytes_max, self.config.limits.inflow_delay_max);
        let pressure = Arc::new(Pressure::new(self.config.limits.memory_bytes_max));
        let intake = Arc::new(Intake {
            store,
            dispatch: Arc::new(Dispatcher(Arc::clone(&outbound))) as Arc<dyn Dispatch>,
            policy: self.policy,
            log: self.log.clone(),
            ids: self.ids,
            metrics: Arc::clone(&self.metrics),
            pressure: Arc::clone(&pressure),
            residency,
            queued_messages_max: self.config.limits.queued_messages_max,
        });
        register_sources(&self.metrics, &self.store, &outbound, &intake, &self.log);
        let mut terminate =
            signal(SignalKind::terminate()).map_err(host_error("SIGTERM cannot be handled"))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(host_error("SIGINT cannot be handled"))?;
        let inbound = Inbound {
            intake: Arc::clone(&intake),
            pool: BodyPool::new(self.config.limits.resident_body_bytes_max / POOL_CLASS_PART),
            budget: Arc::new(BodyBudget::new(self.config.limits.inbound_body_bytes_max)),
            clients: Arc::default(),
            metrics: Arc::clone(&self.metrics),
            shutdown: shutdown.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&outbound).run());
        // Not among the tasks that a stop waits for: it ends with the settling thread.
        let (hostname, store) = (self.config.hostname.clone(), Arc::clone(&self.store) as _);
        tokio::spawn(Notifier { intake: Arc::clone(&intake), store, hostname }.run(notices));
        tasks.spawn(watch_memory(pressure, Arc::clone(&inbound.pool), shutdown.clone()));
        let liveness = liveness(&intake, &shutdown);
        let state = AdminState {
            metrics: Arc::clone(&self.metrics),
            liveness: Arc::clone(&liveness),
            resolve_egress_path: egress_paths(&outbound),
        };
        serve_http(&mut tasks, sockets.http, &state, &shutdown);
        serve_smtp(&mut tasks, sockets.smtp, &self.config, &inbound)?;
        drop((inbound, intake));
        eprintln!("initialization complete");
        manager.ready();
        // Not among the tasks that a stop waits for, because it goes on until the runtime ends.
        tokio::spawn(Arc::clone(manager).attend(condition(&self.store, &self.metrics, liveness)));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new mail is taken, sessions in the middle of a message may finish");
        manager.stopping(grace);
        stop.send_replace(true);
        while tasks.join_next().await.is_some() {}
        ending::finish(&outbound, &allowances, grace).await;
        Ok(settling)
    }

    fn outbound(
        &self,
        store: Arc<dyn MailStore>,
        settle: settle::Settle,
        allowances: Allowances,
        shutdown: Shutdown,
    ) -> Result<Arc<Outbound>, StartError> {
        let spec = &self.config.outbound.dns;
        let dns = Dns::new(DnsOptions::of(spec, &spec.resolver))?;
        self.policy.serve_lookups(Lookups::new(dns.clone(), spec, Handle::current())?);
        if let Some(source) = &self.config.outbound.authorities {
            check_authorities(source).map_err(host_error(format!("authorities to trust, {source}")))?;
        }
        Ok(Outbound::new(Parts {
            store,
            settle,
            dns,
            policy: self.policy.clone(),
            permits: Arc::new(LocalPermits::default()) as Arc<dyn PermitSource>,
            allowances,
            metrics: Arc::clone(&self.metrics),
            spec: self.config.outbound.clone(),
            hostname: self.config.hostname.clone(),
            inflow_delay_max: self.config.limits.inflow_delay_max,
            shutdown,
        }))
    }
}

/// Looks at the memory in use as long as the process runs, and gives back what is kept only to be quick where it is short.
async fn watch_memory(pressure: Arc<Pressure>, pool: Arc<BodyPool>, mut shutdown: Shutdown) {
    let mut looks = tokio::time::interval(Duration::from_millis(pressure::LOOK_INTERVAL_MS));
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if pressure::used_bytes().is_some_and(|used| pressure.note(used)) {
            pool.clear();
        }
        tokio::select! {
            _ = looks.tick() => {}
            () = shutdown.wait() => return,
        }
    }
}

/// Whether mail is taken, for whoever asks.
fn liveness(intake: &Arc<Intake>, shutdown: &Shutdown) -> Liveness {
    let (watched, stopping) = (Arc::downgrade(intake), shutdown.clone());
    Arc::new(move || {
        if stopping.is_stopping() {
            return Err("shutting down".to_owned());
        }
        let refusal = watched.upgrade().and_then(|intake| intake.refusal());
        refusal.map_or(Ok(()), Err)
    })
}

/// What the service manager is told while kumod runs. Mail that has to wait at the door is no reason to start anew, because what
/// is here goes on being delivered; a spool that cannot write is.
fn condition(
    store: &Arc<LocalStore>,
    metrics: &Arc<Metrics>,
    liveness: Liveness,
) -> impl Fn() -> Condition + use<> {
    let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
    move || {
        let queued = metrics.message_count.get();
        let status = match liveness() {
            Ok(()) => format!("taking mail; {queued} messages queued"),
            Err(reason) => format!("no new mail is taken: {reason}; {queued} messages queued"),
        };
        Condition { is_sound: !matches!(store.health(), spool::Health::Failed { .. }), status }
    }
}

/// Lets HTTP ask which way mail would take. What will never be found is 404; what may be found later, 503.
fn egress_paths(outbound: &Arc<Outbound>) -> ResolveEgressPath {
    let outbound = Arc::clone(outbound);
    Arc::new(move |domain, source| {
        let outbound = Arc::clone(&outbound);
        Box::pin(async move {
            let answer = outbound.resolve_egress_path(&domain, &source).await.map_err(|unresolved| {
                let status =
                    if unresolved.may_pass { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NOT_FOUND };
                (status, format!("{} {}", unresolved.response.code, unresolved.response.content))
            })?;
            serde_json::to_value(answer)
                .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        })
    })
}

fn serve_http(
    tasks: &mut JoinSet<()>,
    sockets: Vec<(TcpListener, HttpListener)>,
    state: &AdminState,
    shutdown: &Shutdown,
) {
    for (socket, spec) in sockets {
        let (state, mut stopping) = (state.clone(), shutdown.clone());
        tasks.spawn(async move {
            let served = admin::serve(socket, spec, state, async move { stopping.wait().await }).await;
            if let Err(error) = served {
                tracing::error!(%error, "an HTTP listener ended");
            }
        });
    }
}

fn serve_smtp(
    tasks: &mut JoinSet<()>,
    sockets: Vec<(TcpListener, SmtpListener)>,
    config: &Config,
    inbound: &Inbound,
) -> Result<(), StartError> {
    let mut doors = Vec::with_capacity(sockets.len());
    for (socket, spec) in sockets {
        let address = spec.listen;
        let door = SmtpDoor::new(socket, spec, &config.hostname, inbound.clone());
        doors.push(door.map_err(|source| StartError::Tls { address, source })?);
    }
    let grace = config.limits.shutdown_grace;
    for door in doors {
        tasks.spawn(async move {
            if let Err(error) = door.serve(grace).await {
                tracing::error!(%error, "an SMTP listener ended");
            }
        });
    }
    Ok(())
}

/// What a 250 means from now on, for whoever reads the diagnostic log.
fn tell_promise(stats: &spool::Stats) {
    let spool::Stats { durability, backend, mode, file_system, .. } = stats;
    let promise = durability.promise();
    tracing::info!(%durability, promise, backend, mode, file_system, "the spool is open");
    if *durability == spool::Durability::Deferred {
        tracing::warn!("a crash loses mail that got its 250 and whose first attempt has not failed yet");
    }
}

/// What is read when somebody asks for metrics, rather than counted as it happens.
fn register_sources(
    metrics: &Metrics,
    store: &Arc<LocalStore>,
    outbound: &Arc<Outbound>,
    intake: &Arc<Intake>,
    log: &MailLog,
) {
    let (store, log) = (Arc::clone(store), log.clone());
    let (outbound, intake) = (Arc::downgrade(outbound), Arc::downgrade(intake));
    metrics.register_source(Box::new(move || {
        let gauge = |name, help, value| Sample::gauge(name, help, i64::try_from(value).unwrap_or(i64::MAX));
        let mut samples = spool_samples::of(&store);
        samples.push(gauge("scheduled_count", "Messages that wait for their time", store.scheduled()));
        if let Some(outbound) = outbound.upgrade() {
            samples.push(gauge("ready_count", "Messages in ready queues", outbound.ready_count()));
        }
        if let Some(intake) = intake.upgrade() {
            let help = "Bytes of bodies kept in memory until their first attempt ends";
            samples.push(gauge("resident_body_bytes", help, intake.residency.bytes_used()));
            samples.extend(intake.pressure.samples());
        }
        samples.extend(log.samples());
        samples
    }));
}

/// The number of this node, made by chance at the first start and kept beside the spool.
fn node_id(dir: &Path) -> Result<NodeId, StartError> {
    let file = dir.join("node-id");
    let what = || host_error(format!("{}", file.display()));
    match fs::read_to_string(&file) {
        Ok(text) => {
            let number =
                text.trim().parse().map_err(|_| io::Error::other("it does not hold a number; remove it"));
            number.map(NodeId).map_err(what())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let number = fastrand::u32(1..);
            fs::write(&file, format!("{number}\n")).map_err(what())?;
            Ok(NodeId(number))
        }
        Err(error) => Err(what()(error)),
    }
}

/// Takes as many descriptors as the host gives. Fewer only means that some clients wait in the backlog.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
