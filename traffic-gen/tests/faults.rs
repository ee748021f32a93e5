//! What the generator makes of servers that refuse, vanish or stay silent: nothing counted that was not
//! answered, nothing sent twice.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::time::Duration;

use traffic_gen::{
    ContentPlan, Control, Observer, PerMessage, Plan, Report, Schedule, Second, run, run_observed,
};

mod support;

use support::{Answer, Server};

fn plan(server: &Server, count: u64) -> Plan {
    Plan { concurrency: 2, content: ContentPlan::fixed(200), ..Plan::messages(server.address, count) }
}

fn counts(report: &Report) -> (u64, u64, u64, u64) {
    (report.sent, report.failed, report.unknown, report.unsent())
}

/// Whether every message arrived at most once.
fn sent_once(server: &Server) -> bool {
    server.arrivals().values().all(|arrivals| arrivals.len() == 1)
}

#[test]
fn a_server_that_vanishes_leaves_one_message_unknown_on_each_connection() {
    let server = Server::start(|number| if number < 5 { Answer::Accept } else { Answer::Vanish });
    let report = run(plan(&server, 100));
    assert_eq!(counts(&report), (10, 0, 2, 88), "{:?}", report.errors);
    assert_eq!((report.connections, report.connections_lost, report.exit_code()), (2, 2, 1));
    assert_eq!(report.errors.values().sum::<u64>(), 2);
    assert!(sent_once(&server));
}

#[test]
fn keep_going_opens_new_connections_but_repeats_no_message() {
    let server = Server::start(|number| if number < 5 { Answer::Accept } else { Answer::Vanish });
    let report = run(Plan { keep_going: true, ..plan(&server, 100) });
    let (sent, failed, unknown, unsent) = counts(&report);
    assert_eq!((sent + unknown, failed, unsent), (100, 0, 0));
    assert!(unknown >= 15 && report.connections_lost == unknown, "{unknown} {}", report.connections_lost);
    assert_eq!(report.exit_code(), 1);
    assert_eq!(server.arrivals().len(), 100);
    assert!(sent_once(&server));
}

#[test]
fn refusals_count_by_their_code_and_the_connection_goes_on() {
    for code in [550, 450] {
        let server =
            Server::start(move |number| if number % 2 == 0 { Answer::Refuse(code) } else { Answer::Accept });
        let report = run(Plan { concurrency: 1, ..plan(&server, 100) });
        assert_eq!(counts(&report), (50, 50, 0, 0), "{:?}", report.errors);
        assert_eq!((report.reply_codes[&code], report.reply_codes[&250]), (50, 50));
        assert_eq!((report.connections, report.connections_lost, report.exit_code()), (1, 0, 1));
        assert_eq!(report.latency.len(), 50);
    }
}

#[test]
fn a_server_that_ends_the_session_with_421_refuses_what_it_did_not_take() {
    let limits = smtp::server::Limits { messages_max: 5, ..Default::default() };
    let config = || smtp::server::Config { limits, ..Default::default() };
    let server = Server::with_config(config(), |_| Answer::Accept);
    let report = run(plan(&server, 100));
    let (sent, failed, unknown, unsent) = counts(&report);
    assert_eq!((sent, failed + unknown, unsent), (10, 2, 88), "{:?}", report.errors);
    let server = Server::with_config(config(), |_| Answer::Accept);
    let report = run(Plan { keep_going: true, ..plan(&server, 100) });
    assert_eq!(report.unsent(), 0);
    assert!(report.sent >= 80 && sent_once(&server), "{:?}", report.errors);
}

#[test]
fn without_pipelining_and_chunking_the_counts_are_the_same() {
    let config = smtp::server::Config { pipelining: false, chunking: false, ..Default::default() };
    let server =
        Server::with_config(config, |number| if number < 5 { Answer::Accept } else { Answer::Vanish });
    assert_eq!(counts(&run(plan(&server, 100))), (10, 0, 2, 88));
    assert!(sent_once(&server));
}

