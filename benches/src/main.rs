//! The command `lab`: drives real mail through traffic-gen, kumod and sink, audits it, and leaves a record and a page.
//!
//! It owns the command line and the exit codes. The three floor programs are hidden subcommands of this executable, so that
//! they are processes of their own and nothing else has to be built.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::cgroup::enter::Seat;
use benches::error::{During, Error, Result};
use benches::processes::Programs;
use benches::promise::Promise;
use benches::size::body_bytes;
use benches::stop::Stop;
use benches::suite::{self, BODY_BYTES, Suite};
use benches::tiers::flags::TierFlags;
use benches::{compare, crash, floor, once, table, traffic};
use clap::{Parser, Subcommand};
use reports::compare::{Form, Verdict};

const EXAMPLES: &str = "Examples:
  lab                              the quick suite: about three minutes
  lab --suite full                 longer runs, and latency at 80, 100 and 120 % of the rate: about ten minutes
  lab --body-size 100k             one body size
  lab --durability written         a 250 that does not wait for the disk
  lab --floor                      what this machine can do at all
  lab --tiers 0.5x1,1x2,2x4        kumod alone under limits of CPUs x GiB; as root or with systemd
  lab --crash-test --rounds 5      kill -9 in the middle of a run, five times
  lab --compare HEAD~1 HEAD        two versions in turns, judged: did a message get dearer?
  lab --once --seconds 5           one run and its record, nothing else

Each run leaves results/TIME-SUITE/ with run.json, index.html, histograms and logs.
The spool lies in the same folder, so --results must be on a disk, not on tmpfs.

Exit codes: 0 all mail accounted for, 1 failed or mail lost or damaged, 2 usage,
99 a comparison found a regression, 130 interrupted (what was measured is still written).";

/// The code of a threshold that was missed.
const EXIT_REGRESSION: u8 = 99;

/// Drives real mail through traffic-gen, kumod and sink on loopback, proves that none was lost, and charts it.
#[derive(Parser)]
#[command(name = "lab", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    program: Option<HiddenProgram>,

    #[command(flatten)]
    lab: LabArguments,
}

#[derive(clap::Args)]
struct LabArguments {
    /// How thorough.
    #[arg(long, value_enum, default_value = "quick")]
    suite: Suite,

    /// Folder for the folders of runs; on a disk, the spool lies there too.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,

    /// Measure the floor and nothing else.
    #[arg(long, conflicts_with = "crash_test")]
    floor: bool,

    /// Body size in bytes, with k or m for thousands and millions; may be given several times.
    #[arg(long = "body-size", value_name = "BYTES", value_parser = body_bytes, value_delimiter = ',')]
    body_bytes: Vec<u64>,

    /// Connections that traffic-gen opens.
    #[arg(long, value_name = "N", default_value_t = traffic::CONNECTIONS)]
    concurrency: usize,

    /// What a 250 of kumod promises; `deferred` has nothing that a crash test could check.
    #[arg(long, value_enum, default_value = Promise::default().name())]
    durability: Promise,

    /// Seed of the mail's content.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Leave kumod's spool in the run's folder.
    #[arg(long)]
    keep_spool: bool,

    /// Write the record (or the rounds of the crash test) to FILE as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(flatten)]
    tiers: TierFlags,

    /// Find out what this machine can do at most, too, about 15 seconds more; the full suite always does.
    #[arg(long, conflicts_with_all = ["crash_test", "once", "compare"])]
    ceiling: bool,

    /// Count kumod's system calls in a short pass of its own for each body size, by perf where it works, else by strace.
    #[arg(long, conflicts_with_all = ["crash_test", "floor", "once", "compare"])]
    count_syscalls: bool,

    /// Count kumod's allocations in a short pass of its own for each body size, by perf; as root.
    #[arg(long, conflicts_with_all = ["crash_test", "floor", "once", "compare"])]
    count_allocations: bool,

