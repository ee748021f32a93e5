//! The command `tuner`: prints what the library found.
//!
//! Owns the command line and the exit codes. It changes no setting; it writes to its own output, to the file that `--json`
//! names, and for a moment to the directory in which io_uring is tried.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use tuner::{Finding, Host, Rule};

const EXIT_ERROR: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_CHANGES_NEEDED: u8 = 3;

/// Version of the JSON report.
const SCHEMA_VERSION: u32 = 1;

/// Checks the settings of a host that sends and receives mail in volume. Changes no setting.
#[derive(Parser)]
#[command(name = "tuner", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Also write the findings as JSON to FILE; `-` writes them to standard output instead of the table.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Judge the copy of /proc under DIR instead of the running host.
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Try io_uring in DIR, where the spool is to lie, instead of the directory for temporary files.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "root")]
    spool: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare every setting with its rule (the default).
    Check,
    /// Say what one setting does, why the value is wanted, and how to change it.
    Explain {
        /// The setting, as `tuner check` names it.
        key: String,
    },
}

const EXAMPLES: &str = "Examples:
  tuner                                   the table, and what to do about what is low
  tuner check --json -                    the same as JSON, for a script
  tuner explain net.core.somaxconn        one setting, with its source
  tuner check --spool /var/spool/kumod    io_uring tried on the file system of the spool
  tuner check --root /srv/image           a copy of /proc in /srv/image/proc

A better value than the wanted one is kept; advice never lowers a setting. io_uring is
reported for information and never asks for a change.

Exit codes: 0 nothing to change, 1 failed, 2 usage, 3 changes needed.";

/// The JSON report.
#[derive(Serialize)]
struct Report {
    schema_version: u32,
    kernel: Option<String>,
    changes_needed: bool,
    findings: Vec<Finding>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let host = match arguments.host() {
        Ok(host) => host,
        Err(problem) => return fail(EXIT_USAGE, &problem),
    };
    match &arguments.verb {
        None | Some(Verb::Check) => check(&host, arguments.json.as_deref()),
        Some(Verb::Explain { key }) => explain(&host, key, arguments.json.as_deref()),
    }
}

impl Arguments {
    /// The host that is meant.
    fn host(&self) -> Result<Host, String> {
        match (&self.root, &self.spool) {
            (Some(root), _) => Host::at(root).map_err(|error| error.to_string()),
            (None, Some(spool)) if !spool.is_dir() => {
                Err(format!("--spool: {} is not a directory", spool.display()))
            }
            (None, Some(spool)) => Ok(Host::running().with_spool(spool)),
            (None, None) => Ok(Host::running()),
        }
    }
}

fn check(host: &Host, json: Option<&Path>) -> ExitCode {
    let findings = tuner::check(host);
    if json != Some(Path::new("-")) {
        say(&tuner::table::render(&findings));
    }
    report(host, findings, json)
}

fn explain(host: &Host, key: &str, json: Option<&Path>) -> ExitCode {
    let Some(rule) = tuner::rule::built_in().iter().find(|rule| rule.key == key) else {
        let known: Vec<_> = tuner::rule::built_in().iter().map(|rule| rule.key.as_str()).collect();
        return fail(EXIT_USAGE, &format!("no rule is called `{key}`; there are: {}", known.join(", ")));
    };
    let finding = tuner::finding::judge(rule, host);
    if json != Some(Path::new("-")) {
        say(&explanation(rule, &finding));
    }
    report(host, vec![finding], json)
}

fn explanation(rule: &Rule, finding: &Finding) -> String {
    format!(
        "{}\n  current: {}\n  wanted:  {}\n  verdict: {}\n  reaches: the {}\n  why:     {}\n  remedy:  {}\n  source:  {}\n",
        rule.key,
        finding.current,
        finding.wanted,
        finding.verdict,
        rule.scope,
        rule.why,
        rule.remedy,
        rule.source
    )
}

fn report(host: &Host, findings: Vec<Finding>, json: Option<&Path>) -> ExitCode {
    let changes_needed = tuner::changes_needed(&findings);
    if let Some(path) = json {
        let report = Report {
            schema_version: SCHEMA_VERSION,
            kernel: host.kernel_release(),
            changes_needed,
            findings,
        };
        if let Err(error) = write_json(&report, path) {
            return fail(
                EXIT_ERROR,
                &format!("the report could not be written to {}: {error}", path.display()),
            );
        }
    }
    if changes_needed { ExitCode::from(EXIT_CHANGES_NEEDED) } else { ExitCode::SUCCESS }
}

fn write_json(report: &Report, path: &Path) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    if path == Path::new("-") {
        return writeln!(io::stdout(), "{text}");
    }
    fs::write(path, text + "\n")
}

/// A reader that has seen enough closes the pipe (`tuner | head`); the exit code still tells the verdict.
fn say(text: &str) {
    let _reader_may_be_gone = io::stdout().write_all(text.as_bytes());
}

fn fail(code: u8, problem: &str) -> ExitCode {
    eprintln!("tuner: {problem}");
    ExitCode::from(code)
}
