//! Bytes get through whole, both ways, however they are moved, and connections end as they should.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use kumo_proxy::tls::Tls;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{Client, Echo, Proxy, options, own_address, until};

/// More than sockets and pipes hold together.
const BYTES: usize = 16 << 20;

/// Bytes that show where they are.
fn pattern() -> Vec<u8> {
    (0..BYTES / 4).flat_map(|index| u32::try_from(index).unwrap().to_le_bytes()).collect()
}

/// Sends everything, ends, and hears everything back.
fn there_and_back(mut client: Client) {
    let sent = pattern();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&pattern()).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut heard = Vec::with_capacity(BYTES);
    client.stream.read_to_end(&mut heard).unwrap();
    writing.join().unwrap();
    assert!(heard == sent, "{} bytes came back of {BYTES}, or others", heard.len());
}

#[test]
fn all_bytes_get_through_and_an_end_is_passed_on() {
    let echo = Echo::start();
    for splices in [true, false] {
        let proxy = Proxy::start(kumo_proxy::options::Options { splices, ..options(echo.address.port()) });
        let mut client = proxy.client();
        client.connect(echo.address);
        assert_eq!(own_address(&mut client), "127.0.0.1");
        there_and_back(client);
        until("the connection to be counted", || proxy.metrics.completed.load(Ordering::Relaxed) == 1);
        let moved = [&proxy.metrics.bytes_from_client, &proxy.metrics.bytes_to_client];
        let moved = moved.map(|counter| counter.load(Ordering::Relaxed));
        assert_eq!(moved, [BYTES as u64, (BYTES + "127.0.0.1\n".len()) as u64], "splices: {splices}");
    }
}

#[test]
fn what_is_said_ahead_is_not_lost() {
    let echo = Echo::start();
    let proxy = Proxy::start(options(echo.address.port()));
    let mut client = proxy.client();
    let [high, low] = echo.address.port().to_be_bytes();
    // Greeting, request and the first bytes for the other side, all at once.
    client.say(&[&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, high, low][..], b"ahead"].concat());
    assert_eq!(client.hear(2), [5, 0]);
    assert_eq!(client.answer(), 0);
    own_address(&mut client);
    assert_eq!(client.hear(5), b"ahead");
}

#[test]
fn a_name_is_looked_up_here() {
    let echo = Echo::start();
    let proxy = Proxy::start(options(echo.address.port()));
    for name in ["localhost", "127.0.0.1"] {
        let mut client = proxy.client();
        client.greet();
        let length = u8::try_from(name.len()).unwrap();
        client
            .say(&[&[5, 1, 0, 3, length][..], name.as_bytes(), &echo.address.port().to_be_bytes()].concat());
        assert_eq!(client.answer(), 0, "{name}");
        assert_eq!(own_address(&mut client), "127.0.0.1");
    }
}

/// A proxy with TLS, and what its clients trust.
fn with_tls(port: u16, folder: &std::path::Path) -> (Proxy, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["proxy.test".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Some(Arc::new(Tls::new(certificate, key).unwrap()));
    let proxy = Proxy::start(kumo_proxy::options::Options { tls, ..options(port) });
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (proxy, Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[test]
fn with_tls_the_same_holds_and_who_speaks_in_clear_is_not_heard() {
    let echo = Echo::start();
    let folder = tempfile::tempdir().unwrap();
    let (proxy, config) = with_tls(echo.address.port(), folder.path());
    let connection = ClientConnection::new(config, ServerName::try_from("proxy.test").unwrap()).unwrap();
    let tcp = TcpStream::connect(proxy.address).unwrap();
    tcp.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut client = Client { stream: StreamOwned::new(connection, tcp) };
    client.connect(echo.address);
    assert_eq!(own_address(&mut client), "127.0.0.1");
    let text = &pattern()[..100_000];
    client.say(text);
    assert!(client.hear(text.len()) == text);
    let mut plain = proxy.client();
    plain.say(&[5, 1, 0]);
    until("the failure to be counted", || proxy.metrics.tls_failures.load(Ordering::Relaxed) == 1);
}

#[test]
fn a_connection_on_which_nothing_passes_is_cut() {
    let echo = Echo::start();
    for splices in [true, false] {
        let mut options = options(echo.address.port());
        options.splices = splices;
        options.limits.idle = Duration::from_millis(50);
        let proxy = Proxy::start(options);
        let mut client = proxy.client();
        client.connect(echo.address);
        own_address(&mut client);
        assert!(client.is_closed());
        until("it to be counted", || proxy.metrics.idle.load(Ordering::Relaxed) == 1);
    }
}

#[test]
fn a_stop_lets_connections_end_takes_nobody_new_and_says_so() {
    let echo = Echo::start();
    let proxy = Proxy::start(options(echo.address.port()));
    assert_eq!(proxy.get("/api/check-liveness/v1"), ("HTTP/1.1 200 OK".into(), "OK".into()));
    let mut client = proxy.client();
    client.connect(echo.address);
    own_address(&mut client);
    proxy.stop();
    until("no new client to be taken", || TcpStream::connect(proxy.address).is_err());
    let (status, reason) = proxy.get("/api/check-liveness/v1");
    assert_eq!((status.as_str(), reason.as_str()), ("HTTP/1.1 503 Service Unavailable", "shutting down"));
    client.say(b"still");
    assert_eq!(client.hear(5), b"still");
    drop(client);
    proxy.join();
}

#[test]
fn a_stop_cuts_what_does_not_end() {
    let echo = Echo::start();
    let mut options = options(echo.address.port());
    options.limits.drain = Duration::from_millis(50);
    let proxy = Proxy::start(options);
    let mut client = proxy.client();
    client.connect(echo.address);
    own_address(&mut client);
    proxy.join();
    assert!(client.is_closed());
}
