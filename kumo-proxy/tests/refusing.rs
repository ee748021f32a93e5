//! Who is not served, and what they are told.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::{Echo, Proxy, options, own_address, until};

const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

#[test]
fn a_source_is_what_the_client_asks_for_if_it_may() {
    let echo = Echo::start();
    let mut options = options(echo.address.port());
    options.rules.sources = ["127.0.0.4/31", "192.0.2.0/24"].map(|network| network.parse().unwrap()).to_vec();
    let proxy = Proxy::start(options);
    let mut client = proxy.client();
    client.greet();
    assert_eq!(client.bind(Ipv4Addr::new(127, 0, 0, 4)), 0);
    assert_eq!(client.bind(Ipv4Addr::new(127, 0, 0, 5)), 0, "it may change its mind");
    assert_eq!(client.ask(1, echo.address), 0);
    assert_eq!(own_address(&mut client), "127.0.0.5");
    let refused = |ip: Ipv4Addr| {
        let mut client = proxy.client();
        client.greet();
        (client.bind(ip), client.is_closed())
    };
    assert_eq!(refused(Ipv4Addr::new(127, 0, 0, 6)), (2, true), "not on the list");
    assert_eq!(refused(NOBODY), (1, true), "not an address of this host");
}

#[test]
fn what_may_not_be_reached_is_refused_and_what_cannot_be_is_told() {
    let echo = Echo::start();
    let port = echo.address.port();
    let proxy = Proxy::start(options(port));
    let asked = |proxy: &Proxy, command: u8, address: std::net::SocketAddr| {
        let mut client = proxy.client();
        client.greet();
        (client.ask(command, address), client.is_closed())
    };
    assert_eq!(asked(&proxy, 1, (NOBODY, port).into()), (2, true), "another network");
    assert_eq!(asked(&proxy, 1, ([127, 0, 0, 1], port.wrapping_add(1)).into()), (2, true), "another port");
    assert_eq!(asked(&proxy, 3, echo.address), (7, true), "UDP");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let proxy = Proxy::start(options(closed.port()));
    assert_eq!(asked(&proxy, 1, closed), (5, true), "nobody listens");
    let mut by_default = options(port);
    by_default.rules.destinations.clear();
    assert_eq!(asked(&Proxy::start(by_default), 1, echo.address), (2, true), "this host, unless it is said");
}

#[test]
fn a_stranger_is_closed_without_a_word() {
    let mut options = options(25);
    options.rules.clients = vec!["10.0.0.0/8".parse().unwrap()];
    let proxy = Proxy::start(options);
    assert!(proxy.client().is_closed());
    until("it to be counted", || proxy.metrics.denied.load(Ordering::Relaxed) == 1);
    assert_eq!(proxy.metrics.accepted.load(Ordering::Relaxed), 0);
}

#[test]
fn a_password_is_wanted_where_there_are_users() {
    let echo = Echo::start();
    let mut options = options(echo.address.port());
    options.rules.users = BTreeMap::from([(b"me".to_vec(), b"secret".to_vec())]);
    let proxy = Proxy::start(options);
    let mut without = proxy.client();
    without.say(&[5, 1, 0]);
    assert_eq!(without.hear(2), [5, 0xff]);
    assert!(without.is_closed());
    for (password, answer) in [("secret", [1, 0]), ("guess!", [1, 1])] {
        let mut client = proxy.client();
        client.say(&[5, 2, 0, 2]);
        assert_eq!(client.hear(2), [5, 2]);
        client.say(&[b"\x01\x02me\x06", password.as_bytes()].concat());
        assert_eq!(client.hear(2), answer);
        if answer == [1, 0] {
            assert_eq!(client.ask(1, echo.address), 0);
            own_address(&mut client);
        } else {
            assert!(client.is_closed());
        }
    }
    assert_eq!(proxy.metrics.passwords_wrong.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_not_socks_is_closed() {
    let proxy = Proxy::start(options(25));
    for words in
        [&b"GET http://mx.example/ HTTP/1.1\r\n\r\n"[..], b"EHLO me\r\n", &[4, 1, 0, 25, 127, 0, 0, 1, 0]]
    {
        let mut client = proxy.client();
        client.say(words);
        assert!(client.is_closed(), "{words:?}");
    }
    until("them to be counted", || proxy.metrics.failed.load(Ordering::Relaxed) == 3);
}

#[test]
fn who_says_nothing_is_closed() {
    let mut options = options(25);
    options.limits.handshake = Duration::from_millis(50);
    let proxy = Proxy::start(options);
    let mut silent = proxy.client();
    assert!(silent.is_closed());
    let mut slow = proxy.client();
    slow.say(&[5, 200, 0]);
    assert!(slow.is_closed());
}

#[test]
fn one_too_many_is_closed_until_another_has_gone() {
    let echo = Echo::start();
    for is_total in [true, false] {
        let mut options = options(echo.address.port());
        let limit = if is_total {
            &mut options.limits.connections_max
        } else {
            &mut options.limits.connections_per_client_max
        };
        *limit = 1;
        let proxy = Proxy::start(options);
        let mut first = proxy.client();
        first.connect(echo.address);
        assert!(proxy.client().is_closed());
        drop(first);
        until("the first to be gone", || proxy.metrics.active.load(Ordering::Relaxed) == 0);
        let mut third = proxy.client();
        third.connect(echo.address);
        own_address(&mut third);
    }
}

#[test]
fn the_numbers_are_shown_and_nothing_else() {
    let proxy = Proxy::start(options(25));
    let (status, text) = proxy.get("/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(text.contains("\nproxy_connections_accepted_total 0\n"), "{text}");
    assert_eq!(proxy.get("/").0, "HTTP/1.1 404 Not Found");
}
