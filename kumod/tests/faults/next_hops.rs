//! Next hops that are not there, refuse, hang up or talk nonsense: the mail waits, or is given up with a record that says why.

use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::home::Home;
use crate::support::scripted::{Answer, At, MODERN, Scripted};
use crate::support::{policy, until};

/// On an address of its own, which nothing else that runs here takes a port of.
fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap()
}

#[test]
fn mail_waits_for_a_next_hop_that_is_not_there() {
    let (home, address) = (Home::new(), unused_address());
    let kumod = home.start_policy(&policy::hops(&[("later.test", address)]));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@later.test"], b"Subject: early\r\n\r\n").starts_with("250 "));
    client.quit();
    let record = home.record("TransientFailure", "b@later.test");
    assert_eq!((&record["response"]["code"], &record["num_attempts"]), (&Value::from(451), &Value::from(1)));
    let content = record["response"]["content"].as_str().unwrap();
    assert!(content.contains(&address.to_string()) && content.contains("refused"), "{content}");
    assert_eq!(kumod.metric("message_count"), 1);

    // It waits through a restart too, with its attempt counted once the mark is in the spool behind body and envelope.
    until("the mark to be written", || kumod.metric("spool_records_total") >= 3);
    kumod.kill();
    let kumod = home.start_policy(&policy::hops(&[("later.test", address)]));
    assert_eq!(kumod.metric("message_count"), 1);
    let sink =
        sink::Server::start(sink::Config { listen: address, ..sink::Config::on_free_ports() }).unwrap();
    let record = home.record("Delivery", "b@later.test");
    assert!(record["num_attempts"].as_u64().unwrap() > 1, "{record}");
    kumod.drained();
    assert_eq!(sink.stats().accepted, 1);
    kumod.stop();
}

/// The moments at which a next hop misbehaves once, how, and the code that the record of the failed attempt has.
const MISBEHAVIOUR: &[(&str, At, Answer, u16)] = &[
    ("greylist.test", At::Rcpt, Answer::Say("450 4.2.1 try later\r\n"), 450),
    ("busy.test", At::Greeting, Answer::SayAndHangUp("421 4.3.2 busy\r\n"), 421),
    ("gone.test", At::Greeting, Answer::HangUp, 451),
    ("nonsense.test", At::Greeting, Answer::SayAndHangUp("\x16\x03\x01 what?\r\n\r\n"), 451),
    ("ehlo.test", At::Ehlo, Answer::HangUp, 451),
    ("mail.test", At::Mail, Answer::HangUp, 451),
    ("rcpt.test", At::Rcpt, Answer::SayAndHangUp("999999999 garbage\r\n"), 451),
    ("body.test", At::Body, Answer::HangUp, 451),
    ("cut.test", At::Body, Answer::SayAndHangUp("250-2.0.0 al"), 451),
    ("cut-code.test", At::Body, Answer::SayAndHangUp("25"), 451),
    ("full.test", At::Body, Answer::Say("452 4.3.1 disk full\r\n"), 452),
    ("shutdown.test", At::Body, Answer::SayAndHangUp("421 4.3.2 shutting down\r\n"), 421),
    ("garbage.test", At::Body, Answer::SayAndHangUp("\0\0\0\0\r\n"), 451),
    ("endless.test", At::Mail, Answer::SayAndHangUp(ENDLESS_LINE), 451),
];

/// Longer than any reply line may be.
const ENDLESS_LINE: &str = match std::str::from_utf8(&[b'2'; 100_000]) {
    Ok(text) => text,
    Err(_) => panic!("digits are text"),
};

/// Behaves badly on the first connection that gets so far.
fn misbehaving(extensions: &'static [&'static str], bad_at: At, answer: Answer) -> Scripted {
    let times = AtomicUsize::new(0);
    Scripted::start(extensions, move |_, at| {
        let bad = at == bad_at && times.fetch_add(1, Ordering::Relaxed) == 0;
        if bad { answer } else { Answer::Accept }
    })
}

#[test]
fn mail_survives_every_misbehaviour_of_modern_next_hops() {
    survive(MODERN);
}

#[test]
fn mail_survives_every_misbehaviour_of_old_next_hops() {
    survive(&[]);
}

fn survive(extensions: &'static [&'static str]) {
    let make = |(name, at, answer, _): &(&'static str, At, Answer, u16)| {
        (*name, misbehaving(extensions, *at, *answer))
    };
    let servers: Vec<_> = MISBEHAVIOUR.iter().map(make).collect();
    let hops: Vec<_> = servers.iter().map(|(name, server)| (*name, server.address)).collect();
    let home = Home::new();
    let kumod = home.start_policy(&policy::hops(&hops));
    let message = b"Subject: patience\r\n\r\n.\r\n..\r\n";
    let mut client = Client::greeted(kumod.smtp());
    for (name, _) in &servers {
        assert!(client.send(&[&format!("b@{name}")], message).starts_with("250 "));
    }
    client.quit();
    kumod.drained();
    kumod.stop();
    for ((name, server), (_, _, _, code)) in servers.iter().zip(MISBEHAVIOUR) {
        let recipient = format!("b@{name}");
        let failures = home.records_of("TransientFailure", &recipient);
        assert_eq!(failures.len(), 1, "{name}: {failures:?}");
        assert_eq!(failures[0]["response"]["code"], *code, "{name}: {}", failures[0]);
        assert_eq!(home.records_of("Delivery", &recipient).len(), 1, "{name}");
        let accepted = server.accepted();
        assert_eq!(accepted.len(), 1, "{name}");
        assert_eq!(accepted[0].original(), message, "{name}");
    }
}

