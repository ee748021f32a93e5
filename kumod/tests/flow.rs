//! Mail on its way through kumod, from a client to a next hop that behaves: nothing is lost, doubled or changed, and the log tells of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::thread;

use serde_json::Value;
use support::client::{Client, transaction};
use support::home::{Home, Kumod};
use support::scripted::{Answer, At, MODERN, Scripted};
use support::{audit, policy, until};
use traffic_gen::{Plan, Report};

const MESSAGES: u64 = 2000;
/// Default of `connection_limit`.
const CONNECTIONS_PER_SITE_MAX: u64 = 32;

/// A quiet machine's worth of load: the tests of a crate run side by side.
fn plan(target: SocketAddr) -> Plan {
    let mut plan = Plan::messages(target, MESSAGES);
    plan.concurrency = 16;
    plan.content = traffic_gen::ContentPlan::fixed(3000);
    plan
}

fn pass_through(kumod: &Kumod, sink: &sink::Server) -> Report {
    let report = traffic_gen::run(plan(kumod.smtp()));
    assert_eq!((report.sent, report.failed, report.unknown), (MESSAGES, 0, 0), "{:?}", report.errors);
    kumod.drained();
    let stats = sink.stats();
    assert_eq!(
        (stats.accepted, stats.distinct, stats.duplicated, stats.corrupted),
        (MESSAGES, MESSAGES, 0, 0)
    );
    audit::assert_none_lost(&report, sink);
    report
}

#[test]
fn all_mail_goes_to_the_relay_over_few_connections() {
    let (home, sink) = (Home::new(), support::sink());
    let kumod = home.start(&["--relay-to", &sink.smtp_addr.to_string()]);
    assert_eq!(kumod.get("/api/check-liveness/v1"), (200, "OK".to_owned()));
    pass_through(&kumod, &sink);
    let connections = sink.stats().connections_total;
    assert!((1..=CONNECTIONS_PER_SITE_MAX).contains(&connections), "{connections} connections");
    for (metric, service) in
        [("total_messages_received", "esmtp_listener"), ("total_messages_delivered", "smtp_client")]
    {
        assert_eq!(kumod.metric_of(metric, service), MESSAGES);
    }
    for metric in ["total_messages_fail", "total_messages_transfail"] {
        assert_eq!(kumod.metric_of(metric, "smtp_client"), 0, "{metric}");
    }
    let (status, text) = kumod.get("/metrics");
    assert_eq!(status, 200);
    let line = format!("\ntotal_messages_delivered{{service=\"smtp_client\"}} {MESSAGES}\n");
    assert!(text.contains(&line), "{text}");
    assert!(kumod.metric("spool_barriers_total") > 0);
    kumod.stop();
    for kind in ["Reception", "Delivery"] {
        let records = home.records();
        assert_eq!(records.iter().filter(|record| record["type"] == kind).count() as u64, MESSAGES, "{kind}");
    }
}

/// What a record says of the time that the parts of its attempt took.
#[test]
fn a_record_has_the_durations_of_what_there_was_to_measure() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let mut client = Client::greeted(kumod.smtp());
    let durations = |record: &Value| {
        ["queued_ms", "connect_ms", "tls_ms", "data_ms"]
            .map(|name| record.get(name).is_some_and(Value::is_u64))
    };
    for (number, recipient) in ["first@there.test", "second@there.test"].into_iter().enumerate() {
        client.send(&[recipient], b"Subject: timed\r\n\r\n");
        let record = home.record("Delivery", recipient);
        // Only who waited for the connection is told how long it took to open.
        let is_opened = next_hop.connections() > number;
        assert_eq!(durations(&record), [true, is_opened, false, true], "{recipient}");
        assert_eq!(durations(&home.record("Reception", recipient)), [false; 4], "{recipient}");
    }
    kumod.stop();
}

#[test]
fn localhost_domains_are_found_without_dns() {
    let (home, sink) = (Home::new(), support::sink());
    let kumod = home.start(&["--smtp-port", &sink.smtp_addr.port().to_string()]);
    pass_through(&kumod, &sink);
    kumod.stop();
    let queues: std::collections::BTreeSet<String> =
        home.records().iter().map(|record| record["queue"].as_str().unwrap().to_owned()).collect();
    assert_eq!(queues.len(), 4, "a scheduled queue for each of the generator's domains: {queues:?}");
    assert!(queues.iter().all(|queue| queue.ends_with(".mx-sink.localhost")), "{queues:?}");
}

