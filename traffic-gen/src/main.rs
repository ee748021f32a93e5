//! The command `traffic-gen`: reads the flags, runs the load, shows progress, writes the reports.
//!
//! Exit codes: 0 all sent, 1 a message failed or is unknown or was never sent, or no highest rate was found,
//! 2 wrong flags or a host that may not be loaded, 99 a threshold was missed, 130 ended by a signal with the report written. Where a
//! threshold is about errors, it decides whether failed messages are a failure.

#![expect(clippy::print_stdout, reason = "a command-line tool prints its summary on standard output")]

mod agents;
mod dry_run;
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
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use traffic_gen::threshold::{Outcome, Threshold};
use traffic_gen::{Control, Plan, Report, preview, transcript};

use crate::agents::Senders;
use crate::agents::fleet::FleetReport;
use crate::flags::{CommandLine, Flags, Task};
use crate::outputs::Outputs;
use crate::tui::picture::Facts;

/// A threshold was missed; what k6 says, too.
const MISSED: u8 = 99;

/// Ended by a signal; what a shell says, too.
pub(crate) const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let command = CommandLine::parse();
    match command.task {
        Some(Task::Agent(flags)) => flags.run(),
        Some(Task::Audit(flags)) => flags.run(),
        None => load(&command.run),
    }
}

/// One run, as the flags describe it.
fn load(flags: &Flags) -> ExitCode {
    let prepared = flags.plan().and_then(|plan| {
        flags.output.fits(&plan)?;
        Ok((plan, flags.fleet.senders()?))
    });
    let (plan, senders) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => {
            eprintln!("traffic-gen: {}", refusal.text);
            return ExitCode::from(refusal.exit_code);
        }
    };
    let done = if flags.output.dry_run {
        preview(&plan).map(|preview| {
            print!("{}", dry_run::text(&plan, &senders, &preview));
            0
        })
    } else if flags.output.debug {
        transcript(&plan, &mut |line| println!("{line}")).map(|accepted| u8::from(!accepted))
    } else {
        run(flags, plan, &senders)
    };
    done.map_or_else(
        |error| {
            eprintln!("traffic-gen: {error}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

fn run(flags: &Flags, mut plan: Plan, senders: &Senders) -> Result<u8, String> {
    let control = Control::default();
    stop_on_signals(control.clone()).map_err(|error| format!("cannot catch signals: {error}"))?;
    let goal = flags.search.goal(&mut plan);
    let mut outputs = Outputs::open(&flags.output, Facts::of(&plan, senders.cores()), &plan, &control)?;
    if let Some(goal) = goal {
        return search::run(&plan, &goal, senders, &control, outputs);
    }
    let FleetReport { report, parts } = senders.run(plan, &control, &mut outputs)?;
    outputs.leave_screen();
    let thresholds = &flags.output.threshold;
    let outcomes: Vec<_> = thresholds.iter().map(|threshold| threshold.outcome(&report)).collect();
    let text = [summary::text(&report), summary::parts(&parts), summary::thresholds(&outcomes)];
    print!("{}", text.concat());
    outputs.finish(&report, &parts, &outcomes)?;
    let code = exit_code(&report, thresholds, &outcomes);
    // What a lost agent did is not known, so that the run did not end well, whatever the others say.
    Ok(if parts.iter().any(|part| part.lost.is_some()) { code.max(1) } else { code })
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
    let mut signals = Signals::catch()?;
    let wait = move || loop {
        signals.wait();
        control.stop();
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

/// SIGINT and SIGTERM, which both ask for the end.
pub(crate) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (terminate, interrupt) = {
            let _entered = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Returns when one of them comes.
    pub(crate) fn wait(&mut self) {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
    }
}
