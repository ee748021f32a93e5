//! Policies as operators write them, right and wrong, and what becomes of each.

#![allow(clippy::unwrap_used)]

mod answers;
mod loading;
mod messages;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::lua::{Limits, STATE_MEMORY_BYTES_MAX};
use super::{Policy, PolicyError, PolicyMessage};
use crate::client::Client;
use crate::config::{self, Config, SmtpListener, SpoolSpec};
use crate::envelope::{MessageId, Meta};

/// The least that a policy must do, on one line, so that what follows begins on line 2.
const LISTEN: &str = "kumo.on('init', function() kumo.start_esmtp_listener { listen = '127.0.0.1:0' } end)\n";

fn flag_defaults() -> Config {
    Config {
        hostname: "host.example".to_owned(),
        smtp_listeners: vec![SmtpListener::default()],
        http_listeners: vec![config::HttpListener::default()],
        spool: SpoolSpec {
            dir: "flag-spool".into(),
            durability: spool::Durability::Commit,
            backend: spool::Backend::Auto,
            mode: spool::WriteMode::Auto,
        },
        log_dir: "flag-log".into(),
        outbound: config::OutboundSpec::default(),
        limits: config::Limits::default(),
    }
}

/// A file with this source in a folder that goes away with the first value.
fn written(source: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.lua");
    std::fs::write(&path, source).unwrap();
    (dir, path)
}

fn load_path(path: &Path) -> Result<(Policy, Config), PolicyError> {
    let mut config = flag_defaults();
    Policy::load(path, &mut config).map(|policy| (policy, config))
}

fn load(source: &str) -> Result<(Policy, Config), PolicyError> {
    let (_dir, path) = written(source);
    load_path(&path)
}

/// A policy that listens and, from line 2 on, does this.
fn listening(source: &str) -> Policy {
    load(&format!("{LISTEN}{source}")).unwrap().0
}

/// No time at all for a question; the clock is looked at after ten thousand instructions.
fn hurried(source: &str) -> Policy {
    let (_dir, path) = written(&format!("{LISTEN}{source}"));
    let limits = Limits { question_time_max: Duration::ZERO, ..Limits::default() };
    Policy::load_within(&path, &mut flag_defaults(), limits).unwrap()
}

/// The error of a source, without the folder of the file.
fn error_of(source: &str) -> String {
    load(source).unwrap_err().to_string().split_once("policy.lua").unwrap().1.to_owned()
}

fn client() -> Client {
    let site = ("x_site".to_owned(), "berlin".into());
    Client {
        received_from: "192.0.2.7:4321".parse().unwrap(),
        received_via: "192.0.2.1:25".parse().unwrap(),
        original: None,
        helo: "client.example".to_owned(),
        extended: true,
        user: None,
        tls: None,
        hostname: "mx.example".into(),
        listener: Arc::new(SmtpListener { meta: [site].into_iter().collect(), ..SmtpListener::default() }),
    }
}

fn message() -> PolicyMessage {
    PolicyMessage {
        id: MessageId(*b"0123456789abcdef"),
        sender: "news@sender.example".to_owned(),
        recipients: vec!["\"a@b\"@one.example".to_owned(), "two@two.example".to_owned()],
        meta: Meta::new(),
        body: Bytes::from_static(b"Subject: hi\r\n\r\nbody \xff\r\n"),
        client: Some(Arc::new(client())),
        scheduling: None,
    }
}
