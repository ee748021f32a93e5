//! The programs under measurement, as child processes.
//!
//! It owns where the binaries are, how they are started, when they are ready, what they use, and that none outlives the
//! laboratory: a process that is dropped is asked to stop and, past a named limit, killed. Each has a process group of its
//! own, so that Ctrl-C reaches the laboratory alone and the order of stopping is ours. A program that ends early or never
//! gets ready is an error that shows its last words.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use reports::run::ProcessUse;
use reports::sample::{ProcessSample, ProcessSampler};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::{During, Error, Result};
use crate::stop::Stop;

/// A server must say `initialization complete` within this time; writing spare segments through is part of it.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(120);
/// A process that was asked to stop is killed after this time.
pub const STOP_WAIT_MAX: Duration = Duration::from_secs(15);
/// How often a running program is looked at.
pub const TICK: Duration = Duration::from_millis(250);
/// Lines of standard error that may wait to be looked at; more are only written to the file.
const LINES_MAX: usize = 256;
/// Lines shown when a program ends early.
const LAST_WORDS_MAX: usize = 12;
/// A floor program prints one short line; nothing else is taken from standard output.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    /// Where it is not in that folder.
    kumod: Option<PathBuf>,
    /// The laboratory's own executable, which is also the floor.
    pub lab: PathBuf,
}

impl Programs {
    /// The programs beside the running executable.
    ///
    /// # Errors
    /// [`Error::Host`] when the executable has no path.
    pub fn beside_this() -> Result<Self> {
        let lab = std::env::current_exe().during(|| "find this executable".into())?;
        let folder = lab.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        Ok(Self { folder, kumod: None, lab })
    }

    /// Programs in `folder`; `lab` is the executable that has the floor inside.
    pub fn in_folder(folder: &Path, lab: &Path) -> Self {
        Self { folder: folder.to_path_buf(), kumod: None, lab: lab.to_path_buf() }
    }

    /// The same programs with another kumod.
    pub fn with_kumod(&self, kumod: &Path) -> Self {
        Self { kumod: Some(kumod.to_path_buf()), ..self.clone() }
    }

    /// The program called `name`.
    ///
    /// # Errors
    /// [`Error::Operator`] with the remedy when it is not there.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        let other = self.kumod.clone().filter(|_| name == "kumod");
        let path = other.unwrap_or_else(|| self.folder.join(name));
        if path.is_file() {
            return Ok(path);
        }
        let shown = path.display();
        Err(Error::Operator(format!("{shown} is missing; build it with: cargo build --release -p {name}")))
    }
}

/// How to start a process.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What messages and log files call it.
    pub name: &'static str,
    /// In front of the executable: a program with arguments that starts it in its own place; usually nothing.
    pub before: Vec<OsString>,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to its environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// Standard error goes to `NAME.log` here, appended.
    pub log_folder: PathBuf,
}

/// Arguments of mixed kinds as the operating system wants them.
#[macro_export]
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => { vec![$(std::ffi::OsString::from($argument)),*] };
}

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    pid: Pid,
    ended: OwnedFd,
    lines: Receiver<String>,
    last_words: VecDeque<String>,
    smtp: Option<SocketAddr>,
    http: Option<SocketAddr>,
    latest: ProcessSample,
    log: PathBuf,
}