    /// Kill kumod with SIGKILL in the middle of a run, restart it, drain, audit.
    #[arg(long)]
    crash_test: bool,

    /// Crashes of the crash test.
    #[arg(long, default_value_t = 3, requires = "crash_test")]
    rounds: u32,

    /// Messages offered in each round of the crash test.
    #[arg(long, default_value_t = 200_000, requires = "crash_test")]
    messages: u64,

    /// Messages delivered before each crash.
    #[arg(long, default_value_t = 20_000, requires = "crash_test")]
    kill_after: u64,

    /// One run through kumod with a sink of its own; the last line printed is the folder of its record.
    #[arg(long, conflicts_with_all = ["compare", "crash_test", "floor"])]
    once: bool,

    /// Ask kumod for TLS on every connection of --once.
    #[arg(long, requires = "once")]
    starttls: bool,

    #[command(flatten)]
    compare: compare::flags::Flags,
}

#[derive(Subcommand)]
enum HiddenProgram {
    /// Sends.
    #[command(name = "floor-generator", hide = true)]
    Generator {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        body_bytes: usize,
        #[arg(long)]
        duration_ms: u64,
        #[arg(long)]
        messages: u64,
        #[arg(long)]
        connections: usize,
    },
    /// Stores and forwards.
    #[command(name = "floor-relay", hide = true)]
    Relay {
        #[arg(long)]
        sink: SocketAddr,
        #[arg(long)]
        log: PathBuf,
        #[arg(long)]
        body_bytes: usize,
    },
    /// Swallows.
    #[command(name = "floor-sink", hide = true)]
    Sink,
    /// Goes to its place and becomes another program.
    #[command(name = "enter", hide = true)]
    Enter(Seat),
}

