//! Mail that leaves through a proxy, and proxies that do not serve.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use support::client::Client;
use support::home::{Home, Kumod};
use support::policy::{LISTENERS, LOOPBACK_ALLOWED};
use support::proxy::{Proxy, options};
use support::scripted::Scripted;
use support::trust::Pair;

/// The source of kumod's queue to `hop`, with these options and the others of the pool behind it.
fn policy(hop: &Scripted, sources: &[(&str, &str)]) -> String {
    let entries: String = sources.iter().map(|(name, _)| format!("{{ name = '{name}' }}, ")).collect();
    let options: String =
        sources.iter().map(|(name, more)| format!("  {name} = {{ name = '{name}', {more} }},\n")).collect();
    let queue = format!("[127.0.0.1]:{}", hop.address.port());
    format!(
        "{LISTENERS}{LOOPBACK_ALLOWED}
kumo.on('get_queue_config', function() return kumo.make_queue_config {{ egress_pool = 'all', retry_interval = '1s', max_retry_interval = '1s' }} end)
kumo.on('get_egress_pool', function(name) return kumo.make_egress_pool {{ name = name, entries = {{ {entries} }} }} end)
local sources = {{\n{options}}}
kumo.on('get_egress_source', function(name) return kumo.make_egress_source(sources[name]) end)
kumo.on('smtp_server_message_received', function(msg) msg:set_meta('queue', '{queue}') end)
"
    )
}

fn send(kumod: &Kumod, count: usize) {
    let mut client = Client::greeted(kumod.smtp());
    for number in 0..count {
        let recipient = format!("b{number}@there.test");
        assert!(client.send(&[&recipient], b"Subject: by proxy\r\n\r\n").starts_with("250 "));
    }
    client.quit();
}

/// How many records there are of each kind and source.
fn ends(home: &Home) -> BTreeMap<(String, String), usize> {
    let mut ends = BTreeMap::new();
    for record in home.records().iter().filter(|record| record["type"] != "Reception") {
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        *ends.entry((text("type"), text("egress_source"))).or_default() += 1;
    }
    ends
}

