//! The flags of the command and the configuration that they mean.
//!
//! Each group of flags stands in a file of its own and writes its part of the configuration. Only what is
//! wrong in itself is refused here; a port in use is found when the server starts.

mod eyes;
pub(crate) mod faults;
mod listen;
mod smtp_sink;
mod tls;

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use sink::Config;

use self::eyes::EyesFlags;
use self::faults::FaultFlags;
use self::listen::ListenFlags;
use self::smtp_sink::SmtpSinkFlags;
use self::tls::TlsFlags;

const EXAMPLES: &str = "\
Examples:
  sink                                           swallow mail on 127.0.0.1:2026, statistics on 127.0.0.1:8002
  sink --listen 127.0.0.1:0 --json sink.json     take a free port, write the statistics when stopped
  sink --rules faults.toml --seed 7              misbehave as the file says, the same way each time
  sink --persona gmail-like                      answer as a large provider might; `sink personas` lists them
  sink -r RCPT -w 3 127.0.0.1:2525 100           as Postfix's smtp-sink would
  sink --remember 100                            and look at mail and statistics on http://127.0.0.1:8002/
  sink --capture mail --capture-format eml       write mail to files in the folder mail, 1 GB at most
  sink --max-messages 1000 --json sink.json      end after a thousand messages
  sink --self-test                               what the sink itself can do on this host
  curl -s http://127.0.0.1:8002/stats            what has arrived, over all runs
  curl -s http://127.0.0.1:8002/ledger/RUN       sequence numbers had and missing of one run of traffic-gen
  curl -s http://127.0.0.1:8002/hlog/RUN         end to end latency as an HdrHistogram interval log

On start it prints, one a line on standard error,
`smtp listener on ADDR`, `smtps listener on ADDR` where there is one, `http listener on ADDR`
and `initialization complete`.
SIGTERM and SIGINT stop it, and so do --max-messages and --max-sessions.
Exit codes: 0 stopped, 1 failed, 2 usage.";

/// An SMTP server that accepts and discards everything, and remembers what it saw.
#[derive(Parser)]
#[command(name = "sink", version, after_help = EXAMPLES, disable_help_flag = true)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    pub(crate) faults: FaultFlags,
    #[command(flatten)]
    pub(crate) smtp_sink: SmtpSinkFlags,
    #[command(flatten)]
    pub(crate) eyes: EyesFlags,
    /// Write the statistics to this file when stopped, or those of the self-test
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print help; -h is the host name, as in smtp-sink
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What the command does instead of serving.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the personas
    Personas,
    /// Look at files of rules
    #[command(subcommand)]
    Rules(RulesCommand),
}

/// What is done with files of rules.
#[derive(Subcommand)]
pub(crate) enum RulesCommand {
    /// Say what is wrong with them; exit code 2 where something is
    Check {
        /// In TOML
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl Flags {
    /// What the flags mean on this host, or what is wrong with them.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let mut config = Config::default();
        self.listen.apply(&mut config)?;
        self.tls.apply(&mut config)?;
        self.faults.apply(&mut config)?;
        self.eyes.apply(&mut config);
        self.smtp_sink.apply(&mut config)?;
        self.faults.apply_persona(&mut config)?;
        Ok(config)
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
}
