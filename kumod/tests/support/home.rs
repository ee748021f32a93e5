//! A folder with spool, log and policy, and kumod running in it.
//!
//! The folder outlives the process, so that a test can end the one, however rudely, and start another in its place.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{PATIENCE, eventually, until};

/// Lines on standard error that may wait to be looked at; what is printed after the start waits for nobody.
const LINES_MAX: usize = 1024;

pub(crate) struct Home {
    folder: tempfile::TempDir,
    spool: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let spool = folder.path().join("spool");
        Self { folder, spool }
    }

    /// With the spool on another file system.
    pub(crate) fn with_spool(spool: &Path) -> Self {
        Self { spool: spool.to_owned(), ..Self::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// Runs `kumod spool ACTION --spool DIR` with `flags` behind it, to its end.
    pub(crate) fn spool_command(&self, action: &str, flags: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumod"));
        command.args(["spool", action, "--spool"]).arg(&self.spool).args(flags);
        command.env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
    }

    /// What `kumod spool export` gives back of the segments that were set aside whole, if there are any.
    pub(crate) fn export_damaged(&self) -> Vec<Vec<u8>> {
        let damaged = self.segments().join("damaged");
        let names = |dir: &Path, end: &str| -> Vec<PathBuf> {
            let paths = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
            paths.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
        };
        if names(&damaged, ".segment").is_empty() {
            return Vec::new();
        }
        let to = self.path().join("exported");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumod"));
        command.args(["spool", "export", "--spool"]).arg(&damaged).arg("--to").arg(&to);
        let output = command.env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        names(&to, ".eml").iter().map(|path| fs::read(path).unwrap()).collect()
    }

    /// Where the log of the spool lies.
    pub(crate) fn segments(&self) -> PathBuf {
        self.spool.join("segments")
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.path().join("log")
    }

    /// Writes a policy file.
    pub(crate) fn policy(&self, text: &str) -> PathBuf {
        let path = self.path().join("policy.lua");
        fs::write(&path, text).unwrap();
        path
    }

    /// The command line with folders and free ports, and `flags` behind them.
    pub(crate) fn arguments(&self, flags: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = vec!["--hostname".into(), "mx.test".into()];
        all.extend(["--spool".into(), self.spool.display().to_string()]);
        all.extend(["--log-dir".into(), self.log_dir().display().to_string()]);
        for flag in ["--smtp-listen", "--http-listen"] {
            if !flags.contains(&"--policy") && !flags.contains(&flag) {
                all.extend([flag.into(), "127.0.0.1:0".into()]);
            }
        }
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        all
    }

    pub(crate) fn start(&self, flags: &[&str]) -> Kumod {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumod"));
        command.args(self.arguments(flags));
        Kumod::start(command).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    pub(crate) fn start_policy(&self, policy: &str) -> Kumod {
        let policy = self.policy(policy);
        self.start(&["--policy", policy.to_str().unwrap()])
    }

    /// With so many descriptors and no more.
    pub(crate) fn start_with_files(&self, files_max: u32, policy: &str) -> Kumod {
        let policy = self.policy(policy);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files_max}; exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_kumod"));
        command.args(self.arguments(&["--policy", policy.to_str().unwrap()]));
        Kumod::start(command).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// Behind a program that ends by becoming kumod, such as `env`.
    pub(crate) fn start_behind(&self, program: &[String], flags: &[&str]) -> Result<Kumod, Refusal> {
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).arg(env!("CARGO_BIN_EXE_kumod")).args(self.arguments(flags));
        Kumod::start(command)
    }

    /// Expects that it does not start.
    pub(crate) fn refused(&self, flags: &[&str]) -> Refusal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kumod"));
        command.args(self.arguments(flags));
        Kumod::start(command).err().expect("kumod should not have started")
    }

    /// All records in the log, in the order of the files.
    pub(crate) fn records(&self) -> Vec<Value> {
        let mut files: Vec<PathBuf> = match fs::read_dir(self.log_dir()) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        files.sort();
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
        // The last line may be half written when we look.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The records of one type and recipient, in order.
    pub(crate) fn records_of(&self, kind: &str, recipient: &str) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| record["type"] == kind && record["recipient"] == recipient);
        records
    }

    /// Waits for a record of one type and recipient.
    pub(crate) fn record(&self, kind: &str, recipient: &str) -> Value {
        eventually(&format!("a {kind} record of {recipient}"), || self.records_of(kind, recipient).pop())
    }
}

/// kumod, running.
pub(crate) struct Kumod {
    child: Child,
    pub(crate) smtp: Vec<SocketAddr>,
    pub(crate) http: SocketAddr,
    said: Arc<Mutex<String>>,
}

/// kumod, not started.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Kumod {
    fn start(mut command: Command) -> Result<Self, Refusal> {
        command.env("RUST_LOG", "info").env("NO_COLOR", "1");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, said) = listen_to(&mut child);
        let mut kumod = Self { child, smtp: Vec::new(), http: ([127, 0, 0, 1], 0).into(), said };
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if let Some(address) = line.strip_prefix("smtp listener on ") {
                kumod.smtp.push(address.parse().unwrap());
            } else if let Some(address) = line.strip_prefix("http listener on ") {
                kumod.http = address.parse().unwrap();
            } else if line == "initialization complete" {
                return Ok(kumod);
            }
        }
        let code = kumod.wait().code();
        let said = kumod.said();
        Err(Refusal { code, said })
    }

    /// The first SMTP listener.
    pub(crate) fn smtp(&self) -> SocketAddr {
        self.smtp[0]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that came on standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.said());
        self.said()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        // It may have ended already; until it is waited for, its number is nobody else's.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    fn wait(&mut self) -> ExitStatus {
        eventually("kumod to end", || self.child.try_wait().unwrap())
    }

    /// Status and text of an HTTP answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let agent =
            ureq::Agent::new_with_config(ureq::config::Config::builder().http_status_as_error(false).build());
        let mut answer = agent.get(format!("http://{}{path}", self.http)).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        number(&self.metric_value(name))
    }

    /// The value of a metric with one label, for one value of the label.
    pub(crate) fn metric_of(&self, name: &str, label: &str) -> u64 {
        let value = self.metric_value(name);
        let by_label = value.as_object().and_then(|labels| labels.values().next()).unwrap();
        number(&by_label[label])
    }

    fn metric_value(&self, name: &str) -> Value {
        let (status, text) = self.get(&format!("/metrics.json?prefix={name}"));
        assert_eq!(status, 200, "{text}");
        let mut all: Value = serde_json::from_str(&text).unwrap();
        all[name]["value"].take()
    }

    /// Waits until it answers for no message any more.
    pub(crate) fn drained(&self) {
        until("an empty queue", || self.metric("message_count") == 0);
    }
}

impl Drop for Kumod {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("kumod said:\n{}", self.said());
        }
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a whole number is wanted: {value}"))
}

/// Keeps what it says, and hands over the lines until nobody wants them any more.
fn listen_to(child: &mut Child) -> (Receiver<String>, Arc<Mutex<String>>) {
    let (sender, lines) = sync_channel(LINES_MAX);
    let said = Arc::new(Mutex::new(String::new()));
    let (stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&said));
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
            drop(kept);
            let _ = sender.try_send(line);
        }
    });
    (lines, said)
}
