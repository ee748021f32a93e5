//! Ways of making messages durable, compared: the spool's back ends, a log over tokio's files, a file per message, and the ceiling of
//! the disk.
//!
//! It owns the command line and the exit codes; `benches::writers` does the work. Without `--bench`, which cargo says when it is to
//! measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::process::ExitCode;

use benches::error::{Error, Result};
use benches::stop::Stop;
use benches::writers::plan::{Arguments, Plan, asked_to_measure};
use benches::writers::report::Report;
use benches::writers::run::run;
use clap::Parser;

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    match compare(&Arguments::parse().plan(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spool_writers: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn compare(plan: &Plan) -> Result<()> {
    let started = jiff::Timestamp::now();
    let mut measured = run(plan, &Stop::on_signals()?)?;
    let error: Option<Error> = measured.error.take();
    let report = Report::of(&measured, plan, started)?;
    print!("{}", report.markdown());
    if let Some(path) = &plan.json {
        report.write(path)?;
    }
    error.map_or(Ok(()), Err)
}