fn main() -> ExitCode {
    let Arguments { program, lab } = Arguments::parse();
    let sound = |sound: bool| if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let result = match program {
        Some(program) => run_hidden_program(program).map(|()| ExitCode::SUCCESS),
        None if lab.crash_test => run_crash_test(&lab).map(sound),
        None if lab.compare.is_wanted() => run_comparison(&lab),
        None if lab.once => run_once(&lab).map(sound),
        None => run_suite(&lab).map(sound),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_hidden_program(program: HiddenProgram) -> Result<()> {
    floor::end_with_parent()?;
    match program {
        HiddenProgram::Enter(seat) => seat.enter().map(|never| match never {}),
        HiddenProgram::Sink => floor::sink::run(),
        HiddenProgram::Relay { sink, log, body_bytes } => {
            floor::relay::run(&floor::relay::Plan { sink, log, body_bytes })
        }
        HiddenProgram::Generator { target, body_bytes, duration_ms, messages, connections } => {
            floor::generator::run(&floor::generator::Plan {
                target,
                body_bytes,
                duration: Duration::from_millis(duration_ms),
                messages_max: messages,
                connections,
            })
        }
    }
}

/// True when all mail is accounted for.
fn run_suite(arguments: &LabArguments) -> Result<bool> {
    let stop = Stop::on_signals()?;
    let body_bytes =
        if arguments.body_bytes.is_empty() { BODY_BYTES.into() } else { arguments.body_bytes.clone() };
    let options = suite::Options {
        suite: arguments.suite,
        results: arguments.results.clone(),
        body_bytes,
        seed: arguments.seed,
        connections: arguments.concurrency,
        keep_spool: arguments.keep_spool,
        durability: arguments.durability,
        floor_only: arguments.floor,
        tiers: arguments.tiers.clone(),
        ceiling: arguments.ceiling,
        count_syscalls: arguments.count_syscalls,
        count_allocations: arguments.count_allocations,
    };
    let finished = suite::run(&options, &Programs::beside_this()?, &stop)?;
    print!("{}", table::render(&finished.record));
    println!("{}", finished.folder.join("index.html").display());
    if let Some(path) = &arguments.json {
        write_json(path, &finished.record)?;
    }
    let sound = finished.is_sound();
    if !sound {
        println!("Mail was lost or damaged; see run.json.");
    }
    finished.error.map_or(Ok(sound), Err)
}

/// 99 where head is worse; undecided passes, and says so.
fn run_comparison(arguments: &LabArguments) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let common = compare::flags::Common {
        results: arguments.results.clone(),
        body_bytes: arguments.body_bytes.clone(),
        connections: arguments.concurrency,
        seed: arguments.seed,
        durability: arguments.durability,
    };
    let options = arguments.compare.options(common, &stop)?;
    let finished = compare::run(&options, &Programs::beside_this()?, &stop)?;
    print!("{}", finished.comparison.render(Form::Text));
    println!("{}", finished.folder.join("index.html").display());
    if let Some(path) = &arguments.compare.markdown {
        let text = finished.comparison.render(Form::Markdown);
        std::fs::write(path, text).during(|| format!("write {}", path.display()))?;
    }
    if let Some(path) = &arguments.json {
        write_json(path, &finished.comparison)?;
    }
    Ok(match finished.comparison.verdict {
        Verdict::Ok => ExitCode::SUCCESS,
        Verdict::Undecided => {
            eprintln!(
                "lab: undecided, so nothing failed; --pairs-max allows more pairs, a quieter machine needs fewer"
            );
            ExitCode::SUCCESS
        }
        Verdict::Regression => ExitCode::from(EXIT_REGRESSION),
    })
}

/// True when all mail is accounted for.
fn run_once(arguments: &LabArguments) -> Result<bool> {
    let stop = Stop::on_signals()?;
    let options = once::Options {
        results: arguments.results.clone(),
        body_bytes: arguments.body_bytes.first().copied().unwrap_or(BODY_BYTES[0]),
        duration: Duration::from_secs(arguments.compare.seconds),
        connections: arguments.concurrency,
        seed: arguments.seed,
        durability: arguments.durability,
        starttls: arguments.starttls,
        keep_spool: arguments.keep_spool,
    };
    let finished = once::record(&options, &Programs::beside_this()?, &stop)?;
    print!("{}", table::render(&finished.record));
    if let Some(path) = &arguments.json {
        write_json(path, &finished.record)?;
    }
    println!("{}", finished.folder.display());
    Ok(finished.is_sound())
}

/// True when every round passed.
fn run_crash_test(arguments: &LabArguments) -> Result<bool> {
    if !arguments.durability.survives_a_crash() {
        return Err(Error::Operator(format!(
            "durability {} keeps no mail over a crash, so there is nothing to test; choose commit or written",
            arguments.durability.name()
        )));
    }
    let stop = Stop::on_signals()?;
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let folder = arguments.results.join(format!("{time}-crash"));
    std::fs::create_dir_all(&folder).during(|| format!("make {}", folder.display()))?;
    let plan = crash::Plan {
        rounds: arguments.rounds,
        body_bytes: arguments.body_bytes.first().copied().unwrap_or(BODY_BYTES[0]),
        messages: arguments.messages,
        kill_after: arguments.kill_after,
        seed: arguments.seed,
        durability: arguments.durability,
        folder: folder.canonicalize().during(|| format!("find {}", folder.display()))?,
        keep_spool: arguments.keep_spool,
    };
    let rounds = crash::run(&plan, &Programs::beside_this()?, &stop, |round| {
        let verdict = if round.passed() { "passed" } else { "FAILED" };
        let crash::Round { round: number, accepted, unknown, delivered, lost, duplicated, .. } = round;
        println!(
            "crash {number} {verdict}: accepted {accepted}, unanswered {unknown}, delivered {delivered}, \
             lost {lost}, delivered twice {duplicated}"
        );
        for remark in &round.remarks {
            println!("  {remark}");
        }
    })?;
    if let Some(path) = &arguments.json {
        write_json(path, &rounds)?;
    }
    Ok(rounds.iter().all(crash::Round::passed))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).during(|| "write JSON".into())?;
    std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
