//! What the relay was given, what was asked of it, and what was not tried.
//!
//! It owns those parts of `run.json` that tell one tier, workload and load step from another. It refuses to fill gaps:
//! what nobody said is `None`, and a tier that the machine is too small for is a [`Skipped`], never a number.

use serde::{Deserialize, Serialize};

/// The hardware that the program under test was given.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Tier {
    /// CPUs, a quota included, so it may be a fraction.
    pub cpus: f64,
    /// Memory in GiB, a cgroup limit included.
    pub memory_gib: f64,
}

/// What makes a tier what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TierSource {
    /// Nobody said.
    #[default]
    Unknown,
    /// The machine has no more.
    Machine,
    /// A control group or a set of allowed processors, on a machine that has more.
    Cgroup,
}

impl TierSource {
    /// What the page says beside the tier; nothing where there is nothing to add.
    pub fn remark(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup-limited",
            Self::Machine | Self::Unknown => "",
        }
    }
}

/// A tier that was asked for and not measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Skipped {
    /// What was asked for.
    pub tier: Tier,
    /// Why, such as `needs 16 CPUs, 2 here`.
    pub reason: String,
}

/// A step of a search for the highest rate: offered at this part of what was found.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Percent of the rate found, such as 80, 100 or 120.
    pub percent: f64,
    /// Messages per second offered.
    pub offered_per_s: f64,
}

/// What was sent; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Seed of the contents.
    pub seed: Option<u64>,
    /// Distribution of body sizes, as typed (`fixed:10k`).
    pub sizes: Option<String>,
    /// Recipients of each message.
    pub recipients: Option<f64>,
    /// Destination domains.
    pub domains: Option<u64>,
    /// Tenants.
    pub tenants: Option<u64>,
    /// Messages of each connection before it is closed; `None` with `connections` set means without end.
    pub messages_per_connection: Option<u64>,
    /// Schedule of the sends, as typed; `closed` without one.
    pub schedule: Option<String>,
    /// Percent of connections that use TLS.
    pub tls_percent: Option<f64>,
    /// Faults that the sink was told to make, as typed.
    pub faults: Option<String>,
    /// Processors that the generator and the sink could use.
    pub load_cpus: Option<f64>,
}
