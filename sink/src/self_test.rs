//! The sink's own ceiling: how much mail it swallows from the least generator that there can be.
//!
//! Owns a load that costs next to nothing, prepared bytes over a few connections, and the sums. It answers one
//! question: may a figure measured with this sink be believed? One that comes near the ceiling says more about the
//! sink than about the server under test. Generator and sink run in one process on the same cores, so the rates are those of
//! the pair; processor time per message is the sink's alone, read from the clocks of its threads.

mod cpu;
mod load;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use message::traffic::RunId;
use serde::Serialize;

use crate::config::Config;
use crate::server::{Server, StartError};
use cpu::Cpu;
use load::{Burst, Counter, drive};

/// Sizes of the messages, in bytes, and how many of them are sent before the replies are read.
const CELLS: [(usize, usize); 3] = [(1_000, 64), (10_000, 16), (100_000, 4)];

/// Connections of each step.
const STEPS: [usize; 4] = [1, 4, 16, 64];

/// A step must bring so much more than the best before it, or the rate no longer rises.
const GAIN_MIN: f64 = 1.05;

/// Steps in a row after which a rate that no longer rises is believed: one alone may be a busy host.
const FLAT_STEPS: usize = 2;

/// What a self-test found out.
#[derive(Clone, Debug, Serialize)]
pub struct SelfTestReport {
    /// Cores that sink and generator shared.
    pub cores: usize,
    /// Threads of the sink.
    pub workers: usize,
    /// All steps, in the order in which they ran.
    pub steps: Vec<Step>,
    /// The fastest step of each size.
    pub ceilings: Vec<Step>,
    /// What the numbers mean.
    pub remark: &'static str,
}

/// One size over so many connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Bytes of each message, header and body.
    pub message_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// Messages answered with 250.
    pub messages: u64,
    /// How long it took, in seconds.
    pub elapsed_s: f64,
    /// Messages per second.
    pub per_s: f64,
    /// Million messages per hour.
    pub mmh: f64,
    /// Million bytes of messages per second.
    pub mb_per_s: f64,
    /// Processor time of the sink's threads per message, in microseconds; null where the host does not tell.
    pub sink_cpu_us: Option<f64>,
    /// Processor time of everything else in the process per message, in microseconds: the generator.
    pub generator_cpu_us: Option<f64>,
    /// Messages per second that the sink's processor time would allow if its threads had a core each to
    /// themselves: computed, not measured.
    pub alone_per_s: Option<f64>,
}

const REMARK: &str = "Generator and sink shared the cores, so these are rates of the pair: the sink alone is faster. \
    Time that the kernel spends on loopback is part of both. A figure of another server measured with this sink on this \
    host is worth little above a third of the rate for its size.";

/// Why there is no ceiling.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The sink did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The host refused a thread or a connection.
    #[error("the self-test got no further: {0}; raise the host's limits")]
    Host(#[from] io::Error),
    /// The sink did not answer as it must: a fault of ours.
    #[error("the sink answered {0:?} to a message of the self-test")]
    Refused(String),
}

impl SelfTestReport {
    /// Starts a sink on free loopback ports and drives it, each step for that long; `tell` hears of each step.
    ///
    /// # Errors
    /// [`SelfTestError`] where the host refuses something.
    pub fn measure(
        workers: usize,
        step: Duration,
        mut tell: impl FnMut(&Step),
    ) -> Result<Self, SelfTestError> {
        let server = Server::start(Config { workers, ..Config::on_free_ports() })?;
        let mut report = Self {
            cores: available_parallelism().map_or(1, NonZeroUsize::get),
            workers,
            steps: Vec::new(),
            ceilings: Vec::new(),
            remark: REMARK,
        };
        for (message_bytes, messages) in CELLS {
            let mut best: Option<Step> = None;
            let mut flat = 0;
            for connections in STEPS {
                let run = RunId::from_random(report.steps.len() as u64);
                let burst = Burst::new(run, message_bytes, messages);
                let found = one_step(server.smtp_addr, &burst, connections, step, workers)?;
                tell(&found);
                report.steps.push(found);
                let before = best.map_or(0.0, |best| best.per_s);
                if found.per_s > before {
                    best = Some(found);
                }
                flat = if found.per_s < before * GAIN_MIN { flat + 1 } else { 0 };
                if flat == FLAT_STEPS {
                    break;
                }
            }
            report.ceilings.extend(best);
        }
        Ok(report)
    }
}

fn one_step(
    sink: SocketAddr,
    burst: &Burst,
    connections: usize,
    length: Duration,
    workers: usize,
) -> Result<Step, SelfTestError> {
    let counter = Arc::new(Counter::default());
    let before = Cpu::now();
    let begun = Instant::now();
    let messages = drive(sink, burst, connections, begun + length, &counter)?;
    let elapsed_s = begun.elapsed().as_secs_f64();
    let used = before.and_then(|before| Some(Cpu::now()?.since(&before)));
    let per_message = |seconds: f64| if messages > 0 { seconds * 1e6 / messages as f64 } else { 0.0 };
    let sink_cpu_us = used.map(|used| per_message(used.sink_s));
    let per_s = messages as f64 / elapsed_s;
    Ok(Step {
        message_bytes: burst.message_bytes(),
        connections,
        messages,
        elapsed_s,
        per_s,
        mmh: per_s * 3600.0 / 1e6,
        mb_per_s: per_s * burst.message_bytes() as f64 / 1e6,
        sink_cpu_us,
        generator_cpu_us: used.map(|used| per_message(used.all_s - used.sink_s)),
        alone_per_s: sink_cpu_us.filter(|us| *us > 0.0).map(|us| workers as f64 * 1e6 / us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_has_a_ceiling_and_each_message_was_counted_by_the_sink() {
        let mut told = 0;
        let report = SelfTestReport::measure(2, Duration::from_millis(20), |_| told += 1).unwrap();
        assert_eq!(told, report.steps.len());
        let sizes: Vec<usize> = report.ceilings.iter().map(|step| step.message_bytes).collect();
        assert_eq!(sizes, CELLS.map(|cell| cell.0));
        assert!(report.ceilings.iter().all(|step| step.messages > 0 && step.per_s > 0.0));
        let best = |step: &Step| {
            let same = report.steps.iter().filter(|other| other.message_bytes == step.message_bytes);
            same.map(|other| other.per_s).fold(0.0, f64::max)
        };
        assert!(report.ceilings.iter().all(|step| step.per_s == best(step)));
    }
}
