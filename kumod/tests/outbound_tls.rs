//! TLS to next hops, in each of its modes, with hosts that do as they should and hosts that do not.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use rustls::HandshakeKind;
use serde_json::json;
use support::authority_of_certificates::Authority;
use support::client::Client;
use support::home::{Home, Kumod};
use support::policy::{LISTENERS, RETRY_SOON};
use support::tls_hop::{Tls, TlsHop};
use support::until;

/// A kumod that trusts this authority. Domains under `.localhost` lead to the port; `options` are those of the path to a domain.
fn start(home: &Home, authority: &Authority, hop: &TlsHop, options: &[(&str, &str)]) -> Kumod {
    let trusted = home.path().join("trusted.pem");
    fs::write(&trusted, &authority.pem).unwrap();
    let mut policy = [LISTENERS, RETRY_SOON, "local options = {\n"].concat();
    for (domain, options) in options {
        policy.push_str(&format!("['{domain}'] = {{ smtp_port = {}, {options} }},\n", hop.address.port()));
    }
    policy.push_str("}\nkumo.on('get_egress_path_config', function(domain) return kumo.make_egress_path(options[domain]) end)\n");
    let policy = home.policy(&policy);
    let environment = ["env".to_owned(), format!("SSL_CERT_FILE={}", trusted.display())];
    home.start_behind(&environment, &["--policy", policy.to_str().unwrap()]).unwrap()
}

fn send(kumod: &Kumod, recipients: &[&str]) {
    let mut client = Client::greeted(kumod.smtp());
    for recipient in recipients {
        let reply = client.send(&[recipient], b"Subject: 1\r\n\r\nhello\r\n");
        assert!(reply.starts_with("250 "), "{reply}");
    }
    client.quit();
}

/// What the first attempt came to, as `TYPE CODE CONTENT`.
fn first_attempt(home: &Home, recipient: &str) -> String {
    let is_attempt = |kind: &str| ["Delivery", "TransientFailure", "Bounce"].contains(&kind);
    let record = support::eventually(&format!("a record of {recipient}"), || {
        home.records()
            .into_iter()
            .find(|record| record["recipient"] == recipient && is_attempt(record["type"].as_str().unwrap()))
    });
    let response = &record["response"];
    let kind = record["type"].as_str().unwrap();
    format!("{kind} {} {}", response["code"], response["content"].as_str().unwrap())
}

const MODES: [&str; 5] =
    ["Opportunistic", "OpportunisticInsecure", "Required", "RequiredInsecure", "Disabled"];

/// The first attempt in each mode, in the order of [`MODES`]: how the text of its record must begin, and whether what came was encrypted.
fn check(tls: Tls, authority: &Authority, wanted: [(&str, Option<bool>); 5]) {
    let (home, hop) = (Home::new(), TlsHop::start(tls));
    let domains = MODES.map(|mode| format!("{}.localhost", mode.to_lowercase()));
    let options = MODES.map(|mode| format!("starttls_timeout = '1s', enable_tls = '{mode}'"));
    let options: Vec<_> =
        domains.iter().map(String::as_str).zip(options.iter().map(String::as_str)).collect();
    let kumod = start(&home, authority, &hop, &options);
    let recipients = domains.each_ref().map(|domain| format!("b@{domain}"));
    send(&kumod, &recipients.each_ref().map(String::as_str));
    for ((mode, recipient), (text, encrypted)) in MODES.iter().zip(&recipients).zip(wanted) {
        let said = first_attempt(&home, recipient);
        assert!(said.starts_with(text), "{mode}: {said}");
        let arrived = hop.arrivals().into_iter().find(|arrival| arrival.recipient == *recipient);
        assert_eq!(arrived.map(|arrival| arrival.handshake.is_some()), encrypted, "{mode}");
    }
}

fn names() -> Vec<String> {
    MODES.iter().map(|mode| format!("{}.localhost", mode.to_lowercase())).collect()
}

fn issued_for_all(authority: &Authority) -> Tls {
    let names = names();
    Tls::Good(authority.issue(&names.iter().map(String::as_str).collect::<Vec<_>>()).server(None))
}

const DELIVERED: &str = "Delivery 250";

#[test]
fn with_a_good_certificate_all_modes_but_one_encrypt() {
    let (yes, no) = ((DELIVERED, Some(true)), (DELIVERED, Some(false)));
    let authority = Authority::new();
    check(issued_for_all(&authority), &authority, [yes, yes, yes, yes, no]);
}

#[test]
fn where_starttls_is_not_offered_only_those_that_require_it_fail() {
    let clear = (DELIVERED, Some(false));
    let failed = ("TransientFailure 451 the server does not offer STARTTLS", None);
    check(Tls::NotOffered, &Authority::new(), [clear, clear, failed, failed, clear]);
}

#[test]
fn where_starttls_is_refused_only_those_that_require_it_fail() {
    let clear = (DELIVERED, Some(false));
    let failed = ("TransientFailure 454 not now", None);
    check(Tls::Refused, &Authority::new(), [clear, clear, failed, failed, clear]);
}

