//! Allocations of the spool's writer thread: after warm-up there are none per append.
//!
//! It owns the counting and the limit, [`PER_APPEND_MAX`]. The warm-up recycles every segment several times, so that what is allocated
//! once or per segment has been; what the callers allocate is told beside it and not judged. Without `--bench`, which cargo says
//! when it is to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use benches::allocator::{self, Counting, Counts};
use benches::error::{During, Error, Result};
use benches::scratch::Scratch;
use benches::writers::appender::{Ids, Mail};
use benches::writers::plan::asked_to_measure;
use benches::writers::processor::threads_named;
use clap::{Parser, ValueEnum};
use spool::{AppendError, Backend, Options, Spool, Stats};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the writer thread per append; above it the bench fails. A list that grows once in ten thousand appends is
/// not an allocation per append.
const PER_APPEND_MAX: f64 = 0.01;
/// Tasks that append.
const WRITERS: usize = 64;
const BODY_BYTES: u64 = 1_000;
const SEGMENT_BYTES: u64 = 16 << 20;
const SEGMENTS: u32 = 8;
/// How often every segment is used before the counting begins.
const WARM_UP_ROUNDS: u64 = 3;
/// Appends between two looks at how far the warm-up is.
const STEP_APPENDS: u64 = 50_000;
/// Places shown with `--places`.
const PLACES_SHOWN_MAX: usize = 20;
/// Lines of the stack shown for each.
const LINES_SHOWN_MAX: usize = 4;

const EXAMPLES: &str = "Examples:
  ./scripts/bench spool_allocations
  ./scripts/bench spool_allocations --places                      where they come from
  ./scripts/bench spool_allocations --backend threads

Exit codes: 0 none per append, 1 more than 0.01 or failed, 2 usage.";

/// Counts what the spool's writer thread allocates while messages are appended and deleted.
#[derive(Debug, Parser)]
#[command(name = "spool_allocations", version, after_help = EXAMPLES)]
struct Arguments {
    /// Appends that are counted, each with its delete.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    appends: u64,

    /// Who writes.
    #[arg(long, value_enum, default_value = "uring")]
    backend: Way,

