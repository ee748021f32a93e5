//! What the options of an egress path do to a session with a next hop: batches, time limits, AUTH, LMTP, and where mail goes when a
//! connection is lost.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use sink::{Auth, Login};
use support::client::Client;
use support::home::Home;
use support::scripted::{Answer, At, MODERN, Scripted};
use support::{policy, until};

/// The recipients of a domain share a message.
const BATCHES: &str = "\
local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test', batch_handling = 'BatchByDomain' }
end)
";

/// Mail for `there.test` goes to this address by a path with these options.
fn to(address: SocketAddr, options: &str) -> String {
    with_path(&policy::hops(&[("there.test", address)]), options)
}

fn with_path(policy: &str, options: &str) -> String {
    let all = "prohibited_hosts = {}";
    assert!(policy.contains(all));
    policy.replace(all, &format!("{all}, {options}"))
}

const RECIPIENTS: [&str; 5] =
    ["a@there.test", "b@there.test", "c@there.test", "d@there.test", "e@there.test"];

fn batches(server: &Scripted, options: &str) -> (Home, Vec<Vec<String>>) {
    let home = Home::new();
    let policy = policy::hops_behind(BATCHES, &[("there.test", server.address)]);
    let kumod = home.start_policy(&with_path(&policy, options));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&RECIPIENTS, b"Subject: all\r\n\r\n").starts_with("250 "));
    kumod.drained();
    kumod.stop();
    (home, server.accepted().into_iter().map(|arrival| arrival.recipients).collect())
}

#[test]
fn a_batch_has_its_size() {
    let (home, arrived) = batches(&Scripted::good(), "max_recipients_per_batch = 2");
    assert_eq!(arrived, [&RECIPIENTS[..2], &RECIPIENTS[2..4], &RECIPIENTS[4..]]);
    RECIPIENTS.iter().for_each(|recipient| assert_eq!(home.records_of("Delivery", recipient).len(), 1));
}

