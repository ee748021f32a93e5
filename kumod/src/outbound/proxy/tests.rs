//! Proxies on loopback that say what they are told to.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use tokio::net::TcpListener;

use super::*;
use crate::config::OutboundSpec;
use crate::dns::DnsOptions;

const DESTINATION: &str = "198.51.100.2:25";

/// A proxy that hears exactly these bytes before each answer, and then says the last words of what is behind it.
async fn scripted(script: Vec<(Vec<u8>, Vec<u8>)>) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        for (heard, said) in script {
            let mut bytes = vec![0; heard.len()];
            client.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes, heard);
            client.write_all(&said).await.unwrap();
        }
    });
    (port, task)
}

fn source(options: &str) -> SourceConfig {
    serde_json::from_str(options).unwrap()
}

async fn open_through(source: &SourceConfig) -> Result<Opened, Fault> {
    // Nobody is asked: names under .localhost are known.
    let nameservers = vec!["127.0.0.1:9".parse().unwrap()];
    let dns = Dns::new(DnsOptions { nameservers, ..DnsOptions::default() }).unwrap();
    let security = Security::new(Arc::default(), &dns, &OutboundSpec::default());
    open(&dns, &security, source, DESTINATION.parse().unwrap(), Duration::from_secs(60)).await
}

fn connect_request() -> Vec<u8> {
    vec![5, 1, 0, 1, 198, 51, 100, 2, 0, 25]
}

#[tokio::test]
async fn a_socks5_proxy_is_told_who_we_are_where_to_come_from_and_where_to_go() {
    let (port, proxy) = scripted(vec![
        (vec![5, 2, 0, 2], vec![5, 2]),
        (b"\x01\x04kumo\x06secret".to_vec(), vec![1, 0]),
        (vec![5, 2, 0, 1, 192, 0, 2, 1, 0, 0], vec![5, 0, 0, 1, 192, 0, 2, 1, 0, 0]),
        (connect_request(), b"\x05\x00\x00\x01\xc0\x00\x02\x01\x10\x00220 mx\r\n".to_vec()),
    ])
    .await;
    let source = source(&format!(
        r#"{{"socks5_proxy_server": "proxy.localhost:{port}", "socks5_proxy_source_address": "192.0.2.1",
            "socks5_proxy_username": "kumo", "socks5_proxy_password": {{"key_data": "secret\n"}}}}"#
    ));
    let mut opened = open_through(&source).await.unwrap();
    let server = format!("127.0.0.1:{port}").parse().unwrap();
    let address = "192.0.2.1:4096".parse().unwrap();
    assert_eq!(opened.from, Some(SourceAddress { address, proxy: Some((ProxyProtocol::Socks5, server)) }));
    let mut greeting = String::new();
    opened.stream.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "220 mx\r\n", "what comes behind the answer is the destination's");
    proxy.await.unwrap();
}

#[tokio::test]
async fn without_a_source_address_it_is_plain_connect() {
    let (port, proxy) = scripted(vec![
        (vec![5, 1, 0], vec![5, 0]),
        (connect_request(), vec![5, 0, 0, 1, 203, 0, 113, 9, 1, 0]),
    ])
    .await;
    let source = source(&format!(r#"{{"socks5_proxy_server": "127.0.0.1:{port}"}}"#));
    let from = open_through(&source).await.unwrap().from.unwrap();
    assert_eq!(from.address, "203.0.113.9:256".parse().unwrap());
    proxy.await.unwrap();
}

#[tokio::test]
async fn a_proxys_refusals_are_laid_at_the_right_door() {
    let greeted = || (vec![5, 1, 0], vec![5, 0]);
    let bind = |code: u8| (vec![5, 2, 0, 1, 192, 0, 2, 1, 0, 0], vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    let connect = |code: u8| (connect_request(), vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    for (script, is_proxy, words) in [
        (vec![(vec![5, 1, 0], vec![5, 0xff])], true, "wants a user and a password"),
        (vec![(vec![5, 1, 0], b"HTTP/1.1 400".to_vec())], true, "not SOCKS5"),
        (vec![greeted(), bind(1)], true, "does not let mail come from 192.0.2.1: it failed"),
        (vec![greeted(), bind(2)], true, "its rules forbid it"),
        (vec![greeted(), bind(0), connect(1)], true, "it failed"),
        (vec![greeted(), bind(0), connect(5)], false, "the connection was refused"),
        (vec![greeted(), bind(0), connect(4)], false, "unreachable"),
        (vec![greeted(), bind(0), (connect_request(), vec![])], true, "early eof"),
    ] {
        let (port, proxy) = scripted(script).await;
        let source = source(&format!(
            r#"{{"socks5_proxy_server": "127.0.0.1:{port}", "socks5_proxy_source_address": "192.0.2.1"}}"#
        ));
        let fault = open_through(&source).await.err().unwrap();
        let (blamed, reason) = match fault {
            Fault::Proxy(reason) => (true, reason),
            Fault::Host(reason) => (false, reason),
            Fault::Unplumbed(address) => panic!("{address}"),
        };
        assert!(blamed == is_proxy && reason.contains(words), "{words}: {reason}");
        proxy.await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_dead_proxy_are_the_proxys() {
    let (port, proxy) =
        scripted(vec![(vec![5, 2, 0, 2], vec![5, 2]), (b"\x01\x01u\x01p".to_vec(), vec![1, 1])]).await;
    let options = r#""socks5_proxy_username": "u", "socks5_proxy_password": {"key_data": "p"}"#;
    let source = source(&format!(r#"{{"socks5_proxy_server": "127.0.0.1:{port}", {options}}}"#));
    let refused = open_through(&source).await.err().unwrap();
    assert!(
        matches!(&refused, Fault::Proxy(reason) if reason.contains("refused user and password")),
        "{refused:?}"
    );
    proxy.await.unwrap();
    // The port is free again.
    let dead = open_through(&source).await.err().unwrap();
    assert!(matches!(&dead, Fault::Proxy(reason) if reason.contains("Connection refused")), "{dead:?}");
}

#[tokio::test]
async fn a_proxy_that_says_nothing_is_given_up_when_its_time_is_over() {
    let server = "proxy.localhost:5000".parse().unwrap();
    let silent = in_time(&server, Instant::now(), std::future::pending::<Result<(), Fault>>()).await;
    let Err(Fault::Proxy(reason)) = silent else { panic!("{silent:?}") };
    assert_eq!(reason, "proxy proxy.localhost:5000 did not answer within 10s");
}

#[tokio::test]
async fn haproxy_gets_its_header_before_a_word_of_smtp() {
    let (port, proxy) = scripted(vec![(
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..], &[192, 0, 2, 1, 198, 51, 100, 2, 0, 0, 0, 25]]
            .concat(),
        b"220 mx\r\n".to_vec(),
    )])
    .await;
    let source = source(&format!(
        r#"{{"ha_proxy_server": "proxy.localhost:{port}", "ha_proxy_source_address": "192.0.2.1"}}"#
    ));
    let mut opened = open_through(&source).await.unwrap();
    let from = opened.from.unwrap();
    assert_eq!(
        (from.address.to_string().as_str(), from.proxy.unwrap().0),
        ("192.0.2.1:0", ProxyProtocol::HaProxy)
    );
    let mut greeting = String::new();
    opened.stream.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "220 mx\r\n");
    proxy.await.unwrap();
}
