//! Runs every dialogue file of `tests/dialogs` over TCP against kumod, and looks at what it passed on.
//!
//! The format is that of `crates/smtp/tests/support/dialog.rs`. A file's `limit:` and `config:` lines become options of a
//! listener of its own, the latter with the option's name and a value as Lua writes it; files in
//! `dialogs/stranger` and `dialogs/users` get one whose `relay_hosts` do not hold us, the latter with a policy that knows users and domains. `B:` means that the next hop has got a further message with exactly
//! this content behind our `Received`, and what no `B:` names must not have got there. `S-` is a border between two writes: that nothing was
//! said shows in the line that comes next.

#![allow(clippy::unwrap_used)]

mod support;

#[allow(unfulfilled_lint_expectations, reason = "the protocol's crate bans files, and this one does not")]
#[path = "../../crates/smtp/tests/support/dialog.rs"]
mod dialog;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dialog::{Action, Step};
use support::client::Client;
use support::home::{Home, Kumod};
use support::policy;
use support::scripted::Scripted;
use support::{eventually, until};

/// How many there are; a folder that lost its files would pass otherwise.
const FILES_MIN: usize = 50;

/// Who is known to the policy of `dialogs/users`.
const USERS: &str = "
local kumo = require 'kumo'
kumo.on('smtp_server_auth_plain', function(authz, authc, password)
  if authc == 'locked' then kumo.reject(454, '4.7.0 Locked for a while') end
  if authc == 'broken' then error('no directory') end
  return authc == 'user' and password == 'password'
end)
kumo.on('smtp_server_auth_scram', function(user)
  if user == 'user' then return { password = 'password' } end
end)
kumo.on('get_listener_domain', function(domain)
  if domain == 'ours.there.test' then return { relay_to = true } end
  if domain == 'customer.test' then return { relay_from = { '127.0.0.1' } } end
  if domain == 'barred.test' then kumo.reject(550, '5.7.1 Barred') end
  if domain == 'broken.test' then error('no list of domains') end
end)
";

struct File {
    path: PathBuf,
    stranger: bool,
    steps: Vec<Step>,
}

#[test]
fn every_dialog_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let mut files = files_in(&folder, false);
    files.extend(files_in(&folder.join("stranger"), true));
    let users = files_in(&folder.join("users"), true);
    let count = files.len() + users.len();
    assert!(count >= FILES_MIN, "{count} dialogues");
    for piece_bytes in [usize::MAX, 5] {
        let mut failures = failures_of(&files, "", piece_bytes);
        failures.extend(failures_of(&users, USERS, piece_bytes));
        assert!(failures.is_empty(), "in pieces of {piece_bytes}:\n{}", failures.join("\n"));
    }
}

/// Those that do not hold, with a kumod of their own.
fn failures_of(files: &[File], handlers: &str, piece_bytes: usize) -> Vec<String> {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start_policy(&(policy_for(files, &next_hop) + handlers));
    files
        .iter()
        .zip(&kumod.smtp)
        .filter_map(|(file, listener)| {
            let run = Run::new(*listener, &kumod, &next_hop, piece_bytes).all(&file.steps);
            run.err().map(|error| format!("{}:{error}", file.path.display()))
        })
        .collect()
}

fn files_in(folder: &Path, stranger: bool) -> Vec<File> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "smtp"));
    paths.sort();
    let load = |path: PathBuf| File { steps: dialog::load(&path).unwrap(), path, stranger };
    paths.into_iter().map(load).collect()
}

/// A listener for each file, in their order.
fn policy_for(files: &[File], next_hop: &Scripted) -> String {
    let mut text = "local kumo = require 'kumo'\nkumo.on('init', function()\n".to_owned();
    text.push_str("  kumo.start_http_listener { listen = '127.0.0.1:0' }\n");
    for file in files {
        text.push_str("  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test'");
        if file.stranger {
            text.push_str(", relay_hosts = { '192.0.2.0/24' }");
        }
        for step in &file.steps {
            match &step.action {
                Action::Limit { name, value } => write!(text, ", {} = {value}", option(name)).unwrap(),
                Action::Config { name, value } => write!(text, ", {name} = {value}").unwrap(),
                _ => {}
            }
        }
        text.push_str(" }\n");
    }
    text.push_str("end)\n");
    policy::hops_behind(&text, &[("there.test", next_hop.address)])
}

