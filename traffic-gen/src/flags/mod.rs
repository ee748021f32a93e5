//! The flags of the command and the plan that they mean.
//!
//! Flags that KumoMTA's generator has mean the same here. A public target is refused with the line that
//! would be accepted. Each group of flags stands in a file of its own, under a heading of its own in the
//! help, and writes its part of the plan. What is not a run is a subcommand with flags of its own; a run's
//! flags before it are refused.

mod agents;
mod audit;
mod auth;
mod content;
mod http;
mod load;
mod output;
mod recipients;
mod search;
mod tls;
mod transport;

use clap::{Args, Parser, Subcommand};
use traffic_gen::{Plan, TargetError};

use self::agents::{AgentFlags, FleetFlags};
use self::audit::AuditFlags;
use self::content::ContentFlags;
use self::http::HttpFlags;
use self::load::LoadFlags;
pub(crate) use self::output::OutputFlags;
use self::recipients::RecipientFlags;
use self::search::SearchFlags;
use self::transport::TransportFlags;

const EXAMPLES: &str = "\
Examples:
  traffic-gen                                        60 seconds against 127.0.0.1:2025, 10 connections per core
  traffic-gen --target 127.0.0.1:2026 -c 64 -n 1m    a million messages over 64 connections
  traffic-gen --target relay.lan:587 --concurrency 20000 --message-count 100000 --body-size 100000
  traffic-gen --rate 5000/s -d 5m --hdr run.hlog     open loop: latency from the intended time
  traffic-gen --rate 5k --threshold 'p99<50ms' --threshold 'errors<0.1%'    exit code 99 where one is missed
  traffic-gen --find-max --slo 'p99<250ms,errors<0.1%'    the highest rate, confirmed at 80, 100 and 120 %
  traffic-gen --domain gmail.com:67.4 --domain aol.com:5 --json run.json
  traffic-gen --body-size lognormal:25k:1.2 --provider-mix --tenants 50 --campaigns 4
  traffic-gen --http --target http://127.0.0.1:8000 --http-batch-size 10

Counts take k and m, sizes k, kb, KiB, MB and so on, times ms, s, m and h.
Exit codes: 0 all sent, 1 a message failed, is unknown or was never sent, or no rate was found, 2 usage,
99 a threshold was missed, 130 ended by a signal (the report is still written).";

/// Sends mail as fast as a server takes it, or at a constant rate, and counts what the server answered.
#[derive(Parser)]
#[command(name = "traffic-gen", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct CommandLine {
    /// Anything but a run.
    #[command(subcommand)]
    pub(crate) task: Option<Task>,
    #[command(flatten)]
    pub(crate) run: Flags,
}

/// What the command does beside runs.
#[derive(Subcommand)]
pub(crate) enum Task {
    Agent(AgentFlags),
    Audit(AuditFlags),
}

/// The flags of a run.
#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten, next_help_heading = "Target and connections")]
    transport: TransportFlags,
    #[command(flatten, next_help_heading = "Load")]
    load: LoadFlags,
    #[command(flatten, next_help_heading = "Mail")]
    content: ContentFlags,
    #[command(flatten, next_help_heading = "Senders and recipients")]
    recipients: RecipientFlags,
    #[command(flatten, next_help_heading = "Injection over HTTP")]
    http: HttpFlags,
    #[command(flatten, next_help_heading = "Highest rate")]
    pub(crate) search: SearchFlags,
    #[command(flatten, next_help_heading = "Many machines")]
    pub(crate) fleet: FleetFlags,
    #[command(flatten, next_help_heading = "Reports")]
    pub(crate) output: OutputFlags,
}

/// Why there will be no run.
pub(crate) struct Refusal {
    pub(crate) text: String,
    pub(crate) exit_code: u8,
}

impl Refusal {
    /// The operator wrote something that cannot be.
    fn usage(text: String) -> Self {
        Self { text, exit_code: 2 }
    }
}

impl Flags {
    /// What the flags mean on this host. Raises the limit of open files.
    pub(crate) fn plan(&self) -> Result<Plan, Refusal> {
        let mut plan = self.transport.plan()?;
        self.content.apply(&mut plan)?;
        self.recipients.apply(&mut plan)?;
        self.http.apply(&mut plan)?;
        self.load.apply(&mut plan, self.transport.timeout());
        plan.check().map_err(|error| Refusal::usage(error.to_string()))?;
        Ok(plan)
    }
}

fn refusal(error: TargetError) -> Refusal {
    Refusal::usage(match error {
        TargetError::Public { .. } => format!("{error}\n{} --i-own-this-host", command_line()),
        other => other.to_string(),
    })
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

/// A name that may stand in EHLO or in an address.
fn domain_name(text: &str) -> Result<String, String> {
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
        CommandLine::command().debug_assert();
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(
            ["--target", "1.2.3.4:25", "X-A: b", "it's", ""].map(quoted),
            ["--target", "1.2.3.4:25", "'X-A: b'", r"'it'\''s'", "''"]
        );
    }
}
