//! One measurement with traffic-gen: drive, watch, drain, audit.
//!
//! It owns the way from a job to a [`Run`]: start traffic-gen, look at all processes and at sink's counter while it works, wait
//! until what was promised has arrived, fetch ledger and histograms, and do the sums. It waits for mail only as long as some
//! arrives; what is then missing is counted as lost and said in a remark, never waited for longer or left out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reports::latency;
use reports::run::{HlogFiles, Kind, LatencyPair, Processes, Run, Tier, Workload, counter, mmh};
use reports::sample::ProcessSample;
use serde_json::Value;
use traffic_gen::audit::{Audit, Ledger, Sent};

use crate::arguments;
use crate::counters::Moment;
use crate::error::{During, Error, Result};
use crate::http;
use crate::placement::Placement;
use crate::processes::{Launch, Process, Programs};
use crate::progress::Progress;
use crate::promise::Promise;
use crate::size::size_label;
use crate::stop::Stop;

/// Connections that traffic-gen opens unless told otherwise; the floor has as many.
pub const CONNECTIONS: usize = crate::floor::INBOUND_CONNECTIONS;
/// The four weighted domains of traffic-gen lie under this name, which resolves to loopback without DNS servers.
pub const DOMAIN_SUFFIX: &str = "mx-sink.localhost";
/// So many are they.
const DOMAINS: u64 = 4;
/// Mail that is promised and does not move for this long is given up.
pub const DRAIN_IDLE_MAX: Duration = Duration::from_secs(30);
/// What traffic-gen may take beyond its duration: connecting, the last replies, the report.
pub const GENERATOR_EXTRA_MAX: Duration = Duration::from_secs(90);
/// How often sink is asked while mail drains.
const DRAIN_TICK: Duration = Duration::from_millis(100);
/// The end of the name of traffic-gen's histogram.
const INJECT_HLOG: &str = "inject.hlog";
/// How often sink's counter is read while traffic-gen works.
const RATE_TICK: Duration = Duration::from_secs(1);

/// How much traffic.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// Messages start for this long.
    For(Duration),
    /// So many messages.
    Messages(u64),
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Job {
    /// Through kumod, or straight into sink.
    pub kind: Kind,
    /// Short and unique in the suite; names the files.
    pub name: String,
    /// Bytes of each body.
    pub body_bytes: u64,
    /// How much traffic.
    pub amount: Amount,
    /// Connections of traffic-gen.
    pub connections: usize,
    /// Content seed of traffic-gen.
    pub seed: u64,
    /// Messages offered in a second, each with its time; `None` lets every connection send its next as soon as it may.
    pub rate_per_s: Option<f64>,
    /// Ask kumod for TLS on every connection; its certificate is its own and is not checked. The way to the sink stays clear.
    pub starttls: bool,
}

/// The servers that stay up while jobs come and go.
#[derive(Debug)]
pub struct Servers {
    /// The relay under test; dropped, and so stopped, before its destination.
    pub kumod: Process,
    /// The destination.
    pub sink: Process,
}

impl Servers {
    /// Fails when one of them has ended although nobody asked it to.
    ///
    /// # Errors
    /// [`Error::Peer`] with its last words.
    pub fn check(&mut self) -> Result<()> {
        for server in [&mut self.kumod, &mut self.sink] {
            if server.has_ended(Duration::ZERO)? {
                return Err(server.failed("ended in the middle of a measurement"));
            }
        }
        Ok(())
    }
}

/// Everything that a measurement needs besides the job.
#[derive(Debug)]
pub struct Surroundings<'s> {
    /// Where the programs are.
    pub programs: &'s Programs,
    /// Where reports, histograms and logs go.
    pub folder: &'s Path,
    /// Prefix of run ids, so that two laboratories never share a ledger.
    pub run_prefix: &'s str,
    /// What the relay was given.
    pub tier: Tier,
    /// Where the programs run.
    pub placement: &'s Placement,
    /// What its 250 promises.
    pub durability: Promise,
    /// The operator's wish to stop.
    pub stop: &'s Stop,
}

