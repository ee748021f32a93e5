//! A million queued messages: how long the spool takes to open, and what its index keeps in memory for each.
//!
//! It owns both limits, [`OPEN_SECONDS_MAX`] and [`INDEX_BYTES_MAX`]. Files are read before each opening, so that the page cache is
//! warm and the scan is measured, not the disk. Without `--bench`, which cargo says when it is to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use benches::allocator::{self, Counting};
use benches::error::{During, Error, Result};
use benches::scratch::Scratch;
use benches::size::body_bytes;
use benches::writers::appender::{Ids, Mail};
use benches::writers::limits::Spread;
use benches::writers::plan::asked_to_measure;
use clap::Parser;
use reports::sample::ProcessSampler;
use spool::{AppendError, Durability, Options, Spool};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Longest opening in seconds, median of the rounds.
const OPEN_SECONDS_MAX: f64 = 5.0;
/// Most bytes that the index keeps for each message.
const INDEX_BYTES_MAX: f64 = 200.0;
/// Tasks that fill the spool.
const WRITERS: u64 = 256;
/// Bytes of disk for each message beside its body.
const RECORD_BYTES: u64 = 400;
/// Spare segments and what is left of the last ones.
const SPARE_BYTES: u64 = 2 << 30;

const EXAMPLES: &str = "Examples:
  ./scripts/bench spool_recovery
  ./scripts/bench spool_recovery --messages 100000 --rounds 1

Exit codes: 0 both limits reached, 1 one was not or the bench failed, 2 usage.";

/// Fills a spool with messages that nobody delivers, and opens it again and again.
#[derive(Debug, Parser)]
#[command(name = "spool_recovery", version, after_help = EXAMPLES)]
struct Arguments {
    /// Messages in the queue.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    messages: u64,

    /// Bytes of each body, with k or m for thousands and millions.
    #[arg(long = "body", value_name = "BYTES", default_value = "1k", value_parser = body_bytes)]
    body_bytes: u64,

    /// How often the spool is opened.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Where the spool is made; on a disk [default: the folder of the build].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("spool_recovery: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// One opening.
#[derive(Debug, serde::Serialize)]
struct Opening {
    seconds: f64,
    /// Kept when what recovery found has been handed over and dropped.
    index_bytes_per_message: f64,
    /// Kept by what recovery found, while its reader holds it.
    found_bytes_per_message: f64,
    /// The most that was allocated during the opening.
    peak_bytes_per_message: f64,
    /// Largest resident size of the process since the opening began.
    rss_peak_bytes: u64,
}

/// True when both limits hold.
fn measure(arguments: &Arguments) -> Result<bool> {
    let place = arguments.dir.clone().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let needed_bytes = arguments.messages * (arguments.body_bytes + RECORD_BYTES) + SPARE_BYTES;
    let scratch = Scratch::make(&place, "spool-recovery", needed_bytes, "--dir")?;
    let mut options = Options::new(scratch.path().join("spool"));
    options.durability = Durability::Written;
    eprintln!("filling a spool with {} messages", arguments.messages);
    // Spares that are there need not be made when it is opened again.
    options.segments_spare = fill(options.clone(), arguments)?;
    let mut openings = Vec::new();
    for round in 1..=arguments.rounds {
        let bytes = read_all(&options.dir)?;
        eprintln!("round {round} of {}: opening {} MiB", arguments.rounds, bytes >> 20);
        openings.push(open(&options, arguments.messages)?);
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&openings).during(|| "write JSON".into())?;
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))?;
    }
    Ok(tell(arguments, &openings))
}

