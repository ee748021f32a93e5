//! Programs of others that a test starts, waits for and ends.
//!
//! Nothing here waits for time to pass: conditions are looked at until they hold, and a test whose condition never
//! holds fails after [`PATIENCE`]. A program runs in a process group of its own and goes with its [`Program`], by
//! number, with everything that it started.

#![allow(dead_code, reason = "each test program uses its part")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// How long a condition may need at most; on an idle host all of them hold at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the program lies; where it does not, says that the test is skipped.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The system's own programs are not in everybody's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: {name} is not installed; scripts/setup installs it");
    }
    found
}

/// Whether the test runs as root; where it does not, says what for it is needed and that the test is skipped.
pub(crate) fn root(reason: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {reason}, which only root can do");
    }
    root
}

/// A free port of 127.0.0.1 for a program that cannot choose one itself.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Looks until there is something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        std::thread::park_timeout(PAUSE);
    }
}

/// Runs it to its end, with nothing to read, and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Both streams of a program that ended, for a message of failure.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream).into_owned()).concat()
}

/// A folder that programs under other names may use, too.
pub(crate) fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key: the paths of their files in PEM.
pub(crate) fn certificate(folder: &Path) -> Option<(String, String)> {
    let mut command = Command::new(find("openssl")?);
    command.current_dir(folder).args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=lab.test", "-addext", "subjectAltName=DNS:lab.test,IP:127.0.0.1"]);
    // What vouches for others by its own word must not stand for a server, some libraries say.
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", "key.pem", "-out", "certificate.pem"]);
    let made = output(&mut command);
    assert!(made.status.success(), "{}", said(&made));
    let path = |name: &str| folder.join(name).display().to_string();
    Some((path("certificate.pem"), path("key.pem")))
}

/// A program that runs until this is dropped.
pub(crate) struct Program {
    child: Child,
    group: Pid,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).process_group(0).spawn().unwrap();
        let group = Pid::from_child(&child);
        Self { child, group }
    }

    /// What it writes to its standard error, where that was asked for; once.
    pub(crate) fn errors(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process_group(self.group, signal).unwrap();
    }

    /// Waits until it takes connections.
    pub(crate) fn listens(mut self, address: SocketAddr) -> Self {
        until("a program listens", || {
            assert!(self.child.try_wait().unwrap().is_none(), "the program ended before it listened");
            TcpStream::connect(address).ok()
        });
        self
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::TERM);
        let _ = self.child.wait();
        let begin = Instant::now();
        // What it started ends after it.
        while test_kill_process_group(self.group).is_ok() {
            if begin.elapsed() > PATIENCE {
                let _ = kill_process_group(self.group, Signal::KILL);
                return;
            }
            std::thread::park_timeout(PAUSE);
        }
    }
}
