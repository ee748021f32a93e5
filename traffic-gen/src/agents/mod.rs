//! One run from many machines: agents that send, and a controller that tells them what and when.
//!
//! `traffic-gen agent` waits on a machine for a controller that knows the shared token; `traffic-gen
//! --agents` is that controller. The plan travels as JSON: never a path, never a command. Each agent has
//! every n-th message of the run, so that sequence numbers stay dense; histograms travel whole and are
//! added, so that percentiles are those of all messages. The connection is HTTP in clear: it belongs on a
//! network that is yours, or into a tunnel.

pub(crate) mod agent;
mod clock;
pub(crate) mod fleet;
mod histograms;
pub(crate) mod merge;
mod remote;
pub(crate) mod token;
mod wire;

use traffic_gen::{Control, Observer, Plan, run_observed};

use self::fleet::{Fleet, FleetReport};

/// Agents of one run at most.
pub(crate) const AGENTS_MAX: usize = 256;

/// Who sends.
pub(crate) enum Senders {
    /// This process.
    Here,
    /// Agents on other machines.
    Fleet(Fleet),
}

impl Senders {
    /// Does what the plan says. An error means that the agents did not begin.
    pub(crate) fn run(
        &self,
        plan: Plan,
        control: &Control,
        observer: &mut dyn Observer,
    ) -> Result<FleetReport, String> {
        match self {
            Self::Here => {
                Ok(FleetReport { report: run_observed(plan, control, observer), parts: Vec::new() })
            }
            Self::Fleet(fleet) => fleet.run(&plan, control, observer),
        }
    }

    /// Processors that may be used.
    pub(crate) fn cores(&self) -> usize {
        match self {
            Self::Here => std::thread::available_parallelism().map_or(1, usize::from),
            Self::Fleet(fleet) => fleet.cores,
        }
    }
}
