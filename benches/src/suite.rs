//! The suite: floor, direct and kumod in turns, for each body size, and the record of it all.
//!
//! It owns the folder of a run, the order and length of measurements, and what is written at the end. The three kinds take turns
//! within seconds of each other, so that a noisy machine disturbs them alike. kumod and sink stay up for the whole suite, so that
//! memory that grows would show. It refuses a spool on tmpfs. When it is interrupted or a program fails, what was measured until
//! then is still written, and the error is returned beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::machine::Machine;
use reports::run::{Kind, RECORD_NAME, Record, Run, Tier, counter, mmh};

use crate::calls::Counted;
use crate::cgroup::{Account, InForce};
use crate::error::{During, Error, Result};
use crate::floor::{self, measure::Plan};
use crate::placement::Placement;
use crate::processes::Programs;
use crate::progress::Progress;
use crate::promise::Promise;
use crate::scratch::refuse_memory;
use crate::size::size_label;
use crate::stop::Stop;
use crate::tiers::flags::TierFlags;
use crate::tiers::series::Tiers;
use crate::traffic::{self, Amount, Job, Servers, Surroundings, ToSink};
use crate::verdict;

pub(crate) use record::empty_record;
pub use timing::Suite;
use timing::Timing;

mod around;
mod record;
mod steps;
mod timing;

/// Body sizes of every suite.
pub const BODY_BYTES: [u64; 3] = [1_000, 10_000, 100_000];
/// Above this share of stolen processor time a remark is due.
const STEAL_MAX: f64 = 0.02;

/// What the operator asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// How thorough.
    pub suite: Suite,
    /// Folder that gets a folder for this run.
    pub results: PathBuf,
    /// Body sizes to measure.
    pub body_bytes: Vec<u64>,
    /// Content seed of traffic-gen.
    pub seed: u64,
    /// Connections of traffic-gen.
    pub connections: usize,
    /// Leave kumod's spool in the run's folder.
    pub keep_spool: bool,
    /// What a 250 of kumod promises.
    pub durability: Promise,
    /// Measure the floor and nothing else.
    pub floor_only: bool,
    /// Limits to measure under, and the price of the machine.
    pub tiers: TierFlags,
    /// Find out what the machine can do at most, too; the full suite does so anyway.
    pub ceiling: bool,
    /// Count kumod's system calls, in a pass of its own for each body size.
    pub count_syscalls: bool,
    /// Count its allocations, likewise.
    pub count_allocations: bool,
}

/// What a suite left behind.
#[derive(Debug)]
pub struct Finished {
    /// Also in `run.json`.
    pub record: Record,
    /// Where everything is.
    pub folder: PathBuf,
    /// Why the suite ended early, if it did.
    pub error: Option<Error>,
}

impl Finished {
    /// True when no message was lost or damaged.
    pub fn is_sound(&self) -> bool {
        self.record.runs.iter().all(|run| run.lost == 0 && run.corrupted == 0)
    }
}

/// Runs the suite and writes `run.json` and `index.html`.
///
/// # Errors
/// Only when nothing could be begun or written; a failure on the way is in [`Finished::error`].
pub fn run(options: &Options, programs: &Programs, stop: &Stop) -> Result<Finished> {
    let started = jiff::Timestamp::now();
    let tiers = Tiers::prepare(&options.tiers.tiers)?;
    let folder = make_folder(&options.results, started, options.suite.as_str())?;
    let mut lab = Lab::new(options, programs, stop, &folder, tiers.as_ref(), started)?;
    lab.survey();
    let error = lab.measure_all(tiers.as_ref()).err();
    lab.clean_up();
    let mut record = lab.record;
    record.finished_utc = Some(jiff::Timestamp::now().to_string());
    verdict::relate(&mut record.runs);
    // Tiers write their failures down themselves, and go on.
    if let Some(error) = error.as_ref().filter(|error| tiers.is_none() || matches!(error, Error::Interrupted))
    {
        record.notes.push(format!("The suite ended early: {error}."));
    }
    write(&record, &folder)?;
    Ok(Finished { record, folder, error })
}

/// The time as it stands in the names of folders, so that they sort by it.
pub(crate) fn folder_time(started: jiff::Timestamp) -> String {
    started.strftime("%Y%m%dT%H%M%S%3fZ").to_string().replace('.', "")
}

