//! `kumod spool inspect`, `verify`, `compact` and `export`, run as an operator runs them: while kumod runs, after it has stopped,
//! and on a spool that is damaged.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::SystemTime;

use serde_json::Value;
use support::client::Client;
use support::home::{Home, Kumod};
use support::{policy, until};

const FIRST: &[u8] = b"Subject: first\r\n\r\n.\r\ncaf\xc3\xa9, and a lone dot above\r\n";

/// kumod with two messages to `one.test` and one to `two.test`, which nobody takes. They share nothing but the spool.
fn waiting(home: &Home) -> Kumod {
    let unused = |address: &str| TcpListener::bind(address).unwrap().local_addr().unwrap();
    let hops = [("one.test", unused("127.0.0.4:0")), ("two.test", unused("127.0.0.5:0"))];
    let kumod = home.start_policy(&policy::hops(&hops));
    let mut client = Client::greeted(kumod.smtp());
    let messages: [(&str, &[u8]); 3] = [
        ("a@one.test", FIRST),
        ("b@one.test", b"Subject: second\r\n\r\n"),
        ("c@two.test", b"Subject: third\r\n\r\n"),
    ];
    for (to, message) in messages {
        assert!(client.send(&[to], message).starts_with("250 "));
        // Its attempt has failed, so its mark is in the spool or on the way there.
        home.record("TransientFailure", to);
    }
    client.quit();
    kumod
}

fn text(output: &Output) -> String {
    let (said, complained) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(said), String::from_utf8_lossy(complained))
}

fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Names, lengths and times of change of the segments.
fn picture(home: &Home) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let entries = fs::read_dir(home.spool().join("segments")).unwrap().map(|entry| entry.unwrap());
    let facts = |entry: fs::DirEntry| {
        let facts = entry.metadata().unwrap();
        (entry.path(), (facts.len(), facts.modified().unwrap()))
    };
    entries.map(facts).collect()
}

/// Flips a bit where the text stands in a segment.
fn damage(home: &Home, text: &[u8]) -> PathBuf {
    for path in picture(home).into_keys().filter(|path| path.extension().is_some_and(|end| end == "segment"))
    {
        let bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|found| found == text) {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            return path;
        }
    }
    panic!("no segment holds {}", text.escape_ascii());
}

#[test]
fn a_running_spool_is_shown_and_exported_but_not_judged() {
    let home = Home::new();
    let kumod = waiting(&home);
    let (pid, report) = (kumod.pid().to_string(), home.path().join("report.json"));

    let shown = home.spool_command("inspect", &["--json", report.to_str().unwrap()]);
    assert_code(&shown, 0);
    let words = text(&shown);
    assert!(words.contains(&format!("process {pid} has it")) && words.contains("moving"), "{words}");
    let value = json(&report);
    assert_eq!(
        (&value["held_by"], &value["messages"]["messages"]),
        (&Value::from(pid.clone()), &Value::from(3))
    );
    let queues: Vec<_> = value["queues"].as_array().unwrap().iter().map(|queue| &queue["messages"]).collect();
    assert_eq!(queues.len(), 2, "{value:#}");

    for action in ["verify", "compact"] {
        let refused = home.spool_command(action, &[]);
        assert_code(&refused, 1);
        assert!(text(&refused).contains(&format!("in use by process {pid}")), "{}", text(&refused));
        assert_eq!(
            text(&refused).matches("spool ").count(),
            1,
            "the folder is named once: {}",
            text(&refused)
        );
    }

    let to = home.path().join("mail");
    let exported = home.spool_command("export", &["--domain", "TWO.test", "--to", to.to_str().unwrap()]);
    assert_code(&exported, 0);
    assert!(text(&exported).contains("1 messages exported"), "{}", text(&exported));
    assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
    assert_eq!(kumod.metric("message_count"), 3, "what is exported stays");
    kumod.stop();
}