    /// Also tell where the writer thread allocated: every time, or one in so many; slow.
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "1")]
    places: Option<u64>,

    /// Where the segments are made; on a disk [default: the folder of the build].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    Uring,
    Threads,
}

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    match count(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("spool_allocations: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// True when the limit holds.
fn count(arguments: &Arguments) -> Result<bool> {
    let place = arguments.dir.clone().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let needed_bytes = 2 * u64::from(SEGMENTS) * SEGMENT_BYTES;
    let scratch = Scratch::make(&place, "spool-allocations", needed_bytes, "--dir")?;
    let spool = open(scratch.path(), arguments.backend)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let runtime = runtime.during(|| "start a runtime".into())?;
    let mail = Mail::of(BODY_BYTES);
    let wanted = WARM_UP_ROUNDS * u64::from(SEGMENTS);
    eprintln!("warming up until {wanted} segments have been used again");
    while spool.stats().segments_recycled < wanted {
        append(&runtime, &spool, mail, STEP_APPENDS)?;
    }
    let writer = threads_named("spool-writer").into_iter().next();
    let writer = writer.ok_or_else(|| Error::Peer("the spool has no thread spool-writer".into()))?;
    eprintln!("counting over {} appends", arguments.appends);
    let before = spool.stats();
    allocator::watch(writer, arguments.places.unwrap_or(0));
    append(&runtime, &spool, mail, arguments.appends)?;
    let counts = allocator::stop_watching();
    let figures = Figures::between(&before, &spool.stats(), counts);
    spool.close().map_err(|error| Error::Peer(error.to_string()))?;
    figures.tell(arguments)
}

fn open(dir: &Path, way: Way) -> Result<Spool> {
    let mut options = Options::new(dir);
    (options.segment_bytes, options.segments_spare) = (SEGMENT_BYTES, SEGMENTS);
    options.backend = match way {
        Way::Uring => Backend::Uring,
        Way::Threads => Backend::Threads,
    };
    Spool::open(options).map(|(spool, _)| spool).map_err(|error| Error::Peer(error.to_string()))
}

/// Appends and deletes so many messages from all tasks together, and waits for the deletes.
fn append(runtime: &Runtime, spool: &Spool, mail: Mail, appends: u64) -> Result<()> {
    let share = appends.div_ceil(WRITERS as u64);
    let tasks: Vec<_> =
        (0..WRITERS).map(|_| runtime.spawn(append_some(spool.clone(), mail, share))).collect();
    for task in tasks {
        let ended = runtime.block_on(task).map_err(|error| Error::Peer(error.to_string()))?;
        ended.map_err(|error| Error::Peer(error.to_string()))?;
    }
    Ok(())
}

async fn append_some(spool: Spool, mail: Mail, count: u64) -> std::result::Result<(), AppendError> {
    let mut ids = Ids::of_new_appender();
    for _ in 0..count {
        let id = ids.fresh();
        let _committed = spool.append(mail.transaction(id)).await?;
        drop(spool.enqueue(vec![mail.delete(id)]).await?);
    }
    // What is last in line is durable when everything before it is.
    spool.settle(Vec::new()).await
}

/// What was counted.
#[derive(Debug, serde::Serialize)]
struct Figures {
    backend: &'static str,
    appends: u64,
    batches: u64,
    segments_recycled: u64,
    by_writer: u64,
    by_others: u64,
}

impl Figures {
    fn between(before: &Stats, after: &Stats, counts: Counts) -> Self {
        Self {
            backend: after.backend,
            appends: after.appends - before.appends,
            batches: after.batches - before.batches,
            segments_recycled: after.segments_recycled - before.segments_recycled,
            by_writer: counts.by_watched,
            by_others: counts.by_others,
        }
    }

    /// True when the limit holds.
    fn tell(&self, arguments: &Arguments) -> Result<bool> {
        let Self { backend, appends, batches, segments_recycled, by_writer, by_others } = self;
        let per = |count: &u64, of: &u64| *count as f64 / (*of).max(1) as f64;
        let per_append = per(by_writer, appends);
        println!(
            "{appends} appends with their deletes, {batches} batches, {segments_recycled} segments recycled, {backend}"
        );
        println!(
            "spool-writer: {by_writer} allocations, {per_append:.4} per append, {:.3} per batch",
            per(by_writer, batches)
        );
        println!("callers and other threads: {:.2} per append and delete", per(by_others, appends));
        if arguments.places.is_some() {
            tell_places(&allocator::take_places());
        }
        if let Some(path) = &arguments.json {
            let text = serde_json::to_string_pretty(self).during(|| "write JSON".into())?;
            std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))?;
        }
        let holds = per_append <= PER_APPEND_MAX;
        println!("limit {PER_APPEND_MAX} per append: {}", if holds { "reached" } else { "not reached" });
        Ok(holds)
    }
}

/// The places with the most allocations, innermost first.
fn tell_places(places: &[Backtrace]) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for place in places {
        *counts.entry(lines_of_the_spool(&place.to_string())).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("{} places kept, innermost line first:", places.len());
    for (lines, count) in counts.iter().take(PLACES_SHOWN_MAX) {
        println!("{count:>6}  {lines}");
    }
}

/// The innermost lines of the spool's sources on the stack, as `writer/launch.rs:100`.
fn lines_of_the_spool(trace: &str) -> String {
    const SOURCES: &str = "crates/spool/src/";
    let mut lines = trace.lines().filter_map(|line| line.trim().strip_prefix("at ")?.split_once(SOURCES));
    let mut told: Vec<&str> = Vec::new();
    while let Some((_, place)) = lines.next().filter(|_| told.len() < LINES_SHOWN_MAX) {
        told.push(place.rsplit_once(':').map_or(place, |(place, _column)| place));
    }
    if told.is_empty() { "outside of the spool".into() } else { told.join(" < ") }
}