/// Makes `RESULTS/TIME-SUITE` and makes sure that it lies on a real disk.
pub(crate) fn make_folder(results: &Path, started: jiff::Timestamp, suite: &str) -> Result<PathBuf> {
    let folder = results.join(format!("{}-{suite}", folder_time(started)));
    std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
    let folder = folder.canonicalize().during(|| format!("find {}", folder.display()))?;
    refuse_memory(&folder, "--results")?;
    Ok(folder)
}

pub(crate) fn write(record: &Record, folder: &Path) -> Result<()> {
    let path = folder.join(RECORD_NAME);
    record.write(&path).map_err(|error| Error::Peer(error.to_string()))?;
    let page = folder.join("index.html");
    std::fs::write(&page, reports::render::page(record, folder))
        .during(|| format!("write {}", page.display()))
}

/// A laboratory at work. What it measures next, and where, is in `tier`, `placement` and what is known of the limits.
pub(crate) struct Lab<'l> {
    options: &'l Options,
    pub(crate) programs: &'l Programs,
    stop: &'l Stop,
    folder: &'l Path,
    timing: Timing,
    run_prefix: String,
    /// What the relay is given.
    pub(crate) tier: Tier,
    pub(crate) placement: Placement,
    /// What was read back for the relay under measurement.
    in_force: Option<InForce>,
    /// Where the kernel counts what happens to the relay's group, as far as that is known.
    pub(crate) account: Option<Account>,
    pub(crate) progress: Progress,
    pub(crate) record: Record,
}

impl<'l> Lab<'l> {
    fn new(
        options: &'l Options,
        programs: &'l Programs,
        stop: &'l Stop,
        folder: &'l Path,
        tiers: Option<&Tiers>,
        started: jiff::Timestamp,
    ) -> Result<Self> {
        let timing = options.suite.timing(!options.tiers.tiers.is_empty());
        let sizes = u32::try_from(options.body_bytes.len()).unwrap_or(u32::MAX);
        let steps = if options.floor_only { timing.rounds } else { timing.runs() } * sizes;
        let steps =
            steps + sizes * (u32::from(options.count_syscalls) + u32::from(options.count_allocations));
        let findings = tuner::check(&tuner::Host::running());
        let series = tiers.map_or(1, Tiers::count);
        let mut progress = Progress::new((steps + u32::from(!options.floor_only)) * series);
        // Reasons and remedies follow the table after an empty line; `tuner explain` tells them to who wants to know.
        let table = tuner::table::render(&findings);
        progress.remark(table.split("\n\n").next().unwrap_or_default().trim_end());
        if tuner::changes_needed(&findings) {
            progress.remark("`tuner check` says what to change, and why.\n");
        }
        if tiers.is_some() {
            let minutes = (timing.estimate(sizes) * series).as_secs().div_ceil(60);
            progress.remark(&format!("Tiers: {series}, body sizes: {sizes}; about {minutes} min."));
        }
        let mut machine = Machine::probe(folder);
        machine.cloud.price_per_hour = options.tiers.price_per_hour;
        let record = empty_record(options.suite.as_str(), machine, folder, &findings)?;
        Ok(Self {
            options,
            programs,
            stop,
            folder,
            timing,
            run_prefix: run_prefix(started),
            tier: record.machine.tier(),
            placement: Placement { tier_source: record.machine.tier_source(), ..Placement::default() },
            in_force: None,
            account: None,
            progress,
            record,
        })
    }

    fn measure_all(&mut self, tiers: Option<&Tiers>) -> Result<()> {
        let result = match tiers {
            Some(tiers) => tiers.measure(self),
            None => self.measure_series(),
        };
        self.progress.finish_line();
        result
    }

    /// All body sizes, where the programs are placed now. When it returns, the programs are gone.
    pub(crate) fn measure_series(&mut self) -> Result<()> {
        let mut servers = if self.options.floor_only { None } else { Some(self.start_servers()?) };
        for body_bytes in self.options.body_bytes.clone() {
            let rounds = self.measure_size(body_bytes, servers.as_mut());
            for kind in [Kind::Floor, Kind::Direct, Kind::Kumod] {
                self.record.runs.extend(rounds.of(kind));
            }
            self.record.runs.extend(rounds.steps);
            if let Some(error) = rounds.error {
                return Err(error);
            }
        }
        if let Some(Servers { kumod, sink }) = servers {
            kumod.stop()?;
            sink.stop()?;
        }
        Ok(())
    }