/// The fields that readers of KumoMTA's log rely on.
const FIELDS: [&str; 28] = [
    "type",
    "id",
    "sender",
    "recipient",
    "queue",
    "site",
    "size",
    "response",
    "peer_address",
    "timestamp",
    "created",
    "num_attempts",
    "bounce_classification",
    "egress_pool",
    "egress_source",
    "source_address",
    "feedback_report",
    "meta",
    "headers",
    "delivery_protocol",
    "reception_protocol",
    "nodeid",
    "tls_cipher",
    "tls_protocol_version",
    "tls_peer_subject_name",
    "event_time",
    "created_time",
    "session_id",
];

#[test]
fn a_message_keeps_its_bytes_and_leaves_its_records() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let message = b"Subject: caf\xc3\xa9\r\n\r\n.\r\n..two\r\nno end";
    let mut client = Client::greeted(kumod.smtp());
    let reply = client.send(&["b@there.test"], message);
    client.quit();
    let id = reply.strip_prefix("250 2.0.0 OK ids=").unwrap_or_else(|| panic!("{reply}"));
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");

    let arrival = next_hop.wait_for(1).remove(0);
    assert_eq!(arrival.original(), message);
    assert_eq!(
        (arrival.sender.as_str(), &arrival.recipients[..]),
        ("sender@client.test", &["b@there.test".to_owned()][..])
    );
    let received = message::header::find(&arrival.raw, "Received").unwrap().into_owned();
    for part in ["from client.test", "127.0.0.1", "by mx.test", "ESMTP", id, "for <b@there.test>;"] {
        assert!(received.contains(part), "{part} is missing in {received}");
    }

    kumod.drained();
    kumod.stop();
    let (reception, delivery) =
        (home.record("Reception", "b@there.test"), home.record("Delivery", "b@there.test"));
    for record in [&reception, &delivery] {
        let missing: Vec<_> = FIELDS.iter().filter(|field| record.get(**field).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?} of {record}");
        assert_eq!(
            (&record["id"], &record["sender"]),
            (&Value::from(id), &Value::from("sender@client.test"))
        );
        assert_eq!(
            (&record["queue"], &record["size"]),
            (&Value::from("there.test"), &Value::from(arrival.raw.len()))
        );
        assert_eq!(record["peer_address"]["addr"], "127.0.0.1");
    }
    assert_eq!(
        (&reception["reception_protocol"], &reception["num_attempts"]),
        (&Value::from("ESMTP"), &Value::from(0))
    );
    assert_eq!(
        (&delivery["delivery_protocol"], &delivery["num_attempts"]),
        (&Value::from("ESMTP"), &Value::from(1))
    );
    assert_eq!(
        (&delivery["response"]["code"], &delivery["response"]["content"]),
        (&Value::from(250), &Value::from("taken"))
    );
}

#[test]
fn recipients_of_one_transaction_share_the_body() {
    const RECIPIENTS: usize = 40;
    let (home, next_hop) = (Home::new(), Scripted::good());
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let line = [&[b'x'; 98][..], b"\r\n"].concat();
    let message = [b"Subject: large\r\n\r\n", &line.repeat(20_000)[..]].concat();
    let recipients: Vec<String> = (0..RECIPIENTS).map(|number| format!("user{number}@there.test")).collect();
    let before = kumod.metric("spool_bytes_written_total");
    let mut client = Client::greeted(kumod.smtp());
    client.write(&transaction(&recipients.iter().map(String::as_str).collect::<Vec<_>>(), &message));
    assert!((0..=RECIPIENTS).all(|_| client.code() == 250));
    let text = client.reply_text();
    let ids = text.strip_prefix("OK ids=").unwrap_or_else(|| panic!("{text}")).split(',');
    assert_eq!(ids.filter(|id| id.len() == 32).count(), RECIPIENTS, "an id for each recipient: {text}");
    let written = kumod.metric("spool_bytes_written_total") - before;
    assert!(written < 2 * message.len() as u64, "{written} bytes written for a body of {}", message.len());

    let arrivals = next_hop.wait_for(RECIPIENTS);
    kumod.drained();
    let mut arrived: Vec<&String> = arrivals.iter().flat_map(|arrival| &arrival.recipients).collect();
    let mut wanted: Vec<&String> = recipients.iter().collect();
    arrived.sort();
    wanted.sort();
    assert_eq!(arrived, wanted);
    assert!(arrivals.iter().all(|arrival| arrival.original() == message));
    kumod.stop();
}

