//! Where the programs of a measurement run, and what the record calls that.
//!
//! It owns the words that stand in front of a command line and so put a program on processors of its own or under a limit. It
//! makes no limit itself. By default nothing is pinned: the scheduler may put all programs on any core that the laboratory
//! has, and they count as sharing their cores.

use std::ffi::OsString;

use reports::run::TierSource;

/// Where each program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// In front of kumod's command line.
    pub relay: Vec<OsString>,
    /// In front of the command line of the floor's relay, which runs beside an idle kumod.
    pub floor_relay: Vec<OsString>,
    /// In front of the command lines of generator and sink.
    pub load: Vec<OsString>,
    /// Processors that generator and sink have; `None` where nothing is pinned.
    pub load_cpus: Option<u32>,
    /// Whether the relay has to share its processors with generator and sink.
    pub shared_cores: bool,
    /// What makes the relay's tier what it is.
    pub tier_source: TierSource,
    /// In front of the names of a run and of its files, so that several series have room in one folder; empty where there is
    /// only one.
    pub series: String,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            relay: Vec::new(),
            floor_relay: Vec::new(),
            load: Vec::new(),
            load_cpus: None,
            shared_cores: true,
            tier_source: TierSource::Unknown,
            series: String::new(),
        }
    }
}