#[test]
fn mail_comes_from_the_address_that_the_proxy_was_asked_for() {
    let (home, hop) = (Home::new(), Scripted::good());
    let mut options = options(hop.address.port());
    options.rules.users.insert(b"kumod".to_vec(), b"secret".to_vec());
    let proxy = Proxy::start(options);
    let server = proxy.address;
    let source = format!(
        "socks5_proxy_server = '{server}', socks5_proxy_source_address = '127.0.0.21', socks5_proxy_username = 'kumod',
    socks5_proxy_password = {{ key_data = 'secret' }}"
    );
    let kumod = home.start_policy(&policy(&hop, &[("far", &source)]));
    send(&kumod, 3);
    kumod.drained();
    kumod.stop();
    let arrivals = hop.accepted();
    assert_eq!(arrivals.len(), 3);
    assert!(arrivals.iter().all(|arrival| arrival.client.to_string() == "127.0.0.21"));
    let record = home.record("Delivery", "b0@there.test");
    let address = &record["source_address"];
    assert!(address["address"].as_str().unwrap().starts_with("127.0.0.21:"), "{address}");
    assert_eq!((&address["protocol"], &address["server"]), (&json!("socks5"), &json!(server.to_string())));
    assert!(proxy.metrics.bytes_from_client.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_dead_proxy_costs_its_source_alone() {
    let (home, hop) = (Home::new(), Scripted::good());
    // A port that nobody listens on any more.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broken =
        format!("socks5_proxy_server = '{dead}', suspend_when_proxy_unhealthy = {{ duration = '1h' }}");
    let kumod = home.start_policy(&policy(&hop, &[("dead", &broken), ("alive", "")]));
    send(&kumod, 12);
    kumod.drained();
    kumod.stop();
    assert_eq!(hop.accepted().len(), 12);
    let ends = ends(&home);
    assert_eq!(ends.get(&("Delivery".to_owned(), "alive".to_owned())), Some(&12), "{ends:?}");
    assert!(
        ends.get(&("TransientFailure".to_owned(), "dead".to_owned())).is_some_and(|count| *count >= 1),
        "{ends:?}"
    );
    let records = home.records();
    let failure = records.iter().find(|record| record["type"] == "TransientFailure").unwrap();
    let content = failure["response"]["content"].as_str().unwrap();
    assert!(content.starts_with("egress source \"dead\" cannot be used: proxy 127.0.0.1:"), "{content}");
    assert_eq!(failure["response"]["enhanced_code"], json!({"class": 4, "subject": 4, "detail": 4}));
}

#[test]
fn what_a_proxy_does_not_let_us_do_is_said_in_the_record() {
    for (source, words) in [
        ("socks5_proxy_source_address = '192.0.2.77'", "does not let mail come from 192.0.2.77"),
        ("socks5_proxy_source_address = '::1'", "the source's address is of the other family"),
        (
            "socks5_proxy_username = 'kumod', socks5_proxy_password = { key_data = 'wrong' }",
            "refused user and password",
        ),
    ] {
        let (home, hop) = (Home::new(), Scripted::good());
        let mut options = options(hop.address.port());
        if words.contains("password") {
            options.rules.users.insert(b"kumod".to_vec(), b"secret".to_vec());
        }
        let proxy = Proxy::start(options);
        let source = format!("socks5_proxy_server = '{}', {source}", proxy.address);
        let kumod = home.start_policy(&policy(&hop, &[("far", &source)]));
        send(&kumod, 1);
        let record = support::eventually("the attempt's record", || {
            home.records().into_iter().find(|record| record["type"] == "TransientFailure")
        });
        kumod.stop();
        let content = record["response"]["content"].as_str().unwrap();
        assert!(content.contains(words), "{content}");
        assert_eq!(record["response"]["code"], Value::from(451));
    }
}

/// kumod where this certificate, in PEM, is all that is trusted.
fn start_trusting(home: &Home, certificate: &str, policy: &str) -> Kumod {
    let trusted = home.path().join("trusted.pem");
    std::fs::write(&trusted, certificate).unwrap();
    let environment = ["env".to_owned(), format!("SSL_CERT_FILE={}", trusted.display())];
    let policy = home.policy(policy);
    home.start_behind(&environment, &["--policy", policy.to_str().unwrap()]).unwrap()
}

#[test]
fn a_proxy_with_tls_is_believed_where_its_certificate_is() {
    let pair = Pair::new("proxy.localhost");
    for (trusted, tls, delivers) in [
        (&pair, "Required", true),
        (&Pair::new("other.localhost"), "Required", false),
        (&Pair::new("other.localhost"), "RequiredInsecure", true),
    ] {
        let (home, hop) = (Home::new(), Scripted::good());
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| home.path().join(name));
        std::fs::write(&certificate, pair.certificate()).unwrap();
        std::fs::write(&key, pair.key()).unwrap();
        let mut options = options(hop.address.port());
        options.tls = Some(Arc::new(kumo_proxy::tls::Tls::new(certificate, key).unwrap()));
        let proxy = Proxy::start(options);
        let port = proxy.address.port();
        let source = format!(
            "socks5_proxy_server = 'proxy.localhost:{port}', socks5_proxy_source_address = '127.0.0.22', socks5_proxy_tls = '{tls}'"
        );
        let kumod = start_trusting(&home, &trusted.certificate(), &policy(&hop, &[("far", &source)]));
        send(&kumod, 2);
        let record = support::eventually("the attempt's record", || {
            home.records().into_iter().find(|record| record["type"] != "Reception")
        });
        if delivers {
            kumod.drained();
            assert!(hop.accepted().iter().all(|arrival| arrival.client.to_string() == "127.0.0.22"));
            assert_eq!(record["type"], "Delivery", "{tls}: {record}");
        } else {
            let content = record["response"]["content"].as_str().unwrap();
            assert!(content.contains("TLS failed (socks5_proxy_tls)"), "{content}");
            assert!(hop.accepted().is_empty());
        }
        kumod.stop();
    }
}
