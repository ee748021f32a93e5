//! Where the programs of a measurement run, and what the record calls that.
//!
//! It owns the words that stand in front of a command line and so put a program on processors of its own or under a limit. It
//! makes no limit itself. By default nothing is pinned: the scheduler may put all programs on any core that the laboratory
//! has, and they count as sharing their cores.

use std::ffi::OsString;
use std::path::Path;

use reports::run::{Kind, Run, TierSource};

use crate::cgroup::cores::Cores;
use crate::cgroup::{InForce, Limits};
use crate::error::Result;

/// The label of a run that lists the processors of generator and sink.
const LOAD_CORES_LABEL: &str = "load_cores";

/// Where each program runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// In front of kumod's command line.
    pub relay: Vec<OsString>,
    /// In front of the command line of the floor's relay, which runs beside an idle kumod.
    pub floor_relay: Vec<OsString>,
    /// In front of the command lines of generator and sink.
    pub load: Vec<OsString>,
    /// Processors that generator and sink have; `None` where nothing is pinned.
    pub load_cores: Option<Cores>,
    /// What the relay is limited to, if it is.
    pub limits: Option<Limits>,
    /// Whether the relay has to share its processors with generator and sink.
    pub shared_cores: bool,
    /// What makes the relay's tier what it is.
    pub tier_source: TierSource,
    /// Part of the names of runs and files, so that several series have room in one folder; empty where there is only one.
    pub series: String,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            relay: Vec::new(),
            floor_relay: Vec::new(),
            load: Vec::new(),
            load_cores: None,
            limits: None,
            shared_cores: true,
            tier_source: TierSource::Unknown,
            series: String::new(),
        }
    }
}

impl Placement {
    /// Makes sure that a relay which was started here is under the limits, if there are any, and tells what is in force.
    ///
    /// # Errors
    /// As [`InForce::verify`].
    pub fn verify(&self, process: u32) -> Result<Option<InForce>> {
        let limits = self.limits.as_ref();
        limits.map(|limits| InForce::verify(Path::new("/"), process, limits)).transpose()
    }

    /// Writes into a run where its programs were.
    pub fn describe(&self, run: &mut Run) {
        run.shared_cores = self.shared_cores;
        // Without a relay nothing was limited; the tier then only says beside which measurement it stands.
        if run.kind != Kind::Direct {
            run.tier_source = self.tier_source;
        }
        if let Some(cores) = &self.load_cores {
            run.workload.load_cpus = Some(f64::from(cores.count()));
            run.labels.insert(LOAD_CORES_LABEL.into(), cores.to_string());
        }
    }

    /// The name of a run or file in this series: `kumod-1k` is `0.5x1-kumod-1k` where the series is `0.5x1`.
    pub fn named(&self, name: &str) -> String {
        if self.series.is_empty() { name.to_owned() } else { format!("{}-{name}", self.series) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_stands_in_the_names() {
        assert_eq!(Placement::default().named("kumod-1k"), "kumod-1k");
        let tier = Placement { series: "0.5x1".into(), ..Placement::default() };
        assert_eq!(tier.named("kumod-1k"), "0.5x1-kumod-1k");
    }

    #[test]
    fn a_run_says_where_it_was() {
        let mut run = Run::default();
        Placement::default().describe(&mut run);
        assert!(run.shared_cores && run.labels.is_empty() && run.workload.load_cpus.is_none());
        let cores = "1-2".parse().ok();
        let place = Placement { load_cores: cores, shared_cores: false, ..Placement::default() };
        let place = Placement { tier_source: TierSource::Cgroup, ..place };
        place.describe(&mut run);
        assert_eq!((run.shared_cores, run.workload.load_cpus), (false, Some(2.0)));
        assert_eq!((run.labels["load_cores"].as_str(), run.tier_source), ("1-2", TierSource::Cgroup));
        let mut direct = Run { kind: Kind::Direct, ..Run::default() };
        place.describe(&mut direct);
        assert_eq!(direct.tier_source, TierSource::Unknown);
    }

    #[test]
    fn without_limits_there_is_nothing_to_verify() {
        assert!(Placement::default().verify(std::process::id()).is_ok_and(|found| found.is_none()));
    }
}
