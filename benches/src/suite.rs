//! The suite: floor, direct and kumod in turns, for each body size, and the record of it all.
//!
//! It owns the folder of a run, the order and length of measurements, and what is written at the end. The three kinds take turns
//! within seconds of each other, so that a noisy machine disturbs them alike. kumod and sink stay up for the whole suite, so that
//! memory that grows would show. It refuses a spool on tmpfs. When it is interrupted or a program fails, what was measured until
//! then is still written, and the error is returned beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::machine::Machine;
use reports::run::{Kind, RECORD_NAME, Record, Run, SCHEMA_VERSION, counter, mmh};
use reports::software::Software;

use crate::error::{During, Error, Result};
use crate::floor::{self, measure::Plan};
use crate::placement::Placement;
use crate::processes::Programs;
use crate::progress::Progress;
use crate::promise::Promise;
use crate::scratch::refuse_memory;
use crate::size::size_label;
use crate::stop::Stop;
use crate::traffic::{self, Amount, Job, Servers, Surroundings};
use crate::verdict;

/// Body sizes of both suites.
pub const BODY_BYTES: [u64; 3] = [1_000, 10_000, 100_000];
/// Above this share of stolen processor time a remark is due.
const STEAL_MAX: f64 = 0.02;

/// How thorough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// About three minutes.
    Quick,
    /// About seven minutes; longer runs.
    Full,
}

impl Suite {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// How long each part runs.
    fn timing(self) -> Timing {
        let seconds = Duration::from_secs;
        match self {
            Self::Quick => Timing {
                rounds: 3,
                warm_up: seconds(2),
                floor: seconds(6),
                direct: seconds(6),
                kumod: seconds(6),
            },
            Self::Full => Timing {
                rounds: 3,
                warm_up: seconds(5),
                floor: seconds(10),
                direct: seconds(10),
                kumod: seconds(20),
            },
        }
    }
}

struct Timing {
    rounds: u32,
    warm_up: Duration,
    floor: Duration,
    direct: Duration,
    kumod: Duration,
}

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
    let folder = make_folder(&options.results, started, options.suite.as_str())?;
    let mut lab = Lab::new(options, programs, stop, &folder, started)?;
    let error = lab.measure_all().err();
    lab.clean_up();
    let mut record = lab.record;
    record.finished_utc = Some(jiff::Timestamp::now().to_string());
    verdict::relate(&mut record.runs);
    if let Some(error) = &error {
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

struct Lab<'l> {
    options: &'l Options,
    programs: &'l Programs,
    stop: &'l Stop,
    folder: &'l Path,
    timing: Timing,
    run_prefix: String,
    placement: Placement,
    progress: Progress,
    record: Record,
}

impl<'l> Lab<'l> {
    fn new(
        options: &'l Options,
        programs: &'l Programs,
        stop: &'l Stop,
        folder: &'l Path,
        started: jiff::Timestamp,
    ) -> Result<Self> {
        let timing = options.suite.timing();
        let sizes = u32::try_from(options.body_bytes.len()).unwrap_or(u32::MAX);
        let steps = if options.floor_only { timing.rounds } else { 1 + timing.rounds * 3 } * sizes;
        let findings = tuner::check(&tuner::Host::running());
        let mut progress = Progress::new(steps + u32::from(!options.floor_only));
        // Reasons and remedies follow the table after an empty line; `tuner explain` tells them to who wants to know.
        let table = tuner::table::render(&findings);
        progress.remark(table.split("\n\n").next().unwrap_or_default().trim_end());
        if tuner::changes_needed(&findings) {
            progress.remark("`tuner check` says what to change, and why.\n");
        }
        Ok(Self {
            options,
            programs,
            stop,
            folder,
            timing,
            run_prefix: run_prefix(started),
            placement: Placement::default(),
            progress,
            record: empty_record(options.suite.as_str(), Machine::probe(folder), folder, &findings)?,
        })
    }

    fn measure_all(&mut self) -> Result<()> {
        let mut servers = if self.options.floor_only { None } else { Some(self.start_servers()?) };
        for body_bytes in self.options.body_bytes.clone() {
            let rounds = self.measure_size(body_bytes, servers.as_mut());
            for kind in [Kind::Floor, Kind::Direct, Kind::Kumod] {
                let of_kind = rounds.runs.iter().filter(|run| run.kind == kind).cloned().collect();
                self.record.runs.extend(verdict::representative(of_kind));
            }
            if let Some(error) = rounds.error {
                return Err(error);
            }
        }
        if let Some(Servers { kumod, sink }) = servers {
            kumod.stop()?;
            sink.stop()?;
        }
        self.progress.finish_line();
        Ok(())
    }

    fn start_servers(&mut self) -> Result<Servers> {
        self.progress.step("start sink and kumod, prepare the spool");
        traffic::start_servers(&self.surroundings(), &self.spool())
    }

    fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            programs: self.programs,
            folder: self.folder,
            run_prefix: &self.run_prefix,
            tier: self.record.machine.tier(),
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
        rounds
    }

    fn warm_up(&mut self, body_bytes: u64, servers: &mut Servers) -> Result<()> {
        let label = size_label(body_bytes);
        self.progress.step(format!("{label}: warm up"));
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
        self.progress.step(format!("{label}: floor, round {round} of {rounds}"));
        runs.push(self.floor(body_bytes, round)?);
        let Some(servers) = servers else { return Ok(()) };
        for (kind, duration) in [(Kind::Kumod, self.timing.kumod), (Kind::Direct, self.timing.direct)] {
            let word = if kind == Kind::Direct { "direct into sink" } else { "kumod" };
            self.progress.step(format!("{label}: {word}, round {round} of {rounds}"));
            let job = self.job(kind, body_bytes, format!("{}-{label}-{round}", kind.as_str()), duration);
            let mut run = traffic::measure(&self.surroundings(), &job, servers, &self.progress)?;
            remark_on_steal(&mut run);
            run.name = format!("{}-{label}", kind.as_str());
            runs.push(run);
        }
        Ok(())
    }

    fn job(&self, kind: Kind, body_bytes: u64, name: String, duration: Duration) -> Job {
        let Options { connections, seed, .. } = *self.options;
        Job { kind, name, body_bytes, amount: Amount::For(duration), connections, seed }
    }

    fn floor(&mut self, body_bytes: u64, round: u32) -> Result<Run> {
        let folder = self.floor_folder();
        std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
        let plan = Plan { body_bytes, duration: self.timing.floor, messages_max: u64::MAX, folder };
        let outcome = floor::measure::measure(self.programs, &plan, &self.placement, self.stop, || Ok(()))?;
        self.progress.detail(&format!("round {round}: {:.1} MMH", mmh(outcome.delivered, outcome.elapsed_s)));
        let rate = mmh(outcome.delivered, outcome.elapsed_s);
        Ok(Run {
            name: format!("floor-{}", size_label(body_bytes)),
            kind: Kind::Floor,
            tier: self.record.machine.tier(),
            body_bytes,
            durability: Some("commit".into()),
            messages: outcome.sent,
            accepted: outcome.sent,
            delivered: outcome.delivered,
            elapsed_s: outcome.elapsed_s,
            mmh_accepted: rate,
            mmh_delivered: rate,
            shared_cores: self.placement.shared_cores,
            processes: outcome.processes,
            barriers: Some(outcome.barriers),
            spool_backend: Some("threads".into()),
            connections: Some(floor::INBOUND_CONNECTIONS as u64),
            ..Run::default()
        })
    }

    fn floor_folder(&self) -> PathBuf {
        self.folder.join("floor")
    }

    /// Removes the large files. A failure is a remark, not an error: the numbers are good all the same.
    fn clean_up(&mut self) {
        let mut folders = vec![self.floor_folder(), self.folder.join("maillog")];
        if !self.options.keep_spool {
            folders.push(self.spool());
        }
        for folder in folders.iter().filter(|folder| folder.exists()) {
            if let Err(error) = std::fs::remove_dir_all(folder) {
                let shown = folder.display();
                self.record.notes.push(format!("{shown} could not be removed: {error}."));
            }
        }
    }
}

#[derive(Default)]
struct Rounds {
    runs: Vec<Run>,
    error: Option<Error>,
}

/// Short, and different for each laboratory on this host: milliseconds since 1970 in base 16.
pub(crate) fn run_prefix(started: jiff::Timestamp) -> String {
    format!("{:x}", started.as_millisecond())
}

/// A record without measurements, begun now, whose run id is the name of its folder.
pub(crate) fn empty_record(
    suite: &str,
    machine: Machine,
    folder: &Path,
    findings: &[tuner::Finding],
) -> Result<Record> {
    let checkout = std::env::current_dir().during(|| "find the current folder".into())?;
    let command: Vec<String> = std::env::args().collect();
    let mut software = Software::probe(&checkout);
    software.allocator = Some("system".into());
    software.profile = Some(if cfg!(debug_assertions) { "dev" } else { "release" }.into());
    Ok(Record {
        schema_version: SCHEMA_VERSION,
        run_id: folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        suite: suite.into(),
        started_utc: jiff::Timestamp::now().to_string(),
        finished_utc: None,
        command: format!("lab {}", command.get(1..).unwrap_or_default().join(" ")).trim_end().into(),
        machine,
        software,
        tuner: findings.iter().map(finding).collect(),
        runs: Vec::new(),
        skipped: Vec::new(),
        notes: Vec::new(),
    })
}

/// A finding as the record keeps it: what tuner writes, and the two names that every reader may count on.
fn finding(finding: &tuner::Finding) -> serde_json::Value {
    let mut value = serde_json::to_value(finding).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("name".into(), finding.key.clone().into());
        fields.insert("status".into(), finding.verdict.to_string().into());
    }
    value
}

fn remark_on_steal(run: &mut Run) {
    let stolen = run.counters.get(counter::STEAL_S).copied().unwrap_or(0.0);
    let available = run.elapsed_s * run.tier.cpus;
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
        run.tier.cpus = 2.0;
        run.counters.insert(counter::STEAL_S.into(), 0.3);
        remark_on_steal(&mut run);
        assert!(run.notes.is_empty());
        run.counters.insert(counter::STEAL_S.into(), 5.0);
        remark_on_steal(&mut run);
        assert!(run.notes[0].contains("25 %"));
    }

    #[test]
    fn run_ids_fit_a_header() {
        let prefix = run_prefix("2026-01-02T03:04:05Z".parse().unwrap());
        assert!(format!("{prefix}-warm-up-100k").len() <= message::traffic::RUN_BYTES_MAX);
    }
}
