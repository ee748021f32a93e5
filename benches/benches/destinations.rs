//! What many destinations cost: memory for each open connection, and the rate to a fast one beside a thousand slow ones.
//!
//! It owns the command line and the exit code. Without `--bench`, which cargo says when it is to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::destinations::{KIBIBYTES, Memory, Place, SHARE, Slow};
use benches::error::{During, Error, Result};
use benches::figures;
use benches::processes::Programs;
use benches::progress::Progress;
use benches::scratch::Scratch;
use benches::stop::Stop;
use benches::writers::limits::Spread;
use benches::writers::plan::asked_to_measure;
use clap::Parser;
use reports::machine::Machine;
use reports::software::Software;

/// Open files beside the connections.
const FILES_RESERVED: usize = 300;
/// Bytes of disk for kumod's spools and logs.
const NEEDED_BYTES: u64 = 4 << 30;

const EXAMPLES: &str = "Examples:
  ./scripts/bench destinations                          10,000 open connections, then 1,000 slow destinations
  ./scripts/bench destinations --connections 1000 --pairs 2 --seconds 3

Exit codes: 0 the limits are kept, 1 failed, 2 usage, 99 one is missed, 130 interrupted.";

/// Measures what many destinations cost.
#[derive(Debug, Parser)]
#[command(name = "destinations", version, after_help = EXAMPLES)]
struct Arguments {
    /// Destinations with an open connection each, for the memory; 0 leaves that out.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=25_000))]
    connections: u32,

    /// Slow destinations: five seconds for each reply.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slow: u32,

    /// Pairs of runs, without the slow ones and with them; 0 leaves that out.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=100))]
    pairs: u32,

    /// Seconds of each run.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=20))]
    seconds: u64,

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
    let arguments = Arguments::parse();
    // Cargo runs benches in their package; paths are meant from where the script runs, the checkout. Elsewhere they stay as they are.
    let _ = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(99),
        Err(error) => {
            eprintln!("destinations: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
struct Figures {
    memory: Option<Memory>,
    slow: Option<Slow>,
}

/// True when the limits hold.
fn run(arguments: &Arguments) -> Result<bool> {
    let Arguments { connections, slow, pairs, seconds, .. } = *arguments;
    let files = traffic_gen::file_limit_raise();
    if files < connections.max(slow) as usize + FILES_RESERVED {
        return Err(Error::Operator(format!(
            "{connections} connections do not fit under a limit of {files} open files; raise it (ulimit -Hn) or ask for fewer"
        )));
    }
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let scratch = Scratch::make(tmp, "destinations", NEEDED_BYTES, "CARGO_TARGET_DIR")?;
    let bench = std::env::current_exe().during(|| "find this executable".into())?;
    // Cargo puts benches into a folder below the one with the programs.
    let beside = bench.parent().and_then(Path::parent).map_or_else(PathBuf::new, Path::to_path_buf);
    let (programs, stop) = (Programs::in_folder(&beside, &bench), Stop::on_signals()?);
    let place = Place { programs: &programs, folder: scratch.path(), stop: &stop };
    let memory = (connections > 0).then(|| place.memory(connections)).transpose()?;
    let mut progress = Progress::new(2 * pairs);
    let beside = (pairs > 0)
        .then(|| place.slow(slow, pairs, Duration::from_secs(seconds), &mut progress))
        .transpose()?;
    let command = format!(
        "./scripts/bench destinations --connections {connections} --slow {slow} --pairs {pairs} --seconds {seconds}"
    );
    let machine = Machine::probe(scratch.path());
    let profile = Some(if cfg!(debug_assertions) { "dev" } else { "release" }.into());
    let software = Software { profile, ..Software::probe(Path::new(".")) };
    println!("{}", figures::heading("What many destinations cost", &machine, &software, &command));
    let figures = Figures { memory, slow: beside };
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures).during(|| "write JSON".into())?;
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))?;
    }
    Ok(figures.tell())
}

impl Figures {
    fn tell(&self) -> bool {
        let mut holds = true;
        if let Some(Memory { destinations, empty_bytes, kib_each }) = &self.memory {
            let empty = *empty_bytes as f64 / f64::from(1 << 20);
            println!(
                "{destinations} destinations with one open connection each, {empty:.1} MiB without them"
            );
            let each = Spread::of([*kib_each]);
            println!(
                "  KiB for each: {}; {}",
                figures::verdict(KIBIBYTES, each),
                figures::bound_label(KIBIBYTES)
            );
            holds &= each.is_some_and(|each| KIBIBYTES.is_reached(each));
        }
        if let Some(slow) = &self.slow {
            println!("rate to fast destinations, without {} slow ones and beside them", slow.destinations);
            for [without, with] in &slow.pairs_mmh {
                println!("  {without:.1} and {with:.1} MMH");
            }
            let share = slow.share();
            println!(
                "  part of the rate that is left: {}; {}",
                figures::verdict(SHARE, share),
                figures::bound_label(SHARE)
            );
            holds &= share.is_some_and(|share| SHARE.is_reached(share));
        }
        holds
    }
}
