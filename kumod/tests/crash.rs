//! kill -9 in the middle of a run: what got a 250 is delivered all the same, by the process that is started in its place.
//!
//! Two kinds of clients send. traffic-gen makes the load and knows how many of its messages were acknowledged; the witnesses know which.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::thread;

use support::audit::{Witnesses, assert_none_lost};
use support::home::Home;
use support::until;
use traffic_gen::{Plan, Report};

const ROUNDS: usize = 3;
/// What the sink must have, and the witnesses must have been told, before the process is killed.
const ARRIVED_MIN: u64 = 1500;
const ACKNOWLEDGED_MIN: u64 = 200;
const WITNESS_CONNECTIONS: usize = 4;

fn load(target: SocketAddr) -> Report {
    let mut plan = Plan::messages(target, u64::MAX / 2);
    plan.concurrency = 24;
    plan.content = traffic_gen::ContentPlan::fixed(8000);
    traffic_gen::run(plan)
}

#[test]
fn what_got_a_250_survives_kill_9() {
    let (home, sink) = (Home::new(), support::sink());
    let port = sink.smtp_addr.port().to_string();
    for round in 0..ROUNDS {
        kill_in_the_middle(&home, &sink, &port, round);
    }
    let stats = sink.stats();
    assert_eq!(stats.corrupted, 0);
    eprintln!("{} messages arrived, {} of them twice", stats.distinct, stats.duplicated);
}

fn kill_in_the_middle(home: &Home, sink: &sink::Server, port: &str, round: usize) {
    let kumod = home.start(&["--smtp-port", port]);
    let (target, arrived_before) = (kumod.smtp(), sink.stats().distinct);
    let witnesses = Witnesses::new(&format!("witness-{round}"));
    let body = b"a line of the witness\r\n".repeat(500);
    let (report, acknowledged) = thread::scope(|scope| {
        let traffic = scope.spawn(|| load(target));
        let witnessed = scope.spawn(|| witnesses.send(target, WITNESS_CONNECTIONS, &body));
        until("mail on its way", || {
            let arrived = sink.stats().distinct - arrived_before;
            arrived > ARRIVED_MIN && witnesses.acknowledged.load(Ordering::Relaxed) > ACKNOWLEDGED_MIN
        });
        kumod.kill();
        (traffic.join().unwrap(), witnessed.join().unwrap())
    });
    assert!(report.unknown > 0 || report.connections_lost > 0, "nothing was cut off: {report:?}");

    let again = home.start(&["--smtp-port", port]);
    again.drained();
    again.stop();
    assert_none_lost(&report, sink);
    witnesses.assert_arrived(&acknowledged, sink);
}
