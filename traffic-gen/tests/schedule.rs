//! Messages on a schedule: what is due, what is measured, and what a stall of the server looks like.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use traffic_gen::{
    Arrivals, Control, Observer, Plan, Report, Schedule, Second, Share, Stage, Window, run, run_observed,
};

mod support;

use support::{Answer, PATIENCE, Server};

/// Lets the server go on when all messages are due.
struct Release {
    messages: u64,
    go: SyncSender<()>,
}

impl Observer for Release {
    fn second(&mut self, second: &Second<'_>) {
        if second.due == self.messages {
            // The server may have gone on already.
            let _ = self.go.try_send(());
        }
    }
}

/// A hundred messages, one every 5 ms, over one connection; the server keeps silent after the eleventh until
/// all of them are due.
fn stalled() -> Report {
    let (go, wait) = sync_channel(1);
    let wait = Arc::new(Mutex::new(wait));
    let server = Server::start(move |number| {
        if number == 10 {
            wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Answer::Accept
    });
    let plan =
        Plan { concurrency: 1, schedule: Schedule::rate(200.0), ..Plan::messages(server.address, 100) };
    run_observed(plan, &Control::default(), &mut Release { messages: 100, go })
}

#[test]
fn a_stall_shows_in_the_corrected_latency_and_hides_in_the_raw_one() {
    let report = stalled();
    assert_eq!((report.sent, report.due, report.behind), (100, 100, 0), "{:?}", report.errors);
    // Message 10 is due at 50 ms and the last one at 495 ms, when the server goes on at the earliest. So the
    // 49 messages that are due up to 295 ms wait for at least 200 ms, and one of them alone waits after its
    // MAIL.
    let long = |histogram: &hdrhistogram::Histogram<u64>| histogram.count_between(199_000, u64::MAX);
    assert!(long(&report.latency) >= 49, "{}", long(&report.latency));
    assert!((1..=4).contains(&long(&report.raw)), "{}", long(&report.raw));
    assert!(report.latency_us.p50 > 10.0 * report.raw_latency_us.p50.min(20_000.0));
    // What they waited for was the server: no connection stood ready.
    assert!(long(&report.lag) >= 48 && long(&report.own_lag) <= 3);
    assert_eq!((report.lag.len(), report.own_lag.len()), (100, 100));
}

#[test]
fn in_a_closed_loop_there_is_nothing_to_correct() {
    let server = Server::start(|_| Answer::Accept);
    let report = run(Plan { concurrency: 2, ..Plan::messages(server.address, 50) });
    assert_eq!((report.latency.len(), &report.raw), (50, &report.latency));
    assert_eq!((report.due, report.lag.len()), (0, 0));
}

#[test]
fn stages_that_end_are_the_whole_run() {
    for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
        let server = Server::start(|_| Answer::Accept);
        let stages = Stage::parse_list("0>200:500ms,200:500ms").unwrap();
        let plan = Plan {
            concurrency: 4,
            seed: 9,
            message_count: None,
            schedule: Schedule::Open { arrivals, stages },
            ..Plan::messages(server.address, 0)
        };
        let report = run(plan);
        // A busy machine may keep the generator from sending the last ones before the end; then it says so.
        assert_eq!(report.sent + report.behind, report.due, "{:?}", report.errors);
        assert_eq!((report.measured.from_s, report.measured.length_s), (0.0, 1.0));
        match arrivals {
            Arrivals::Constant => assert_eq!(report.due, 150),
            // 150 on average; five times the spread around it.
            Arrivals::Poisson => assert!((89..=211).contains(&report.due), "{}", report.due),
        }
    }
}

/// Adds up what is seen of each window.
#[derive(Default)]
struct Windows {
    latencies: u64,
    seen: Vec<Window>,
}

impl Observer for Windows {
    fn second(&mut self, second: &Second<'_>) {
        self.latencies += second.latency.len();
        self.seen.push(second.window);
    }
}

#[test]
fn the_warm_up_is_kept_out_of_the_figures_and_not_out_of_the_seconds() {
    let server = Server::start(|_| Answer::Accept);
    let plan = Plan {
        concurrency: 2,
        schedule: Schedule::rate(20.0),
        warm_up: Duration::from_millis(500),
        ..Plan::messages(server.address, 30)
    };
    let mut windows = Windows::default();
    let report = run_observed(plan, &Control::default(), &mut windows);
    // One every 50 ms: ten are due before the figures begin.
    assert_eq!((report.sent, report.measured.sent, report.measured.from_s), (30, 20, 0.5));
    assert_eq!((report.latency.len(), report.raw.len(), report.lag.len()), (20, 20, 20));
    assert_eq!(report.phases.iter().find(|(name, _)| *name == "mail").unwrap().1.len(), 20);
    assert_eq!((windows.latencies, windows.seen.first()), (30, Some(&Window::WarmUp)));
    assert_eq!(report.per_second.iter().sum::<u64>(), 30);
    assert!(windows.seen.contains(&Window::Measured), "{:?}", windows.seen);
}

#[test]
fn shares_send_every_message_once() {
    let server = sink::Server::start(sink::Config::on_free_ports()).unwrap();
    let whole =
        Plan { concurrency: 2, schedule: Schedule::rate(1_000.0), ..Plan::messages(server.smtp_addr, 101) };
    for index in 0..3 {
        let report = run(Plan { share: Share { index, of: 3 }, ..whole.clone() });
        let messages = if index < 2 { 34 } else { 33 };
        assert_eq!(
            (report.sent, report.unsent(), report.exit_code()),
            (messages, 0, 0),
            "{:?}",
            report.errors
        );
    }
    let ledger = server.ledger(whole.run_id).unwrap();
    assert_eq!((&ledger.had[..], &ledger.missing[..]), (&[(0, 100)][..], &[][..]));
    assert_eq!(server.stop().duplicated, 0);
}

#[test]
fn machines_begin_at_the_agreed_time_by_their_own_clocks() {
    let realtime = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let server = Server::start(|_| Answer::Accept);
    // In 300 ms by a clock that is an hour ahead of this host's.
    let hour = Duration::from_secs(3_600);
    let start = realtime + hour + Duration::from_millis(300);
    let plan = Plan {
        concurrency: 2,
        start_at_realtime_ns: Some(u64::try_from(start.as_nanos()).unwrap()),
        clock_offset_ns: i64::try_from(hour.as_nanos()).unwrap(),
        ..Plan::messages(server.address, 10)
    };
    let report = run(plan);
    assert_eq!(report.sent, 10);
    // Messages say the coordinator's time. Two clocks were read one after the other, and rounded.
    let first = Duration::from_nanos(report.first_sent_ns.unwrap());
    assert!(first + Duration::from_millis(1) >= start, "{:?} too early", start - first);
}