#[test]
fn a_server_that_announces_how_many_it_takes_gets_no_more() {
    let extensions = &["PIPELINING", "CHUNKING", "LIMITS RCPTMAX=2 MAILMAX=2"];
    let server = Scripted::start(extensions, |_, _| Answer::Accept);
    let (_, arrived) = batches(&server, "max_recipients_per_batch = 100");
    assert_eq!(arrived, [&RECIPIENTS[..2], &RECIPIENTS[2..4], &RECIPIENTS[4..]]);
    let connections: Vec<usize> = server.arrivals().iter().map(|arrival| arrival.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

/// Takes so many recipients in a transaction, and says this to the others.
fn takes(recipients_max: usize, full: &'static str) -> Scripted {
    let taken = AtomicUsize::new(0);
    Scripted::start(MODERN, move |_, at| {
        if at == At::Mail {
            taken.store(0, Ordering::Relaxed);
        }
        let is_full = at == At::Rcpt && taken.fetch_add(1, Ordering::Relaxed) >= recipients_max;
        if is_full { Answer::Say(full) } else { Answer::Accept }
    })
}

#[test]
fn recipients_for_whom_there_was_no_room_follow_at_once() {
    for full in ["452 4.5.3 too many recipients\r\n", "452 too many\r\n", "552 too many\r\n"] {
        let (home, arrived) = batches(&takes(2, full), "max_recipients_per_batch = 100");
        assert_eq!(arrived, [&RECIPIENTS[..2], &RECIPIENTS[2..4], &RECIPIENTS[4..]], "{full}");
        for recipient in RECIPIENTS {
            assert_eq!(home.records_of("Delivery", recipient).len(), 1);
            assert!(home.records_of("TransientFailure", recipient).is_empty());
        }
    }
}

/// The third RCPT of the message is refused, and the next one after that too: it is the third recipient's again.
#[test]
fn a_full_mailbox_waits_after_its_second_refusal_and_nobody_has_the_message_twice() {
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(MODERN, move |_, at| {
        let full = at == At::Rcpt && matches!(asked.fetch_add(1, Ordering::Relaxed), 2 | 5);
        if full { Answer::Say("452 4.2.2 mailbox full\r\n") } else { Answer::Accept }
    });
    let (home, arrived) = batches(&server, "max_recipients_per_batch = 100");
    assert_eq!(arrived.concat().len(), 5);
    for recipient in RECIPIENTS {
        assert_eq!(home.records_of("Delivery", recipient).len(), 1, "{recipient}");
        let failures = home.records_of("TransientFailure", recipient);
        assert_eq!(failures.len(), usize::from(recipient == "c@there.test"), "{recipient}");
    }
}

#[test]
fn one_recipient_for_whom_there_is_no_room_waits() {
    let times = AtomicUsize::new(0);
    let server = Scripted::start(MODERN, move |_, at| {
        let full = at == At::Rcpt && times.fetch_add(1, Ordering::Relaxed) == 0;
        if full { Answer::Say("452 4.5.3 too many\r\n") } else { Answer::Accept }
    });
    let home = Home::new();
    let kumod = home.start_policy(&to(server.address, "provider_name = 'the big one'"));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
    kumod.drained();
    kumod.stop();
    let failure = home.record("TransientFailure", "b@there.test");
    assert_eq!(
        (&failure["response"]["code"], &failure["provider_name"]),
        (&452.into(), &"the big one".into())
    );
    assert_eq!(server.accepted().len(), 1);
}

/// Does this the first time that it gets there.
fn once(extensions: &'static [&'static str], bad_at: At, answer: Answer) -> Scripted {
    let times = AtomicUsize::new(0);
    Scripted::start(extensions, move |_, at| {
        let bad = at == bad_at && times.fetch_add(1, Ordering::Relaxed) == 0;
        if bad { answer } else { Answer::Accept }
    })
}

#[test]
fn a_server_that_is_silent_loses_the_connection_when_its_time_is_over() {
    let stages: [(&str, At, &'static [&'static str]); 6] = [
        ("banner_timeout", At::Greeting, &[]),
        ("ehlo_timeout", At::Ehlo, &[]),
        ("mail_from_timeout", At::Mail, &[]),
        ("rcpt_to_timeout", At::Rcpt, &[]),
        ("data_timeout", At::Data, &[]),
        ("data_dot_timeout", At::Body, MODERN),
    ];
    for (option, at, extensions) in stages {
        let server = once(extensions, at, Answer::Silence);
        let home = Home::new();
        let kumod = home.start_policy(&to(server.address, &format!("{option} = '1s'")));
        let mut client = Client::greeted(kumod.smtp());
        assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
        kumod.drained();
        assert_eq!(kumod.metric("dispatcher_watchdog_aborted_total"), 0, "{option}");
        kumod.stop();
        let failures = home.records_of("TransientFailure", "b@there.test");
        let content = failures[0]["response"]["content"].as_str().unwrap();
        assert!(failures.len() == 1 && content.contains("timed out"), "{option}: {failures:?}");
        assert_eq!(home.records_of("Delivery", "b@there.test").len(), 1, "{option}");
    }
}

#[test]
fn a_session_without_progress_is_given_up_and_its_message_is_tried_again() {
    let server = once(MODERN, At::Body, Answer::Silence);
    let home = Home::new();
    let kumod = home.start_policy(&to(server.address, "dispatcher_progress_watchdog_timeout = '1s'"));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
    kumod.drained();
    assert_eq!(kumod.metric("dispatcher_watchdog_aborted_total"), 1);
    let said = kumod.stop();
    assert!(said.contains("a session is given up: it made no progress"), "{said}");
    let failure = home.record("TransientFailure", "b@there.test");
    let content = failure["response"]["content"].as_str().unwrap();
    assert!(content.starts_with("no progress for 1 s"), "{content}");
    // What was said to the final dot nobody knows: the message goes again (RFC 5321 4.5.3.2.6), once.
    assert_eq!((server.arrivals().len(), server.accepted().len()), (2, 1));
}

