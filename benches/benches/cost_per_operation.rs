//! What single operations cost: time, allocations, and instructions where the host counts them.
//!
//! It owns the exit codes; `benches::micro` does the work. Without `--bench`, which cargo says when it is to measure, it does nothing.

use std::process::ExitCode;

use benches::allocator::CountingByThread;
use benches::micro::plan::Arguments;
use benches::micro::run::run;
use benches::writers::plan::asked_to_measure;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: CountingByThread = CountingByThread;

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    let task = Arguments::parse().task(env!("CARGO_TARGET_TMPDIR").as_ref(), std::env::current_exe().ok());
    // Cargo runs benches in their package; paths are meant from where the script runs, the checkout. Elsewhere they stay as they are.
    let _ = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    match run(task, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost_per_operation: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
