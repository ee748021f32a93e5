//! Steps of load: how long a message takes at 80, 100 and 120 percent of the rate that was found.
//!
//! It owns the percents and the turn of these runs, which come after all rounds of a body size. In a round each connection waits for
//! its reply, so kumod is always as busy as it can be; here messages have their time, and what waits longer for its turn shows. It
//! refuses nothing: mail that is late at 120 percent is what was asked for.

use reports::run::{Kind, Load, Run};

use super::Lab;
use crate::error::Result;
use crate::size::size_label;
use crate::traffic::{self, Servers};

/// Of the rate that was found, in the order in which they are offered.
pub(super) const PERCENTS: [f64; STEPS as usize] = [80.0, 100.0, 120.0];
/// How many there are.
pub(super) const STEPS: u32 = 3;

impl Lab<'_> {
    /// Offers each part of what `found` reached, if the suite has time for it. Runs are kept as they come.
    pub(super) fn load_steps(
        &mut self,
        found: &Run,
        servers: &mut Servers,
        runs: &mut Vec<Run>,
    ) -> Result<()> {
        let Some(duration) = self.timing.step else { return Ok(()) };
        let label = size_label(found.body_bytes);
        for percent in PERCENTS {
            let offered_per_s = (found.mmh_delivered * 1e6 / 3600.0 * percent / 100.0).round();
            if offered_per_s < 1.0 {
                continue;
            }
            let step = self.step_name(&format!("{label}: kumod at {percent} % of its rate"));
            self.progress.step(step);
            let name = format!("{}-{label}-{percent}", Kind::Kumod.as_str());
            let mut job = self.job(Kind::Kumod, found.body_bytes, name, duration);
            job.rate_per_s = Some(offered_per_s);
            let mut run = traffic::measure(&self.surroundings(), &job, servers, &self.progress)?;
            run.name = self.placement.named(&run.name);
            run.load = Some(Load { percent, offered_per_s });
            runs.push(run);
        }
        Ok(())
    }
}
