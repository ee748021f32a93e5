//! The schedule of all queues at size: bytes for each message, messages in and out per second, and how late the last one is.
//!
//! It owns the limits ([`BYTES_PER_MESSAGE_MAX`], [`BYTES_PER_QUEUE_MAX`], [`PER_SECOND_MIN`], [`LATE_MS_MAX`]) and fails when one is missed. It runs
//! on one thread and touches no disk: what the spool's index costs per message is a constant, measured by `spool_recovery`. Figures
//! for ten million are extrapolated, and say so. Without `--bench`, which cargo says when it is to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::allocator::{self, Counting};
use benches::error::{During, Error, Result};
use benches::writers::plan::asked_to_measure;
use clap::Parser;
use kumod::clock::UnixMs;
use kumod::queue::Schedule;
use kumod::store::WAITING_BYTES;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Memory for one scheduled message, the spool's index included; above it the bench fails.
const BYTES_PER_MESSAGE_MAX: f64 = 400.0;
/// Memory for one queue beside its messages.
const BYTES_PER_QUEUE_MAX: f64 = 2048.0;
/// Messages enqueued, and messages given out, per second on one core.
const PER_SECOND_MIN: f64 = 300_000.0;
/// How late the last message may be given out.
const LATE_MS_MAX: f64 = 50.0;
/// What the spool keeps in memory for each message (docs/spool.md, measured by `spool_recovery`).
const SPOOL_BYTES_PER_MESSAGE: f64 = 118.0;
/// What figures are extrapolated to.
const EXTRAPOLATED: (f64, f64) = (10e6, 100e3);
/// Messages fall due evenly over this time.
const SPREAD: Duration = Duration::from_secs(2 * 3600);
/// Messages taken from one queue at a time, as the dispatchers do.
const CLAIM_MAX: usize = 64;

const EXAMPLES: &str = "Examples:
  ./scripts/bench queue_scale                          two million messages in 20,000 queues
  ./scripts/bench queue_scale --quick                  200,000 messages in 2,000 queues
  ./scripts/bench queue_scale --messages 10_000_000 --queues 100_000

Exit codes: 0 all limits kept, 1 failed, 2 usage, 99 a limit missed.";

/// Measures the schedule of all queues.
#[derive(Debug, Parser)]
#[command(name = "queue_scale", version, after_help = EXAMPLES)]
struct Arguments {
    /// Messages that wait at once.
    #[arg(long, value_name = "N", default_value = "2_000_000", value_parser = number)]
    messages: u32,

    /// Scheduled queues that they belong to.
    #[arg(long, value_name = "N", default_value = "20_000", value_parser = number)]
    queues: u32,

    /// A tenth of the messages and queues.
    #[arg(long)]
    quick: bool,

    /// Write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Said by cargo bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn number(text: &str) -> std::result::Result<u32, String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let number = digits.parse().ok().filter(|number| (1000..=100_000_000).contains(number));
    number.ok_or_else(|| format!("{text}: 1,000 to 100,000,000 are expected"))
}

/// As large as what the store keeps of a message.
#[derive(Debug)]
struct Item {
    _id: [u64; 4],
    _attempts: NonZeroU32,
    _rest: u32,
}

const _: () = assert!(size_of::<Option<Item>>() == WAITING_BYTES);

