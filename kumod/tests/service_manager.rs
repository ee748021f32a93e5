//! kumod under a service manager: what it says on the socket that `NOTIFY_SOCKET` names, and when.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use support::PATIENCE;
use support::client::Client;
use support::home::{Home, Kumod, Refusal};

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    variable: String,
}

impl Manager {
    /// With a socket in the file system.
    fn in_folder(home: &Home) -> Self {
        let path = home.path().join("notify");
        Self::new(UnixDatagram::bind(&path).unwrap(), path.display().to_string())
    }

    /// With a socket that has no file.
    fn without_file() -> Self {
        let name = format!("kumod-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::new(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn new(socket: UnixDatagram, variable: String) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, variable }
    }

    /// Starts kumod with these variables as well, and waits until it takes mail.
    fn start(&self, home: &Home, others: &[&str]) -> Result<Kumod, Refusal> {
        let mut program = vec!["/usr/bin/env".to_owned(), format!("NOTIFY_SOCKET={}", self.variable)];
        program.extend(others.iter().map(|variable| (*variable).to_owned()));
        home.start_behind(&program, &[])
    }

    /// What comes next.
    fn told(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// All up to a word that holds `end`, with it.
    fn told_until(&self, end: &str) -> Vec<String> {
        let mut all = vec![self.told()];
        while !all.last().unwrap().contains(end) {
            all.push(self.told());
        }
        all
    }
}

#[test]
fn ready_is_said_when_mail_is_taken_and_stopping_when_it_no_longer_is() {
    let home = Home::new();
    for manager in [Manager::in_folder(&home), Manager::without_file()] {
        let kumod = manager.start(&home, &[]).unwrap();
        let start = manager.told_until("READY=1");
        assert_eq!(start[0], "STATUS=opening the spool\nEXTEND_TIMEOUT_USEC=120000000");
        assert_eq!(start.last().unwrap(), "READY=1\nSTATUS=taking mail");
        assert_eq!(start.iter().filter(|words| words.contains("READY")).count(), 1);
        let mut client = Client::greeted(kumod.smtp());
        client.write(b"MAIL FROM:<a@b.example>\r\n");
        assert_eq!(client.code(), 250);
        drop(client);
        kumod.stop();
        let rest = manager.told_until("STOPPING=1");
        assert!(rest.iter().all(|words| !words.contains("READY=1")), "{rest:?}");
    }
}

#[test]
fn a_start_that_fails_is_never_ready_and_says_why() {
    let home = Home::new();
    let kumod = home.start(&[]);
    let manager = Manager::in_folder(&home);
    let refusal = manager.start(&home, &[]).err().unwrap();
    assert_eq!(refusal.code, Some(1));
    let words = manager.told_until(&kumod.pid().to_string());
    assert!(words.iter().all(|words| words.starts_with("STATUS=")), "{words:?}");
    assert!(words.last().unwrap().contains(&home.spool().display().to_string()), "{words:?}");
    kumod.stop();
}

#[test]
fn the_watchdog_is_fed_and_hears_how_things_stand() {
    let home = Home::new();
    let manager = Manager::in_folder(&home);
    let kumod = manager.start(&home, &["WATCHDOG_USEC=20000"]).unwrap();
    manager.told_until("READY=1");
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1\nSTATUS=taking mail; 0 messages queued");
    }
    kumod.stop();
}
