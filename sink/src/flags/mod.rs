//! The flags of the command and the configuration that they mean.
//!
//! Each group of flags stands in a file of its own and writes its part of the configuration. Only what is
//! wrong in itself is refused here; a port in use is found when the server starts.

mod faults;
mod listen;
mod tls;

use std::path::PathBuf;

use clap::Parser;
use sink::Config;

use self::faults::FaultFlags;
use self::listen::ListenFlags;
use self::tls::TlsFlags;

const EXAMPLES: &str = "\
Examples:
  sink                                           swallow mail on 127.0.0.1:2026, statistics on 127.0.0.1:8002
  sink --listen 127.0.0.1:0 --json sink.json     take a free port, write the statistics when stopped
  sink --rules faults.toml --seed 7              misbehave as the file says, the same way each time
  curl -s http://127.0.0.1:8002/stats            what has arrived, over all runs
  curl -s http://127.0.0.1:8002/ledger/RUN       sequence numbers had and missing of one run of traffic-gen
  curl -s http://127.0.0.1:8002/hlog/RUN         end to end latency as an HdrHistogram interval log

On start it prints, one a line on standard error,
`smtp listener on ADDR`, `smtps listener on ADDR` where there is one, `http listener on ADDR`
and `initialization complete`.
SIGTERM and SIGINT stop it.
Exit codes: 0 stopped by a signal, 1 failed, 2 usage.";

/// An SMTP server that accepts and discards everything, and remembers what it saw.
#[derive(Parser)]
#[command(name = "sink", version, after_help = EXAMPLES)]
pub(crate) struct Flags {
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    pub(crate) faults: FaultFlags,
    /// Write the statistics to this file when stopped
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Flags {
    /// What the flags mean on this host, or what is wrong with them.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let mut config = Config::default();
        self.listen.apply(&mut config);
        self.tls.apply(&mut config)?;
        self.faults.apply(&mut config)?;
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
