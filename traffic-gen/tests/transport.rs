//! Ways to talk to a server: encrypted, with a password, as LMTP, to several, from several, over many
//! connections. What a server does not offer is an error, and nothing is sent another way.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use traffic_gen::{Auth, AuthType, Plan, Report, Reuse, Tls, Verify, run};

mod support;

use support::{Answer, Server};

/// The name in the certificate.
const NAME: &str = "mx.traffic.test";

/// A sink that offers all kinds of encryption, and its certificate in PEM.
fn encrypted_sink() -> (sink::Server, String) {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let config = sink::Config {
        starttls: true,
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        certificate: Some(sink::Certificate {
            certificates: certificate.clone().into_bytes(),
            key: key.into_bytes(),
        }),
        ..sink::Config::on_free_ports()
    };
    (sink::Server::start(config).unwrap(), certificate)
}

fn plan(target: std::net::SocketAddr, count: u64) -> Plan {
    Plan { concurrency: 2, ..Plan::messages(target, count) }
}

/// The run sent nothing because the server is not as it was asked to be, and says so in these words.
fn assert_unfit(report: &Report, words: &str) {
    assert_eq!((report.sent, report.failed, report.unknown, report.exit_code()), (0, 0, 0, 1));
    assert_eq!((report.connections_unfit, report.connections_lost), (2, 2), "{:?}", report.errors);
    assert!(report.errors.keys().all(|kind| kind.contains(words)), "{:?}", report.errors);
}

#[test]
fn mail_goes_through_tls_before_and_after_the_greeting() {
    let (server, certificate) = encrypted_sink();
    let targets = [(Tls::StartTls, server.smtp_addr), (Tls::Implicit, server.smtps_addr.unwrap())];
    for (tls, target) in targets {
        for verify in [Verify::Nothing, Verify::Ca(certificate.clone())] {
            let mut plan = plan(target, 20);
            plan.transport.tls = tls;
            plan.transport.verify = verify;
            plan.transport.sni = Some(NAME.to_owned());
            let report = run(plan);
            assert_eq!((report.sent, report.exit_code()), (20, 0), "{:?}", report.errors);
            let handshakes = report.phases.iter().find(|(name, _)| *name == "tls").unwrap().1;
            assert_eq!(handshakes.len(), report.connections);
        }
    }
    assert_eq!(server.stop().corrupted, 0);
}

