//! A quick look at append speed on this machine: concurrent appenders, each waiting for its acknowledgement, each message
//! deleted soon after, so that segments are recycled as in a running server.
//! `cargo run --release -p spool --example throughput -- DIR [BODY_BYTES] [APPENDERS] [SECONDS] [auto|uring|threads]
//! [direct|buffered] [IN_FLIGHT]`
#![expect(clippy::print_stdout, reason = "a command-line tool")]
#![expect(clippy::cast_possible_truncation, reason = "the numbers of a measurement are small")]
#![expect(clippy::unwrap_used, reason = "an example stops at the first error")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spool::{Backend, Change, Envelope, Id, Options, Spool, Transaction, WriteMode};

/// Deletes that one appender sends together.
const DELETES_TOGETHER: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or_else(|| default.to_owned());
    let number = |at: usize, default: &str| text(at, default).parse::<u64>().unwrap();
    let mut options = Options::new(text(0, "target/throughput"));
    options.backend = match text(4, "auto").as_str() {
        "uring" => Backend::Uring,
        "threads" => Backend::Threads,
        _ => Backend::Auto,
    };
    options.mode = if text(5, "direct") == "buffered" { WriteMode::Buffered } else { WriteMode::Direct };
    options.batches_in_flight_max = number(6, "2") as usize;
    let (body_bytes, appenders, seconds) = (number(1, "1024"), number(2, "64"), number(3, "3"));
    let opened = Instant::now();
    let (spool, recovery) = Spool::open(options).unwrap();
    println!("opened in {:?}, {} messages alive", opened.elapsed(), recovery.messages.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cpu_before = cpu_seconds();
    let (elapsed, mut latencies) = runtime.block_on(run(&spool, body_bytes as usize, appenders, seconds));
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    let stats = spool.stats();
    let cpu_us = (cpu_seconds() - cpu_before) * 1e6 / latencies.len() as f64;
    println!(
        "{} {}: {:.0} appends/s of {body_bytes} bytes, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, {cpu_us:.1} us of CPU each",
        stats.backend,
        stats.mode,
        latencies.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    println!("{stats:?}");
    spool.close().unwrap();
}

/// User and system time of this process, appenders included.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    // Fields 14 and 15 of proc(5), in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

async fn run(spool: &Spool, body_bytes: usize, appenders: u64, seconds: u64) -> (Duration, Vec<u64>) {
    let body = Bytes::from(vec![b'x'; body_bytes]);
    let next = Arc::new(AtomicU64::new(u64::from(std::process::id()) << 40));
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..appenders)
        .map(|_| tokio::spawn(appender(spool.clone(), body.clone(), Arc::clone(&next), until)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.append(&mut task.await.unwrap());
    }
    (begun.elapsed(), latencies)
}

async fn appender(spool: Spool, body: Bytes, next: Arc<AtomicU64>, until: Instant) -> Vec<u64> {
    let mut latencies = Vec::new();
    let mut finished = Vec::new();
    let envelope = Bytes::from_static(&[b'e'; 160]);
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let id = Id((u128::from(number) << 64 | u128::from(std::process::id())).to_be_bytes());
        let envelopes = vec![Envelope { id, body: id, bytes: envelope.clone() }];
        let begun = Instant::now();
        let _ = spool.append(Transaction { body: Some((id, vec![body.clone()])), envelopes }).await.unwrap();
        latencies.push(u64::try_from(begun.elapsed().as_nanos()).unwrap());
        finished.push(Change::Delete { id, bytes: Bytes::from_static(b"delivered") });
        if finished.len() >= DELETES_TOGETHER {
            // Nobody waits for it here, as nobody does after a delivery.
            drop(spool.enqueue(std::mem::take(&mut finished)).await.unwrap());
        }
    }
    latencies
}
