//! How long the parts of a suite run, and so how long a suite takes.
//!
//! It owns the numbers of the suites and the estimate that is told before a long one begins. It measures no time itself.

use std::time::Duration;

use super::steps::STEPS;
use crate::survey;

/// What a run takes beyond its duration, about.
const RUN_EXTRA: Duration = Duration::from_millis(700);
/// What the servers take to start, about.
const SERVERS_START: Duration = Duration::from_secs(5);

/// How thorough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// A second of everything: shows that it works and measures nothing.
    Try,
    /// About three minutes.
    Quick,
    /// About ten minutes: longer runs, and how long a message takes at 80, 100 and 120 percent of the rate.
    Full,
}

impl Suite {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Try => "try",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    /// How long each part runs. A suite of tiers is long by their number, so the quick one is shorter for each.
    pub(super) fn timing(self, has_tiers: bool) -> Timing {
        let seconds = Duration::from_secs;
        match self {
            Self::Try => {
                let second = seconds(1);
                Timing {
                    rounds: 1,
                    warm_up: second,
                    floor: second,
                    direct: second,
                    kumod: second,
                    step: None,
                }
            }
            Self::Quick if has_tiers => Timing {
                rounds: 3,
                warm_up: seconds(2),
                floor: seconds(4),
                direct: seconds(4),
                kumod: seconds(6),
                step: None,
            },
            Self::Quick => Timing {
                rounds: 3,
                warm_up: seconds(2),
                floor: seconds(6),
                direct: seconds(6),
                kumod: seconds(6),
                step: None,
            },
            Self::Full => Timing {
                rounds: 3,
                warm_up: seconds(5),
                floor: seconds(10),
                direct: seconds(10),
                kumod: seconds(20),
                step: Some(seconds(15)),
            },
        }
    }
}

/// How long each part of a series runs.
pub(super) struct Timing {
    pub(super) rounds: u32,
    pub(super) warm_up: Duration,
    pub(super) floor: Duration,
    pub(super) direct: Duration,
    pub(super) kumod: Duration,
    /// Each part of the rate that was found; `None` leaves them out.
    pub(super) step: Option<Duration>,
}

/// A suite whose parts are no longer than this only shows that it works.
const TRIAL_RUN_MAX: Duration = Duration::from_secs(1);

impl Timing {
    /// How long the disk is tried each way, and how long each probe of the ceiling runs.
    pub(super) fn survey(&self) -> (Duration, Duration) {
        if self.kumod <= TRIAL_RUN_MAX {
            return (survey::DISK_TRIAL / 10, survey::CEILING_PROBE / 10);
        }
        (survey::DISK_TRIAL, survey::CEILING_PROBE)
    }

    /// About how long the series of one place takes for so many body sizes: to start, to connect, to drain and to audit takes
    /// time as well.
    pub(super) fn estimate(&self, sizes: u32) -> Duration {
        let measured = self.warm_up
            + (self.floor + self.direct + self.kumod) * self.rounds
            + self.step.unwrap_or_default() * STEPS;
        SERVERS_START + (measured + RUN_EXTRA * self.runs()) * sizes
    }

    /// Runs of one body size.
    pub(super) fn runs(&self) -> u32 {
        1 + self.rounds * 3 + self.step.map_or(0, |_| STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tiers_at_three_sizes_stay_below_ten_and_forty_minutes() {
        let minutes = |suite: Suite| (suite.timing(true).estimate(3) * 3).as_secs() / 60;
        assert!(minutes(Suite::Quick) < 10 && minutes(Suite::Full) < 40);
    }
}