impl Surroundings<'_> {
    /// The name of a job's file in the folder.
    fn file_name(&self, job: &Job, ending: &str) -> String {
        format!("{}.{ending}", self.placement.named(&job.name))
    }
}

/// How mail travels from kumod to sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToSink {
    /// In the clear: sink offers nothing else.
    #[default]
    Clear,
    /// Through TLS, by STARTTLS; sink's certificate is its own and is not checked.
    StartTls,
}

/// Starts sink, and kumod in front of it with a spool of its own.
///
/// # Errors
/// [`Error::Peer`] when one of them does not get ready, [`Error::Operator`] when one is not built.
pub fn start_servers(around: &Surroundings<'_>, spool: &Path, to_sink: ToSink) -> Result<Servers> {
    let sink = start_sink(around, to_sink)?;
    let kumod = start_kumod(around, spool, &sink, to_sink)?;
    Ok(Servers { kumod, sink })
}

/// Starts sink on free loopback ports.
///
/// # Errors
/// As [`start_servers`].
pub fn start_sink(around: &Surroundings<'_>, to_sink: ToSink) -> Result<Process> {
    let mut arguments = arguments!["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    if to_sink == ToSink::StartTls {
        arguments.extend(arguments!["--starttls"]);
    }
    let launch = Launch {
        name: "sink",
        before: around.placement.load.clone(),
        program: around.programs.find("sink")?,
        arguments,
        environment: &[],
        log_folder: around.folder.to_path_buf(),
    };
    Process::start_server(&launch, around.stop)
}

/// Starts kumod on free loopback ports; all its mail goes to `sink`.
///
/// # Errors
/// As [`start_servers`].
pub fn start_kumod(
    around: &Surroundings<'_>,
    spool: &Path,
    sink: &Process,
    to_sink: ToSink,
) -> Result<Process> {
    let sink_port = sink.smtp()?.port().to_string();
    let log = around.folder.join("maillog");
    let mut arguments =
        kumod_arguments(spool.as_os_str(), log.as_os_str(), OsStr::new(&sink_port), around.durability);
    if to_sink == ToSink::StartTls {
        // Only then, so that a kumod that does not know the option can still be compared in the clear.
        arguments.extend(arguments!["--enable-tls", "RequiredInsecure"]);
    }
    let launch = Launch {
        name: "kumod",
        before: around.placement.relay.clone(),
        program: around.programs.find("kumod")?,
        arguments,
        environment: &[],
        log_folder: around.folder.to_path_buf(),
    };
    Process::start_server(&launch, around.stop)
}

