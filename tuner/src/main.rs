//! The command `tuner`: prints what the library found.
//!
//! Owns the command line and the exit codes. The verbs live in `command`.

mod command;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    command::run(command::Arguments::parse())
}
