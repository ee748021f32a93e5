//! A body that changed on the disk: its message is set aside, the others go on, and nothing of it is sent or forgotten.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;

use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::{policy, until};

/// Flips a bit where the text stands in a segment.
fn damage(home: &Home, text: &[u8]) {
    let entries = fs::read_dir(home.spool().join("segments")).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.extension().is_some_and(|end| end == "segment")) {
        let bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|found| found == text) {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            return file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        }
    }
    panic!("no segment holds {}", text.escape_ascii());
}

fn aside(home: &Home, ending: &str) -> usize {
    let Ok(entries) = fs::read_dir(home.spool().join("segments/damaged")) else { return 0 };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).count()
}

#[test]
fn a_damaged_body_is_set_aside_and_never_sent() {
    let home = Home::new();
    let address = TcpListener::bind("127.0.0.6:0").unwrap().local_addr().unwrap();
    let hops = policy::hops(&[("broken.test", address), ("sound.test", address)]);
    let kumod = home.start_policy(&hops);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@broken.test"], b"Subject: this one breaks\r\n\r\n").starts_with("250 "));
    assert!(client.send(&["b@sound.test"], b"Subject: this one holds\r\n\r\n").starts_with("250 "));
    // After its first attempt a body is in memory no more.
    home.record("TransientFailure", "b@broken.test");
    home.record("TransientFailure", "b@sound.test");
    damage(&home, b"Subject: this one breaks");
    until("the message to be set aside", || kumod.metric("spool_messages_set_aside") == 1);
    assert_eq!(kumod.metric("message_count"), 1, "the other one goes on");
    let said = kumod.said();
    let line = said.lines().find(|line| line.contains("a message is set aside")).unwrap();
    for part in ["ERROR", "id=", "segment 0000", "offset 4"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert_eq!((aside(&home, ".bytes"), aside(&home, ".envelope")), (1, 0));

    let sink =
        sink::Server::start(sink::Config { listen: address, ..sink::Config::on_free_ports() }).unwrap();
    kumod.drained();
    assert_eq!(kumod.metric("spool_messages"), 1, "it is still in the spool");
    kumod.stop();
    for kind in ["Delivery", "Bounce", "Expiration"] {
        assert!(home.records_of(kind, "b@broken.test").is_empty(), "{kind}");
    }

    // The next start keeps for an operator who was to get it.
    let again = home.start_policy(&hops);
    assert_eq!((again.metric("spool_orphans_total"), again.metric("message_count")), (1, 0));
    assert_eq!((aside(&home, ".bytes"), aside(&home, ".envelope")), (1, 1));
    again.stop();
    assert_eq!(sink.stats().accepted, 1);
    let shown = home.spool_command("inspect", &[]);
    let words = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(words.contains("from <sender@client.test> to <b@broken.test>"), "{words}");
}
