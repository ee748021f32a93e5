//! The laboratory as a child process: one run, its record, and its end whatever happens.
//!
//! Owns the child's command line, its process group, the longest time it may take, and the signals that ask tuner to stop. The
//! child is in a group of its own, so a Ctrl-C reaches tuner alone, which asks the group to end, waits, and kills what stays.
//! What the laboratory says goes to files in the folder of the comparison, never through a pipe that could fill up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use reports::results::Entry;
use reports::run::{Kind, RECORD_NAME, Record, RecordError};
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

use super::Side;
use crate::table::harmless;

/// What a run may take beyond the seconds that were asked for: starting, warming up, draining, auditing.
const RUN_OVERHEAD_MAX: Duration = Duration::from_secs(180);
/// How long the laboratory may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(15);
/// The most that is read of what the laboratory said, bytes.
const SAID_BYTES_MAX: u64 = 4096;
/// Lines of it that an error repeats.
const SAID_LINES: usize = 5;
/// What it says on standard output, in the folder of the comparison.
const OUTPUT: &str = "lab.out";
/// What it says on standard error.
const LOG: &str = "lab.log";

/// A laboratory and where its runs go.
#[derive(Debug)]
pub struct Lab {
    program: PathBuf,
    folder: PathBuf,
    seconds: u64,
    body_size: String,
    runtime: Runtime,
    signals: Signals,
}

#[derive(Debug)]
struct Signals([Listener; 3]);

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Host: no signals, no folder, no process.
    #[error("{what}: {error}")]
    Host {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// The laboratory ended with an error.
    #[error("{}: {how}\n{said}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// The record is not what a run leaves.
    #[error("the record of the laboratory cannot be used: {0}")]
    Record(#[from] RecordError),
    /// Somebody asked tuner to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Lab {
    /// A laboratory whose runs go below `folder`, which must be there. From now on SIGINT, SIGTERM and SIGHUP end the next or the
    /// current run instead of this process.
    ///
    /// # Errors
    /// [`LabError::Host`].
    pub fn new(program: PathBuf, folder: PathBuf, seconds: u64, body_size: String) -> Result<Self, LabError> {
        let wrong = |error| LabError::Host { what: "listen for signals".into(), error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
        let signals = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).map_err(wrong);
            Signals([
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ])
        };
        Ok(Self { program, folder, seconds, body_size, runtime, signals })
    }

    /// One run with the values of `side` in force.
    ///
    /// # Errors
    /// See [`LabError`]. Lost mail is no error here: it stands in the record.
    pub fn run(&mut self, side: Side) -> Result<Entry, LabError> {
        let host = |what: String| move |error| LabError::Host { what, error };
        let output = self.folder.join(OUTPUT);
        let log = self.folder.join(LOG);
        let out = File::create(&output).map_err(host(format!("write {}", output.display())))?;
        let errors = OpenOptions::new().create(true).append(true).open(&log);
        let errors = errors.map_err(host(format!("write {}", log.display())))?;
        let mut command = Command::new(&self.program);
        command.arg("--once").arg("--seconds").arg(self.seconds.to_string());
        command.arg("--body-size").arg(&self.body_size);
        command.arg("--results").arg(self.folder.join(side.as_str()));
        // What it says is kept in a file.
        command.env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
        let child = command.spawn().map_err(host(format!("start {}", self.program.display())))?;
        let limit = Duration::from_secs(self.seconds) + RUN_OVERHEAD_MAX;
        let status = self.runtime.block_on(end_of(child, &mut self.signals, limit))?;
        self.entry(status, &output, &log)
    }

    /// Writes the labels of a run into its record, so that `reports compare before after` reads them.
    ///
    /// # Errors
    /// [`LabError::Record`].
    pub fn label(&self, entry: &Entry) -> Result<(), LabError> {
        let folder = entry.folder.as_deref().unwrap_or(&self.folder);
        Ok(entry.record.write(&folder.join(RECORD_NAME))?)
    }

    /// The last line of standard output names the folder; where mail was lost the laboratory fails and leaves it all the same.
    fn entry(&self, status: Option<ExitStatus>, output: &Path, log: &Path) -> Result<Entry, LabError> {
        let failed = |how: String| {
            let said = said(log).into_iter().rev().take(SAID_LINES).collect::<Vec<_>>();
            let said = said.iter().rev().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
            let said = format!("{said}\n  (all of it is in {})", log.display());
            LabError::Failed { program: self.program.clone(), how, said }
        };
        let Some(status) = status else {
            return Err(failed(format!(
                "it took more than {} s and was ended",
                self.seconds + RUN_OVERHEAD_MAX.as_secs()
            )));
        };
        let folder =
            said(output).pop().map(PathBuf::from).filter(|folder| folder.join(RECORD_NAME).is_file());
        let mut record = match &folder {
            Some(folder) => Record::load(folder)?,
            None => {
                return Err(failed(format!(
                    "it ended with {status}, and named no folder with a {RECORD_NAME}"
                )));
            }
        };
        record.runs.retain(|run| run.kind == Kind::Kumod);
        let is_unsound = record.runs.iter().any(|run| run.lost + run.corrupted > 0);
        if !status.success() && !is_unsound {
            return Err(failed(format!("it ended with {status}")));
        }
        if record.runs.len() != 1 {
            return Err(failed(format!(
                "its record has {} runs through kumod, one is expected",
                record.runs.len()
            )));
        }
        Ok(Entry::new(record, &folder.unwrap_or_default()))
    }
}

impl Signals {
    /// Waits until somebody asks for the end.
    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// How the child ended; `None` where it took too long and was ended.
async fn end_of(
    mut child: std::process::Child,
    signals: &mut Signals,
    limit: Duration,
) -> Result<Option<ExitStatus>, LabError> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut waiting = tokio::task::spawn_blocking(move || child.wait());
    let (asked, ended) = tokio::select! {
        biased;
        () = signals.asked() => (true, None),
        ended = &mut waiting => (false, Some(ended)),
        () = tokio::time::sleep(limit) => (false, None),
    };
    let broken = |error: io::Error| LabError::Host { what: "wait for the laboratory".into(), error };
    if let Some(ended) = ended {
        return ended.map_err(|error| broken(io::Error::other(error)))?.map(Some).map_err(broken);
    }
    let tell = |signal| group.map(|group| rustix::process::kill_process_group(group, signal));
    // A group that is gone already needs no signal.
    let _ = tell(Signal::TERM);
    if tokio::time::timeout(END_MAX, &mut waiting).await.is_err() {
        let _ = tell(Signal::KILL);
        let _ = waiting.await;
    }
    if asked { Err(LabError::Interrupted) } else { Ok(None) }
}

/// The last lines of a file that a program wrote, without empty ones.
fn said(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SAID_BYTES_MAX)))?;
        file.take(SAID_BYTES_MAX).read_to_end(&mut bytes)
    });
    // Where nothing can be read, nothing was said.
    let _ = read;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().map(|line| harmless(line.trim_end())).filter(|line| !line.is_empty()).collect()
}

/// Makes a folder for one comparison below `results`.
///
/// # Errors
/// [`LabError::Host`].
pub fn make_folder(results: &Path) -> Result<PathBuf, LabError> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string().replace('.', "");
    let folder = results.join(format!("{time}-ab"));
    let made = fs::create_dir_all(&folder).and_then(|()| folder.canonicalize());
    made.map_err(|error| LabError::Host { what: format!("make {}", folder.display()), error })
}