#[test]
fn what_is_refused_for_good_bounces_and_is_gone() {
    const REFUSALS: &[(&str, At)] =
        &[("mail.test", At::Mail), ("rcpt.test", At::Rcpt), ("body.test", At::Body)];
    let refusing = |bad_at: At| {
        Scripted::start(MODERN, move |_, at| {
            if at == bad_at { Answer::Say("550 5.7.1 never\r\n") } else { Answer::Accept }
        })
    };
    let servers: Vec<_> = REFUSALS.iter().map(|(name, at)| (*name, refusing(*at))).collect();
    let hops: Vec<_> = servers.iter().map(|(name, server)| (*name, server.address)).collect();
    let home = Home::new();
    let kumod = home.start_policy(&policy::hops(&hops));
    let mut client = Client::greeted(kumod.smtp());
    for (name, _) in &servers {
        assert!(client.send(&[&format!("b@{name}")], b"Subject: no\r\n\r\n").starts_with("250 "));
    }
    kumod.drained();
    kumod.stop();
    for (name, server) in &servers {
        let record = home.record("Bounce", &format!("b@{name}"));
        let response = &record["response"];
        assert_eq!(
            (&response["code"], &response["content"]),
            (&Value::from(550), &Value::from("never")),
            "{name}"
        );
        assert_eq!(response["enhanced_code"]["subject"], 7, "{name}");
        assert!(server.accepted().is_empty(), "{name}");
        assert!(home.records_of("TransientFailure", &format!("b@{name}")).is_empty(), "{name}");
    }
}

/// A server may close a connection that was idle; the next message opens another, and nobody calls that a failure.
#[test]
fn a_connection_that_was_closed_between_messages_is_opened_again() {
    let last = Mutex::new(None);
    let server = Scripted::start(MODERN, move |connection, at| {
        let mut last = last.lock().unwrap();
        // The second message of a connection finds it closed.
        let again = at == At::Mail && last.replace(connection) == Some(connection);
        if again { Answer::HangUp } else { Answer::Accept }
    });
    let home = Home::new();
    let kumod = home.start(&["--relay-to", &server.address.to_string()]);
    let mut client = Client::greeted(kumod.smtp());
    for number in 1..=4 {
        assert!(client.send(&["b@there.test"], b"Subject: again\r\n\r\n").starts_with("250 "));
        server.wait_for(number);
    }
    kumod.drained();
    kumod.stop();
    assert_eq!((server.accepted().len(), server.connections()), (4, 4));
    assert!(home.records_of("TransientFailure", "b@there.test").is_empty());
}

/// A server that takes a message and never says another word. Its mail waits for it, nobody else's does, and neither does a stop.
#[test]
fn a_silent_next_hop_holds_up_nobody_else() {
    let (home, good) = (Home::new(), Scripted::good());
    let silent = misbehaving(MODERN, At::Body, Answer::Silence);
    let policy = policy::hops(&[("silent.test", silent.address), ("good.test", good.address)]);
    let kumod = home.start_policy(&policy);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@silent.test"], b"Subject: silence\r\n\r\n").starts_with("250 "));
    until("the message at the silent server", || silent.arrivals().len() == 1);
    assert!(client.send(&["b@good.test"], b"Subject: speech\r\n\r\n").starts_with("250 "));
    home.record("Delivery", "b@good.test");
    kumod.stop();

    let kumod = home.start_policy(&policy);
    silent.wait_for(1);
    kumod.drained();
    assert_eq!((silent.arrivals().len(), good.arrivals().len()), (2, 1));
    kumod.stop();
}

/// Turning it into lines would change the message (RFC 3030 3).
#[test]
fn a_binary_message_bounces_where_the_next_hop_takes_only_lines() {
    let lines_only = Scripted::start(&["CHUNKING", "PIPELINING", "8BITMIME"], |_, _| Answer::Accept);
    let home = Home::new();
    let kumod = home.start_policy(&policy::hops(&[("lines.test", lines_only.address)]));
    let mut client = Client::greeted(kumod.smtp());
    client
        .write(b"MAIL FROM:<a@client.test> BODY=BINARYMIME\r\nRCPT TO:<b@lines.test>\r\nBDAT 3 LAST\r\na\0b");
    for _ in 0..3 {
        assert_eq!(client.code(), 250);
    }
    kumod.drained();
    kumod.stop();
    assert!(lines_only.arrivals().is_empty());
    let response = &home.record("Bounce", "b@lines.test")["response"];
    assert_eq!(
        (&response["code"], &response["content"]),
        (&554.into(), &"message is binary and the peer does not offer BINARYMIME and CHUNKING".into())
    );
}