/// What a policy calls a limit of the protocol.
fn option(limit: &str) -> &'static str {
    match limit {
        "message_bytes_max" => "max_message_size",
        "recipients_max" => "max_recipients_per_message",
        "messages_max" => "max_messages_per_connection",
        other => panic!("no option of a listener is the limit {other}"),
    }
}

struct Run<'a> {
    /// `None` for the moment of a handshake only.
    client: Option<Client>,
    kumod: &'a Kumod,
    next_hop: &'a Scripted,
    sent: Vec<u8>,
    /// So many bytes are written at once; what the server reads at once is then mostly as few.
    piece_bytes: usize,
    /// What arrived before, and what a `B:` has named.
    named: Vec<bool>,
}

impl<'a> Run<'a> {
    fn new(listener: SocketAddr, kumod: &'a Kumod, next_hop: &'a Scripted, piece_bytes: usize) -> Self {
        let named = vec![true; next_hop.arrivals().len()];
        Self {
            client: Some(Client::connect(listener)),
            kumod,
            next_hop,
            sent: Vec::new(),
            piece_bytes,
            named,
        }
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    fn all(mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.step(&step.action).map_err(|error| format!("{}: {error}", step.line))?;
        }
        self.flush();
        self.client.take().unwrap().hang_up();
        self.kumod.drained();
        let arrivals = self.next_hop.arrivals();
        self.named.resize(arrivals.len(), false);
        match self.named.iter().position(|named| !named) {
            Some(index) => Err(format!("nobody expected {}", arrivals[index].raw.escape_ascii())),
            None => Ok(()),
        }
    }

    fn step(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Limit { .. } | Action::Config { .. } => Ok(()),
            Action::Tls => {
                self.flush();
                self.client = self.client.take().map(Client::start_tls);
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
                self.flush();
                Ok(())
            }
            Action::ExpectBody(body) => {
                self.flush();
                self.body(body);
                Ok(())
            }
            Action::ExpectClosed => {
                self.flush();
                self.client().line().map_or(Ok(()), |line| Err(format!("expected the end, got {line}")))
            }
        }
    }

    fn line(&mut self, matches: impl Fn(&str) -> bool, expected: &str) -> Result<String, String> {
        self.flush();
        let line = self.client().line().ok_or_else(|| format!("expected {expected}, got the end"))?;
        if matches(&line) { Ok(line) } else { Err(format!("expected {expected}, got {line}")) }
    }

    fn flush(&mut self) {
        // A server that has said 421 may be gone before the rest is written.
        let sent = std::mem::take(&mut self.sent);
        for piece in sent.chunks(self.piece_bytes) {
            let _ = self.client().try_write(piece);
        }
    }

    /// Waits for a message that nothing has named yet.
    fn body(&mut self, body: &[u8]) {
        let index = eventually(&format!("a message {}", body.escape_ascii()), || {
            let arrivals = self.next_hop.arrivals();
            self.named.resize(arrivals.len(), false);
            (0..arrivals.len()).find(|index| !self.named[*index] && arrivals[*index].original() == body)
        });
        self.named[index] = true;
    }
}

/// RFC 5321 4.5.3.2: a client that says nothing is not the server's to wait for; and one that stops in the middle of a body has sent nothing.
#[test]
fn half_a_body_is_no_message() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    for half in [
        &b"DATA\r\nSubject: half\r\n\r\nhalf a li"[..],
        b"DATA\r\nSubject: half\r\n\r\nno dot\r\n",
        b"BDAT 100000 LAST\r\nSubject: half\r\n\r\n",
        b"BDAT 17\r\nSubject: half\r\n\r\nBDAT 5 LAST\r\n",
    ] {
        let mut client = Client::greeted(kumod.smtp());
        client.write(b"MAIL FROM:<a@client.test>\r\nRCPT TO:<b@there.test>\r\n");
        client.write(half);
        assert_eq!((client.code(), client.code()), (250, 250));
        client.hang_up();
    }
    until("the clients to be gone", || kumod.metric_of("connection_count", "esmtp_listener") == 0);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: whole\r\n\r\n").starts_with("250 2.0.0 OK ids="));
    client.quit();
    kumod.drained();
    let arrivals = next_hop.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0].original(), b"Subject: whole\r\n\r\n");
    assert_eq!(kumod.metric_of("total_messages_received", "esmtp_listener"), 1);
}
