//! The command `sink`: reads the flags, starts the server, waits for a signal or a limit, writes the report.
//!
//! Exit codes: 0 stopped, 1 could not start or write its report, 2 wrong flags.

#![expect(clippy::print_stdout, reason = "a command-line tool prints lists on standard output")]

mod ceiling;
mod flags;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use sink::faults::Persona;
use sink::{Config, Server, StartError, file_limit_raise};
use tokio::signal::unix::{SignalKind, signal};

use self::flags::faults::check;
use self::flags::{Command, Flags, RulesCommand};

/// The exit code for flags, or files named by them, that are wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    file_limit_raise();
    let config = match &flags.command {
        Some(command) => return done(command),
        None => flags.config(),
    };
    let config = match config {
        Ok(config) => config,
        Err(error) => return wrong(&error),
    };
    if flags.faults.check_rules {
        eprintln!("{} rules are good", config.rules.len());
        return ExitCode::SUCCESS;
    }
    let done = if flags.eyes.self_test { ceiling::measure(&flags, &config) } else { run(&flags, config) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error}");
            let wrong = error.downcast_ref::<StartError>().is_some_and(StartError::is_of_flags);
            if wrong { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Does what does not serve.
fn done(command: &Command) -> ExitCode {
    match command {
        Command::Personas => {
            for persona in Persona::all() {
                println!("{:20} {}", persona.name(), persona.description());
            }
        }
        Command::Rules(RulesCommand::Check { files }) => {
            if let Err(error) = check(files) {
                return wrong(&error);
            }
        }
    }
    ExitCode::SUCCESS
}

fn wrong(error: &str) -> ExitCode {
    eprintln!("sink: {error}");
    ExitCode::from(USAGE)
}

fn run(flags: &Flags, config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
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
            () = counters(&server), if flags.smtp_sink.counters => {}
            () = server.ended() => {}
        }
    });
    let stats = server.stop();
    match &flags.json {
        Some(file) => write_report(file, &stats),
        None => Ok(()),
    }
}

/// Writes what has been counted, each second, and never ends.
async fn counters(server: &Server) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        let stats = server.stats();
        eprintln!(
            "{} messages, {} a second, {} connections of {}",
            stats.accepted, stats.rate_per_s, stats.connections, stats.connections_total
        );
    }
}

fn write_report(file: &Path, report: &impl Serialize) -> Result<(), Box<dyn std::error::Error>> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}
