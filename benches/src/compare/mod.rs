//! Two versions of kumod, measured in turns and judged: `lab --compare`.
//!
//! It owns the order of the runs (A B, B A, A B ...), what is done about disturbed ones, and how many pairs are measured before
//! the question is given up. The statistics are [`reports::compare`]'s. Each run has a kumod and a sink of its own, so that how
//! one process came to lie in memory is part of the noise and not of the verdict. It refuses to start without two versions; a
//! run that fails ends everything with the error, and what was measured until then stays.

pub mod flags;
pub mod version;

mod judge;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reports::compare::{Comparison, Verdict};
use reports::disturbance::disturbances;
use reports::machine::Machine;
use reports::metrics::Metric;
use reports::results::Entry;
use reports::run::{LOAD_PAIR_LABEL, PAIR_LABEL, RECORD_NAME, Record, Run};

use crate::compare::version::Version;
use crate::error::{Error, Result};
use crate::once;
use crate::processes::Programs;
use crate::progress::Progress;
use crate::promise::Promise;
use crate::size::size_label;
use crate::stop::Stop;
use crate::suite;
use crate::traffic::ToSink;

/// Pairs measured before the first verdict, unless told otherwise.
pub const PAIRS: u32 = 10;
/// Pairs after which an undecided comparison is given up, unless told otherwise.
pub const PAIRS_MAX: u32 = 30;
/// Seconds of each run, unless told otherwise.
pub const SECONDS: u64 = 6;
/// Pairs added each time that the runs cannot tell.
pub(crate) const PAIRS_MORE: u32 = 5;
/// A disturbed run is repeated this many times; then its pair is left out of the judgement.
const REPEATS_MAX: u32 = 3;

/// What to compare, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The version that is known.
    pub base: Version,
    /// The version that is judged.
    pub head: Version,
    /// Folder that gets a folder for this comparison.
    pub results: PathBuf,
    /// Pairs before the first verdict.
    pub pairs: u32,
    /// Pairs after which it is given up.
    pub pairs_max: u32,
    /// Length of each run.
    pub duration: Duration,
    /// Body sizes; each is judged, and each takes its own runs.
    pub body_bytes: Vec<u64>,
    /// Metrics that may fail the comparison; empty for [`reports::compare`]'s own choice.
    pub gates: Vec<&'static Metric>,
    /// Part by which a cost may grow, or a rate shrink.
    pub limit: f64,
    /// Seed of contents and of drawn intervals.
    pub seed: u64,
    /// Connections of traffic-gen.
    pub connections: usize,
    /// What a 250 of kumod promises.
    pub durability: Promise,
    /// Ask the head for TLS on every connection, and the base for none: what encryption costs.
    pub head_starttls: bool,
    /// Let the head's sink offer STARTTLS, and the base's not.
    pub head_sink_starttls: bool,
}

/// What a comparison left behind.
#[derive(Debug)]
pub struct Finished {
    /// The judgement.
    pub comparison: Comparison,
    /// Where records, page and verdict are.
    pub folder: PathBuf,
}

/// Runs the comparison, and writes a record for each run, `index.html` and `verdict.md`.
///
/// # Errors
/// [`Error::Operator`] for a version that is not there, [`Error::Peer`] when a program fails, [`Error::Interrupted`].
pub fn run(options: &Options, programs: &Programs, stop: &Stop) -> Result<Finished> {
    let started = jiff::Timestamp::now();
    let folder = suite::make_folder(&options.results, started, "compare")?;
    let time = suite::folder_time(started);
    let mut pairs = Pairs::new(options, programs, stop, &folder, &time)?;
    let outcome = pairs.until_told();
    pairs.clean_up();
    let comparison = outcome?;
    judge::write(&folder, &comparison, &pairs.base, &pairs.head)?;
    Ok(Finished { comparison, folder })
}

struct Pairs<'p> {
    options: &'p Options,
    programs: &'p Programs,
    stop: &'p Stop,
    folder: &'p Path,
    time: &'p str,
    load_pair: String,
    machine: Machine,
    findings: Vec<tuner::Finding>,
    progress: Progress,
    base: Vec<Entry>,
    head: Vec<Entry>,
}

impl<'p> Pairs<'p> {
    fn new(
        options: &'p Options,
        programs: &'p Programs,
        stop: &'p Stop,
        folder: &'p Path,
        time: &'p str,
    ) -> Result<Self> {
        Ok(Self {
            options,
            programs,
            stop,
            folder,
            time,
            load_pair: version::load_pair(programs)?,
            machine: Machine::probe(folder),
            findings: tuner::check(&tuner::Host::running()),
            progress: Progress::new(2 * options.pairs * sizes(options)),
            base: Vec::new(),
            head: Vec::new(),
        })
    }

