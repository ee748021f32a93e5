//! Runs every dialogue file of `tests/dialogs` against a server session, in reads of different sizes.
//!
//! `tests/support/dialog.rs` describes the format. A failure names file, line, what was expected and
//! what the server said.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use smtp::server::{Config, Limits, Mechanism};
use support::Caller;
use support::dialog::{self, Action, Step};

#[test]
fn every_dialog_holds() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
    files.sort();
    let (mut failures, mut all, mut said) = (Vec::new(), Vec::new(), String::new());
    for file in &files {
        let steps = dialog::load(file).unwrap();
        for read_bytes in [usize::MAX, 7, 1] {
            match Run::new(&steps, read_bytes).all(&steps) {
                Ok(replies) => said.push_str(&replies),
                Err(error) => failures.push(format!("{}:{error} (reads of {read_bytes})", file.display())),
            }
        }
        all.extend(steps);
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert_eq!(left_out(&all, &said), Vec::<String>::new(), "verbs, limits and replies without a dialogue");
}

/// What no dialogue has: a verb that is sent, a limit that is set, a reply that the server gives by itself.
fn left_out(steps: &[Step], said: &str) -> Vec<String> {
    const VERBS: [&str; 16] = [
        "EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP",
        "QUIT", "STARTTLS", "AUTH", "XCLIENT",
    ];
    const LIMITS: [&str; 5] =
        ["command_line_bytes_max", "recipients_max", "message_bytes_max", "messages_max", "errors_max"];
    /// What only a caller causes that answers wrongly.
    const OUR_OWN_FAULT: [&str; 3] = [
        "nothing was decided for this recipient; send it again",
        "user or password is wrong",
        "authentication is not to be had now",
    ];
    let sent = |verb: &&str| {
        steps
            .iter()
            .any(|step| matches!(&step.action, Action::Send(bytes) if bytes.starts_with(verb.as_bytes())))
    };
    let limited = |limit: &&str| {
        steps.iter().any(|step| matches!(&step.action, Action::Limit { name, .. } if name == limit))
    };
    let texts = include_str!("../src/server/replies.rs").split('"').skip(1).step_by(2);
    let untold = texts.filter(|text| !said.contains(text) && !OUR_OWN_FAULT.contains(text));
    let unsent = VERBS.into_iter().filter(|verb| !sent(verb));
    let unlimited = LIMITS.into_iter().filter(|limit| !limited(limit));
    untold.chain(unsent).chain(unlimited).map(str::to_owned).collect()
}

#[test]
fn bad_files_are_refused() {
    for (text, error) in [
        ("C. x", "1: unknown line"),
        ("# fine\nC<< x", "2: text needs quotes"),
        ("C<< \"\\q\"", "1: unknown escape"),
        ("C*x \"\"", "1: unknown line"),
        ("limit: x", "1: limit: needs"),
    ] {
        assert!(dialog::parse(text).unwrap_err().starts_with(error), "{text}");
    }
    assert_eq!(
        dialog::parse("C*2 \"a\\x0d\\\"\"").unwrap(),
        [Step { line: 1, action: Action::Send(b"a\r\"a\r\"".to_vec()) }]
    );
}

struct Run {
    caller: Caller,
    read_bytes: usize,
    /// Bytes sent and not yet read by the server.
    sent: Vec<u8>,
    /// Bytes of the server's that were seen.
    seen: usize,
    lines: VecDeque<String>,
    messages_seen: usize,
}

impl Run {
    fn new(steps: &[Step], read_bytes: usize) -> Self {
        let mut limits = Limits::default();
        for step in steps {
            if let Action::Limit { name, value } = &step.action {
                set_limit(&mut limits, name, *value);
            }
        }
        let mut config = Config { hostname: "mx.test".into(), limits, ..Config::default() };
        let mut greeting = None;
        for step in steps {
            match &step.action {
                Action::Config { name, value } if name == "greeting" => {
                    greeting = Some(value.parse().unwrap())
                }
                Action::Config { name, value } => set_config(&mut config, name, value),
                _ => {}
            }
        }
        let caller = match greeting {
            Some(greeting) => Caller::greeting(config, &greeting),
            None => Caller::new(config),
        };
        Self { caller, read_bytes, sent: Vec::new(), seen: 0, lines: VecDeque::new(), messages_seen: 0 }
    }