#[test]
fn deferred_mail_that_goes_at_once_never_touches_the_disk() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let relay_to = next_hop.address.to_string();
    let kumod = home.start(&["--relay-to", &relay_to, "--durability", "deferred"]);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: quick\r\n\r\n").starts_with("250 "));
    client.quit();
    next_hop.wait_for(1);
    kumod.drained();
    until("memory to let go of it", || kumod.metric("spool_deferred_messages") == 0);
    assert_eq!(kumod.metric("spool_bytes_written_total"), 0);
    let (_, text) = kumod.get("/metrics");
    let promise = "spool_durability{name=\"deferred\",promise=\"the message is in memory";
    assert!(text.contains(promise), "{text}");
    let said = kumod.stop();
    assert!(said.contains("durability=deferred") && said.contains("a crash loses mail"), "{said}");
}

#[test]
fn deferred_mail_that_has_to_wait_is_written() {
    let (home, next_hop) = (Home::new(), Scripted::good());
    let unused = TcpListener::bind("127.0.0.7:0").unwrap().local_addr().unwrap();
    let listeners = policy::LISTENERS.replace("hostname =", "deferred_spool = true, hostname =");
    let deferred = |address| policy::hops_behind(&listeners, &[("later.test", address)]);
    let kumod = home.start_policy(&deferred(unused));
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@later.test"], b"Subject: slow\r\n\r\n").starts_with("250 "));
    home.record("TransientFailure", "b@later.test");
    until("it to be written", || kumod.metric("spool_deferred_messages") == 0);
    until("its mark, too", || kumod.metric("spool_records_total") >= 3);
    kumod.kill();
    let again = home.start_policy(&deferred(unused));
    assert_eq!(again.metric("message_count"), 1);
    again.stop();
    drop(next_hop);
}

