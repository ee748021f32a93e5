//! Flags for runs from several machines: those of the agent, and those of its controller.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Refusal;
use super::output::listen_address;
use crate::Signals;
use crate::agents::fleet::Fleet;
use crate::agents::token::Token;
use crate::agents::{AGENTS_MAX, Senders, agent};
use crate::serve::Service;

const EXAMPLES: &str = "\
Examples:
  traffic-gen agent --listen 10.0.0.5:7070 --token-file token    wait for a controller
  traffic-gen --agents 10.0.0.5:7070,10.0.0.6:7070 --token-file token --rate 100k --target mx.lan:25

Make a token with: head -c 24 /dev/urandom | base64 > token
The conversation is HTTP in clear: use it on a network that is yours, or through a tunnel.";

/// Waits for a controller (traffic-gen --agents) and does its part of each run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AgentFlags {
    /// Where to wait; a port alone means loopback
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "7070", value_parser = listen_address)]
    listen: SocketAddr,
    /// The file with the token that agents and controller share [default: TRAFFIC_GEN_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Allow targets on the public Internet, whatever controller asks for them
    #[arg(long)]
    i_own_this_host: bool,
}

impl AgentFlags {
    /// Works until a signal ends it. Exit code 2 where the token or the address is not right.
    pub(crate) fn run(&self) -> ExitCode {
        match self.start() {
            Ok((service, mut signals)) => {
                eprintln!("agent on {}", service.address);
                signals.wait();
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("traffic-gen: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn start(&self) -> Result<(Service, Signals), String> {
        let token = Token::read(self.token_file.as_deref())?;
        let signals = Signals::catch().map_err(|error| format!("cannot catch signals: {error}"))?;
        let service = agent::start(self.listen, token, self.i_own_this_host)
            .map_err(|error| format!("cannot listen on {}: {error}", self.listen))?;
        Ok((service, signals))
    }
}

#[derive(Args)]
pub(crate) struct FleetFlags {
    /// Send from these machines, where traffic-gen agent waits, and not from here; each has an equal share of
    /// rate, messages and connections
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = agent_address)]
    agents: Vec<String>,
    /// The file with the token that agents and controller share [default: TRAFFIC_GEN_TOKEN]
    #[arg(long, value_name = "FILE", requires = "agents")]
    token_file: Option<PathBuf>,
}

impl FleetFlags {
    /// Who sends. Agents are asked whether they are there.
    pub(crate) fn senders(&self) -> Result<Senders, Refusal> {
        if self.agents.is_empty() {
            return Ok(Senders::Here);
        }
        if self.agents.len() > AGENTS_MAX {
            let text = format!("{} agents are too many; {AGENTS_MAX} are allowed", self.agents.len());
            return Err(Refusal::usage(text));
        }
        let token = Token::read(self.token_file.as_deref()).map_err(Refusal::usage)?;
        Fleet::join(&self.agents, &token).map(Senders::Fleet).map_err(|text| Refusal { text, exit_code: 1 })
    }
}

/// `10.0.0.5:7070` or `load1.lan:7070`.
fn agent_address(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && text.bytes().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_address {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no agent; write HOST:PORT, such as 10.0.0.5:7070"))
    }
}
