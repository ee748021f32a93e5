//! One measurement of the floor: three processes, started, waited for, and read.
//!
//! It owns the order of starting and ending, and the arithmetic. The three end by themselves, generator first; one that
//! fails takes the others down with it, because their handles are dropped.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use reports::run::Processes;
use reports::sample::ProcessSample;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::INBOUND_CONNECTIONS;
use crate::arguments;
use crate::error::{Error, Result};
use crate::placement::Placement;
use crate::processes::{Launch, Process, Programs};
use crate::stop::Stop;

/// What is left in the relay when the generator ends must be delivered within this time.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Lets the C library back the relay's buffers with huge pages, which direct writes gain from; other C libraries ignore it.
const HUGE_PAGES: [(&str, &str); 1] = [("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")];

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Bytes of each body.
    pub body_bytes: u64,
    /// No message starts later than this after the first.
    pub duration: Duration,
    /// No more messages than this; `u64::MAX` for no limit.
    pub messages_max: u64,
    /// The log file and the programs' own logs lie here. Not on tmpfs, or the floor is a dream.
    pub folder: PathBuf,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Messages answered with 250.
    pub sent: u64,
    /// Messages at the sink.
    pub delivered: u64,
    /// From the first send to the last delivery, in seconds.
    pub elapsed_s: f64,
    /// Durable writes of the relay.
    pub barriers: u64,
    /// What the programs used; `kumod` is the relay.
    pub processes: Processes,
}

#[derive(Deserialize)]
struct Generated {
    sent: u64,
    first_sent_ns: u64,
}

#[derive(Deserialize)]
struct Relayed {
    barriers: u64,
}

#[derive(Deserialize)]
struct Sunk {
    delivered: u64,
    last_ns: u64,
}

/// Runs the floor once; `tick` is called several times a second.
///
/// # Errors
/// [`Error::Peer`] when a program fails or a message is missing, [`Error::Interrupted`].
pub fn measure(
    programs: &Programs,
    plan: &Plan,
    placement: &Placement,
    stop: &Stop,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    let launch = |name, before: &[OsString], arguments| Launch {
        name,
        before: before.to_vec(),
        program: programs.lab.clone(),
        arguments,
        environment: &HUGE_PAGES,
        log_folder: plan.folder.clone(),
    };
    let mut sink =
        Process::start_server(&launch("floor-sink", &placement.load, arguments!["floor-sink"]), stop)?;
    let body_bytes = plan.body_bytes.to_string();
    let log = plan.folder.join("floor.log-ring");
    let sink_address = sink.smtp()?.to_string();
    let arguments =
        arguments!["floor-relay", "--sink", sink_address, "--log", log, "--body-bytes", &body_bytes];
    let mut relay = Process::start_server(&launch("floor-relay", &placement.floor_relay, arguments), stop)?;
    placement.verify(relay.id())?;
    let (relay_first, sink_first) = (relay.sample(), sink.sample());
    let mut arguments = arguments!["floor-generator", "--target", relay.smtp()?.to_string()];
    arguments.extend(arguments!["--body-bytes", &body_bytes, "--messages", plan.messages_max.to_string()]);
    arguments.extend(arguments!["--duration-ms", plan.duration.as_millis().to_string()]);
    arguments.extend(arguments!["--connections", INBOUND_CONNECTIONS.to_string()]);
    let mut generator = Process::start(&launch("floor-generator", &placement.load, arguments))?;

    let limit = plan.duration + DRAIN_WAIT_MAX;
    let generated: Generated = finish(&mut generator, limit, stop, || {
        relay.sample();
        sink.sample();
        tick()
    })?;
    let relayed: Relayed = finish(&mut relay, DRAIN_WAIT_MAX, stop, &mut tick)?;
    let sunk: Sunk = finish(&mut sink, DRAIN_WAIT_MAX, stop, &mut tick)?;
    let processes = Processes {
        kumod: Some(relay.used_since(&relay_first)),
        sink: Some(sink.used_since(&sink_first)),
        traffic_gen: Some(generator.used_since(&ProcessSample::default())),
    };
    outcome(&generated, &relayed, &sunk, processes)
}

fn outcome(generated: &Generated, relayed: &Relayed, sunk: &Sunk, processes: Processes) -> Result<Outcome> {
    if generated.sent != sunk.delivered {
        let Generated { sent, .. } = generated;
        return Err(Error::Peer(format!("floor: {sent} messages answered, {} delivered", sunk.delivered)));
    }
    Ok(Outcome {
        sent: generated.sent,
        delivered: sunk.delivered,
        elapsed_s: sunk.last_ns.saturating_sub(generated.first_sent_ns) as f64 / 1e9,
        barriers: relayed.barriers,
        processes,
    })
}

/// Waits for the end of a floor program and reads its one line.
fn finish<T: DeserializeOwned>(
    process: &mut Process,
    limit: Duration,
    stop: &Stop,
    tick: impl FnMut() -> Result<()>,
) -> Result<T> {
    let status = process.wait(limit, stop, tick)?;
    if !status.success() {
        return Err(process.failed(&format!("ended with {status}")));
    }
    let output = process.output()?;
    serde_json::from_str(&output).map_err(|error| process.failed(&format!("printed {output:?}: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn time_runs_from_the_first_send_to_the_last_delivery() {
        let generated = Generated { sent: 10, first_sent_ns: 1_000_000_000 };
        let sunk = Sunk { delivered: 10, last_ns: 3_500_000_000 };
        let outcome = outcome(&generated, &Relayed { barriers: 2 }, &sunk, Processes::default()).unwrap();
        assert_eq!((outcome.elapsed_s, outcome.barriers), (2.5, 2));
    }

    #[test]
    fn a_floor_that_loses_mail_is_no_floor() {
        let generated = Generated { sent: 10, first_sent_ns: 0 };
        let sunk = Sunk { delivered: 9, last_ns: 1 };
        assert!(outcome(&generated, &Relayed { barriers: 2 }, &sunk, Processes::default()).is_err());
    }
}