/// All that kumod is told: free loopback ports, two folders, where mail goes, and what a 250 promises.
pub(crate) fn kumod_arguments(
    spool: &OsStr,
    log: &OsStr,
    sink_port: &OsStr,
    durability: Promise,
) -> Vec<OsString> {
    let mut arguments = arguments!["--smtp-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    arguments.extend(arguments!["--spool", spool, "--log-dir", log]);
    arguments.extend(arguments!["--smtp-port", sink_port, "--durability", durability.name()]);
    arguments
}

/// traffic-gen at work, and where its report will be.
#[derive(Debug)]
pub struct Generator {
    /// The process.
    pub process: Process,
    report: PathBuf,
    /// Limit for `Process::wait`.
    pub wait_max: Duration,
}

impl Generator {
    /// Starts traffic-gen for `job`.
    ///
    /// # Errors
    /// As [`start_servers`].
    pub fn start(around: &Surroundings<'_>, job: &Job, servers: &Servers) -> Result<Self> {
        let target = match job.kind {
            Kind::Direct => servers.sink.smtp()?,
            _ => servers.kumod.smtp()?,
        };
        let report = around.folder.join(around.file_name(job, "traffic-gen.json"));
        let hdr = around.folder.join(around.file_name(job, INJECT_HLOG));
        let run_id = format!("{}-{}", around.run_prefix, job.name);
        let mut arguments = arguments!["--target", target.to_string(), "--run-id", run_id];
        arguments.extend(arguments!["--concurrency", job.connections.to_string()]);
        arguments.extend(arguments!["--body-size", job.body_bytes.to_string()]);
        arguments.extend(arguments!["--domain-suffix", DOMAIN_SUFFIX, "--seed", job.seed.to_string()]);
        arguments.extend(arguments!["--quiet", "--json", &report, "--hdr", hdr]);
        if job.starttls && job.kind == Kind::Kumod {
            arguments.extend(arguments!["--starttls"]);
        }
        if let Some(rate_per_s) = job.rate_per_s {
            arguments.extend(arguments!["--rate", rate_per_s.to_string()]);
        }
        let wait_max = match job.amount {
            Amount::For(duration) => {
                arguments.extend(arguments!["--duration", duration.as_secs().max(1).to_string()]);
                duration + GENERATOR_EXTRA_MAX
            }
            Amount::Messages(count) => {
                arguments.extend(arguments!["--message-count", count.to_string()]);
                GENERATOR_EXTRA_MAX * 10
            }
        };
        let launch = Launch {
            name: "traffic-gen",
            before: around.placement.load.clone(),
            program: around.programs.find("traffic-gen")?,
            arguments,
            environment: &[],
            log_folder: around.folder.to_path_buf(),
        };
        Ok(Self { process: Process::start(&launch)?, report, wait_max })
    }

    /// Reads the report. Call it after the end; `code` is how traffic-gen ended.
    ///
    /// # Errors
    /// [`Error::Peer`] when it failed for another reason than failed messages, or wrote no report.
    pub fn report(&mut self, code: Option<i32>) -> Result<Sent> {
        // 1 says that messages failed or are unknown: the report tells how many, and the audit judges.
        if !matches!(code, Some(0 | 1)) {
            return Err(self.process.failed(&format!("ended with code {code:?}")));
        }
        let path = self.report.display();
        let text = std::fs::read_to_string(&self.report).during(|| format!("read {path}"))?;
        serde_json::from_str(&text).map_err(|error| Error::Peer(format!("{path}: {error}")))
    }
}

/// What all processes had used when the measurement began.
struct Before {
    kumod: ProcessSample,
    sink: ProcessSample,
    metrics: Value,
    moment: Moment,
}

impl Before {
    fn take(servers: &mut Servers) -> Result<Self> {
        Ok(Self {
            kumod: servers.kumod.sample(),
            sink: servers.sink.sample(),
            metrics: http::json(servers.kumod.http()?, "/metrics.json")?,
            moment: Moment::now(),
        })
    }
}

/// Runs one job from the first connection to the audit.
///
/// # Errors
/// [`Error::Peer`] when a program fails, [`Error::Interrupted`]. Lost mail is not an error here: it is in the run.
pub fn measure(
    around: &Surroundings<'_>,
    job: &Job,
    servers: &mut Servers,
    progress: &Progress,
) -> Result<Run> {
    let before = Before::take(servers)?;
    let mut generator = Generator::start(around, job, servers)?;
    let mut rate = RateMeter::start(servers.sink.http()?)?;
    let wait_max = generator.wait_max;
    let status = generator.process.wait(wait_max, around.stop, || {
        servers.check()?;
        servers.kumod.sample();
        servers.sink.sample();
        rate.tick(progress)
    })?;
    let sent = generator.report(status.code())?;
    let (ledger, gave_up) = drain(&sent, servers, around.stop, |ledger| {
        rate.tick(progress)?;
        progress.detail(&format!("draining, {} of {}", ledger.distinct, sent.sent));
        Ok(())
    })?;
    let mut run = summarize(job, around, &sent, &ledger);
    run.notes.extend(gave_up);
    let reasons = sent.generator_limited.iter();
    run.notes.extend(reasons.map(|reason| format!("traffic-gen was the limit: {reason}.")));
    run.rate_per_second = rate.finish();
    describe_processes(&mut run, servers, &mut generator.process, &before)?;
    fetch_hlog(&mut run, around, servers, &sent.run_id, job)?;
    Ok(run)
}

fn summarize(job: &Job, around: &Surroundings<'_>, sent: &Sent, ledger: &Ledger) -> Run {
    let audit = Audit::of(sent, ledger);
    let (first_ns, last_ns) = (sent.first_sent_ns.unwrap_or(0), ledger.last_ns.unwrap_or(0));
    let elapsed_s = last_ns.saturating_sub(first_ns) as f64 / 1e9;
    let inject = around.file_name(job, INJECT_HLOG);
    let inject = around.folder.join(&inject).is_file().then_some(inject);
    let mut run = Run {
        name: around.placement.named(&job.name),
        kind: job.kind,
        tier: around.tier,
        body_bytes: job.body_bytes,
        durability: (job.kind == Kind::Kumod).then(|| around.durability.name().into()),
        messages: sent.sent + sent.failed + sent.unknown,
        accepted: sent.sent,
        delivered: audit.delivered,
        lost: audit.lost,
        duplicated: audit.duplicated,
        corrupted: audit.corrupted,
        unknown: sent.unknown,
        failed: sent.failed,
        elapsed_s,
        mmh_accepted: sent.mmh_observed,
        mmh_delivered: mmh(audit.delivered, elapsed_s),
        latency_us: LatencyPair { inject: sent.latency_us, end_to_end: None },
        workload: workload(job),
        connections: sent.connections.or(Some(job.connections as u64)),
        hlog: HlogFiles { inject, end_to_end: None },
        notes: audit.remarks,
        ..Run::default()
    };
    around.placement.describe(&mut run);
    run
}

/// What the generator is told, and what it does where it is told nothing.
fn workload(job: &Job) -> Workload {
    Workload {
        seed: Some(job.seed),
        sizes: Some(format!("fixed:{}", size_label(job.body_bytes))),
        recipients: Some(1.0),
        domains: Some(DOMAINS),
        schedule: Some(job.rate_per_s.map_or_else(|| "closed".into(), |rate| format!("{rate} a second"))),
        tls_percent: Some(if job.starttls { 100.0 } else { 0.0 }),
        ..Workload::default()
    }
}

fn describe_processes(
    run: &mut Run,
    servers: &mut Servers,
    generator: &mut Process,
    before: &Before,
) -> Result<()> {
    run.processes = Processes {
        kumod: (run.kind == Kind::Kumod).then(|| servers.kumod.used_since(&before.kumod)),
        sink: Some(servers.sink.used_since(&before.sink)),
        traffic_gen: Some(generator.used_since(&ProcessSample::default())),
    };
    let generator_s = run.processes.traffic_gen.map_or(0.0, |used| used.cpu_s);
    let (kumod, sink) = (servers.kumod.sample(), servers.sink.sample());
    let servers_s = kumod.cpu_s() - before.kumod.cpu_s() + sink.cpu_s() - before.sink.cpu_s();
    run.counters.extend(before.moment.until(&Moment::now(), servers_s + generator_s));
    if run.kind != Kind::Kumod {
        return Ok(());
    }
    let switches = kumod.switches().saturating_sub(before.kumod.switches());
    run.counters.insert(counter::CONTEXT_SWITCHES.into(), switches as f64);
    let after: Value = http::json(servers.kumod.http()?, "/metrics.json")?;
    let grown = |name| Some((http::metric(&after, name)? - http::metric(&before.metrics, name)?).max(0.0));
    // A counter is a whole number far below 2^53.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above to be at least 0"
    )]
    let barriers = grown("spool_barriers_total").map(|barriers| barriers as u64);
    run.barriers = barriers;
    run.spool_backend = http::metric_label(&after, "spool_info", "backend");
    run.durability = http::metric_label(&after, "spool_info", "durability").or_else(|| run.durability.take());
    if let Some(bytes) = grown("spool_bytes_written_total") {
        run.counters.insert("spool_bytes_written".into(), bytes);
    }
    Ok(())
}