impl Process {
    /// Starts it and returns at once.
    ///
    /// # Errors
    /// [`Error::Host`] when it cannot be started or its log not be written.
    pub fn start(launch: &Launch) -> Result<Self> {
        let describe = || format!("start {}", launch.program.display());
        let log = launch.log_folder.join(format!("{}.log", launch.name));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.during(|| format!("write {}", log.display()))?;
        let mut words = launch.before.iter().map(OsString::as_os_str).chain([launch.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .args(&launch.arguments)
            .envs(launch.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().during(describe)?;
        // The child has just been started, so its number is not 0.
        let pid = Pid::from_child(&child);
        let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty()).during(describe)?;
        let (sender, lines) = sync_channel(LINES_MAX);
        if let Some(stderr) = child.stderr.take() {
            let copy = move || copy_lines(stderr, file, &sender);
            let thread = std::thread::Builder::new().name(format!("{}-log", launch.name)).spawn(copy);
            thread.during(describe)?;
        }
        Ok(Self {
            name: launch.name,
            child,
            pid,
            ended,
            lines,
            last_words: VecDeque::new(),
            smtp: None,
            http: None,
            latest: ProcessSample::default(),
            log,
        })
    }

    /// Starts a server and waits until it says `initialization complete`.
    ///
    /// # Errors
    /// [`Error::Peer`] with its last words when it ends early or takes longer than [`READY_WAIT_MAX`];
    /// [`Error::Interrupted`] when the operator had enough.
    pub fn start_server(launch: &Launch, stop: &Stop) -> Result<Self> {
        let mut process = Self::start(launch)?;
        let deadline = Instant::now() + READY_WAIT_MAX;
        loop {
            match process.lines.recv_timeout(TICK) {
                Ok(line) if line.contains("initialization complete") => return Ok(process),
                Ok(line) => process.note(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(process.failed("ended before it was ready"));
                }
            }
            stop.check()?;
            if Instant::now() > deadline {
                return Err(process.failed(&format!("was not ready after {} s", READY_WAIT_MAX.as_secs())));
            }
        }
    }

    fn note(&mut self, line: String) {
        if let Some(address) = announced(&line, "smtp listener on ") {
            self.smtp.get_or_insert(address);
        }
        if let Some(address) = announced(&line, "http listener on ") {
            self.http.get_or_insert(address);
        }
        self.last_words.push_back(line);
        if self.last_words.len() > LAST_WORDS_MAX {
            self.last_words.pop_front();
        }
    }

    /// The error for a program that did not do its part, with its last words.
    pub fn failed(&mut self, how: &str) -> Error {
        while let Ok(line) = self.lines.try_recv() {
            self.note(line);
        }
        let words: Vec<&str> = self.last_words.iter().map(String::as_str).collect();
        let log = self.log.display();
        Error::Peer(format!("{} {how}; its log is {log}, the end of it:\n{}", self.name, words.join("\n")))
    }

    /// Its number, also after its end.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it takes mail.
    ///
    /// # Errors
    /// [`Error::Peer`] when it did not announce a listener.
    pub fn smtp(&self) -> Result<SocketAddr> {
        self.smtp.ok_or_else(|| Error::Peer(format!("{} did not announce an smtp listener", self.name)))
    }

    /// Where it answers HTTP.
    ///
    /// # Errors
    /// [`Error::Peer`] when it did not announce a listener.
    pub fn http(&self) -> Result<SocketAddr> {
        self.http.ok_or_else(|| Error::Peer(format!("{} did not announce an http listener", self.name)))
    }

    /// What it has used so far. The peak of its memory is kept after it has ended.
    pub fn sample(&mut self) -> ProcessSample {
        if let Some(mut sample) = ProcessSampler::read(self.child.id(), Path::new("/")) {
            sample.rss_peak_bytes = sample.rss_peak_bytes.max(self.latest.rss_peak_bytes);
            sample.write_bytes = sample.write_bytes.max(self.latest.write_bytes);
            self.latest = sample;
        }
        self.latest
    }

    /// What it has used since `first`.
    pub fn used_since(&mut self, first: &ProcessSample) -> ProcessUse {
        ProcessUse::between(first, &self.sample())
    }

    /// Waits at most `wait` for its end; true once it has ended. It is not reaped, so it can still be sampled.
    ///
    /// # Errors
    /// [`Error::Host`] when the kernel refuses to wait.
    pub fn has_ended(&self, wait: Duration) -> Result<bool> {
        let timeout = rustix::time::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut ended = [PollFd::new(&self.ended, PollFlags::IN)];
        match rustix::event::poll(&mut ended, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error).during(|| format!("wait for {}", self.name)),
        }
    }

    /// Waits until it ends by itself, calling `tick` every [`TICK`]; fails after `limit`.
    ///
    /// # Errors
    /// [`Error::Peer`] past the limit, [`Error::Interrupted`], or what `tick` fails with.
    pub fn wait(
        &mut self,
        limit: Duration,
        stop: &Stop,
        mut tick: impl FnMut() -> Result<()>,
    ) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while !self.has_ended(TICK)? {
            self.sample();
            tick()?;
            stop.check()?;
            if Instant::now() > deadline {
                return Err(self.failed(&format!("was still running after {} s", limit.as_secs())));
            }
        }
        self.sample();
        self.child.wait().during(|| format!("wait for {}", self.name))
    }

