//! `reports`: draws the page of a laboratory run.
//!
//! It owns the command line. It refuses folders without a record and says which file or field is wrong;
//! the remaining folders are still drawn. Exit codes: 0 ok, 1 failed, 2 usage.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reports::render;

const EXAMPLES: &str = "\
Examples:
  reports render results/20261122T061500Z-quick-4f1c
  reports render results/*
  reports render results/latest -o /tmp/page.html
  reports schema > run.schema.json";

/// Draws the page of a laboratory run.
#[derive(Parser)]
#[command(name = "reports", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Writes index.html into each results folder and prints its path.
    Render {
        /// Folders with a run.json and its histogram files.
        #[arg(required = true, value_name = "DIR")]
        folders: Vec<PathBuf>,
        /// Where to write the page instead; for one folder.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Prints the JSON schema of run.json.
    Schema,
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Render { folders, output } if folders.len() > 1 && output.is_some() => {
            eprintln!("reports: -o takes one page, and {} folders were given", folders.len());
            ExitCode::from(2)
        }
        Verb::Render { folders, output } => render_all(&folders, output.as_deref()),
        Verb::Schema => {
            print!("{}", reports::schema());
            ExitCode::SUCCESS
        }
    }
}

fn render_all(folders: &[PathBuf], output: Option<&std::path::Path>) -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    for folder in folders {
        match render::write_page(folder, output) {
            Ok(path) => println!("{}", path.display()),
            Err(error) => {
                eprintln!("reports: {error}");
                exit = ExitCode::FAILURE;
            }
        }
    }
    exit
}
