//! The runs: which program is started how, and what is read from outside when it has ended.
//!
//! It owns the order of the rounds and the count of a run. A contender that cannot run here is left out with its reason; a run whose
//! messages did not all arrive, or more of them, is an error, because its rate would mean nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reports::run::ProcessUse;
use reports::sample::ProcessSample;
use serde::{Deserialize, Serialize};

use super::plan::{Contender, Plan};
use crate::arguments;
use crate::error::{During, Error, Result};
use crate::http;
use crate::processes::{Launch, Process, Programs};
use crate::scratch::Scratch;
use crate::stop::Stop;

/// Rules of the sink that has some.
pub const RULES: usize = 100;
/// Messages of the first run of each kind, from which the length of the others is reckoned.
const TRIAL_MESSAGES: u64 = 5_000;
/// A run with fewer messages says nothing.
const MESSAGES_MIN: u64 = 1_000;
/// Messages of the measurement of memory.
const CROWD_MESSAGES: u64 = 100_000;
/// Body bytes of the measurement of memory.
const CROWD_BODY_BYTES: u64 = 1_000;
/// What a run may take beyond its length.
const EXTRA_MAX: Duration = Duration::from_secs(120);
/// Bytes of disk for the reports and logs of all runs.
const NEEDED_BYTES: u64 = 256 << 20;
/// Where Debian has Postfix's programs, which is not on everybody's PATH.
const SMTP_SOURCE: &str = "/usr/sbin/smtp-source";

/// One run of one contender.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// Who.
    pub contender: Contender,
    /// Bytes of the bodies.
    pub body_bytes: u64,
    /// From 1.
    pub round: u32,
    /// Messages that sink counted.
    pub messages: u64,
    /// From the start of the sending program to its end, in seconds.
    pub seconds: f64,
    /// Messages per second.
    pub rate: f64,
    /// Processor time of the sending program for each message, in microseconds.
    pub generator_cpu_us: f64,
    /// Processor time of sink for each message, in microseconds.
    pub sink_cpu_us: f64,
}

/// Memory with many connections.
#[derive(Debug, Clone, Serialize)]
pub struct Crowd {
    /// Connections asked for.
    pub connections: u64,
    /// Connections that traffic-gen opened.
    pub connections_opened: u64,
    /// Messages that sink counted.
    pub messages: u64,
    /// Peak resident size of traffic-gen in bytes.
    pub generator_rss_bytes: u64,
    /// Peak resident size of sink in bytes.
    pub sink_rss_bytes: u64,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Every run.
    pub cells: Vec<Cell>,
    /// Memory, where it was asked for.
    pub crowd: Option<Crowd>,
    /// Who could not run, and why.
    pub refused: Vec<(Contender, String)>,
    /// Whether generator and sink had a core each.
    pub pinned: bool,
    /// What ended the comparison early.
    #[serde(skip)]
    pub error: Option<Error>,
}

/// Runs all of it. What ends it early is in the result, with what was measured until then.
///
/// # Errors
/// [`Error`] when nothing could be started.
pub fn run(plan: &Plan, stop: &Stop) -> Result<Measured> {
    let scratch = Scratch::make(&plan.dir, "load-pair", NEEDED_BYTES, "CARGO_TARGET_DIR")?;
    let field = Field::prepare(plan, scratch.path(), stop)?;
    let mut measured = Measured { pinned: field.pinned, ..Measured::default() };
    let mut contenders = plan.contenders.clone();
    if contenders.contains(&Contender::SmtpSource) && !Path::new(SMTP_SOURCE).is_file() {
        contenders.retain(|contender| *contender != Contender::SmtpSource);
        let reason = format!("{SMTP_SOURCE} is missing; it is in Debian's package postfix");
        measured.refused.push((Contender::SmtpSource, reason));
    }
    if let Err(error) = field.rounds(&contenders, &mut measured) {
        measured.error = Some(error);
        return Ok(measured);
    }
    if let Some(connections) = plan.crowd {
        match field.crowd(connections) {
            Ok(crowd) => measured.crowd = Some(crowd),
            Err(error) => measured.error = Some(error),
        }
    }
    Ok(measured)
}