/// Spare segments that are left.
fn fill(options: Options, arguments: &Arguments) -> Result<u32> {
    let (spool, _) = Spool::open(options).map_err(|error| Error::Peer(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let runtime = runtime.during(|| "start a runtime".into())?;
    let mail = Mail::of(arguments.body_bytes);
    let share = |task| arguments.messages / WRITERS + u64::from(task < arguments.messages % WRITERS);
    let tasks: Vec<_> =
        (0..WRITERS).map(|task| runtime.spawn(append_some(spool.clone(), mail, share(task)))).collect();
    for task in tasks {
        let ended = runtime.block_on(task).map_err(|error| Error::Peer(error.to_string()))?;
        ended.map_err(|error| Error::Peer(error.to_string()))?;
    }
    let spares = spool.stats().segments_spare;
    spool.close().map_err(|error| Error::Peer(error.to_string()))?;
    Ok(u32::try_from(spares).unwrap_or(u32::MAX).max(1))
}

async fn append_some(spool: Spool, mail: Mail, count: u64) -> std::result::Result<(), AppendError> {
    let mut ids = Ids::of_new_appender();
    for _ in 0..count {
        let _committed = spool.append(mail.transaction(ids.fresh())).await?;
    }
    Ok(())
}

/// Puts every file into the page cache; returns the bytes read.
fn read_all(dir: &Path) -> Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).during(|| format!("list {}", dir.display()))?.flatten() {
        let describe = || format!("read {}", entry.path().display());
        if !entry.metadata().during(describe)?.is_file() {
            continue;
        }
        let mut file = File::open(entry.path()).during(describe)?;
        loop {
            match file.read(&mut buffer).during(describe)? {
                0 => break,
                more => bytes += more as u64,
            }
        }
    }
    Ok(bytes)
}

fn open(options: &Options, messages: u64) -> Result<Opening> {
    // Where the kernel does not let us, the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = allocator::live_bytes();
    allocator::take_live_bytes_peak();
    let begun = Instant::now();
    let (spool, recovery) = Spool::open(options.clone()).map_err(|error| Error::Peer(error.to_string()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let each = |bytes: i64| (bytes - before) as f64 / messages as f64;
    let peak_bytes_per_message = each(allocator::take_live_bytes_peak());
    let rss_peak_bytes =
        ProcessSampler::read(std::process::id(), Path::new("/")).map_or(0, |sample| sample.rss_peak_bytes);
    if recovery.messages.len() as u64 != messages || recovery.damaged > 0 {
        let (found, damaged) = (recovery.messages.len(), recovery.damaged);
        return Err(Error::Peer(format!(
            "{found} of {messages} messages came back, {damaged} places damaged"
        )));
    }
    let held = each(allocator::live_bytes());
    drop(recovery);
    let index_bytes_per_message = each(allocator::live_bytes());
    spool.close().map_err(|error| Error::Peer(error.to_string()))?;
    let found_bytes_per_message = held - index_bytes_per_message;
    Ok(Opening {
        seconds,
        index_bytes_per_message,
        found_bytes_per_message,
        peak_bytes_per_message,
        rss_peak_bytes,
    })
}

/// True when both limits hold.
fn tell(arguments: &Arguments, openings: &[Opening]) -> bool {
    let spread = |value: fn(&Opening) -> f64| {
        Spread::of(openings.iter().map(value)).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
    };
    let seconds = spread(|opening| opening.seconds);
    let index = spread(|opening| opening.index_bytes_per_message);
    let found = spread(|opening| opening.found_bytes_per_message);
    let peak = spread(|opening| opening.peak_bytes_per_message);
    let rss_peak = spread(|opening| opening.rss_peak_bytes as f64);
    let word = |holds| if holds { "reached" } else { "not reached" };
    let (quick, small) = (seconds.median <= OPEN_SECONDS_MAX, index.median <= INDEX_BYTES_MAX);
    println!("{} messages of {} bytes, page cache warm", arguments.messages, arguments.body_bytes);
    println!(
        "opened in {:.2} s ({:.2} to {:.2}); limit {OPEN_SECONDS_MAX} s: {}",
        seconds.median,
        seconds.min,
        seconds.max,
        word(quick)
    );
    println!(
        "index: {:.0} bytes a message, counted by the allocator; limit {INDEX_BYTES_MAX}: {}",
        index.median,
        word(small)
    );
    println!(
        "while opening: {:.0} bytes a message more in what was found, {:.0} at the peak, {:.0} MiB resident at the peak",
        found.median,
        peak.median,
        rss_peak.median / f64::from(1 << 20)
    );
    quick && small
}
