//! The command `traffic-gen audit`: reads reports and ledger, compares them, prints the verdict.
//!
//! Refuses reports that cannot be parts of the same run; a file or a sink that cannot be read ends it with the
//! reason. What cannot be told is never called clean.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use message::traffic::RunId;
use traffic_gen::audit::{Audit, Sent, Source};
use traffic_gen::parse;

const EXAMPLES: &str = "\
Examples:
  traffic-gen -n 100k --target 127.0.0.1:2025 --json run.json
  traffic-gen audit --report run.json                    the sink on this host, as it stands now
  traffic-gen audit --report run.json --settle 10s       once nothing has arrived for 10 seconds
  traffic-gen audit --report a.json --report b.json --sink http://sink.lan:8002
  curl -o ledger.json http://127.0.0.1:8002/ledger/RUN
  traffic-gen audit --report run.json --sink ledger.json without the sink

A message is lost when its final 250 was read and the sink does not have it.
Refused messages, and those whose reply was never read, may arrive or not.
Second deliveries, damaged bodies and numbers that were never sent are not clean.
A message that was overtaken is listed and clean, because SMTP promises no order.
Exit codes: 0 clean, 1 not clean, not certain, or without an answer, 2 usage.";

/// Compares what traffic-gen sent with what arrived at the sink, to the message
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditFlags {
    /// A report of traffic-gen (--json); several for the parts of a run, or for several runs
    #[arg(long, value_name = "FILE", required = true)]
    report: Vec<PathBuf>,
    /// Where the ledger is: the HTTP address of the sink, or a file with its answer to GET /ledger/RUN
    #[arg(long, value_name = "URL|FILE", default_value = "http://127.0.0.1:8002")]
    sink: Source,
    /// Ask the sink until nothing has arrived for so long, for mail that still waits in a relay
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    settle: Option<Duration>,
    /// Write the verdict with all lists to this file; - is standard output, in place of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl AuditFlags {
    /// Audits all runs and says how the command ends.
    pub(crate) fn run(&self) -> ExitCode {
        let runs = match self.runs() {
            Ok(runs) => runs,
            Err(problem) => {
                eprintln!("traffic-gen: {problem}");
                return ExitCode::from(2);
            }
        };
        match self.audit(&runs) {
            Ok(audits) => ExitCode::from(u8::from(!audits.iter().all(Audit::is_clean))),
            Err(problem) => {
                eprintln!("traffic-gen: {problem}");
                ExitCode::FAILURE
            }
        }
    }

    fn runs(&self) -> Result<Vec<Sent>, String> {
        let reports = self.report.iter().map(|path| read_report(path)).collect::<Result<Vec<_>, _>>()?;
        Sent::combine(reports).map_err(|error| error.to_string())
    }

    fn audit(&self, runs: &[Sent]) -> Result<Vec<Audit>, String> {
        let to_stdout = self.json.as_deref() == Some(Path::new("-"));
        let mut audits = Vec::with_capacity(runs.len());
        for sent in runs {
            let (ledger, rests) = self
                .sink
                .read(&sent.run_id, self.settle.unwrap_or_default())
                .map_err(|error| error.to_string())?;
            let mut audit = Audit::of(sent, &ledger);
            if !rests {
                audit.uncertain.push("Arrivals did not come to rest within an hour.".to_owned());
            }
            if !to_stdout {
                print(&audit.to_string())?;
            }
            audits.push(audit);
        }
        let json = || serde_json::to_string_pretty(&audits).map(|text| text + "\n");
        match &self.json {
            Some(_) if to_stdout => print(&json().map_err(|error| error.to_string())?)?,
            Some(path) => fs::write(path, json().map_err(|error| error.to_string())?)
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?,
            None => {}
        }
        Ok(audits)
    }
}

fn read_report(path: &Path) -> Result<Sent, String> {
    let wrong = |problem: String| {
        format!(
            "cannot use {} as a report: {problem}; name a file that traffic-gen --json wrote",
            path.display()
        )
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let sent: Sent = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    RunId::new(&sent.run_id).map_err(|error| wrong(error.to_string()))?;
    Ok(sent)
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}
