//! The error rates of `lab --compare`, from pools of real runs.
//!
//! It owns the command line, the table and the limits; `benches::gate` does the work. Without `--bench`, which cargo says when it is
//! to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::path::PathBuf;
use std::process::ExitCode;

use benches::error::Result;
use benches::gate::draw::{self, Plan, Question, Shares};
use benches::gate::pool::Pools;
use benches::writers::plan::asked_to_measure;
use clap::Parser;
use reports::stats::Bootstrap;

/// Most false regressions.
const FALSE_MAX: f64 = 0.02;
/// Least of the planted slowdown that is found.
const FOUND_MIN: f64 = 0.95;

const EXAMPLES: &str = "Examples:
  ./scripts/bench gate_errors                                     the committed pools
  ./scripts/bench gate_errors --from results/TIME-compare --keep pools.json

The folders are those of `lab --compare PROGRAM SLOWER_PROGRAM --pairs 20 --pairs-max 20 --seconds 10`, six times; the slower program is kumod built with
`--features planted-slowdown`. Exit codes: 0 within the limits, 1 beyond one or failed, 2 usage.";

/// Draws comparisons from pools of runs of one program and of a slower one, and says how often the verdict is wrong.
#[derive(Parser)]
#[command(name = "gate_errors", after_help = EXAMPLES)]
struct Arguments {
    /// Pools that were kept.
    #[arg(long, value_name = "FILE", default_value = "docs/data/gate-pools.json", conflicts_with = "from")]
    pools: PathBuf,
    /// Make the pools from the folders of comparisons.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Keep the pools.
    #[arg(long, value_name = "FILE", requires = "from")]
    keep: Option<PathBuf>,
    /// Comparisons of each kind.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    draws: u32,
    /// Pairs of the first verdict.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pairs: usize,
    /// Seed of the draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Said by cargo.
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
    match measure(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gate_errors: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn measure(arguments: &Arguments) -> Result<bool> {
    let pools = if arguments.from.is_empty() {
        Pools::read(&arguments.pools)?
    } else {
        Pools::of_comparisons(&arguments.from)?
    };
    if let Some(path) = &arguments.keep {
        pools.write(path)?;
    }
    let Arguments { draws, pairs, seed, .. } = *arguments;
    let shares = draw::all(&pools, &Plan { draws, pairs, seed, bootstrap: Bootstrap::default() })?;
    print!("{}", table(&pools, &shares, pairs));
    Ok(shares.iter().all(is_within))
}

fn is_within(share: &Shares) -> bool {
    match share.question {
        Question::Same => share.regression <= FALSE_MAX,
        Question::Planted => share.regression >= FOUND_MIN,
    }
}

fn table(pools: &Pools, shares: &[Shares], pairs: usize) -> String {
    let mut text = format!(
        "{} pairs, {} more left out because a run was disturbed. Measured by: `{}`\n\n\
         | compared | partners | regression | limit | ok | undecided | decided with {} pairs | pairs on average |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
        pools.base.len(),
        pools.disturbed_pairs,
        pools.command,
        pairs,
    );
    for share in shares {
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        let (question, limit) = match share.question {
            Question::Same => ("a program with itself", format!("at most {}", percent(FALSE_MAX))),
            Question::Planted => {
                ("a program with the slower one", format!("at least {}", percent(FOUND_MIN)))
            }
        };
        let partners = match share.partners {
            draw::Partners::Neighbours => "neighbours",
            draw::Partners::Any => "any",
        };
        text.push_str(&format!(
            "| {question} | {partners} | {} | {limit} | {} | {} | {} | {:.1} |\n",
            percent(share.regression),
            percent(share.ok),
            percent(share.undecided),
            percent(share.at_once),
            share.pairs_mean
        ));
    }
    text
}
