//! The rounds: every contender once for each cell, in turn.
//!
//! It owns what was measured. All contenders are prepared before the first and stay open until the last, so that nothing is made
//! while the clock runs. After each run the file system is synced outside of it: what one contender leaves unwritten is not paid by
//! the next.

use std::fs::File;

use reports::latency::summary;
use reports::run::Latency;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::appender::Mail;
use super::contender::Prepared;
use super::measure::{Load, Outcome, Stage, Way};
use super::plan::{Contender, Plan};
use crate::error::{During, Error, Result};
use crate::progress::Progress;
use crate::scratch::Scratch;
use crate::size::size_label;
use crate::stop::Stop;

/// Threads of the runtime on which the asynchronous contenders' writers are tasks.
const RUNTIME_THREADS: usize = 2;

/// One run of one contender.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Who.
    pub contender: Contender,
    /// Bytes of each body.
    pub body_bytes: u64,
    /// Writers at a time in this cell of the table; overwrites always come one at a time.
    pub writers: usize,
    /// From 1.
    pub round: u32,
    /// Length of the window.
    pub seconds: f64,
    /// Appends that ended within it.
    pub appends: u64,
    /// The same per second.
    pub appends_per_second: f64,
    /// Bytes of bodies per second.
    pub bytes_per_second: f64,
    /// From the append to its acknowledgement, in microseconds.
    pub latency_us: Latency,
    /// User and system time of the whole process per append, writers included.
    pub cpu_us_per_append: f64,
    /// The same of the thread that fills and sends batches.
    pub writer_cpu_us_per_append: Option<f64>,
    /// Messages in a write.
    pub appends_per_batch: Option<f64>,
    /// Segments made within the window; a run with any is not like the others.
    pub segments_made: u64,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// In the order in which they were run.
    pub cells: Vec<Cell>,
    /// Who did not run, and why.
    pub refused: Vec<(Contender, String)>,
    /// Why it ended early, if it did.
    #[serde(skip)]
    pub error: Option<Error>,
}

/// Runs all rounds of all cells.
///
/// # Errors
/// Only when nothing could be begun; a failure on the way is in [`Measured::error`].
pub fn run(plan: &Plan, stop: &Stop) -> Result<Measured> {
    let span_bytes = spans(plan).max().unwrap_or(0);
    let needed_bytes = plan.contenders.iter().map(|contender| contender.disk_bytes(span_bytes)).sum();
    let scratch = Scratch::make(&plan.dir, "spool-writers", needed_bytes, "--dir")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = runtime.during(|| "start a runtime".into())?;
    let mut rounds = Rounds::new(plan, &runtime, &scratch)?;
    rounds.prepare(span_bytes, stop)?;
    rounds.measured.error = rounds.run_all(stop).err();
    rounds.progress.finish_line();
    Ok(rounds.measured)
}

/// Bytes alive or not yet deleted, for each cell.
fn spans(plan: &Plan) -> impl Iterator<Item = u64> {
    let writers = plan.writers.iter();
    writers.flat_map(|writers| plan.body_bytes.iter().map(|bytes| Mail::span_bytes(*bytes, *writers)))
}

struct Rounds<'p> {
    plan: &'p Plan,
    runtime: &'p Runtime,
    scratch: &'p Scratch,
    folder: File,
    ways: Vec<(Contender, Box<dyn Way>)>,
    progress: Progress,
    measured: Measured,
}

impl<'p> Rounds<'p> {
    fn new(plan: &'p Plan, runtime: &'p Runtime, scratch: &'p Scratch) -> Result<Self> {
        let folder = File::open(scratch.path()).during(|| format!("open {}", scratch.path().display()))?;
        let cells = plan.body_bytes.len() * plan.writers.len() * plan.contenders.len();
        let runs = u32::try_from(cells).unwrap_or(u32::MAX).saturating_mul(plan.rounds);
        let preparations = u32::try_from(plan.contenders.len()).unwrap_or(0);
        let progress = Progress::new(runs.saturating_add(preparations));
        Ok(Self { plan, runtime, scratch, folder, ways: Vec::new(), progress, measured: Measured::default() })
    }

    fn prepare(&mut self, span_bytes: u64, stop: &Stop) -> Result<()> {
        for contender in &self.plan.contenders {
            stop.check()?;
            let (label, mib) = (contender.label(), contender.disk_bytes(span_bytes) >> 20);
            self.progress.step(format!("prepare {label}, {mib} MiB"));
            match contender.prepare(self.scratch.path(), span_bytes)? {
                Prepared::Ready(way) => self.ways.push((*contender, way)),
                Prepared::Refused(reason) => {
                    self.progress.remark(&format!("{label} is left out: {reason}"));
                    self.measured.refused.push((*contender, reason));
                }
            }
        }
        Ok(())
    }

    fn run_all(&mut self, stop: &Stop) -> Result<()> {
        let mails: Vec<Mail> = self.plan.body_bytes.iter().map(|bytes| Mail::of(*bytes)).collect();
        for round in 1..=self.plan.rounds {
            for mail in &mails {
                for writers in &self.plan.writers {
                    self.run_cell(round, &Load { mail: *mail, writers: *writers }, stop)?;
                }
            }
        }
        Ok(())
    }

    fn run_cell(&mut self, round: u32, load: &Load, stop: &Stop) -> Result<()> {
        let body_bytes = load.mail.body().len() as u64;
        let (body, rounds, writers) = (size_label(body_bytes), self.plan.rounds, load.writers);
        let Plan { warm_up, length, .. } = *self.plan;
        let stage = Stage { runtime: self.runtime, warm_up, length };
        for (contender, way) in &mut self.ways {
            stop.check()?;
            let label = contender.label();
            self.progress.step(format!("round {round} of {rounds}, {body}, {writers} writers: {label}"));
            let outcome = way.run(load, &stage)?;
            let cell = cell(*contender, body_bytes, writers, round, &outcome);
            self.progress.detail(&format!("{:.0} appends/s", cell.appends_per_second));
            self.measured.cells.push(cell);
            rustix::fs::syncfs(&self.folder).during(|| "sync the file system between two runs".into())?;
        }
        Ok(())
    }
}

fn cell(contender: Contender, body_bytes: u64, writers: usize, round: u32, outcome: &Outcome) -> Cell {
    let Outcome { latencies, length, edges: (first, last) } = outcome;
    let (appends, seconds) = (latencies.len(), length.as_secs_f64());
    let appends_per_second = appends as f64 / seconds;
    let writer_cpu = first.writer_cpu.zip(last.writer_cpu);
    let batches = last.batches - first.batches;
    Cell {
        contender,
        body_bytes,
        writers,
        round,
        seconds,
        appends,
        appends_per_second,
        bytes_per_second: appends_per_second * contender.append_bytes(body_bytes) as f64,
        latency_us: summary(latencies),
        cpu_us_per_append: outcome.each_us(last.cpu - first.cpu),
        writer_cpu_us_per_append: writer_cpu.map(|(first, last)| outcome.each_us(last - first)),
        appends_per_batch: (batches > 0).then(|| (last.batched - first.batched) as f64 / batches as f64),
        segments_made: last.segments_made - first.segments_made,
    }
}
