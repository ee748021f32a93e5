//! The command line: what can be asked, and with which code the program ends.
//!
//! Refuses flags that contradict each other before anything is read. Errors name what was given, the rule and the remedy.

mod ab;
mod change;
mod look;
mod measure;
mod output;
mod selection;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Something failed.
pub(crate) const EXIT_ERROR: u8 = 1;
/// The command line is wrong.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Something should be changed.
pub(crate) const EXIT_CHANGES_NEEDED: u8 = 3;
/// What was applied does not hold.
pub(crate) const EXIT_VERIFY_FAILED: u8 = 4;
/// Somebody else has a say: another file at boot, a change by hand, a wish that would make a setting worse.
pub(crate) const EXIT_CONFLICT: u8 = 5;
/// Only root, or the host of this container, can do it.
pub(crate) const EXIT_NOT_PERMITTED: u8 = 6;
/// A comparison was interrupted, and everything put back.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Checks and applies what a host needs that sends and receives mail in volume, and never makes a setting worse.
#[derive(Parser)]
#[command(name = "tuner", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    common: Common,
}

/// What every verb understands.
#[derive(Args)]
pub(crate) struct Common {
    /// Also write the result as JSON to FILE; `-` writes it to standard output instead of the text.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Look at the tree under DIR (proc/sys/…, etc/…) instead of the running host.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Which host")]
    root: Option<PathBuf>,

    /// Where the spool is to lie: its file system and its disk are looked at, and io_uring is tried there.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Which host")]
    spool: Option<PathBuf>,

    /// Look at the limits of this running process instead of our own.
    #[arg(long, global = true, value_name = "PID", help_heading = "Which host")]
    pid: Option<u32>,

    /// The service whose unit is looked at.
    #[arg(long, global = true, value_name = "NAME", default_value = tuner::host::UNIT, help_heading = "Which host")]
    unit: String,

    /// What the host is for: mta, sink, traffic-gen or proxy (see `tuner profile list`).
    #[arg(long, global = true, value_name = "NAME", default_value = "mta", help_heading = "What is wanted")]
    profile: String,

    /// Connections held at the same time; computed from memory and processors when not given.
    #[arg(long, global = true, value_name = "N", help_heading = "What is wanted")]
    connections: Option<u64>,

    /// Messages each second; computed from processors when not given.
    #[arg(long, global = true, value_name = "N", help_heading = "What is wanted")]
    rate: Option<u64>,

    /// Change also what no counter shows to be needed.
    #[arg(long, global = true, help_heading = "What is wanted")]
    eager: bool,

    /// A value you would like; taken only where it makes nothing worse. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "What is wanted")]
    set: Vec<String>,

    /// The same from a file as sysctl reads it, such as one copied from a page.
    #[arg(long, global = true, value_name = "FILE", help_heading = "What is wanted")]
    wishes: Option<PathBuf>,

    /// Only these settings; a name before a dot takes all below it. May be repeated, or a list with commas.
    #[arg(long, global = true, value_name = "KEY", value_delimiter = ',', help_heading = "What is wanted")]
    only: Vec<String>,

    /// All but these settings.
    #[arg(long, global = true, value_name = "KEY", value_delimiter = ',', help_heading = "What is wanted")]
    skip: Vec<String>,

    /// In a container, count also what only its host can change.
    #[arg(long, global = true, help_heading = "What is wanted")]
    strict: bool,

