//! The flags of the command and the plan that they mean.
//!
//! Flags that KumoMTA's generator has mean the same here. A public target is refused with the line that
//! would be accepted.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use message::traffic::RunId;
use traffic_gen::{
    BODY_BYTES_MAX, Domain, Domains, Plan, Target, TargetError, connections_that_fit, file_limit_raise, parse,
};

const EXAMPLES: &str = "\
Examples:
  traffic-gen                                        60 seconds against 127.0.0.1:2025, 10 connections per core
  traffic-gen --target 127.0.0.1:2026 -c 64 -n 1m    a million messages over 64 connections
  traffic-gen --target relay.lan:587 --concurrency 20000 --message-count 100000 --body-size 100000
  traffic-gen --rate 5000/s -d 5m --hdr run.hlog     open loop: latency from the intended time
  traffic-gen --domain gmail.com:67.4 --domain aol.com:5 --json run.json

Counts take k and m, sizes k, kb, KiB, MB and so on, times ms, s, m and h.
Exit codes: 0 all sent, 1 a message failed, is unknown or was never sent, 2 usage,
130 ended by a signal (the report is still written).";

/// Sends mail as fast as a server takes it, or at a constant rate, and counts what the server answered.
#[derive(Parser)]
#[command(name = "traffic-gen", version, after_help = EXAMPLES)]
pub(crate) struct Flags {
    /// The server under load
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2025")]
    target: String,
    /// Connections at once [default: 10 per core]
    #[arg(short, long, visible_alias = "connections", value_name = "N", value_parser = parse::count)]
    concurrency: Option<u64>,
    /// Messages to send; lifts the default duration
    #[arg(short = 'n', long, visible_alias = "messages", value_name = "N", value_parser = parse::count)]
    message_count: Option<u64>,
    /// How long to begin messages [default: 60s, unless --message-count is given]
    #[arg(short, long, value_name = "TIME", value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Bytes of each body
    #[arg(long, value_name = "SIZE", default_value = "1024", value_parser = body_size)]
    body_size: usize,
    /// Send this file instead: a body, or a whole message whose header is kept except for the fields that
    /// differ per message
    #[arg(long, value_name = "FILE", conflicts_with = "body_size")]
    body_file: Option<PathBuf>,
    /// Add a header field; may be repeated
    #[arg(long, value_name = "'NAME: VALUE'", value_parser = header)]
    header: Vec<String>,
    /// A recipient domain with its share; may be repeated [default: aol.com, gmail.com, hotmail.com and
    /// yahoo.com alike]
    #[arg(long, value_name = "NAME[:WEIGHT]")]
    domain: Vec<Domain>,
    /// Appended to every domain, so that mail cannot leave this host; may be empty
    #[arg(long, value_name = "NAME", default_value = "mx-sink.localhost", value_parser = domain_suffix)]
    domain_suffix: String,
    /// Messages per second, minute or hour, sent on schedule whether the server keeps up or not
    #[arg(short, long, visible_alias = "throttle", value_name = "N[/s|/m|/h]", value_parser = parse::rate)]
    rate: Option<f64>,
    /// Makes recipients and bodies the same again [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The name that every message carries [default: random]
    #[arg(long, value_name = "NAME")]
    run_id: Option<RunId>,
    /// What EHLO says
    #[arg(long, visible_alias = "ehlo", value_name = "NAME", value_parser = helo)]
    #[arg(default_value = "traffic-gen.localhost")]
    helo: String,
    /// Open lost connections again
    #[arg(long)]
    keep_going: bool,
    /// How long the server may be silent while it owes a reply
    #[arg(short, long, value_name = "TIME", default_value = "60s", value_parser = parse::duration)]
    timeout: Duration,
    /// Allow a target on the public Internet
    #[arg(long)]
    i_own_this_host: bool,
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write latencies to this file, an HdrHistogram interval log with one interval per second
    #[arg(long, value_name = "FILE.hlog")]
    pub(crate) hdr: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Why there will be no run.
pub(crate) struct Refusal {
    pub(crate) text: String,
    pub(crate) exit_code: u8,
}

impl Flags {
    /// What the flags mean on this host. Raises the limit of open files.
    pub(crate) fn plan(&self) -> Result<Plan, Refusal> {
        let target = Target::resolve(&self.target, self.i_own_this_host).map_err(refusal)?;
        let body_file =
            self.body_file.as_ref().map(|path| std::fs::read(path).map_err(|error| (path, error)));
        let body_file = body_file.transpose().map_err(|(path, error)| Refusal {
            text: format!("cannot read {}: {error}", path.display()),
            exit_code: 2,
        })?;
        let mut plan = Plan::new(target);
        if let Some(concurrency) = self.concurrency {
            plan.concurrency = usize::try_from(concurrency).unwrap_or(usize::MAX);
        }
        plan.concurrency = fit(plan.concurrency, plan.workers);
        plan.message_count = self.message_count;
        plan.duration = self.duration;
        plan.body_bytes = self.body_size;
        plan.body_file = body_file;
        plan.headers.clone_from(&self.header);
        plan.domains = Domains::new(&self.domain, &self.domain_suffix);
        if !self.domain_suffix.is_empty() {
            plan.sender_domain.clone_from(&self.domain_suffix);
        }
        plan.rate_per_second = self.rate;
        plan.seed = self.seed.unwrap_or(plan.seed);
        plan.run_id = self.run_id.unwrap_or(plan.run_id);
        plan.helo.clone_from(&self.helo);
        plan.keep_going = self.keep_going;
        plan.timeout = self.timeout;
        Ok(plan)
    }
}

/// As many connections as the host allows; says so where that is fewer than asked for.
fn fit(wanted: usize, workers: usize) -> usize {
    let files = file_limit_raise();
    let fit = connections_that_fit(files, workers).min(wanted);
    if fit < wanted {
        let number = |number: usize| crate::summary::grouped(number as f64);
        eprintln!("{} of {} connections: RLIMIT_NOFILE hard {}", number(fit), number(wanted), number(files));
    }
    fit
}

fn refusal(error: TargetError) -> Refusal {
    let text = match error {
        TargetError::Public { .. } => format!("{error}\n{} --i-own-this-host", command_line()),
        other => other.to_string(),
    };
    Refusal { text, exit_code: 2 }
}

/// The line as it was typed, quoted for a shell.
fn command_line() -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("traffic-gen".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=./:,@%+[]".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn body_size(text: &str) -> Result<usize, String> {
    let size = parse::size(text).map_err(|error| error.to_string())?;
    if size > BODY_BYTES_MAX {
        Err(format!("a body of {size} bytes is too large; {BODY_BYTES_MAX} are allowed"))
    } else {
        Ok(size)
    }
}

fn header(text: &str) -> Result<String, String> {
    traffic_gen::check_header(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn domain_suffix(text: &str) -> Result<String, String> {
    let suffix = text.trim_matches('.');
    if suffix.is_empty() { Ok(String::new()) } else { helo(suffix) }
}

fn helo(text: &str) -> Result<String, String> {
    if traffic_gen::is_domain(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no domain name"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(
            ["--target", "1.2.3.4:25", "X-A: b", "it's", ""].map(quoted),
            ["--target", "1.2.3.4:25", "'X-A: b'", r"'it'\''s'", "''"]
        );
    }
}