#[test]
fn a_rate_goes_through_tls_too() {
    let (server, _) = encrypted_sink();
    let mut plan = plan(server.smtp_addr, 50);
    plan.transport.tls = Tls::StartTls;
    plan.schedule = traffic_gen::Schedule::rate(500.0);
    let report = run(plan);
    assert_eq!((report.sent, report.due, report.exit_code()), (50, 50, 0), "{:?}", report.errors);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_where_that_was_asked_for() {
    let (server, certificate) = encrypted_sink();
    let mut plan = plan(server.smtp_addr, 20);
    plan.keep_going = true;
    plan.transport.tls = Tls::StartTls;
    plan.transport.verify = Verify::System;
    assert_unfit(&run(plan.clone()), "TLS: ");
    // The right authority, and the address of the target as the name, which the certificate does not have.
    plan.transport.verify = Verify::Ca(certificate);
    assert_unfit(&run(plan), "TLS: ");
    assert_eq!(server.stop().accepted, 0);
}

#[test]
fn without_starttls_on_offer_nothing_is_sent_in_the_clear() {
    let server = Server::start(|_| Answer::Accept);
    let mut plan = plan(server.address, 20);
    plan.keep_going = true;
    plan.transport.tls = Tls::StartTls;
    assert_unfit(&run(plan), "does not offer STARTTLS");
    assert!(server.arrivals().is_empty());
}

#[test]
fn a_password_is_offered_taken_or_refused() {
    let login = sink::Login { user: "me".to_owned(), password: "geheim".to_owned() };
    let config = sink::Config { auth: sink::Auth::Users(vec![login]), ..sink::Config::on_free_ports() };
    let server = sink::Server::start(config).unwrap();
    let with = |password: &str, mechanism| {
        let mut plan = plan(server.smtp_addr, 10);
        let (user, password) = ("me".to_owned(), password.to_owned());
        plan.transport.auth = Some(Auth { mechanism, user, password });
        run(plan)
    };
    for mechanism in [None, Some(AuthType::Plain), Some(AuthType::Login)] {
        let report = with("geheim", mechanism);
        assert_eq!((report.sent, report.exit_code()), (10, 0), "{mechanism:?} {:?}", report.errors);
        assert!(report.phases_us.contains_key("auth"));
    }
    assert_unfit(&with("wrong", None), "535");
    assert_eq!(server.stop().accepted, 30);
}

#[test]
fn without_auth_on_offer_nothing_is_sent_as_nobody() {
    let server = Server::start(|_| Answer::Accept);
    let mut plan = plan(server.address, 10);
    let (user, password) = ("me".to_owned(), "geheim".to_owned());
    plan.transport.auth = Some(Auth { mechanism: None, user, password });
    assert_unfit(&run(plan), "does not offer AUTH");
    assert!(server.arrivals().is_empty());
}

#[test]
fn lmtp_has_an_answer_for_each_recipient() {
    let server = sink::Server::start(sink::Config { lmtp: true, ..sink::Config::on_free_ports() }).unwrap();
    for pipelining in [true, false] {
        let mut plan = plan(server.smtp_addr, 10);
        plan.transport.lmtp = true;
        plan.transport.pipelining = pipelining;
        plan.recipients.per_message = traffic_gen::PerMessage { min: 3, max: 3 };
        let report = run(plan);
        assert_eq!((report.sent, report.exit_code()), (10, 0), "{:?}", report.errors);
        assert_eq!((report.recipients_accepted, report.reply_codes[&250]), (30, 30));
    }
    assert_eq!(server.stop().corrupted, 0);
}

#[test]
fn connections_are_used_for_as_many_messages_as_asked_for() {
    let connections = |reuse| {
        let server = Server::start(|_| Answer::Accept);
        let mut plan = Plan { concurrency: 1, seed: 3, ..Plan::messages(server.address, 24) };
        plan.transport.messages_per_connection = reuse;
        assert_eq!(run(plan).exit_code(), 0);
        let mut messages: BTreeMap<_, usize> = BTreeMap::new();
        for arrival in server.arrivals().into_values().flatten() {
            *messages.entry(arrival.client).or_default() += 1;
        }
        messages.into_values().collect::<Vec<_>>()
    };
    assert_eq!(connections(Reuse::exactly(1)), [1; 24]);
    assert_eq!(connections(Reuse::exactly(8)), [8; 3]);
    assert_eq!(connections(Reuse::ENDLESS), [24]);
    let drawn = connections(Reuse { min: 2, max: 6 });
    // The last one may have found nothing left.
    let short = drawn.iter().filter(|messages| **messages < 2).count();
    assert!(short <= 1 && drawn.iter().all(|messages| *messages <= 6), "{drawn:?}");
    assert!(drawn.iter().collect::<BTreeSet<_>>().len() > 1, "{drawn:?}");
}

#[test]
fn targets_and_sources_take_turns() {
    let servers = [Server::start(|_| Answer::Accept), Server::start(|_| Answer::Accept)];
    let sources: [IpAddr; 2] = ["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    let plan = Plan {
        targets: servers.iter().map(|server| server.address.into()).collect(),
        sources: sources.to_vec(),
        concurrency: 4,
        workers: 1,
        // Every connection stands before the first message, and each has one of them.
        transport: traffic_gen::Transport {
            messages_per_connection: Reuse::exactly(1),
            ..Default::default()
        },
        ..Plan::messages(servers[0].address, 4)
    };
    let report = run(plan);
    assert_eq!((report.sent, report.exit_code()), (4, 0), "{:?}", report.errors);
    assert_eq!(report.target, format!("{},{}", servers[0].address, servers[1].address));
    for server in servers {
        let from: BTreeSet<IpAddr> =
            server.arrivals().into_values().flatten().map(|arrival| arrival.client.ip()).collect();
        assert_eq!(from, BTreeSet::from(sources));
    }
}

#[test]
fn one_target_that_lacks_what_was_asked_for_makes_the_run_a_failure() {
    let (sink, plain) = (encrypted_sink().0, Server::start(|_| Answer::Accept));
    let mut plan = plan(sink.smtp_addr, 10);
    plan.targets.push(plain.address.into());
    plan.transport.tls = Tls::StartTls;
    let report = run(plan);
    assert_eq!(
        (report.sent, report.connections_unfit, report.exit_code()),
        (10, 1, 1),
        "{:?}",
        report.errors
    );
}
