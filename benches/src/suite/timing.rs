//! How long the parts of a suite run, and so how long a suite takes.
//!
//! It owns the numbers of the suites and the estimate that is told before a long one begins. It measures no time itself.

use std::time::Duration;

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
    /// About seven minutes; longer runs.
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
                Timing { rounds: 1, warm_up: second, floor: second, direct: second, kumod: second }
            }
            Self::Quick if has_tiers => Timing {
                rounds: 3,
                warm_up: seconds(2),
                floor: seconds(4),
                direct: seconds(4),
                kumod: seconds(6),
            },
            Self::Quick => Timing {
                rounds: 3,
                warm_up: seconds(2),
                floor: seconds(6),
                direct: seconds(6),
                kumod: seconds(6),
            },
            Self::Full => Timing {
                rounds: 3,
                warm_up: seconds(5),
                floor: seconds(10),
                direct: seconds(10),
                kumod: seconds(20),
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
}

impl Timing {
    /// About how long the series of one place takes for so many body sizes: to start, to connect, to drain and to audit takes
    /// time as well.
    pub(super) fn estimate(&self, sizes: u32) -> Duration {
        let runs = 1 + self.rounds * 3;
        let measured = self.warm_up + (self.floor + self.direct + self.kumod) * self.rounds;
        SERVERS_START + (measured + RUN_EXTRA * runs) * sizes
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
