//! traffic-gen and sink measured against each other, beside Postfix's smtp-source.
//!
//! It owns the command line and the exit codes; `benches::pair` does the work. Without `--bench`, which cargo says when it is to
//! measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::process::ExitCode;

use benches::error::Result;
use benches::pair::plan::{Arguments, Plan};
use benches::pair::report::Report;
use benches::pair::run::run;
use benches::stop::Stop;
use benches::writers::plan::asked_to_measure;
use clap::Parser;

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    let plan = Arguments::parse().plan(env!("CARGO_TARGET_TMPDIR"));
    // Cargo runs benches in their package; paths are meant from where the script runs, the checkout. Elsewhere they stay as they are.
    let _ = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    match compare(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load_pair: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn compare(plan: &Plan) -> Result<()> {
    let started = jiff::Timestamp::now();
    let mut measured = run(plan, &Stop::on_signals()?)?;
    let error = measured.error.take();
    let report = Report::of(&measured, plan, started)?;
    print!("{}", report.markdown());
    if let Some(path) = &plan.json {
        report.write(path)?;
    }
    error.map_or(Ok(()), Err)
}