    /// What it wrote to standard output. Call it after the end.
    ///
    /// # Errors
    /// [`Error::Host`] when the pipe cannot be read.
    pub fn output(&mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            let read = stdout.take(OUTPUT_BYTES_MAX).read_to_string(&mut text);
            read.during(|| format!("read what {} printed", self.name))?;
        }
        Ok(text)
    }

    /// SIGKILL, as a crash would be: no chance to flush anything.
    ///
    /// # Errors
    /// [`Error::Host`] when the signal is refused.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().during(|| format!("kill {}", self.name))?;
        self.child.wait().during(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM, and after [`STOP_WAIT_MAX`] SIGKILL.
    ///
    /// # Errors
    /// [`Error::Peer`] when it had to be killed, [`Error::Host`] when it cannot be waited for.
    pub fn stop(mut self) -> Result<()> {
        if self.take_down()? {
            return Ok(());
        }
        let limit = STOP_WAIT_MAX.as_secs();
        Err(self.failed(&format!("did not stop within {limit} s of SIGTERM and was killed")))
    }

    /// True when it went of its own accord.
    fn take_down(&mut self) -> Result<bool> {
        if self.child.try_wait().during(|| format!("wait for {}", self.name))?.is_some() {
            return Ok(true);
        }
        // A refusal can only mean that it has just ended; the wait below finds out.
        let _ = rustix::process::kill_process(self.pid, Signal::TERM);
        let willing = self.has_ended(STOP_WAIT_MAX)?;
        if !willing {
            self.child.kill().during(|| format!("kill {}", self.name))?;
        }
        self.child.wait().during(|| format!("wait for {}", self.name))?;
        Ok(willing)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to tell about a failure here.
        let _ = self.take_down();
    }
}

/// Copies standard error line by line to the log, and to whoever waits for the server to get ready.
fn copy_lines(stderr: impl Read, mut log: File, lines: &SyncSender<String>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        // A log that cannot be written must not stop the program that writes it.
        let _ = log.write_all(&line);
        let _ = lines.try_send(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

/// The address behind `prefix` in a line of a server's log.
fn announced(line: &str, prefix: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(prefix)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn launch(folder: &Path, script: &str) -> Launch {
        let arguments = arguments!["-c", script];
        let log_folder = folder.to_path_buf();
        let (name, program, before) = ("script", "/bin/sh".into(), Vec::new());
        Launch { name, before, program, arguments, environment: &[], log_folder }
    }

    #[test]
    fn a_server_announces_itself_and_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo 'smtp listener on 127.0.0.1:25' >&2; echo 'http listener on [::1]:80' >&2; \
                      echo 'initialization complete' >&2; exec sleep 1000";
        let mut server = Process::start_server(&launch(folder.path(), script), &Stop::default()).unwrap();
        assert_eq!(server.smtp().unwrap().port(), 25);
        assert_eq!(server.http().unwrap().port(), 80);
        assert!(server.sample().rss_peak_bytes > 0);
        server.stop().unwrap();
        let log = std::fs::read_to_string(folder.path().join("script.log")).unwrap();
        assert!(log.ends_with("initialization complete\n"));
    }

    #[test]
    fn an_early_end_shows_the_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let script = launch(folder.path(), "echo 'port 25 is taken' >&2; exit 1");
        let error = Process::start_server(&script, &Stop::default()).unwrap_err().to_string();
        assert!(error.contains("port 25 is taken"), "{error}");
    }

    #[test]
    fn a_tool_is_waited_for_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut tool = Process::start(&launch(folder.path(), "echo result; exit 3")).unwrap();
        let status = tool.wait(Duration::from_secs(60), &Stop::default(), || Ok(())).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(tool.output().unwrap(), "result\n");
    }

    #[test]
    fn what_stands_in_front_starts_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let before = arguments!["/usr/bin/env", "PLACE=core 1"];
        let mut tool = Process::start(&Launch { before, ..launch(folder.path(), "echo $PLACE") }).unwrap();
        assert!(tool.wait(Duration::from_secs(60), &Stop::default(), || Ok(())).unwrap().success());
        assert_eq!(tool.output().unwrap(), "core 1\n");
    }

    #[test]
    fn a_missing_program_names_the_remedy() {
        let programs = Programs::in_folder(Path::new("/nowhere"), Path::new("/nowhere/lab"));
        let error = programs.find("kumod").unwrap_err().to_string();
        assert!(error.contains("cargo build --release -p kumod"), "{error}");
    }
}