    /// Show also what asks for nothing.
    #[arg(long, global = true)]
    all: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare every setting with its rule (the default). Changes nothing.
    Check,
    /// Say what would be changed: old and new value, reason, source, scope, risk, evidence.
    Plan,
    /// Change what should be changed: a drop-in for boot, then the running kernel; all of it or nothing.
    Apply(change::ApplyArguments),
    /// Compare what was applied with what is there now.
    Verify,
    /// Put back what was there before, to the byte.
    Revert(change::RevertArguments),
    /// Say what one setting does, why the value is wanted, and how to change it.
    Explain {
        /// The setting, as `tuner check --all` names it.
        key: String,
    },
    /// Measure disk, loopback and processors, and the ceiling that follows; about half a minute.
    Measure(measure::MeasureArguments),
    /// Measure with and without a change, pair by pair, and keep it only where a gain is proved.
    Ab(ab::AbArguments),
    /// Write what is wanted in the words of another tool.
    Export {
        /// sysctl.d, systemd, ansible, docker, compose, k8s, tuned or script.
        #[arg(long, value_name = "FORMAT", value_parser = look::format)]
        format: tuner::export::Format,
    },
    /// What a host can be for.
    Profile {
        #[command(subcommand)]
        what: ProfileVerb,
    },
    /// The JSON schema of the report.
    Schema {
        /// That of `measure` instead.
        #[arg(long)]
        measure: bool,
        /// That of `ab` instead.
        #[arg(long, conflicts_with = "measure")]
        ab: bool,
    },
}

#[derive(Subcommand)]
enum ProfileVerb {
    /// All profiles.
    List,
    /// One profile: its size on this host and its rules.
    Show {
        /// Its name.
        name: String,
    },
}

const EXAMPLES: &str = "Examples:
  tuner                                   the table, and what to do about what is low
  tuner plan --connections 100000         what would be changed for so many connections
  tuner plan --wishes kumomta.conf        what becomes of values found on a page
  tuner apply && tuner verify             make the changes, and see that they hold
  tuner revert                            put back what was there before
  tuner export --format ansible           the same for other hosts, as a playbook
  tuner measure --spool /var/spool/kumod  what this machine can do at most
  tuner ab --keys net.ipv4                is it worth it here? the lab measures, proof keeps it
  tuner check --json -                    the same as JSON, for a script
  tuner check --pid $(pidof kumod)        with the limits of the running daemon
  tuner explain net.core.somaxconn        one setting, with its source
  tuner check --spool /var/spool/kumod    with the disk and the file system of the spool
  tuner check --root /srv/image           a tree that looks like a host

A better value than the wanted one is kept; nothing is ever made worse. Settings whose need
counters can show are \"not needed\" until they do.

Exit codes: 0 nothing to change, 1 failed, 2 usage, 3 changes needed, 4 what was applied does not
hold, 5 conflict (another file wins at boot, a change by hand, a wish that would make something
worse), 6 only root or the host of this container can do it, 130 a comparison was interrupted.";

/// Why a verb did not do its work, and the code to end with.
pub(crate) struct Failure {
    code: u8,
    problem: String,
}

impl Failure {
    pub(crate) fn new(code: u8, problem: impl ToString) -> Self {
        Self { code, problem: problem.to_string() }
    }

    pub(crate) fn usage(problem: impl ToString) -> Self {
        Self::new(EXIT_USAGE, problem)
    }

    pub(crate) fn error(problem: impl ToString) -> Self {
        Self::new(EXIT_ERROR, problem)
    }
}

/// Runs one verb.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let common = &arguments.common;
    let done = match arguments.verb {
        None | Some(Verb::Check) => look::check(common),
        Some(Verb::Plan) => look::plan(common),
        Some(Verb::Apply(apply)) => change::apply(common, &apply),
        Some(Verb::Verify) => change::verify(common),
        Some(Verb::Revert(revert)) => change::revert(common, &revert),
        Some(Verb::Explain { key }) => look::explain(common, &key),
        Some(Verb::Measure(measure)) => measure::run(common, &measure),
        Some(Verb::Export { format }) => look::export(common, format),
        Some(Verb::Profile { what: ProfileVerb::List }) => look::profiles(),
        Some(Verb::Profile { what: ProfileVerb::Show { name } }) => look::profile(common, &name),
        Some(Verb::Ab(ab)) => ab::run(common, &ab),
        Some(Verb::Schema { measure, ab }) => {
            output::say(match (measure, ab) {
                (true, _) => tuner::measure::SCHEMA,
                (_, true) => tuner::ab::SCHEMA,
                _ => tuner::report::SCHEMA,
            });
            Ok(0)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("tuner: {}", failure.problem);
            ExitCode::from(failure.code)
        }
    }
}
