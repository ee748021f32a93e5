//! Flags that say which server is loaded, and how it is talked to.

use std::time::Duration;

use clap::Args;
use traffic_gen::{Plan, Target, TargetError, parse};

use super::domain_name;

#[derive(Args)]
pub(crate) struct TransportFlags {
    /// The server under load
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2025")]
    #[arg(default_value_if("http", "true", "127.0.0.1:8000"))]
    target: String,
    /// Allow a target on the public Internet
    #[arg(long)]
    i_own_this_host: bool,
    /// What EHLO says
    #[arg(long, visible_alias = "ehlo", value_name = "NAME", value_parser = domain_name)]
    #[arg(default_value = "traffic-gen.localhost")]
    helo: String,
    /// Open lost connections again
    #[arg(long)]
    keep_going: bool,
    /// How long the server may be silent while it owes a reply
    #[arg(short, long, value_name = "TIME", default_value = "60s", value_parser = parse::duration)]
    timeout: Duration,
}

impl TransportFlags {
    pub(crate) fn target(&self) -> Result<Target, TargetError> {
        Target::resolve(&self.target, self.i_own_this_host)
    }

    pub(crate) fn apply(&self, plan: &mut Plan) {
        plan.helo.clone_from(&self.helo);
        plan.keep_going = self.keep_going;
        plan.timeout = self.timeout;
        plan.drain = self.timeout;
    }
}