#[test]
fn a_stopped_spool_is_sound_and_gives_its_mail_back_as_it_was() {
    let home = Home::new();
    waiting(&home).stop();
    let before = picture(&home);
    let to = home.path().join("mail");
    let to = to.to_str().unwrap();
    let verified = home.spool_command("verify", &[]);
    assert_code(&verified, 0);
    assert!(text(&verified).contains("3 messages: sound"), "{}", text(&verified));
    assert_code(&home.spool_command("export", &["--to", to]), 0);
    assert_eq!(picture(&home), before, "looking changes nothing");

    let reception = home.record("Reception", "a@one.test");
    let id = reception["id"].as_str().unwrap();
    let message = fs::read(Path::new(to).join(format!("{id}.eml"))).unwrap();
    assert!(message.starts_with(b"Received: from client.test") && message.ends_with(FIRST));
    let facts = json(&Path::new(to).join(format!("{id}.json")));
    assert_eq!((&facts["id"], &facts["sender"]), (&Value::from(id), &Value::from("sender@client.test")));
    assert_eq!(facts["recipients"][0]["recipient"], "a@one.test");
    assert_eq!(
        (facts["body_bytes"].as_u64(), facts["message_bytes"].as_u64()),
        (Some(FIRST.len() as u64), Some(message.len() as u64))
    );
    assert!(facts["attempts"].as_u64().unwrap() >= 1 && facts["due"].is_string(), "{facts:#}");

    // Nothing is overwritten unless that is asked for.
    fs::write(Path::new(to).join(format!("{id}.eml")), b"mine").unwrap();
    let kept = home.spool_command("export", &["--to", to, "--id", id]);
    assert_code(&kept, 1);
    assert!(text(&kept).contains("--force"), "{}", text(&kept));
    assert_eq!(fs::read(Path::new(to).join(format!("{id}.eml"))).unwrap(), b"mine");
    assert_code(&home.spool_command("export", &["--to", to, "--id", id, "--force"]), 0);
    assert_eq!(fs::read(Path::new(to).join(format!("{id}.eml"))).unwrap(), message);
    let missing = home.spool_command("export", &["--to", to, "--id", &"0".repeat(32)]);
    assert_code(&missing, 1);
    assert!(text(&missing).contains("no message 0000"), "{}", text(&missing));
}

#[test]
fn damage_is_named_by_segment_and_offset_and_left_out_of_an_export() {
    let home = Home::new();
    waiting(&home).stop();
    let path = damage(&home, b"Subject: second");
    let (report, to) = (home.path().join("report.json"), home.path().join("mail"));
    let verified = home.spool_command("verify", &["--json", report.to_str().unwrap()]);
    assert_code(&verified, 1);
    let value = json(&report);
    let (segment, offset) = (&value["damages"][0]["segment"], &value["damages"][0]["offset"]);
    let name = format!("{:08}", segment.as_u64().unwrap());
    assert_eq!(path.file_stem().unwrap().to_str().unwrap(), name);
    let words = text(&verified);
    assert!(words.contains(&format!("damaged: segment {name}, offset {offset}")), "{words}");
    assert!(words.contains("without a body: message") && words.contains("NOT SOUND"), "{words}");

    let exported = home.spool_command("export", &["--to", to.to_str().unwrap()]);
    assert_code(&exported, 1);
    let words = text(&exported);
    assert!(words.contains("2 messages exported") && words.contains("damaged: message"), "{words}");
    assert!(!home.spool().join("segments/damaged").exists(), "a look sets nothing aside");
}

#[test]
fn compacting_gives_room_back_and_loses_nothing() {
    let home = Home::new();
    waiting(&home).stop();
    let report = home.path().join("report.json");
    let compacted = home.spool_command("compact", &["--json", report.to_str().unwrap()]);
    assert_code(&compacted, 0);
    let value = json(&report);
    assert!(value["segments_after"].as_u64() <= value["segments_before"].as_u64(), "{value:#}");
    let verified = home.spool_command("verify", &[]);
    assert!(text(&verified).contains("3 messages: sound"), "{}", text(&verified));
}

#[test]
fn what_is_not_a_spool_is_refused_with_a_remedy() {
    let home = Home::new();
    for action in ["inspect", "verify", "compact"] {
        let refused = home.spool_command(action, &[]);
        assert_code(&refused, 1);
        assert!(text(&refused).contains("--spool"), "{}", text(&refused));
        assert!(!home.spool().exists(), "{action} made a folder");
    }
    assert_code(&home.spool_command("export", &[]), 2);
    assert_code(&home.spool_command("rescue", &[]), 2);
    fs::create_dir(home.spool()).unwrap();
    let refused = home.spool_command("inspect", &[]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains("there is no spool in it"), "{}", text(&refused));
}

/// Named by the policy, or as the folder of the segments itself.
#[test]
fn the_spool_may_be_named_in_three_ways() {
    let home = Home::new();
    let kumod = home.start(&[]);
    until("the spool to be there", || home.spool().join("segments/lock").exists());
    kumod.stop();
    let policy = home.policy(&format!(
        "local kumo = require 'kumo'\nkumo.on('init', function()\n  kumo.define_spool {{ name = 'data', path = '{}' }}\n  \
         kumo.start_esmtp_listener {{ listen = '127.0.0.1:0' }}\nend)\n",
        home.spool().display()
    ));
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kumod"));
        let output = command.args(["spool", "verify"]).args(arguments).output().unwrap();
        assert_code(&output, 0);
        assert!(text(&output).contains("0 messages: sound"), "{}", text(&output));
    };
    run(&["--spool", home.spool().to_str().unwrap()]);
    run(&["--spool", home.spool().join("segments").to_str().unwrap()]);
    run(&["--policy", policy.to_str().unwrap()]);
}