/// Waits until sink has all that was promised, or nothing has arrived for [`DRAIN_IDLE_MAX`]; then with a remark.
///
/// # Errors
/// [`Error::Peer`] when sink does not answer, [`Error::Interrupted`], or what `tick` fails with.
pub fn drain(
    sent: &Sent,
    servers: &mut Servers,
    stop: &Stop,
    mut tick: impl FnMut(&Ledger) -> Result<()>,
) -> Result<(Ledger, Option<String>)> {
    let sink = servers.sink.http()?;
    let path = format!("/ledger/{}", sent.run_id);
    let (mut arrived, mut since) = (0, Instant::now());
    loop {
        servers.check()?;
        // Sink does not know a run before its first message.
        let ledger: Ledger = http::json_if_known(sink, &path)?.unwrap_or_default();
        if Audit::of(sent, &ledger).lost == 0 {
            return Ok((ledger, None));
        }
        if ledger.distinct > arrived {
            (arrived, since) = (ledger.distinct, Instant::now());
        }
        if since.elapsed() > DRAIN_IDLE_MAX {
            let (missing, seconds) = (sent.sent.saturating_sub(arrived), DRAIN_IDLE_MAX.as_secs());
            let remark = format!(
                "Nothing arrived for {seconds} s with {missing} messages missing; they count as lost."
            );
            return Ok((ledger, Some(remark)));
        }
        tick(&ledger)?;
        stop.pause(DRAIN_TICK)?;
    }
}

