//! traffic-gen into sink, in one process over loopback: what one counts, the other has.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::collections::BTreeMap;

use message::traffic::RunId;
use traffic_gen::{ContentPlan, Plan, RecipientPlan, Report, Schedule, run};

mod support;

use support::{Answer, Server};

fn into_sink(change: impl FnOnce(&mut Plan)) -> (Report, sink::Stats, sink::LedgerReport) {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let mut plan = Plan::messages(server.smtp_addr, 500);
    plan.concurrency = 8;
    change(&mut plan);
    let run_id = plan.run_id;
    let report = run(plan);
    let ledger = server.ledger(run_id).unwrap();
    (report, server.stop(), ledger)
}

fn assert_complete(report: &Report, stats: &sink::Stats, ledger: &sink::LedgerReport) {
    assert_eq!(
        (report.sent, report.failed, report.unknown, report.unsent()),
        (500, 0, 0, 0),
        "{:?}",
        report.errors
    );
    assert_eq!(report.exit_code(), 0);
    assert_eq!((stats.accepted, stats.distinct, stats.duplicated, stats.corrupted), (500, 500, 0, 0));
    assert_eq!(stats.bytes, report.bytes);
    assert_eq!((&ledger.had[..], &ledger.missing[..]), (&[(0, 499)][..], &[][..]));
}

#[test]
fn what_is_sent_has_arrived() {
    let (report, stats, ledger) = into_sink(|_| {});
    assert_complete(&report, &stats, &ledger);
    assert_eq!(report.latency.len(), 500);
    assert!(report.latency_us.max > 0.0 && stats.latency_us.max > 0.0 && report.mmh_observed > 0.0);
    assert_eq!(report.per_second.iter().sum::<u64>(), 500);
    assert_eq!(report.reply_codes, BTreeMap::from([(250, 500)]));
    assert_eq!((report.connections, report.connections_lost), (8, 0));
    let run = &stats.runs[&report.run_id];
    assert!(report.first_sent_ns.is_some_and(|first| first <= run.first_ns));
    assert_eq!(Some(run.first_sent_ns), report.first_sent_ns);
}

#[test]
fn large_bodies_and_every_way_to_send_them() {
    for (pipelining, chunking) in [(true, true), (true, false), (false, true), (false, false)] {
        let (report, stats, ledger) = into_sink(|plan| {
            plan.content = ContentPlan::fixed(200_000);
            plan.transport.pipelining = pipelining;
            plan.transport.chunking = chunking;
        });
        assert_complete(&report, &stats, &ledger);
    }
}

#[test]
fn every_step_of_a_conversation_is_timed_once() {
    let of_messages = [
        ((true, true), &["mail", "rcpt", "final_dot"][..]),
        ((true, false), &["mail", "rcpt", "data", "final_dot"]),
        ((false, true), &["mail", "rcpt", "final_dot"]),
        ((false, false), &["mail", "rcpt", "data", "final_dot"]),
    ];
    for ((pipelining, chunking), steps) in of_messages {
        let (report, ..) = into_sink(|plan| {
            plan.transport.pipelining = pipelining;
            plan.transport.chunking = chunking;
        });
        let timed: Vec<_> = report.phases.iter().filter(|(_, histogram)| !histogram.is_empty()).collect();
        let names: Vec<_> = timed.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [&["connect", "banner", "ehlo"], steps, &["quit"]].concat());
        for (name, histogram) in timed {
            let times = if steps.contains(&name) { 500 } else { report.connections };
            assert_eq!(histogram.len(), times, "{name} of {pipelining} {chunking}");
            assert!(report.phases_us[name].max > 0.0);
        }
    }
}

#[test]
fn dots_and_foreign_line_ends_survive_data() {
    for file in [&b".\n..\n.a\n"[..], b"X-A: b\n\n.\n", b"", b"no line end"] {
        let (report, stats, ledger) = into_sink(|plan| {
            plan.content = ContentPlan::file(file.to_vec());
            plan.transport.chunking = false;
        });
        assert_complete(&report, &stats, &ledger);
    }
}

#[test]
fn a_rate_sends_the_same_mail_and_measures_from_the_intended_time() {
    let (report, stats, ledger) = into_sink(|plan| plan.schedule = Schedule::rate(5_000.0));
    assert_complete(&report, &stats, &ledger);
    // 500 messages at 5,000 a second are intended over 99.8 ms, however fast the machine is.
    assert!(report.elapsed_s >= 0.0998, "{}", report.elapsed_s);
}

#[test]
fn more_connections_than_messages_are_no_fault() {
    let (report, stats, ledger) = into_sink(|plan| plan.concurrency = 600);
    assert_complete(&report, &stats, &ledger);
}

#[test]
fn several_runs_are_told_apart() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    for name in ["first", "second"] {
        let plan = Plan { run_id: RunId::new(name).unwrap(), ..Plan::messages(server.smtp_addr, 100) };
        assert_eq!(run(plan).exit_code(), 0);
    }
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.distinct, stats.duplicated), (200, 200, 0));
    assert_eq!(stats.runs.keys().collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn a_run_sent_again_under_its_name_is_all_duplicates() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let plan = Plan { seed: 1, ..Plan::messages(server.smtp_addr, 100) };
    run(plan.clone());
    // The same seed means the same recipients, and so the same deliveries.
    run(plan.clone());
    assert_eq!(server.stats().duplicated, 100);
    run(Plan { seed: 2, ..plan });
    let stats = server.stop();
    assert_eq!(stats.accepted, 300);
    assert!(stats.distinct > 190, "another seed means other recipients: {}", stats.distinct);
}

#[test]
fn the_seed_decides_on_recipients_and_bodies_whatever_the_connections() {
    let sent = |seed, concurrency| {
        let server = Server::start(|_| Answer::Accept);
        let content = ContentPlan::fixed(100);
        let plan = Plan { seed, concurrency, content, ..Plan::messages(server.address, 60) };
        assert_eq!(run(plan).exit_code(), 0);
        let body = |message: &[u8]| message::header::split(message).1.to_vec();
        let arrivals = server.arrivals().into_iter();
        arrivals.map(|(seq, all)| (seq, all[0].recipient.clone(), body(&all[0].message))).collect::<Vec<_>>()
    };
    assert_eq!(sent(5, 1), sent(5, 7));
    assert_ne!(sent(5, 1), sent(6, 1));
}

#[test]
fn headers_and_domains_are_as_asked_for() {
    let server = Server::start(|_| Answer::Accept);
    let plan = Plan {
        recipients: RecipientPlan {
            domains: vec!["only.example".parse().unwrap()],
            domain_suffix: "suffix.test".to_owned(),
            ..RecipientPlan::default()
        },
        content: ContentPlan { headers: vec!["X-Campaign: spring".to_owned()], ..ContentPlan::default() },
        ..Plan::messages(server.address, 10)
    };
    assert_eq!(run(plan).exit_code(), 0);
    for arrival in server.arrivals().into_values().flatten() {
        assert!(arrival.recipient.ends_with("@only.example.suffix.test"), "{}", arrival.recipient);
        let find = |name| message::header::find(&arrival.message, name).unwrap().into_owned();
        assert_eq!(find("X-Campaign"), "spring");
        assert_eq!(find("To"), format!("<{}>", arrival.recipient));
        assert!(find("Message-ID").starts_with('<') && find("Date").ends_with("+0000"));
    }
}
