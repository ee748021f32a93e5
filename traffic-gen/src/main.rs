//! The command `traffic-gen`: reads the flags, runs the load, shows progress, writes the reports.
//!
//! Exit codes: 0 all sent, 1 a message failed or is unknown or was never sent, or no highest rate was found,
//! 2 wrong flags or a host that may not be loaded, 99 a threshold was missed, 130 ended by a signal with the report written. Where a
//! threshold is about errors, it decides whether failed messages are a failure.

#![expect(clippy::print_stdout, reason = "a command-line tool prints its summary on standard output")]

mod flags;
mod outputs;
mod progress;
mod search;
mod serve;
mod summary;
mod tui;

use std::io;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use traffic_gen::threshold::{Outcome, Threshold};
use traffic_gen::{Control, Plan, Report, run_observed};

use crate::flags::{CommandLine, Flags, Task};
use crate::outputs::Outputs;

/// A threshold was missed; what k6 says, too.
const MISSED: u8 = 99;

/// Ended by a signal; what a shell says, too.
pub(crate) const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let command = CommandLine::parse();
    match command.task {
        Some(Task::Audit(flags)) => flags.run(),
        None => load(&command.run),
    }
}

/// One run, as the flags describe it.
fn load(flags: &Flags) -> ExitCode {
    let plan = match flags.plan() {
        Ok(plan) => plan,
        Err(refusal) => {
            eprintln!("traffic-gen: {}", refusal.text);
            return ExitCode::from(refusal.exit_code);
        }
    };
    run(flags, plan).map_or_else(
        |error| {
            eprintln!("traffic-gen: {error}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn run(flags: &Flags, mut plan: Plan) -> Result<u8, String> {
    let control = Control::default();
    stop_on_signals(control.clone()).map_err(|error| format!("cannot catch signals: {error}"))?;
    let goal = flags.search.goal(&mut plan);
    let mut outputs = Outputs::open(&flags.output, &plan, &control)?;
    if let Some(goal) = goal {
        return search::run(&plan, &goal, &control, outputs);
    }
    let report = run_observed(plan, &control, &mut outputs);
    outputs.leave_screen();
    let thresholds = &flags.output.threshold;
    let outcomes: Vec<_> = thresholds.iter().map(|threshold| threshold.outcome(&report)).collect();
    print!("{}{}", summary::text(&report), summary::thresholds(&outcomes));
    outputs.finish(&report, &outcomes)?;
    Ok(exit_code(&report, thresholds, &outcomes))
}

fn exit_code(report: &Report, thresholds: &[Threshold], outcomes: &[Outcome]) -> u8 {
    let errors_are_judged = thresholds.iter().any(Threshold::is_about_errors);
    if report.interrupted {
        INTERRUPTED
    } else if outcomes.iter().any(|outcome| !outcome.met) {
        MISSED
    } else if errors_are_judged && report.sent > 0 && report.unsent() + report.connections_unfit == 0 {
        0
    } else {
        report.exit_code()
    }
}

/// The first signal ends the run, the second does not wait for replies.
fn stop_on_signals(control: Control) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt): (Signal, Signal) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            control.stop();
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait)).map(drop)
}