/// Writes sink's histograms of this run beside the record, and sums them up.
fn fetch_hlog(
    run: &mut Run,
    around: &Surroundings<'_>,
    servers: &Servers,
    run_id: &str,
    job: &Job,
) -> Result<()> {
    if run.delivered == 0 {
        return Ok(());
    }
    let text = http::text(servers.sink.http()?, &format!("/hlog/{run_id}"))?;
    let intervals = latency::parse_hlog(text.as_bytes())
        .map_err(|error| Error::Peer(format!("sink, /hlog/{run_id}: {error}")))?;
    run.latency_us.end_to_end = Some(latency::summary(&latency::merge(&intervals)));
    let file = around.file_name(job, "end-to-end.hlog");
    std::fs::write(around.folder.join(&file), text).during(|| format!("write {file}"))?;
    run.hlog.end_to_end = Some(file);
    Ok(())
}

/// Messages per second at the sink, read from its counter about once a second.
struct RateMeter {
    sink: std::net::SocketAddr,
    accepted: u64,
    at: Instant,
    per_second: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Stats {
    accepted: u64,
}

impl RateMeter {
    fn start(sink: std::net::SocketAddr) -> Result<Self> {
        let Stats { accepted } = http::json(sink, "/stats")?;
        Ok(Self { sink, accepted, at: Instant::now(), per_second: Vec::new() })
    }

    fn tick(&mut self, progress: &Progress) -> Result<()> {
        let elapsed = self.at.elapsed();
        if elapsed < RATE_TICK {
            return Ok(());
        }
        let Stats { accepted } = http::json(self.sink, "/stats")?;
        let rate = accepted.saturating_sub(self.accepted) as f64 / elapsed.as_secs_f64();
        (self.accepted, self.at) = (accepted, Instant::now());
        self.per_second.push(rate);
        progress.detail(&format!("{:.1} MMH", rate * 3600.0 / 1e6));
        Ok(())
    }

    fn finish(self) -> Vec<f64> {
        self.per_second
    }
}