    fn start_servers(&mut self) -> Result<Servers> {
        let step = self.step_name("start sink and kumod, prepare the spool");
        self.progress.step(step);
        let servers = traffic::start_servers(&self.surroundings(), &self.spool(), ToSink::Clear)?;
        self.in_force = self.placement.verify(servers.kumod.id())?;
        if let Some(found) = &self.in_force {
            self.account = Some(found.account.clone());
        }
        Ok(servers)
    }

    fn spool(&self) -> PathBuf {
        self.folder.join(self.placement.named("spool"))
    }

    /// The name of a step, with the tier in front where there are several.
    fn step_name(&self, step: &str) -> String {
        let series = &self.placement.series;
        if series.is_empty() { step.to_owned() } else { format!("{series}, {step}") }
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            programs: self.programs,
            folder: self.folder,
            run_prefix: &self.run_prefix,
            tier: self.tier,
            placement: &self.placement,
            durability: self.options.durability,
            stop: self.stop,
        }
    }

    /// All rounds of one body size; with the error that ended them, if any.
    fn measure_size(&mut self, body_bytes: u64, mut servers: Option<&mut Servers>) -> Rounds {
        let mut rounds = Rounds::default();
        let warm = servers.as_deref_mut().map_or(Ok(()), |servers| self.warm_up(body_bytes, servers));
        rounds.error = warm.err();
        for round in 1..=self.timing.rounds {
            if rounds.error.is_none() {
                rounds.error = self.round(body_bytes, round, servers.as_deref_mut(), &mut rounds.runs).err();
            }
        }
        let Some(servers) = servers else { return rounds };
        if let (None, Some(found)) = (&rounds.error, rounds.of(Kind::Kumod)) {
            rounds.error = self.load_steps(&found, servers, &mut rounds.steps).err();
        }
        if rounds.error.is_none() {
            rounds.error = self.count_calls(body_bytes, servers, &mut rounds).err();
        }
        rounds
    }

    fn warm_up(&mut self, body_bytes: u64, servers: &mut Servers) -> Result<()> {
        let label = size_label(body_bytes);
        let step = self.step_name(&format!("{label}: warm up"));
        self.progress.step(step);
        let job = self.job(Kind::Kumod, body_bytes, format!("warm-up-{label}"), self.timing.warm_up);
        traffic::measure(&self.surroundings(), &job, servers, &self.progress).map(|_| ())
    }

    /// One turn of each kind. Runs are kept as they come, so that an interruption loses only the one under way.
    fn round(
        &mut self,
        body_bytes: u64,
        round: u32,
        servers: Option<&mut Servers>,
        runs: &mut Vec<Run>,
    ) -> Result<()> {
        let (label, rounds) = (size_label(body_bytes), self.timing.rounds);
        let step = self.step_name(&format!("{label}: floor, round {round} of {rounds}"));
        self.progress.step(step);
        runs.push(self.floor(body_bytes, round)?);
        let Some(servers) = servers else { return Ok(()) };
        for (kind, duration) in [(Kind::Kumod, self.timing.kumod), (Kind::Direct, self.timing.direct)] {
            let word = if kind == Kind::Direct { "direct into sink" } else { "kumod" };
            let step = self.step_name(&format!("{label}: {word}, round {round} of {rounds}"));
            self.progress.step(step);
            let job = self.job(kind, body_bytes, format!("{}-{label}-{round}", kind.as_str()), duration);
            let before = self.account.as_ref().map(Account::usage);
            let mut run = traffic::measure(&self.surroundings(), &job, servers, &self.progress)?;
            if let (Some(in_force), Some(before), Kind::Kumod) = (&self.in_force, before, kind) {
                in_force.describe(&mut run, &before);
            }
            remark_on_steal(&mut run, self.record.machine.cpu.online.map_or(1.0, f64::from));
            run.name = self.placement.named(&format!("{}-{label}", kind.as_str()));
            runs.push(run);
        }
        Ok(())
    }

    fn job(&self, kind: Kind, body_bytes: u64, name: String, duration: Duration) -> Job {
        let Options { connections, seed, .. } = *self.options;
        let (amount, rate_per_s, starttls) = (Amount::For(duration), None, false);
        Job { kind, name, body_bytes, amount, connections, seed, rate_per_s, starttls }
    }

    fn floor(&mut self, body_bytes: u64, round: u32) -> Result<Run> {
        let folder = self.floor_folder();
        std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
        let plan = Plan { body_bytes, duration: self.timing.floor, messages_max: u64::MAX, folder };
        let outcome = floor::measure::measure(self.programs, &plan, &self.placement, self.stop, || Ok(()))?;
        self.progress.detail(&format!("round {round}: {:.1} MMH", mmh(outcome.delivered, outcome.elapsed_s)));
        let rate = mmh(outcome.delivered, outcome.elapsed_s);
        let mut run = Run {
            name: self.placement.named(&format!("floor-{}", size_label(body_bytes))),
            kind: Kind::Floor,
            tier: self.tier,
            body_bytes,
            durability: Some("commit".into()),
            messages: outcome.sent,
            accepted: outcome.sent,
            delivered: outcome.delivered,
            elapsed_s: outcome.elapsed_s,
            mmh_accepted: rate,
            mmh_delivered: rate,
            processes: outcome.processes,
            barriers: Some(outcome.barriers),
            spool_backend: Some("threads".into()),
            connections: Some(floor::INBOUND_CONNECTIONS as u64),
            ..Run::default()
        };
        self.placement.describe(&mut run);
        Ok(run)
    }

    fn floor_folder(&self) -> PathBuf {
        self.folder.join("floor")
    }

    /// Removes the large files. A failure is a remark, not an error: the numbers are good all the same.
    fn clean_up(&mut self) {
        self.remove_spool();
        for folder in [self.floor_folder(), self.folder.join("maillog")] {
            self.remove(&folder);
        }
    }

    /// Removes the spool of the series, unless it was asked for.
    pub(crate) fn remove_spool(&mut self) {
        if !self.options.keep_spool {
            self.remove(&self.spool());
        }
    }

    fn remove(&mut self, folder: &Path) {
        if folder.exists()
            && let Err(error) = std::fs::remove_dir_all(folder)
        {
            self.remark(format!("{} could not be removed: {error}.", folder.display()));
        }
    }

    /// A sentence for the record and for who watches.
    pub(crate) fn remark(&mut self, sentence: String) {
        self.progress.remark(&sentence);
        self.record.notes.push(sentence);
    }
}

