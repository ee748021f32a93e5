//! What was sent against what arrived, by sequence number.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use message::traffic::{RunId, TrafficHeader, body_crc};
use traffic_gen::Report;

use super::client::Client;

/// Whether all that got a 250 arrived, as far as a run's counts can tell: what is missing at the sink must be among the messages that were
/// refused, or whose answer was lost.
pub(crate) fn assert_none_lost(report: &Report, sink: &sink::Server) {
    let ledger = sink.ledger(RunId::new(&report.run_id).unwrap()).unwrap();
    let begun = report.sent + report.failed + report.unknown;
    let missing = begun - ledger.distinct;
    assert!(
        missing <= report.failed + report.unknown,
        "lost: {} of {} sent; missing {:?}",
        missing - report.failed - report.unknown,
        report.sent,
        ledger.missing
    );
    assert_eq!((ledger.corrupted, ledger.untracked), (0, 0), "bodies changed on the way");
}

/// Clients that know of each of their messages whether it got its 250.
pub(crate) struct Witnesses {
    pub(crate) run: RunId,
    next: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
}

impl Witnesses {
    pub(crate) fn new(run: &str) -> Self {
        Self { run: RunId::new(run).unwrap(), next: AtomicU64::new(0), acknowledged: AtomicU64::new(0) }
    }

    /// Sends over so many connections until the server goes away. Returns the numbers of the messages that got a 250.
    pub(crate) fn send(&self, address: SocketAddr, connections: usize, body: &[u8]) -> Vec<u64> {
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..connections).map(|_| scope.spawn(|| self.send_over(address, body))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn send_over(&self, address: SocketAddr, body: &[u8]) -> Vec<u64> {
        let (mut had, mut client) = (Vec::new(), Client::greeted(address));
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let message = self.message(number, body);
            let bytes = super::client::transaction(&["witness@mx-sink.localhost"], &message);
            if client.try_write(&bytes).is_err() || (0..3).any(|_| client.code() != 250) {
                return had;
            }
            had.push(number);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The message of a number.
    pub(crate) fn message(&self, seq: u64, body: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        TrafficHeader { run: self.run, conn: 0, seq, sent_ns: 1, crc: body_crc(body) }.write(&mut message);
        message.extend_from_slice(b"Subject: witness\r\n\r\n");
        message.extend_from_slice(body);
        message
    }

    /// Whether each of these numbers is at the sink, unchanged.
    pub(crate) fn assert_arrived(&self, numbers: &[u64], sink: &sink::Server) {
        let ledger = sink.ledger(self.run).unwrap();
        let arrived = |number: &u64| ledger.had.iter().any(|(first, last)| (first..=last).contains(&number));
        let lost: Vec<_> = numbers.iter().filter(|number| !arrived(number)).collect();
        assert!(lost.is_empty(), "lost {} of {}: {lost:?}", lost.len(), numbers.len());
        assert_eq!(ledger.corrupted, 0, "bodies changed on the way");
    }
}
