//! The command `sink`: reads the flags, starts the server, waits for a signal, writes the report.
//!
//! Exit codes: 0 stopped by a signal, 1 could not start or write its report, 2 wrong flags.

mod flags;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use sink::{Config, Server, Stats, file_limit_raise};
use tokio::signal::unix::{SignalKind, signal};

use self::flags::Flags;

/// The exit code for flags, or files named by them, that are wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    file_limit_raise();
    let config = match flags.config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("sink: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if flags.faults.check_rules {
        eprintln!("{} rules are good", config.rules.len());
        return ExitCode::SUCCESS;
    }
    match run(&flags, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    // Both are caught before anybody can know that the sink runs.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config)?;
    eprintln!("smtp listener on {}", server.smtp_addr);
    if let Some(address) = server.smtps_addr {
        eprintln!("smtps listener on {address}");
    }
    eprintln!("http listener on {}", server.http_addr);
    eprintln!("initialization complete");
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let stats = server.stop();
    match &flags.json {
        Some(file) => write_report(file, &stats),
        None => Ok(()),
    }
}

fn write_report(file: &Path, stats: &Stats) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = serde_json::to_string_pretty(stats)?;
    text.push('\n');
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}
