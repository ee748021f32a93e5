//! Postfix's `smtp-source`, which stops with an error at the first reply that it does not like.

use std::process::Command;

use crate::Sink;
use crate::program::{find, output, said};

const MESSAGES: u64 = 200;

/// A run into a sink with these options, and what it counts afterwards: messages and their bytes.
fn from_smtp_source(sink_options: &[&str], options: &[&str]) -> Option<(u64, u64)> {
    let smtp_source = find("smtp-source")?;
    let sink = Sink::start(sink_options);
    let mut command = Command::new(smtp_source);
    command
        .args([
            "-m",
            &MESSAGES.to_string(),
            "-f",
            "from@source.test",
            "-t",
            "to@sink.test",
            "-M",
            "source.test",
        ])
        .args(options)
        .arg(sink.smtp.to_string());
    let source = output(&mut command);
    assert!(source.status.success(), "{options:?}: {}", said(&source));
    Some((sink.accepted(), sink.stat("bytes")))
}

#[test]
fn every_message_is_counted() {
    let sets: [&[&str]; 5] = [
        &["-s", "8"],
        // One connection for many messages.
        &["-s", "8", "-d"],
        &["-s", "4", "-d", "-r", "20"],
        &["-s", "4", "-d", "-N"],
        // Without a name before MAIL, and without headers.
        &["-s", "4", "-o"],
    ];
    for options in sets {
        let Some((accepted, _)) = from_smtp_source(&[], options) else { return };
        assert_eq!(accepted, MESSAGES, "{options:?}");
    }
}

#[test]
fn large_messages_arrive_whole() {
    let Some((accepted, bytes)) = from_smtp_source(&[], &["-s", "4", "-d", "-l", "300000"]) else { return };
    assert_eq!(accepted, MESSAGES);
    // The length is that of the body, to which the headers come.
    assert!((300_000..301_000).contains(&(bytes / MESSAGES)), "{bytes}");
}

#[test]
fn lmtp_too() {
    for options in [&["-L", "-s", "8"][..], &["-L", "-s", "4", "-d", "-r", "5"]] {
        let Some((accepted, _)) = from_smtp_source(&["--lmtp"], options) else { return };
        assert_eq!(accepted, MESSAGES, "{options:?}");
    }
}
