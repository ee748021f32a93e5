//! Other people's clients against the sink: what they say that they sent is what it counts.
//!
//! A program that is not installed is said and skipped; `scripts/setup` installs them all.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

mod postal;

mod smtp_source;

mod swaks;

#[path = "../../../traffic-gen/tests/interop/program.rs"]
mod program;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStderr, Command, Stdio};

use program::{Program, until};

/// A sink as its users start it.
struct Sink {
    smtp: SocketAddr,
    /// Where TLS comes before the banner, if anywhere.
    smtps: Option<SocketAddr>,
    http: SocketAddr,
    _program: Program,
    _errors: BufReader<ChildStderr>,
}

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sink"));
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "2"]).args(arguments);
        let mut program = Program::start(command.stderr(Stdio::piped()));
        let mut errors = BufReader::new(program.errors().unwrap());
        let (mut smtp, mut smtps, mut http) = (None, None, None);
        loop {
            let mut line = String::new();
            errors.read_line(&mut line).unwrap();
            let line = line.trim_end();
            match line.split_once(" listener on ") {
                Some(("smtp", address)) => smtp = Some(address.parse().unwrap()),
                Some(("smtps", address)) => smtps = Some(address.parse().unwrap()),
                Some(("http", address)) => http = Some(address.parse().unwrap()),
                _ => break assert_eq!(line, "initialization complete"),
            }
        }
        Self { smtp: smtp.unwrap(), smtps, http: http.unwrap(), _program: program, _errors: errors }
    }

    fn stat(&self, name: &str) -> u64 {
        let url = format!("http://{}/stats", self.http);
        let stats: serde_json::Value = ureq::get(url).call().unwrap().body_mut().read_json().unwrap();
        stats[name].as_u64().unwrap()
    }

    /// Messages that it has taken, once everybody has gone.
    fn accepted(&self) -> u64 {
        until("every client has gone", || (self.stat("connections") == 0).then_some(()));
        self.stat("accepted")
    }
}