#[test]
fn a_server_that_hangs_up_after_each_message_costs_nothing() {
    let server = Scripted::start(MODERN, |_, at| match at {
        At::Body => Answer::SayAndHangUp("250 2.0.0 taken\r\n"),
        _ => Answer::Accept,
    });
    let home = Home::new();
    let kumod = home.start_policy(&to(server.address, "connection_limit = 1"));
    let mut client = Client::greeted(kumod.smtp());
    for number in 1..=4 {
        assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
        until("the message", || server.arrivals().len() == number);
        // A connection that its server has ended is not kept until somebody needs it.
        until("the connection to be gone", || kumod.metric_of("connection_count", "smtp_client") == 0);
    }
    kumod.drained();
    kumod.stop();
    assert_eq!((home.records_of("Delivery", "b@there.test").len(), server.connections()), (4, 4));
    assert!(home.records_of("TransientFailure", "b@there.test").is_empty());
}

#[test]
fn a_goodbye_behind_the_last_reply_costs_nothing() {
    let server = Scripted::start(MODERN, |_, at| match at {
        At::Body => Answer::SayAndHangUp("250 2.0.0 taken\r\n421 4.7.0 enough\r\n"),
        _ => Answer::Accept,
    });
    let home = Home::new();
    let kumod = home.start_policy(&to(server.address, "connection_limit = 1"));
    let mut client = Client::greeted(kumod.smtp());
    for _ in 0..8 {
        assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
    }
    kumod.drained();
    kumod.stop();
    assert_eq!((home.records_of("Delivery", "b@there.test").len(), server.connections()), (8, 8));
    assert!(home.records_of("TransientFailure", "b@there.test").is_empty());
}

#[test]
fn a_message_that_is_being_sent_goes_on_for_as_long_as_the_path_says_when_kumod_stops() {
    let server = once(MODERN, At::Body, Answer::Silence);
    let home = Home::new();
    let kumod = home.start_policy(&to(server.address, "system_shutdown_timeout = 0"));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
    until("the message at the server", || server.arrivals().len() == 1);
    kumod.stop();
    let failure = home.record("TransientFailure", "b@there.test");
    let content = failure["response"]["content"].as_str().unwrap();
    assert!(content.starts_with("kumod stops"), "{content}");
}

#[test]
fn a_source_that_was_chosen_often_enough_leaves_mail_to_the_others() {
    let server = Scripted::good();
    let home = Home::new();
    let sources = "\
kumo.on('get_queue_config', function()
  return kumo.make_queue_config { egress_pool = 'both' }
end)
kumo.on('get_egress_pool', function(name)
  return kumo.make_egress_pool { name = name, entries = { { name = 'few' }, { name = 'many' } } }
end)
kumo.on('get_egress_source', function(name)
  return kumo.make_egress_source { name = name }
end)
";
    let policy = to(server.address, "source_selection_rate = source == 'few' and '2/h' or nil")
        .replace("'get_egress_path_config', function()", "'get_egress_path_config', function(_, source)")
        .replace(policy::RETRY_SOON, sources);
    let kumod = home.start_policy(&policy);
    let mut client = Client::greeted(kumod.smtp());
    for _ in 0..10 {
        assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
    }
    kumod.drained();
    kumod.stop();
    let deliveries = home.records_of("Delivery", "b@there.test");
    let of = |name: &str| deliveries.iter().filter(|record| record["egress_source"] == name).count();
    assert_eq!((of("few"), of("many")), (2, 8));
}

/// Two servers on the same port of the two loopback addresses: the hosts of a name under `.localhost`, IPv4 first.
fn two(
    first: impl Fn(usize, At) -> Answer + Send + Sync + 'static,
    second: impl Fn(usize, At) -> Answer + Send + Sync + 'static,
) -> Option<(Scripted, Scripted)> {
    for _ in 0..16 {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = four.local_addr().unwrap().port();
        if let Ok(six) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            return Some((Scripted::serve(four, MODERN, first), Scripted::serve(six, MODERN, second)));
        }
    }
    eprintln!("skipped: there is no ::1 here");
    None
}

