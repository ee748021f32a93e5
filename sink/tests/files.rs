//! The sink when no file is left. Alone in its file, because the limit is that of the whole process.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sink::{Config, Server};
use socket2::{Domain, Socket, Type};

mod support;

use support::{Client, message};

/// More than fit into what is left of the limit.
const CLIENTS: usize = 24;

/// Files that may still be opened when the clients connect.
const FILES_LEFT: u64 = 4;

#[test]
fn connections_wait_in_the_backlog_until_a_file_is_free() {
    // One worker accepts in the order of connecting, so that the test can wait for each in turn.
    let config = Config { workers: 1, connections_max: usize::MAX, ..Config::on_free_ports() };
    let server = Server::start(config).unwrap();
    // The clients have their sockets before the limit falls; only the server needs new files then.
    let sockets: Vec<Socket> =
        (0..CLIENTS).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let highest = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(highest + FILES_LEFT), maximum: limit.maximum })
        .unwrap();
    let address: SocketAddr = server.smtp_addr;
    sockets.iter().for_each(|socket| socket.connect(&address.into()).unwrap());
    for (seq, socket) in sockets.into_iter().enumerate() {
        let mut client = Client::of(socket.into());
        assert_eq!(client.reply(), 220);
        client.send(&message("files", seq as u64, b"x\r\n"), &["a@example.test"]);
    }
    setrlimit(Resource::Nofile, limit).unwrap();
    let stats = server.stop();
    assert_eq!((stats.distinct, stats.connections_total), (CLIENTS as u64, CLIENTS as u64));
}
