//! When a run begins: as soon as the connections stand.
//!
//! Connections are opened first and messages begin together, so that the figures are those of the load
//! asked for and not of its ramp. Connections that do not come up within a limit are not waited for any
//! longer; they join later.

use std::sync::OnceLock;
use std::time::Duration;

use crate::claims::Claims;
use crate::clock::now_ns;

/// How long a worker waits for its connections before it begins without the rest.
pub(crate) const START_WAIT_MAX: Duration = Duration::from_secs(5);

/// The start of the run, the same for all workers: when the first of them has its connections.
#[derive(Debug)]
pub(crate) struct Start {
    at_ns: OnceLock<u64>,
    duration_ns: Option<u64>,
}

impl Start {
    /// A run that lasts so long, or until all messages are sent.
    pub(crate) fn new(duration_ns: Option<u64>) -> Self {
        Self { at_ns: OnceLock::new(), duration_ns }
    }

    /// Begins the run, unless another worker was first. The run's time counts from there.
    pub(crate) fn begin(&self, claims: &Claims) -> u64 {
        *self.at_ns.get_or_init(|| {
            let now_ns = now_ns();
            if let Some(duration_ns) = self.duration_ns {
                claims.set_deadline(now_ns.saturating_add(duration_ns));
            }
            now_ns
        })
    }

    /// When the run began; 0 before.
    pub(crate) fn at_ns(&self) -> u64 {
        self.at_ns.get().copied().unwrap_or(0)
    }
}