/// Sends so many messages to both, one after the other; says how many each has, and how many attempts failed.
fn among(servers: &(Scripted, Scripted), options: &str, messages: usize) -> (usize, usize, usize) {
    let home = Home::new();
    let policy = format!(
        "{}{}kumo.on('get_egress_path_config', function()
            return kumo.make_egress_path {{ smtp_port = {}, connection_limit = 1, {options} }}
        end)",
        policy::LISTENERS,
        policy::RETRY_SOON,
        servers.0.address.port()
    );
    let kumod = home.start_policy(&policy);
    let mut client = Client::greeted(kumod.smtp());
    for _ in 0..messages {
        assert!(client.send(&["b@two.localhost"], b"Subject: 1\r\n\r\n").starts_with("250 "));
        kumod.drained();
    }
    kumod.stop();
    assert_eq!(home.records_of("Delivery", "b@two.localhost").len(), messages);
    let failures = home.records_of("TransientFailure", "b@two.localhost").len();
    (servers.0.accepted().len(), servers.1.accepted().len(), failures)
}

#[test]
fn a_message_whose_connection_breaks_goes_to_the_next_host_only_where_the_path_says_so() {
    for at in [At::Mail, At::Body] {
        let first = move |_, now| if now == at { Answer::HangUp } else { Answer::Accept };
        let Some(servers) = two(first, |_, _| Answer::Accept) else { return };
        assert_eq!(among(&servers, "try_next_host_on_transport_error = true", 1), (0, 1, 0));
        // Else it waits; the next connection leads to the next host.
        let Some(servers) = two(first, |_, _| Answer::Accept) else { return };
        assert_eq!(among(&servers, "", 1), (0, 1, 1));
    }
    let broken = |_, now| if now == At::Mail { Answer::HangUp } else { Answer::Accept };
    let Some(servers) = two(
        broken,
        move |connection, at| {
            if connection == 0 { broken(connection, at) } else { Answer::Accept }
        },
    ) else {
        return;
    };
    // Both break: then it waits.
    assert_eq!(among(&servers, "try_next_host_on_transport_error = true", 1).2, 1);
}

#[test]
fn a_host_that_turns_us_away_makes_way_for_the_next() {
    let busy =
        |_, at| if at == At::Greeting { Answer::SayAndHangUp("421 4.3.2 busy\r\n") } else { Answer::Accept };
    let Some(servers) = two(busy, |_, _| Answer::Accept) else { return };
    assert_eq!(among(&servers, "", 2), (0, 2, 0));
}

#[test]
fn a_lost_connection_leads_where_the_path_says() {
    // Ends each connection after its first message, by 421 to the next MAIL.
    let tired = || {
        let mails = Mutex::new(Vec::new());
        move |connection, at| {
            let mut mails = mails.lock().unwrap();
            if at == At::Mail {
                mails.push(connection);
            }
            let again = at == At::Mail && mails.iter().filter(|other| **other == connection).count() > 1;
            if again { Answer::SayAndHangUp("421 4.7.0 enough\r\n") } else { Answer::Accept }
        }
    };
    let cases = [
        ("reconnect_strategy = 'ConnectNextHost'", (2, 2)),
        ("reconnect_strategy = 'ReconnectSameHost'", (4, 0)),
        ("reconnect_strategy = 'TerminateSession'", (4, 0)),
    ];
    for (options, expected) in cases {
        let Some(servers) = two(tired(), tired()) else { return };
        let (first, second, failures) = among(&servers, options, 4);
        // 421 answers MAIL, so it is the message's attempt that failed; the next one is made over another connection.
        assert_eq!(((first, second), failures), (expected, 3), "{options}");
    }
}