fn main() -> ExitCode {
    if !asked_to_measure(std::env::args()) {
        return ExitCode::SUCCESS;
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(99),
        Err(error) => {
            eprintln!("queue_scale: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// True when the limits hold.
fn run(arguments: &Arguments) -> Result<bool> {
    let part = if arguments.quick { 10 } else { 1 };
    let (messages, queues) = (arguments.messages / part, (arguments.queues / part).max(1));
    if queues > messages {
        return Err(Error::Operator(format!("{queues} queues need at least as many messages as --messages")));
    }
    let figures = Figures::measure(messages, queues);
    let holds = figures.tell();
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures).during(|| "write JSON".into())?;
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))?;
    }
    Ok(holds)
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
struct Figures {
    messages: u32,
    queues: u32,
    bytes_per_queue: f64,
    bytes_per_message: f64,
    enqueued_per_second: f64,
    dispatched_per_second: f64,
    late_ms_p999: f64,
    late_ms_max: f64,
}

impl Figures {
    fn measure(messages: u32, queues: u32) -> Self {
        let names: Vec<String> =
            (0..queues).map(|n| format!("campaign-{n}:tenant@example-{n}.net")).collect();
        let start = UnixMs(1_700_000_000_000);
        let mut schedule = Schedule::new(start);
        let empty = allocator::live_bytes();
        // One message for each queue first: what a queue costs is what this costs beside the messages' own nodes.
        for (name, nth) in names.iter().zip(0..) {
            put(&mut schedule, name, start, nth, messages);
        }
        let with_queues = allocator::live_bytes();
        let began = Instant::now();
        for nth in queues..messages {
            // A stride without a common divisor, so that neighbours belong to different queues and times.
            let name = &names[usize::try_from(u64::from(nth) * 7919 % u64::from(queues)).unwrap_or(0)];
            put(&mut schedule, name, start, nth, messages);
        }
        let enqueuing = began.elapsed();
        let full = allocator::live_bytes();
        let node_bytes = (full - with_queues) as f64 / f64::from((messages - queues).max(1));
        let queue_bytes = (with_queues - empty) as f64 / f64::from(queues) - node_bytes;
        let (dispatching, late) = dispatch(&mut schedule, start, messages);
        Self {
            messages,
            queues,
            bytes_per_queue: queue_bytes.max(0.0),
            bytes_per_message: node_bytes + SPOOL_BYTES_PER_MESSAGE,
            enqueued_per_second: f64::from(messages - queues) / enqueuing.as_secs_f64(),
            dispatched_per_second: f64::from(messages) / dispatching.as_secs_f64(),
            late_ms_p999: late.0,
            late_ms_max: late.1,
        }
    }

    fn tell(&self) -> bool {
        let (messages, queues) = EXTRAPOLATED;
        let gibibytes =
            (messages * self.bytes_per_message + queues * self.bytes_per_queue) / f64::from(1_u32 << 30);
        println!("{} messages in {} queues, one thread", self.messages, self.queues);
        let lines = [
            (
                "bytes per message, spool's index included",
                self.bytes_per_message,
                BYTES_PER_MESSAGE_MAX,
                false,
            ),
            ("bytes per queue", self.bytes_per_queue, BYTES_PER_QUEUE_MAX, false),
            ("enqueued per second", self.enqueued_per_second, PER_SECOND_MIN, true),
            ("dispatched per second", self.dispatched_per_second, PER_SECOND_MIN, true),
            ("milliseconds late, at most", self.late_ms_max, LATE_MS_MAX, false),
        ];
        let mut holds = true;
        for (what, figure, limit, at_least) in lines {
            let kept = if at_least { figure >= limit } else { figure <= limit };
            holds &= kept;
            let (bound, verdict) = (if at_least { ">=" } else { "<=" }, if kept { "kept" } else { "MISSED" });
            println!("{what:<44} {figure:>14.1}  limit {bound} {limit:>9.0}  {verdict}");
        }
        println!("extrapolated to 10,000,000 messages in 100,000 queues: {gibibytes:.2} GiB");
        holds
    }
}

fn put(schedule: &mut Schedule<Item>, name: &str, start: UnixMs, nth: u32, messages: u32) {
    let spread_ms = u64::try_from(SPREAD.as_millis()).unwrap_or(u64::MAX);
    let due = start.after(Duration::from_millis(
        1 + u64::from(nth) * 104_729 % u64::from(messages) * spread_ms / u64::from(messages),
    ));
    let item = Item { _id: [due.0; 4], _attempts: NonZeroU32::MIN, _rest: 0 };
    // The schedule takes four thousand million.
    let _ = schedule.insert(name, due, item);
}

/// Lets time pass as fast as the schedule can follow it, and says how long that took and by how many milliseconds the message
/// behind all but a thousandth, and the last one, was late: the time that a waking takes delays what is given out by it.
fn dispatch(schedule: &mut Schedule<Item>, start: UnixMs, messages: u32) -> (Duration, (f64, f64)) {
    let began = Instant::now();
    let (mut given, mut late) = (0, Vec::with_capacity(messages as usize / 64));
    let mut names: Vec<Arc<str>> = Vec::new();
    while let Some(due) = schedule.next_due() {
        let waking = Instant::now();
        schedule.advance(due.max(start));
        names.extend(std::iter::from_fn(|| schedule.next_stirred()));
        for name in names.drain(..) {
            let mut claimed = CLAIM_MAX;
            while claimed == CLAIM_MAX {
                claimed = 0;
                schedule.claim(&name, CLAIM_MAX, |_| claimed += 1);
                given += claimed;
            }
        }
        late.push(waking.elapsed().as_secs_f64() * 1000.0);
    }
    let took = began.elapsed();
    assert_eq!(given, messages as usize, "every message is given out once");
    late.sort_unstable_by(f64::total_cmp);
    let behind = late.len() - 1 - late.len() / 1000;
    (took, (late[behind], late[late.len() - 1]))
}
