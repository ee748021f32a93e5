//! `postal`, which sends random text as fast as it may, and logs every reply.
//!
//! Its TLS is left out: it offers anonymous ciphers only, which no library of our day has.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::Sink;
use crate::program::{Program, find, until};

const MESSAGES: u64 = 60;

/// How many messages postal knows to be taken: its logs hold every line of every conversation.
fn taken(folder: &Path) -> u64 {
    let logs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.file_name().is_some_and(|name| name != "users"));
    // Its random text is no UTF-8.
    let texts = logs.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned());
    let replies =
        |text: String| text.lines().filter(|line| line.starts_with("250 2.0.0 Ok, discarded")).count();
    texts.map(|text| replies(text) as u64).sum()
}

#[test]
fn random_text_is_counted_to_the_message() {
    for (sink_options, options) in [(&[][..], &[][..]), (&["--lmtp"], &["-L"])] {
        let Some(postal) = find("postal") else { return };
        let folder = TempDir::new().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, "one@sink.test\ntwo@sink.test\n").unwrap();
        let sink = Sink::start(sink_options);
        let mut command = Command::new(postal);
        // It leaves a log where it is started.
        let left = TempDir::new().unwrap();
        command
            .current_dir(&left)
            // At least 1 KB: an empty body of postal's is a NUL, behind which the final dot is none.
            .args(["-M", "1", "-m", "4", "-t", "4", "-c", "5", "-r", "6000", "-z"])
            .arg(folder.path().join("log"))
            .args(options)
            .arg(format!("[{}]{}", sink.smtp.ip(), sink.smtp.port()))
            .arg(&users);
        let program = Program::start(&mut command);
        until("enough was sent", || (sink.stat("accepted") >= MESSAGES).then_some(()));
        // It finishes its conversations, but stays: it has a summary to give at every full minute.
        program.signal(Signal::INT);
        until("every conversation has ended", || {
            (sink.stat("connections") == 0 && sink.accepted() == taken(folder.path())).then_some(())
        });
    }
}