#[test]
fn a_handshake_that_fails_ends_in_the_clear_only_where_any_certificate_would_do() {
    let clear = (DELIVERED, Some(false));
    let failed = ("TransientFailure 451 no TLS with ", None);
    check(Tls::Nonsense, &Authority::new(), [failed, clear, failed, failed, clear]);
    check(Tls::Silent, &Authority::new(), [failed, clear, failed, failed, clear]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_and_one_whose_time_is_over_and_one_for_another_are_refused_where_they_count()
 {
    let (yes, clear) = ((DELIVERED, Some(true)), (DELIVERED, Some(false)));
    let failed = ("TransientFailure 451 no TLS with ", None);
    let wanted = [failed, yes, failed, yes, clear];
    let (authority, stranger) = (Authority::new(), Authority::new());
    check(issued_for_all(&stranger), &authority, wanted);
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    check(Tls::Good(authority.issue_expired(&names).server(None)), &authority, wanted);
    check(Tls::Good(authority.issue(&["other.localhost"]).server(None)), &authority, wanted);
}

#[test]
fn records_show_what_the_handshake_agreed_on_and_sessions_are_taken_up_again() {
    let (home, authority) = (Home::new(), Authority::new());
    let hop = TlsHop::start(Tls::Good(authority.issue(&["a.localhost"]).server(None)));
    let options = "enable_tls = 'Required', max_deliveries_per_connection = 1, connection_limit = 1, \
                   rustls_cipher_suites = { 'TLS13_CHACHA20_POLY1305_SHA256' }";
    let kumod = start(&home, &authority, &hop, &[("a.localhost", options), ("b.localhost", "")]);
    send(&kumod, &["1@a.localhost", "2@a.localhost", "3@a.localhost", "clear@b.localhost"]);
    let kinds = ["1", "2", "3"].map(|user| hop.arrival(&format!("{user}@a.localhost")).handshake.unwrap());
    assert_eq!(kinds.iter().filter(|kind| **kind == HandshakeKind::Resumed).count(), 2, "{kinds:?}");
    assert_eq!(hop.arrival("1@a.localhost").server_name.as_deref(), Some("a.localhost"));
    let record = home.record("Delivery", "3@a.localhost");
    assert_eq!(record["tls_cipher"], "TLS13_CHACHA20_POLY1305_SHA256");
    assert_eq!(record["tls_protocol_version"], "TLSv1_3");
    assert_eq!(record["tls_peer_subject_name"], json!(["CN=a.localhost"]));
    // The certificate is not for this host, so the handshake fails, and what was never agreed on is in no record.
    let record = home.record("TransientFailure", "clear@b.localhost");
    assert_eq!((&record["tls_cipher"], &record["tls_peer_subject_name"]), (&json!(null), &json!(null)));
    assert_eq!(kumod.metric_of("tls_handshakes", "smtp_client"), 3);
    assert_eq!(kumod.metric_of("tls_handshakes_resumed", "smtp_client"), 2);
    assert!(kumod.metric_of("tls_handshakes_failed", "smtp_client") >= 1);
}

#[test]
fn by_option_a_failed_handshake_is_followed_by_a_connection_in_the_clear_and_remembered() {
    let (home, authority) = (Home::new(), Authority::new());
    let hop = TlsHop::start(Tls::Nonsense);
    let kumod = start(
        &home,
        &authority,
        &hop,
        &[
            ("again.localhost", "opportunistic_tls_reconnect_on_failed_handshake = true"),
            ("remembered.localhost", "remember_broken_tls = '1 hour'"),
            (
                "required.localhost",
                "enable_tls = 'Required', remember_broken_tls = '1 hour', \
                 opportunistic_tls_reconnect_on_failed_handshake = true",
            ),
        ],
    );
    send(&kumod, &["b@again.localhost"]);
    assert_eq!(hop.arrival("b@again.localhost").handshake, None);
    assert!(first_attempt(&home, "b@again.localhost").starts_with(DELIVERED));
    assert_eq!(hop.connections(), 2, "one whose handshake failed, and one in the clear");

    send(&kumod, &["b@remembered.localhost"]);
    assert_eq!(hop.arrival("b@remembered.localhost").handshake, None, "with the second attempt");
    assert!(first_attempt(&home, "b@remembered.localhost").starts_with("TransientFailure 451 no TLS with"));

    send(&kumod, &["b@required.localhost"]);
    until("two attempts", || home.records_of("TransientFailure", "b@required.localhost").len() > 1);
    assert!(hop.arrivals().iter().all(|arrival| arrival.recipient != "b@required.localhost"));
}

#[test]
fn a_server_that_asks_for_our_certificate_gets_it_and_one_of_another_authority_does_not_do() {
    let (home, authority, clients) = (Home::new(), Authority::new(), Authority::new());
    let server = authority.issue(&["a.localhost", "b.localhost", "c.localhost"]);
    let hop = TlsHop::start(Tls::Good(server.server(Some(&clients))));
    let identity = |by: &Authority| {
        let issued = by.issue(&["client.test"]);
        format!(
            "enable_tls = 'Required', tls_certificate = {{ key_data = [[{}]] }}, tls_private_key = {{ key_data = [[{}]] }}",
            issued.certificate_pem, issued.key_pem
        )
    };
    let (good, bad) = (identity(&clients), identity(&authority));
    let options =
        [("a.localhost", good.as_str()), ("b.localhost", &bad), ("c.localhost", "enable_tls = 'Required'")];
    let kumod = start(&home, &authority, &hop, &options);
    send(&kumod, &["b@a.localhost", "b@b.localhost", "b@c.localhost"]);
    assert!(hop.arrival("b@a.localhost").client_certificate);
    for recipient in ["b@b.localhost", "b@c.localhost"] {
        let said = first_attempt(&home, recipient);
        assert!(said.starts_with("TransientFailure 451 connection lost"), "{said}");
    }
}
