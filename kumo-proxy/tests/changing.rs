//! IPv6 as well as IPv4, and a certificate that is replaced while the proxy runs.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use kumo_proxy::options::Options;
use kumo_proxy::tls::Tls;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{Client, Echo, Proxy, options, own_address};

/// Somebody on `[::1]` who says who came, or `None` where this host has no such address.
fn greeter() -> Option<SocketAddr> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok()?;
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let _ = writeln!(stream, "{peer}");
        }
    });
    Some(address)
}

/// A request of a client for an IPv6 address; the number of its answer, which is of either family.
fn ask(client: &mut Client, command: u8, address: SocketAddr) -> u8 {
    let SocketAddr::V6(place) = address else { panic!("{address}") };
    client.say(&[&[5, command, 0, 4][..], &place.ip().octets(), &place.port().to_be_bytes()].concat());
    let head = client.hear(4);
    client.hear(if head[3] == 4 { 18 } else { 6 });
    head[1]
}

#[test]
fn clients_sources_and_destinations_may_be_of_ipv6() {
    let Some(hop) = greeter() else {
        eprintln!("skipped: this host has no [::1]");
        return;
    };
    let mut options = Options { listen: vec![(Ipv6Addr::LOCALHOST, 0).into()], ..options(hop.port()) };
    options.rules.clients.push("::1/128".parse().unwrap());
    options.rules.destinations.push("::1/128".parse().unwrap());
    let proxy = Proxy::start(options);
    let mut client = proxy.client();
    client.greet();
    assert_eq!(ask(&mut client, 2, (Ipv6Addr::LOCALHOST, 0).into()), 0, "BIND");
    assert_eq!(ask(&mut client, 1, hop), 0, "CONNECT");
    assert_eq!(own_address(&mut client), "::1");
    // From an address of the other family there is no way.
    let mut client = proxy.client();
    client.greet();
    assert_eq!(client.bind([127, 0, 0, 1].into()), 0);
    assert_eq!(ask(&mut client, 1, hop), 4);
    // What this host does not have cannot be come from.
    let mut client = proxy.client();
    client.greet();
    assert_eq!(ask(&mut client, 2, "[2001:db8::77]:0".parse().unwrap()), 1);
}

/// Puts a new certificate into the folder.
fn issue(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["proxy.test".to_owned()]).unwrap();
    // The key first: a handshake in between finds a pair that does not fit, and keeps the old one.
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// Whether who trusts only this certificate gets through to the echo.
fn is_served(proxy: &Proxy, echo: &Echo, trusted: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let connection = ClientConnection::new(config, ServerName::try_from("proxy.test").unwrap()).unwrap();
    let tcp = TcpStream::connect(proxy.address).unwrap();
    tcp.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    let mut answer = [0; 2];
    if stream.write_all(&[5, 1, 0]).and_then(|()| stream.read_exact(&mut answer)).is_err() {
        return false;
    }
    assert_eq!(answer, [5, 0]);
    let mut client = Client { stream };
    assert_eq!(client.ask(1, echo.address), 0);
    own_address(&mut client) == "127.0.0.1"
}

#[test]
fn a_new_certificate_is_used_from_the_next_client_on_and_a_broken_one_is_not() {
    let (echo, folder) = (Echo::start(), tempfile::tempdir().unwrap());
    let first = issue(folder.path());
    let tls = Tls::new(folder.path().join("cert.pem"), folder.path().join("key.pem")).unwrap();
    let proxy = Proxy::start(Options { tls: Some(Arc::new(tls)), ..options(echo.address.port()) });
    assert!(is_served(&proxy, &echo, &first));
    let second = issue(folder.path());
    assert!(is_served(&proxy, &echo, &second));
    assert!(!is_served(&proxy, &echo, &first), "the old certificate is not shown any more");
    std::fs::write(folder.path().join("cert.pem"), "not a certificate\n").unwrap();
    assert!(is_served(&proxy, &echo, &second), "what cannot be used changes nothing");
}