#[test]
fn everything_that_the_spool_counts_is_shown() {
    let (home, sink) = (Home::new(), support::sink());
    let kumod = home.start(&["--relay-to", &sink.smtp_addr.to_string()]);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: counted\r\n\r\n").starts_with("250 "));
    kumod.drained();
    let (_, text) = kumod.get("/metrics");
    for line in [
        "# TYPE spool_append_latency_seconds histogram",
        "spool_append_latency_seconds_bucket{le=\"+Inf\"} 1",
        "spool_append_latency_seconds_count 1",
        "# TYPE spool_barrier_latency_seconds histogram",
        "# TYPE spool_batch_records histogram",
        "# TYPE spool_batch_bytes histogram",
        "spool_appends_total 1",
        "spool_takes_mail 1",
        "spool_segments_spare 7",
        "spool_deferred_messages 0",
        "spool_messages_set_aside 0",
        "spool_damaged_total 0",
        "spool_torn_total 0",
        "spool_orphans_total 0",
        "spool_compactions_total 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    for name in
        ["spool_live_bytes", "spool_dead_bytes", "spool_segments", "spool_free_bytes", "spool_free_inodes"]
    {
        assert!(text.contains(&format!("\n# TYPE {name} gauge\n")), "{name} is not in\n{text}");
    }
    let info = text.lines().find(|line| line.starts_with("spool_info{")).unwrap();
    for label in ["backend=", "mode=", "durability=\"commit\"", "file_system=", "fallback_reason="] {
        assert!(info.contains(label), "{label} is not in {info}");
    }
    kumod.stop();
}

/// A server from before 1995: no PIPELINING, no CHUNKING.
#[test]
fn an_old_next_hop_gets_the_same_bytes_with_stuffed_dots() {
    let (home, next_hop) = (Home::new(), Scripted::start(&[], |_, _| Answer::Accept));
    let kumod = home.start(&["--relay-to", &next_hop.address.to_string()]);
    let message = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\nb.\r\n\r\n";
    let mut client = Client::greeted(kumod.smtp());
    for _ in 0..3 {
        assert!(client.send(&["b@there.test"], message).starts_with("250 "));
    }
    let arrivals = next_hop.wait_for(3);
    kumod.drained();
    for arrival in &arrivals {
        assert!(arrival.by_data);
        assert!(
            arrival.raw.ends_with(b"\r\n\r\n..\r\n...\r\n..a\r\nb.\r\n\r\n.\r\n"),
            "{}",
            arrival.raw.escape_ascii()
        );
        assert_eq!(arrival.original(), message);
    }
    kumod.stop();
}

#[test]
fn a_graceful_stop_loses_nothing_and_sends_nothing_twice() {
    let (home, sink) = (Home::new(), support::sink());
    let relay_to = sink.smtp_addr.to_string();
    let kumod = home.start(&["--relay-to", &relay_to]);
    let mut endless = plan(kumod.smtp());
    endless.message_count = Some(u64::MAX / 2);
    let traffic = thread::spawn(move || traffic_gen::run(endless));
    until("mail at the sink", || sink.stats().accepted > 500);
    kumod.stop();
    let report = traffic.join().unwrap();
    assert!(report.sent > 500, "{:?}", report.errors);

    let again = home.start(&["--relay-to", &relay_to]);
    again.drained();
    again.stop();
    audit::assert_none_lost(&report, &sink);
    assert_eq!(report.unknown, 0, "a client in the middle of a message gets its answer: {:?}", report.errors);
    assert_eq!(sink.stats().duplicated, 0);
}

#[test]
fn a_delivery_in_progress_is_finished_before_the_stop() {
    let (answer, held_back) = sync_channel::<()>(1);
    let held_back = Mutex::new(held_back);
    let next_hop = Scripted::start(MODERN, move |_, at| {
        if at == At::Body {
            // An error means that the test lets everything pass.
            let _ = held_back.lock().unwrap().recv();
        }
        Answer::Accept
    });
    let (home, relay_to) = (Home::new(), next_hop.address.to_string());
    let kumod = home.start(&["--relay-to", &relay_to]);
    let mut client = Client::greeted(kumod.smtp());
    assert!(client.send(&["b@there.test"], b"Subject: slow\r\n\r\n").starts_with("250 "));
    client.quit();
    until("the message at the next hop", || next_hop.arrivals().len() == 1);
    kumod.terminate();
    until("the stop to begin", || kumod.said().contains("stopping"));
    drop(answer);
    kumod.stop();
    assert_eq!(home.records_of("Delivery", "b@there.test").len(), 1);

    let again = home.start(&["--relay-to", &relay_to]);
    again.drained();
    again.stop();
    assert_eq!(next_hop.arrivals().len(), 1, "it was sent a second time");
}

/// A message for each domain, once on the wire, asked about once, and an end for each recipient of its own.
#[test]
fn recipients_of_one_domain_may_share_a_message() {
    let one = Scripted::good();
    let refusing = Scripted::start(MODERN, |_, at| {
        if at == At::Rcpt { Answer::Say("550 5.1.1 nobody\r\n") } else { Answer::Accept }
    });
    let listeners = "local kumo = require 'kumo'
kumo.on('init', function()
  kumo.start_http_listener { listen = '127.0.0.1:0' }
  kumo.start_esmtp_listener { listen = '127.0.0.1:0', hostname = 'mx.test', batch_handling = 'BatchByDomain' }
end)
";
    let hops = [("one.test", one.address), ("two.test", refusing.address)];
    let home = Home::new();
    let kumod = home.start_policy(&policy::hops_behind(listeners, &hops));
    let mut client = Client::greeted(kumod.smtp());
    let recipients = ["a@one.test", "b@two.test", "c@one.test", "d@two.test", "e@one.test"];
    let reply = client.send(&recipients, b"Subject: 1\r\n\r\n");
    assert_eq!(reply.matches(',').count(), 1, "two messages: {reply}");
    client.quit();
    kumod.drained();
    kumod.stop();
    let arrivals = one.accepted();
    assert_eq!(arrivals.len(), 1);
    assert_eq!(arrivals[0].recipients, ["a@one.test", "c@one.test", "e@one.test"]);
    let received = String::from_utf8_lossy(&arrivals[0].raw).into_owned();
    assert!(!received.contains("\tfor ") && !received.contains(" for "), "{received}");
    for recipient in recipients {
        assert_eq!(home.records_of("Reception", recipient).len(), 1, "{recipient}");
        let end = if recipient.ends_with("one.test") { "Delivery" } else { "Bounce" };
        assert_eq!(home.records_of(end, recipient).len(), 1, "{recipient}");
    }
}
