//! The program itself: its command line, its words at the start, its end, and curl as a client that others wrote.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kumo-proxy");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The running program; killed when dropped.
struct Running {
    child: Child,
    proxy: SocketAddr,
    http: SocketAddr,
}

impl Running {
    fn start(flags: &[&str]) -> Self {
        Self::start_behind(Command::new(PROGRAM), flags)
    }

    /// With a command that ends in the program.
    fn start_behind(mut command: Command, flags: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]).args(flags);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut address = |prefix: &str| -> SocketAddr {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(prefix).unwrap_or_else(|| panic!("{line}")).parse().unwrap()
        };
        let (proxy, http) = (address("proxy listener on "), address("http listener on "));
        assert_eq!(lines.next().unwrap().unwrap(), "initialization complete");
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
        Self { child, proxy, http }
    }
}

impl Running {
    /// Asks the program to stop, which is the child of whatever it was started behind, and waits until all is over.
    fn stop(mut self) -> bool {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let child = children.split_whitespace().next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        kill_process(child.unwrap_or_else(|| Pid::from_child(&self.child)), Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A web server for one request.
fn web_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
        }
    });
    address
}

#[test]
fn curl_gets_through_with_its_password_and_a_signal_ends_the_program() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "me:secret\n").unwrap();
    let web = web_server();
    let port = web.port().to_string();
    let flags =
        ["--users", users.to_str().unwrap(), "--allow-destination", "127.0.0.0/8", "--allow-port", &port];
    let proxy = Running::start(&flags);
    let curl = |how: &str, user: &str| {
        let via = format!("{how}://{user}@{}", proxy.proxy);
        let url = format!("http://localhost:{port}/");
        Command::new("curl").args(["-sS4", "--noproxy", "", "-x", &via, &url]).output().unwrap()
    };
    for how in ["socks5", "socks5h"] {
        let output = curl(how, "me:secret");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{how}: {output:?}");
    }
    assert_eq!(curl("socks5h", "me:wrong").status.code(), Some(97), "curl says that the proxy refused");
    let (_, metrics) = support::get(proxy.http, "/metrics");
    for line in ["proxy_outbound_connections_total 2", "proxy_auth_failures_total 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in {metrics}");
    }
    assert!(proxy.stop());
}

#[test]
fn where_the_host_gives_no_pipes_or_cannot_splice_bytes_are_copied() {
    if [("curl", "--version"), ("strace", "-V")]
        .iter()
        .any(|(name, flag)| Command::new(name).arg(flag).output().is_err())
    {
        eprintln!("skipped: curl or strace is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let web = web_server();
    let port = web.port().to_string();
    for fault in ["pipe2:error=EMFILE", "splice:error=EINVAL"] {
        let trace = folder.path().join("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=pipe2,splice", "-e", &format!("inject={fault}"), "-o"]);
        strace.arg(&trace).arg(PROGRAM);
        let proxy =
            Running::start_behind(strace, &["--allow-destination", "127.0.0.0/8", "--allow-port", &port]);
        let via = format!("socks5h://{}", proxy.proxy);
        let url = format!("http://127.0.0.1:{port}/");
        let output = Command::new("curl").args(["-sS4", "--noproxy", "", "-x", &via, &url]).output().unwrap();
        // Killed, strace would leave the program behind, so it is stopped before anything can fail.
        assert!(proxy.stop());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{fault}: {output:?}");
        assert!(std::fs::read_to_string(&trace).unwrap().contains("INJECTED"), "{fault} was not met");
    }
}

#[test]
fn what_cannot_be_is_said_with_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    for (arguments, code, part) in [
        (&["--listen", address.as_str(), "--no-http"][..], 1, address.as_str()),
        (&["--users", "/no/such/file"], 1, "/no/such/file"),
        (&["--tls-certificate", "/no/such.pem", "--tls-key", "/no/such.key"], 1, "/no/such.pem"),
        (&["--tls-certificate", "/no/such.pem"], 2, "--tls-key"),
        (&["--allow-client", "everybody"], 2, "everybody"),
        (&["--idle-seconds", "0"], 2, "--idle-seconds"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(part), "{arguments:?}: {}", said(&output));
    }
}
