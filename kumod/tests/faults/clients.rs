//! Clients that do not do their part: kumod serves the others as if they were not there.

use std::io::{ErrorKind, Write};

use crate::support::client::Client;
use crate::support::home::{Home, Kumod};
use crate::support::scripted::Scripted;
use crate::support::until;

/// More than the sockets' buffers and kumod's together can hold.
const FLOOD_BYTES_MAX: usize = 256 << 20;

fn assert_serves(kumod: &Kumod, next_hop: &Scripted) {
    let before = next_hop.accepted().len();
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: fine\r\n\r\n").starts_with("250 "));
    client.quit();
    next_hop.wait_for(before + 1);
}

/// Writes until nothing more goes, and reads nothing.
fn flood(client: &mut Client, what: &[u8]) -> usize {
    let mut socket = client.socket();
    socket.set_nonblocking(true).unwrap();
    let (mut written, mut refused) = (0, 0);
    // The other side may just not have got to it: it is stuck when it stays so.
    while refused < 50 {
        match socket.write(what) {
            Ok(count) => (written, refused) = (written + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refused += 1;
                std::thread::park_timeout(std::time::Duration::from_millis(5));
            }
            Err(error) => panic!("kumod cut the connection of a slow reader: {error}"),
        }
        assert!(
            written < FLOOD_BYTES_MAX,
            "kumod takes commands without end from a client that reads no replies"
        );
    }
    written
}

#[test]
fn clients_that_never_read_do_not_stop_the_others() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let mut stuck: Vec<Client> = (0..4).map(|_| Client::greeted(kumod.smtp())).collect();
    for client in &mut stuck {
        flood(client, &b"NOOP\r\n".repeat(10_000));
        assert_serves(&kumod, &next_hop);
    }
    until("the others to be gone", || kumod.metric_of("connection_count", "esmtp_listener") <= 4);
    assert_eq!(kumod.metric_of("connection_count", "esmtp_listener"), 4, "a slow reader is given time");
    kumod.drained();
}

/// Beginnings of conversations.
const HALVES: &[&[u8]] = &[
    b"",
    b"EHL",
    b"EHLO a\r\nMAIL FROM:<a@b.test>\r\n",
    b"EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@there.test>\r\nDATA\r\nSubject: half",
    b"EHLO a\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@there.test>\r\nBDAT 100000 LAST\r\nSubject: half",
];

#[test]
fn clients_that_stop_in_the_middle_do_not_stop_the_others() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let mut silent = Vec::new();
    for bytes in HALVES {
        for _ in 0..8 {
            let mut client = Client::connect(kumod.smtp());
            client.write(bytes);
            silent.push(client);
        }
    }
    until("all clients to be let in", || {
        kumod.metric_of("connection_count", "esmtp_listener") == silent.len() as u64
    });
    assert_serves(&kumod, &next_hop);
    drop(silent);
    assert_serves(&kumod, &next_hop);
    kumod.drained();
    assert_eq!(next_hop.arrivals().len(), 2);
    kumod.stop();
}

/// Room for bodies is given for what has come, not for what was announced.
#[test]
fn announced_bodies_that_do_not_come_do_not_stop_the_others() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let mut announcing: Vec<Client> = (0..8).map(|_| Client::greeted(kumod.smtp())).collect();
    for client in &mut announcing {
        client
            .write(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<b@there.test>\r\nBDAT 20000000 LAST\r\nSubject: large");
    }
    assert_serves(&kumod, &next_hop);
    until("the others to be gone", || kumod.metric_of("connection_count", "esmtp_listener") <= 8);
    let left = kumod.metric_of("connection_count", "esmtp_listener");
    assert_eq!(left, 8, "mail passed only after these had been silent for too long");
    kumod.drained();
}