#[test]
fn a_message_refused_for_some_recipients_is_partial_and_says_for_whom() {
    for pipelining in [true, false] {
        let limits = smtp::server::Limits { recipients_max: 2, errors_max: 1_000, ..Default::default() };
        let config = smtp::server::Config { limits, ..Default::default() };
        let server = Server::with_config(config, |number| match number {
            0 => Answer::Refuse(550),
            _ => Answer::Accept,
        });
        let mut plan = Plan { concurrency: 1, ..plan(&server, 3) };
        plan.recipients.per_message = PerMessage { min: 3, max: 3 };
        plan.transport.pipelining = pipelining;
        let report = run(plan);
        // The first message is refused for all, the others for the third recipient, whom the server has no
        // room for.
        assert_eq!((report.sent, report.failed, report.partial, report.unknown), (0, 1, 2, 0));
        assert_eq!(report.failed_sequences, [[0, 0]]);
        assert_eq!(report.refused_recipients, [[1, 2], [2, 2]]);
        assert_eq!((report.recipients_accepted, report.exit_code()), (4, 1));
        assert_eq!((report.reply_codes[&250], report.reply_codes[&550]), (4, 2));
        assert_eq!(report.unsent(), 0);
    }
}

#[test]
fn a_message_above_the_servers_limit_is_not_offered() {
    let limits = smtp::server::Limits { message_bytes_max: 10_000, ..Default::default() };
    let config = smtp::server::Config { limits, ..Default::default() };
    let server = Server::with_config(config, |_| Answer::Accept);
    let report = run(Plan { content: ContentPlan::fixed(20_000), ..plan(&server, 100) });
    assert_eq!((report.sent, report.failed, report.exit_code()), (0, 2, 1));
    assert!(server.arrivals().is_empty());
}

#[test]
fn what_could_not_be_connected_was_never_begun() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let report = run(Plan { concurrency: 4, ..Plan::messages(address, 10) });
    assert_eq!(counts(&report), (0, 0, 0, 10));
    assert_eq!((report.connections, report.connections_lost, report.exit_code()), (0, 4, 1));
    assert!(report.errors.keys().all(|kind| kind.starts_with("connect: ")), "{:?}", report.errors);
}

#[test]
fn a_silent_server_is_given_up_after_the_timeout() {
    let server = Server::start(|_| Answer::Silence);
    let report = run(Plan { timeout: Duration::from_secs(1), ..plan(&server, 10) });
    assert_eq!(counts(&report), (0, 0, 2, 8));
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["timeout: no final reply"]);
}

#[test]
fn replies_are_waited_for_as_long_as_the_drain() {
    let server = Server::start(|number| if number < 3 { Answer::Accept } else { Answer::Silence });
    // Every connection gets stuck, nothing is left to begin, and nobody waits for the minute of the timeout.
    let report = run(Plan { drain: Duration::from_millis(1), ..plan(&server, 8) });
    assert_eq!(counts(&report), (6, 0, 2, 0));
    assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["no final reply before the drain was over"]);
    assert_eq!((report.measured.sent, report.measured.unknown), (6, 2));
}

/// Ends the run at the first second in which all connections wait for a reply.
struct Impatient(Control);

impl Observer for Impatient {
    fn second(&mut self, second: &Second<'_>) {
        if second.in_flight == 2 {
            self.0.stop();
        }
    }
}

#[test]
fn an_interrupted_run_still_has_its_report() {
    let server = Server::start(|number| if number < 5 { Answer::Accept } else { Answer::Silence });
    let control = Control::default();
    let report = run_observed(plan(&server, 100), &control, &mut Impatient(control.clone()));
    assert_eq!(counts(&report), (10, 0, 2, 88));
    assert_eq!((report.interrupted, report.exit_code()), (true, 130));
}

#[test]
fn a_run_stopped_before_it_starts_begins_nothing() {
    let server = Server::start(|_| Answer::Accept);
    let control = Control::default();
    control.stop();
    control.stop();
    let report = run_observed(plan(&server, 1_000_000), &control, &mut Impatient(Control::default()));
    assert!(report.interrupted && report.unsent() > 0);
    assert_eq!(server.arrivals().len() as u64, report.sent + report.unknown);
}

#[test]
fn a_server_that_closes_an_idle_connection_costs_no_message() {
    let server = Server::start(|number| if number < 1 { Answer::AcceptAndVanish } else { Answer::Accept });
    // The second message is due an hour later than anybody waits; the loss is noticed while the connection
    // is idle.
    let report = run(Plan { concurrency: 1, schedule: Schedule::rate(1.0 / 3600.0), ..plan(&server, 2) });
    assert_eq!(counts(&report), (1, 0, 0, 1));
    assert_eq!((report.connections_lost, report.exit_code()), (1, 1));
}