/// What all runs share.
struct Field<'p> {
    plan: &'p Plan,
    stop: &'p Stop,
    folder: &'p Path,
    generator: PathBuf,
    sink: PathBuf,
    rules: PathBuf,
    pinned: bool,
}

/// A number of messages of one kind.
#[derive(Clone, Copy)]
struct Batch {
    contender: Contender,
    body_bytes: u64,
    messages: u64,
    connections: u64,
}

/// The part of traffic-gen's report that is wanted.
#[derive(Deserialize)]
struct Sent {
    connections: u64,
}

/// The part of sink's statistics that is wanted.
#[derive(Deserialize)]
struct Stats {
    accepted: u64,
}

impl<'p> Field<'p> {
    fn prepare(plan: &'p Plan, folder: &'p Path, stop: &'p Stop) -> Result<Self> {
        let bench = std::env::current_exe().during(|| "find this executable".into())?;
        // Cargo puts benches into a folder below the one with the programs.
        let beside = bench.parent().and_then(Path::parent).map_or_else(PathBuf::new, Path::to_path_buf);
        let programs = Programs::in_folder(&beside, &bench);
        let rules = folder.join("rules.toml");
        std::fs::write(&rules, rules_that_never_apply()).during(|| format!("write {}", rules.display()))?;
        Ok(Self {
            plan,
            stop,
            folder,
            generator: programs.find("traffic-gen")?,
            sink: programs.find("sink")?,
            rules,
            pinned: std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2),
        })
    }

    fn rounds(&self, contenders: &[Contender], measured: &mut Measured) -> Result<()> {
        let mut batches = Vec::new();
        for &body_bytes in &self.plan.body_bytes {
            for &contender in contenders {
                let trial = Batch {
                    contender,
                    body_bytes,
                    messages: TRIAL_MESSAGES,
                    connections: self.plan.connections,
                };
                eprintln!("trial of {} with {body_bytes} bytes", contender.label());
                let rate = self.measure(trial, 0)?.rate;
                batches.push(Batch { messages: messages_for(rate, self.plan.length), ..trial });
            }
        }
        for round in 1..=self.plan.rounds {
            for batch in &batches {
                let cell = self.measure(*batch, round)?;
                let (label, rate) = (batch.contender.label(), cell.rate);
                eprintln!("round {round}: {label}, {} bytes: {rate:.0} msg/s", batch.body_bytes);
                measured.cells.push(cell);
            }
        }
        Ok(())
    }

    /// One run into a sink of its own.
    fn measure(&self, batch: Batch, round: u32) -> Result<Cell> {
        let mut sink = self.start_sink(batch.contender)?;
        let before = sink.sample();
        let began = Instant::now();
        let mut generator = Process::start(&self.launch(batch, sink.smtp()?))?;
        self.wait(&mut generator)?;
        let seconds = began.elapsed().as_secs_f64();
        let used = generator.used_since(&ProcessSample::default());
        let messages = self.counted(&mut sink, batch)?;
        let sink_used = sink.used_since(&before);
        sink.stop()?;
        let each_us = |used: ProcessUse| used.cpu_s * 1e6 / messages as f64;
        Ok(Cell {
            contender: batch.contender,
            body_bytes: batch.body_bytes,
            round,
            messages,
            seconds,
            rate: messages as f64 / seconds,
            generator_cpu_us: each_us(used),
            sink_cpu_us: each_us(sink_used),
        })
    }

    fn wait(&self, generator: &mut Process) -> Result<()> {
        let status = generator.wait(self.plan.length * 10 + EXTRA_MAX, self.stop, || Ok(()))?;
        if status.success() { Ok(()) } else { Err(generator.failed(&format!("ended with {status}"))) }
    }

    /// What sink has taken, which must be what was sent.
    fn counted(&self, sink: &mut Process, batch: Batch) -> Result<u64> {
        let Stats { accepted } = http::json(sink.http()?, "/stats")?;
        if accepted == batch.messages {
            return Ok(accepted);
        }
        let (label, asked) = (batch.contender.label(), batch.messages);
        Err(Error::Peer(format!("{label}: {asked} messages were sent and sink counted {accepted}")))
    }

    fn crowd(&self, connections: u64) -> Result<Crowd> {
        eprintln!("memory with {connections} connections");
        let batch = Batch {
            contender: Contender::Full,
            body_bytes: CROWD_BODY_BYTES,
            messages: CROWD_MESSAGES,
            connections,
        };
        let mut sink = self.start_sink(Contender::Full)?;
        let mut generator = Process::start(&self.launch(batch, sink.smtp()?))?;
        self.wait(&mut generator)?;
        let messages = self.counted(&mut sink, batch)?;
        let (report, used) = (self.report(), generator.used_since(&ProcessSample::default()));
        let text = std::fs::read_to_string(&report).during(|| format!("read {}", report.display()))?;
        let sent: Sent = serde_json::from_str(&text)
            .map_err(|error| Error::Peer(format!("{}: {error}", report.display())))?;
        let sink_rss_bytes = sink.sample().rss_peak_bytes;
        sink.stop()?;
        Ok(Crowd {
            connections,
            connections_opened: sent.connections,
            messages,
            generator_rss_bytes: used.rss_peak_bytes,
            sink_rss_bytes,
        })
    }

    fn start_sink(&self, contender: Contender) -> Result<Process> {
        let mut arguments = self.on_core(1, &self.sink);
        arguments.extend(arguments!["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        if contender == Contender::Rules {
            arguments.extend(arguments!["--rules", &self.rules]);
        }
        Process::start_server(&self.taskset("sink", arguments), self.stop)
    }

    fn launch(&self, batch: Batch, target: SocketAddr) -> Launch {
        let Batch { contender, body_bytes, messages, connections } = batch;
        let numbers = [connections, messages, body_bytes].map(|number| number.to_string());
        let [connections, messages, body_bytes] = &numbers;
        if contender == Contender::SmtpSource {
            let mut arguments = self.on_core(0, Path::new(SMTP_SOURCE));
            arguments.extend(arguments!["-d", "-s", connections, "-m", messages, "-l", body_bytes]);
            arguments.extend(arguments!["-f", "sender@mx-sink.localhost", "-t", "user@mx-sink.localhost"]);
            arguments.push(target.to_string().into());
            return self.taskset("smtp-source", arguments);
        }
        let mut arguments = self.on_core(0, &self.generator);
        arguments.extend(arguments!["--target", target.to_string(), "--quiet", "--json", self.report()]);
        arguments.extend(arguments!["-c", connections, "-n", messages, "--body-size", body_bytes]);
        if contender == Contender::Plain {
            arguments.extend(arguments!["--no-pipelining", "--no-chunking"]);
        }
        self.taskset("traffic-gen", arguments)
    }

    fn report(&self) -> PathBuf {
        self.folder.join("traffic-gen.json")
    }

    /// The beginning of a command line that runs `program` on one core.
    fn on_core(&self, core: usize, program: &Path) -> Vec<std::ffi::OsString> {
        let cores = if self.pinned { core.to_string() } else { "0-4095".to_owned() };
        arguments!["-c", cores, program]
    }

    fn taskset(&self, name: &'static str, arguments: Vec<std::ffi::OsString>) -> Launch {
        let log_folder = self.folder.to_path_buf();
        let before = Vec::new();
        Launch { name, before, program: "taskset".into(), arguments, environment: &[], log_folder }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
fn messages_for(rate: f64, length: Duration) -> u64 {
    ((rate * length.as_secs_f64()) as u64).max(MESSAGES_MIN)
}

/// Rules for recipients and senders that no contender has, so that each message is compared with all of them and none applies.
fn rules_that_never_apply() -> String {
    let rule = |number: usize| {
        let (stage, of) = if number.is_multiple_of(2) { ("rcpt", "domain") } else { ("mail", "sender") };
        format!(
            "[[rule]]\nname = \"never-{number}\"\nstage = \"{stage}\"\nmatch.{of} = \"nobody-{number}.example\"\n\
             action.reply = \"450 4.7.1 later\"\n\n"
        )
    };
    (0..RULES).map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_as_long_as_asked_for_and_never_empty() {
        assert_eq!(messages_for(50_000.0, Duration::from_secs(3)), 150_000);
        assert_eq!(messages_for(1.0, Duration::from_secs(3)), MESSAGES_MIN);
    }
}
