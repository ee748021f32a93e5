//! The command `traffic-gen`: reads the flags, runs the load, shows progress, writes the reports.
//!
//! Exit codes: 0 all sent, 1 a message failed or is unknown or was never sent, 2 wrong flags or a host that
//! may not be loaded, 130 ended by a signal with the report written.

#![expect(clippy::print_stdout, reason = "a command-line tool prints its summary on standard output")]

mod flags;
mod progress;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::thread;
use std::time::SystemTime;

use clap::Parser;
use reports::latency::HlogWriter;
use tokio::signal::unix::{Signal, SignalKind, signal};
use traffic_gen::{Control, Observer, Plan, Report, Second, run_observed};

use crate::flags::{CommandLine, Flags, Task};
use crate::progress::Progress;

fn main() -> ExitCode {
    let command = CommandLine::parse();
    match command.task {
        Some(Task::Audit(flags)) => flags.run(),
        None => load(&command.run),
    }
}

/// One run, as the flags describe it.
fn load(flags: &Flags) -> ExitCode {
    let plan = match flags.plan() {
        Ok(plan) => plan,
        Err(refusal) => {
            eprintln!("traffic-gen: {}", refusal.text);
            return ExitCode::from(refusal.exit_code);
        }
    };
    match run(flags, plan) {
        Ok(report) => ExitCode::from(report.exit_code()),
        Err(error) => {
            eprintln!("traffic-gen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, plan: Plan) -> Result<Report, String> {
    let control = Control::default();
    stop_on_signals(control.clone()).map_err(|error| format!("cannot catch signals: {error}"))?;
    let mut watcher = Watcher::new(flags, &plan)?;
    // A report that cannot be written should be known before the run, not after it.
    let json = flags.output.json.as_ref().map(|path| File::create(path).map_err(|error| (path, error)));
    let json =
        json.transpose().map_err(|(path, error)| format!("cannot write {}: {error}", path.display()))?;
    let report = run_observed(plan, &control, &mut watcher);
    let hdr = watcher.finish();
    print!("{}", summary::text(&report));
    if let Some(json) = json {
        write_json(json, &report).map_err(|error| format!("cannot write the report: {error}"))?;
    }
    hdr.map_err(|error| format!("cannot write the histogram log: {error}"))?;
    Ok(report)
}

fn write_json(mut file: File, report: &Report) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    file.write_all(text.as_bytes())
}

/// The first signal ends the run, the second does not wait for replies.
fn stop_on_signals(control: Control) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt): (Signal, Signal) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            control.stop();
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait)).map(drop)
}

/// Shows the progress and writes the histogram log, second by second.
struct Watcher {
    progress: Option<Progress>,
    hdr: Option<io::Result<HlogWriter<BufWriter<File>>>>,
}

impl Watcher {
    fn new(flags: &Flags, plan: &Plan) -> Result<Self, String> {
        let open = |path| {
            let file = BufWriter::new(File::create(path)?);
            HlogWriter::new(file, SystemTime::now(), &format!("traffic-gen run {}", plan.run_id))
        };
        let hdr = flags.output.hdr.as_ref().map(|path| open(path).map_err(|error| (path, error)));
        let hdr =
            hdr.transpose().map_err(|(path, error)| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { progress: (!flags.output.quiet).then(Progress::new), hdr: hdr.map(Ok) })
    }

    /// The first error of the log, if there was one.
    fn finish(self) -> io::Result<()> {
        if let Some(progress) = self.progress {
            progress.finish();
        }
        self.hdr.map_or(Ok(()), |hdr| hdr.and_then(HlogWriter::finish).map(drop))
    }
}

impl Observer for Watcher {
    fn second(&mut self, second: &Second<'_>) {
        if let Some(progress) = &mut self.progress {
            progress.show(second);
        }
        if let Some(Ok(hdr)) = &mut self.hdr
            && let Err(error) = hdr.write(second.latency, second.offset, second.length)
        {
            // Mail goes on; the error ends the command when the report is out.
            self.hdr = Some(Err(error));
        }
    }
}
