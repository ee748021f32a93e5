//! The queues at size: bytes for each message, messages in and out per second, how late the last one is, how long a lone one waits.
//!
//! It owns the command and the verdict; `benches::queues` measures, and names the limits. Figures for ten million are extrapolated, and say so.
//! Without `--bench`, which cargo says when it is to measure, it does nothing.

#![expect(clippy::print_stdout, reason = "a command-line tool answers on standard output")]

use std::path::PathBuf;
use std::process::ExitCode;

use benches::allocator::Counting;
use benches::error::{During, Error, Result};
use benches::queues::{
    BYTES_PER_MESSAGE_MAX, BYTES_PER_QUEUE_MAX, LATE_MS_MAX, PER_SECOND_MIN, ROUNDS_WAITED_MAX, Scheduled,
    Turns,
};
use benches::writers::plan::asked_to_measure;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What figures are extrapolated to.
const EXTRAPOLATED: (f64, f64) = (10e6, 100e3);

const EXAMPLES: &str = "Examples:
  ./scripts/bench queue_scale                          two million messages in 20,000 queues
  ./scripts/bench queue_scale --quick                  200,000 messages in 2,000 queues
  ./scripts/bench queue_scale --messages 10_000_000 --queues 100_000

Exit codes: 0 all limits kept, 1 failed, 2 usage, 99 a limit missed.";

/// Measures the schedule of all queues, and the turns of those that feed one ready queue.
#[derive(Debug, Parser)]
#[command(name = "queue_scale", version, after_help = EXAMPLES)]
struct Arguments {
    /// Messages that wait at once.
    #[arg(long, value_name = "N", default_value = "2_000_000", value_parser = number)]
    messages: u32,

    /// Scheduled queues that they belong to; 10,000 of them, or all, feed one ready queue.
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
    let figures = Figures { scheduled: Scheduled::measure(messages, queues), turns: Turns::measure(queues) };
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
    #[serde(flatten)]
    scheduled: Scheduled,
    turns: Turns,
}

impl Figures {
    fn tell(&self) -> bool {
        let Self { scheduled, turns } = self;
        let (messages, queues) = EXTRAPOLATED;
        let gibibytes = (messages * scheduled.bytes_per_message + queues * scheduled.bytes_per_queue)
            / f64::from(1_u32 << 30);
        println!("{} messages in {} queues, one thread", scheduled.messages, scheduled.queues);
        let lines = [
            (
                "bytes per message, spool's index included",
                scheduled.bytes_per_message,
                BYTES_PER_MESSAGE_MAX,
                false,
            ),
            ("bytes per queue", scheduled.bytes_per_queue, BYTES_PER_QUEUE_MAX, false),
            ("enqueued per second", scheduled.enqueued_per_second, PER_SECOND_MIN, true),
            ("dispatched per second", scheduled.dispatched_per_second, PER_SECOND_MIN, true),
            ("milliseconds late, at most", scheduled.late_ms_max, LATE_MS_MAX, false),
            ("through a ready queue by turns, per second", turns.through_per_second, PER_SECOND_MIN, true),
            ("rounds that a lone message waits, at most", turns.rounds_waited_max, ROUNDS_WAITED_MAX, false),
        ];
        let mut holds = true;
        for (what, figure, limit, at_least) in lines {
            let kept = if at_least { figure >= limit } else { figure <= limit };
            holds &= kept;
            let (bound, verdict) = (if at_least { ">=" } else { "<=" }, if kept { "kept" } else { "MISSED" });
            println!("{what:<44} {figure:>14.1}  limit {bound} {limit:>9.0}  {verdict}");
        }
        println!(
            "a lone message behind {} queues, one of them deep: {} messages before it at most, {} in a round",
            turns.queues, turns.messages_waited_max, turns.messages_per_round
        );
        println!("extrapolated to 10,000,000 messages in 100,000 queues: {gibibytes:.2} GiB");
        holds
    }
}
