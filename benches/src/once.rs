//! One run through fresh servers, as comparisons are made of: `lab --once`.
//!
//! It owns the order: sink and kumod are started for this run alone, a second of mail warms them up, the run is measured, and both
//! must stop in order. It refuses nothing; lost mail is in the run, a program that fails is the error.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::machine::Machine;
use reports::run::{Kind, Run, Tier};

use crate::error::{During, Result};
use crate::placement::Placement;
use crate::processes::Programs;
use crate::progress::Progress;
use crate::promise::Promise;
use crate::stop::Stop;
use crate::suite::{self, Finished};
use crate::traffic::{self, Amount, Job, Servers, Surroundings, ToSink};

/// How long mail flows before the clock starts: connections, allocators and caches have settled then.
pub const WARM_UP: Duration = Duration::from_secs(1);

/// What to measure.
#[derive(Debug)]
pub struct Plan<'p> {
    /// Where the programs are.
    pub programs: &'p Programs,
    /// Where reports, histograms and logs go; it is made.
    pub folder: &'p Path,
    /// kumod's spool; it stays.
    pub spool: &'p Path,
    /// What the relay is given.
    pub tier: Tier,
    /// What its 250 promises.
    pub durability: Promise,
    /// Bytes of each body.
    pub body_bytes: u64,
    /// How long messages start.
    pub duration: Duration,
    /// Connections of traffic-gen.
    pub connections: usize,
    /// Content seed of traffic-gen.
    pub seed: u64,
    /// Ask kumod for TLS on every connection.
    pub starttls: bool,
    /// How mail travels on from it.
    pub to_sink: ToSink,
}

/// What the operator asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder that gets a folder for this run.
    pub results: PathBuf,
    /// Bytes of each body.
    pub body_bytes: u64,
    /// How long messages start.
    pub duration: Duration,
    /// Connections of traffic-gen.
    pub connections: usize,
    /// Content seed of traffic-gen.
    pub seed: u64,
    /// What a 250 of kumod promises.
    pub durability: Promise,
    /// Ask kumod for TLS on every connection.
    pub starttls: bool,
    /// Leave kumod's spool in the run's folder.
    pub keep_spool: bool,
}

/// One run, and its record and page in `RESULTS/TIME-once`.
///
/// # Errors
/// As [`run`], and [`crate::error::Error::Operator`] for a folder in memory.
pub fn record(options: &Options, programs: &Programs, stop: &Stop) -> Result<Finished> {
    let folder = suite::make_folder(&options.results, jiff::Timestamp::now(), "once")?;
    let mut record = suite::empty_record(
        "once",
        Machine::probe(&folder),
        &folder,
        &tuner::check(&tuner::Host::running()),
    )?;
    record.software.config_hash = Some(crate::survey::config_hash(options.durability));
    let spool = folder.join("spool");
    let plan = Plan {
        programs,
        folder: &folder,
        spool: &spool,
        tier: record.machine.tier(),
        durability: options.durability,
        body_bytes: options.body_bytes,
        duration: options.duration,
        connections: options.connections,
        seed: options.seed,
        starttls: options.starttls,
        to_sink: ToSink::Clear,
    };
    let mut progress = Progress::new(1);
    progress.step("one run through kumod");
    let run = run(&plan, stop, &progress);
    progress.finish_line();
    if !options.keep_spool && spool.exists() {
        std::fs::remove_dir_all(&spool).during(|| format!("remove {}", spool.display()))?;
    }
    record.runs.push(run?);
    record.finished_utc = Some(jiff::Timestamp::now().to_string());
    suite::write(&record, &folder)?;
    Ok(Finished { record, folder, error: None })
}

/// Starts, warms up, measures, stops.
///
/// # Errors
/// As [`traffic::measure`].
pub fn run(plan: &Plan<'_>, stop: &Stop, progress: &Progress) -> Result<Run> {
    std::fs::create_dir_all(plan.folder).during(|| format!("make {}", plan.folder.display()))?;
    let around = Surroundings {
        programs: plan.programs,
        folder: plan.folder,
        run_prefix: &suite::run_prefix(jiff::Timestamp::now()),
        tier: plan.tier,
        placement: &Placement::default(),
        durability: plan.durability,
        stop,
    };
    let mut servers = traffic::start_servers(&around, plan.spool, plan.to_sink)?;
    let job = |name: &str, duration| Job {
        kind: Kind::Kumod,
        name: name.into(),
        body_bytes: plan.body_bytes,
        amount: Amount::For(duration),
        connections: plan.connections,
        seed: plan.seed,
        rate_per_s: None,
        starttls: plan.starttls,
    };
    traffic::measure(&around, &job("warm-up", WARM_UP), &mut servers, progress)?;
    let mut run = traffic::measure(&around, &job("kumod", plan.duration), &mut servers, progress)?;
    let Servers { kumod, sink } = servers;
    kumod.stop()?;
    sink.stop()?;
    run.name = format!("kumod-{}", crate::size::size_label(plan.body_bytes));
    let maillog = plan.folder.join("maillog");
    std::fs::remove_dir_all(&maillog).during(|| format!("remove {}", maillog.display()))?;
    Ok(run)
}