    /// Measures pairs until the runs can tell, or there are as many as the operator allowed.
    fn until_told(&mut self) -> Result<Comparison> {
        let mut measured = 0;
        let mut wanted = self.options.pairs;
        loop {
            for pair in measured + 1..=wanted {
                self.pair(pair)?;
            }
            measured = wanted;
            let comparison = judge::judge(self.options, &self.base, &self.head)?;
            if comparison.verdict != Verdict::Undecided || measured >= self.options.pairs_max {
                return Ok(comparison);
            }
            wanted = self.options.pairs_max.min(measured + PAIRS_MORE);
            self.progress
                .remark(&format!("undecided after {measured} pairs; measuring {} more", wanted - measured));
            self.progress = Progress::new(2 * (wanted - measured) * sizes(self.options));
        }
    }

    /// One pair of each body size. Odd pairs begin with base, even ones with head, so that what drifts favours neither.
    fn pair(&mut self, pair: u32) -> Result<()> {
        for body_bytes in self.options.body_bytes.clone() {
            let sides = if pair % 2 == 1 { [Side::Base, Side::Head] } else { [Side::Head, Side::Base] };
            for side in sides {
                let entry = self.side(side, pair, body_bytes)?;
                match side {
                    Side::Base => self.base.push(entry),
                    Side::Head => self.head.push(entry),
                }
            }
        }
        Ok(())
    }

    /// One run, repeated while it is disturbed.
    fn side(&mut self, side: Side, pair: u32, body_bytes: u64) -> Result<Entry> {
        let (word, label) = (side.as_str(), size_label(body_bytes));
        let mut remarks = Vec::new();
        self.progress.step(format!("{label}: {word}, pair {pair}"));
        loop {
            let name = format!("{}-{word}-{label}-{pair:03}", self.time);
            let folder = self.folder.join(&name);
            let run = self.measure(side, &folder, body_bytes)?;
            let found = disturbances(&run, self.machine.cpu.online.map_or(run.tier.cpus, f64::from));
            let repeats = u32::try_from(remarks.len()).unwrap_or(REPEATS_MAX);
            if !found.is_empty() && repeats < REPEATS_MAX {
                let why = found.join("; ");
                self.progress.remark(&format!("{word}, pair {pair}: {why}; measuring it again"));
                remarks.push(format!("Measured again, because {why}."));
                continue;
            }
            return self.keep(side, pair, run, remarks, &folder);
        }
    }

    fn measure(&mut self, side: Side, folder: &Path, body_bytes: u64) -> Result<Run> {
        let version = side.version(self.options);
        let plan = once::Plan {
            programs: &self.programs.with_kumod(&version.kumod),
            folder,
            // Each version keeps its spool, whose segments are then all written through and used again.
            spool: &self.folder.join(format!("spool-{}", side.as_str())),
            tier: self.machine.tier(),
            durability: self.options.durability,
            body_bytes,
            duration: self.options.duration,
            connections: self.options.connections,
            seed: self.options.seed,
            starttls: matches!(side, Side::Head) && self.options.head_starttls,
            to_sink: match side {
                Side::Head if self.options.head_sink_starttls => ToSink::StartTls,
                Side::Base | Side::Head => ToSink::Clear,
            },
        };
        once::run(&plan, self.stop, &self.progress)
    }

    /// Writes the record of a run.
    fn keep(
        &self,
        side: Side,
        pair: u32,
        mut run: Run,
        remarks: Vec<String>,
        folder: &Path,
    ) -> Result<Entry> {
        run.labels.insert(PAIR_LABEL.into(), pair.to_string());
        run.labels.insert(LOAD_PAIR_LABEL.into(), self.load_pair.clone());
        run.labels.insert("version".into(), side.version(self.options).name.clone());
        run.notes.extend(remarks);
        let mut record = suite::empty_record("compare", self.machine.clone(), folder, &self.findings)?;
        side.version(self.options).describe(&mut record.software);
        record.finished_utc = Some(jiff::Timestamp::now().to_string());
        record.runs.push(run);
        write(&record, folder)?;
        Ok(Entry::new(record, folder))
    }

    /// Removes the spools. What cannot be removed is told and costs no verdict.
    fn clean_up(&mut self) {
        for side in [Side::Base, Side::Head] {
            let spool = self.folder.join(format!("spool-{}", side.as_str()));
            if spool.exists()
                && let Err(error) = std::fs::remove_dir_all(&spool)
            {
                self.progress.remark(&format!("{} could not be removed: {error}", spool.display()));
            }
        }
        self.progress.finish_line();
    }
}

/// Which of the two.
#[derive(Debug, Clone, Copy)]
enum Side {
    Base,
    Head,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Head => "head",
        }
    }

    fn version(self, options: &Options) -> &Version {
        match self {
            Self::Base => &options.base,
            Self::Head => &options.head,
        }
    }
}

fn sizes(options: &Options) -> u32 {
    u32::try_from(options.body_bytes.len()).unwrap_or(u32::MAX)
}

fn write(record: &Record, folder: &Path) -> Result<()> {
    record.write(&folder.join(RECORD_NAME)).map_err(|error| Error::Peer(error.to_string()))
}