#[test]
fn who_asks_for_a_login_gets_it_where_the_path_allows() {
    let users = vec![Login { user: "relay".into(), password: "secret-7".into() }];
    let start = || {
        let config = sink::Config { auth: Auth::Users(users.clone()), ..sink::Config::on_free_ports() };
        sink::Server::start(config).unwrap()
    };
    let login = |password: &str, more: &str| {
        format!(
            "smtp_auth_plain_username = 'relay', smtp_auth_plain_password = {{ key_data = '{password}' }}, {more}"
        )
    };
    let in_clear = "allow_smtp_auth_plain_without_tls = true";
    let by_login = format!("{in_clear}, smtp_auth_mechanism = 'LOGIN'");
    for (password, more, failure) in [
        ("secret-7", in_clear, None),
        ("secret-7", by_login.as_str(), None),
        ("wrong", in_clear, Some((535, ""))),
        ("secret-7", "", Some((451, "peer asks for the password itself, which is not sent without TLS"))),
    ] {
        let (home, server) = (Home::new(), start());
        let kumod = home.start_policy(&to(server.smtp_addr, &login(password, more)));
        let mut client = Client::greeted(kumod.smtp());
        assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
        if let Some((code, content)) = failure {
            let response = home.record("TransientFailure", "b@there.test")["response"].clone();
            assert_eq!(response["code"], Value::from(code), "{response}");
            assert!(response["content"].as_str().unwrap().starts_with(content), "{response}");
            assert_eq!(server.stats().accepted, 0);
        } else {
            kumod.drained();
            assert_eq!(server.stats().accepted, 1);
        }
        let said = kumod.stop();
        assert!(!said.contains("secret-7"), "{said}");
    }
}

#[test]
fn lmtp_is_spoken_where_the_path_says_so() {
    let server = sink::Server::start(sink::Config { lmtp: true, ..sink::Config::on_free_ports() }).unwrap();
    let home = Home::new();
    let policy = policy::hops_behind(BATCHES, &[("there.test", server.smtp_addr)]);
    let kumod = home.start_policy(&with_path(&policy, "use_lmtp = true"));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&RECIPIENTS, b"Subject: 1\r\n\r\n").starts_with("250 "));
    kumod.drained();
    kumod.stop();
    for recipient in RECIPIENTS {
        assert_eq!(home.record("Delivery", recipient)["delivery_protocol"], "LMTP");
    }
}

#[test]
fn smtputf8_is_not_asked_of_servers_without_it_by_mail_that_does_not_need_it() {
    let extensions = &["PIPELINING", "8BITMIME"];
    for (options, subject, delivered) in
        [("", "plain", true), ("", "\u{fc}", false), ("ignore_8bit_checks = true", "\u{fc}", true)]
    {
        let server = Scripted::start(extensions, |_, _| Answer::Accept);
        let home = Home::new();
        let options = if options.is_empty() { "use_lmtp = false" } else { options };
        let kumod = home.start_policy(&to(server.address, options));
        let mut client = Client::greeted(kumod.smtp());
        let message = format!("Subject: {subject}\r\n\r\n");
        client.write(
            format!(
                "MAIL FROM:<a@client.test> SMTPUTF8\r\nRCPT TO:<b@there.test>\r\nBDAT {} LAST\r\n{message}",
                message.len()
            )
            .as_bytes(),
        );
        (0..3).for_each(|_| assert_eq!(client.code(), 250));
        kumod.drained();
        kumod.stop();
        let arrivals = server.accepted();
        assert_eq!(arrivals.len(), usize::from(delivered), "{subject}");
        assert!(arrivals.iter().all(|arrival| arrival.original() == message.as_bytes()));
        assert!(!arrivals.iter().flat_map(|arrival| &arrival.parameters).any(|text| text.contains("UTF8")));
        assert_eq!(home.records_of("Bounce", "b@there.test").len(), usize::from(!delivered), "{subject}");
    }
}

#[test]
fn commands_wait_for_replies_where_the_path_says_so() {
    let server = Scripted::good();
    let home = Home::new();
    let kumod = home.start_policy(&to(server.address, "enable_pipelining = false"));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: 1\r\n\r\n").starts_with("250 "));
    kumod.drained();
    kumod.stop();
    assert_eq!(server.accepted().len(), 1);
}