#[derive(Default)]
struct Rounds {
    runs: Vec<Run>,
    /// Those at a part of the rate.
    steps: Vec<Run>,
    /// What passes of their own counted.
    counted: Vec<Counted>,
    error: Option<Error>,
}

impl Rounds {
    /// The run that stands for all of its kind.
    fn of(&self, kind: Kind) -> Option<Run> {
        let mut run =
            verdict::representative(self.runs.iter().filter(|run| run.kind == kind).cloned().collect())?;
        if kind == Kind::Kumod {
            self.counted.iter().for_each(|counted| counted.describe(&mut run));
        }
        Some(run)
    }
}

/// Short, and different for each laboratory on this host: milliseconds since 1970 in base 16.
pub(crate) fn run_prefix(started: jiff::Timestamp) -> String {
    format!("{:x}", started.as_millisecond())
}

/// `processors` are those of the machine: the host takes from all of them, whatever the relay was given.
fn remark_on_steal(run: &mut Run, processors: f64) {
    let stolen = run.counters.get(counter::STEAL_S).copied().unwrap_or(0.0);
    let available = run.elapsed_s * processors;
    if available > 0.0 && stolen / available > STEAL_MAX {
        let share = 100.0 * stolen / available;
        run.notes.push(format!("The host took {share:.0} % of the processor time away during this round."));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn stolen_time_is_remarked_above_its_limit() {
        let mut run = Run { elapsed_s: 10.0, ..Run::default() };
        run.counters.insert(counter::STEAL_S.into(), 0.3);
        remark_on_steal(&mut run, 2.0);
        assert!(run.notes.is_empty());
        run.counters.insert(counter::STEAL_S.into(), 5.0);
        remark_on_steal(&mut run, 2.0);
        assert!(run.notes[0].contains("25 %"));
    }

    #[test]
    fn run_ids_fit_a_header() {
        let prefix = run_prefix("2026-01-02T03:04:05Z".parse().unwrap());
        assert!(format!("{prefix}-warm-up-100k").len() <= message::traffic::RUN_BYTES_MAX);
    }
}