    /// Returns all that the server said.
    fn all(mut self, steps: &[Step]) -> Result<String, String> {
        for step in steps {
            self.step(&step.action).map_err(|error| format!("{}: {error}", step.line))?;
        }
        self.exchange();
        match self.lines.front() {
            Some(line) => Err(format!("end of file, but the server said: {line}")),
            None => Ok(self.caller.trace.replies()),
        }
    }

    fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Limit { .. } | Action::Config { .. } => Ok(()),
            Action::Tls => {
                self.exchange();
                if !self.caller.awaits_tls {
                    return Err("the server does not wait for a handshake".into());
                }
                self.caller.tls();
                Ok(())
            }
            Action::Send(bytes) => {
                self.sent.extend_from_slice(bytes);
                Ok(())
            }
            Action::ExpectPrefix(text) => self.line(|line| line.starts_with(text.as_str()), text).map(drop),
            Action::ExpectLine(text) => self.line(|line| line == text, text).map(drop),
            Action::ExpectReply(text) => loop {
                let line = self.line(|line| line.starts_with(text.as_str()), text)?;
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Ok(());
                }
            },
            Action::ExpectSilence => {
                self.exchange();
                self.lines.front().map_or(Ok(()), |line| Err(format!("expected silence, got: {line}")))
            }
            Action::ExpectBody(expected) => {
                self.exchange();
                let body = self.caller.messages.get(self.messages_seen).ok_or("no message was taken")?;
                self.messages_seen += 1;
                if body == expected {
                    return Ok(());
                }
                Err(format!("expected body {}, got {}", expected.escape_ascii(), body.escape_ascii()))
            }
            Action::ExpectClosed => {
                self.exchange();
                if self.caller.closed { Ok(()) } else { Err("expected the connection to be closed".into()) }
            }
        }
    }

    fn line(&mut self, matches: impl Fn(&str) -> bool, expected: &str) -> Result<String, String> {
        self.exchange();
        let line = self.lines.pop_front().ok_or_else(|| format!("expected {expected}, got silence"))?;
        if matches(&line) { Ok(line) } else { Err(format!("expected {expected}, got {line}")) }
    }

    /// Lets the server read what was sent, and collects what it says.
    fn exchange(&mut self) {
        for part in std::mem::take(&mut self.sent).chunks(self.read_bytes) {
            self.caller.read(part);
        }
        let replies = self.caller.trace.replies();
        self.lines.extend(replies[self.seen..].split_terminator("\r\n").map(String::from));
        self.seen = replies.len();
    }
}

fn set_config(config: &mut Config, name: &str, value: &str) {
    match name {
        "lmtp" => config.lmtp = true,
        "starttls" => config.starttls = true,
        "tls_needed" => config.tls_needed = true,
        "auth_needs_tls" => config.auth_needs_tls = true,
        "dsn" => config.dsn = true,
        "binary_mime" => config.binary_mime = true,
        "require_tls" => config.require_tls = true,
        "announce_limits" => config.announce_limits = true,
        "xclient" => config.xclient = true,
        "auth" => config.auth = value.split(',').map(|name| Mechanism::parse(name).unwrap()).collect(),
        _ => panic!("nothing is configured by the name {name}"),
    }
}

fn set_limit(limits: &mut Limits, name: &str, value: u64) {
    match name {
        "command_line_bytes_max" => limits.command_line_bytes_max = usize::try_from(value).unwrap(),
        "recipients_max" => limits.recipients_max = usize::try_from(value).unwrap(),
        "message_bytes_max" => limits.message_bytes_max = value,
        "messages_max" => limits.messages_max = u32::try_from(value).unwrap(),
        "errors_max" => limits.errors_max = u32::try_from(value).unwrap(),
        _ => panic!("no limit is called {name}"),
    }
}
