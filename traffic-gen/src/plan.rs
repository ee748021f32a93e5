//! What a run is to do, and how many connections the host allows for it.
//!
//! Owns the defaults, which are KumoMTA's where it has them.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use message::traffic::RunId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::content::{ContentPlan, RecipientPlan};
use crate::target::Target;

/// Files that each worker needs beside its connections: event queue, timer, wake-ups.
pub const FILES_RESERVED_PER_WORKER: usize = 8;

/// Files that the process needs beside its workers: standard streams, reports, libraries.
const FILES_RESERVED: usize = 24;

/// Everything that describes a run. Public fields; [`Plan::new`] fills in the defaults.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server under load.
    pub target: Target,
    /// Connections at once, at least 1.
    pub concurrency: usize,
    /// Messages to send; `None` means until the time is over.
    pub message_count: Option<u64>,
    /// How long to begin messages; `None` means until all are sent. With neither of the two it is 60 seconds.
    pub duration: Option<Duration>,
    /// What the messages contain.
    pub content: ContentPlan,
    /// Who the mail is from and for.
    pub recipients: RecipientPlan,
    /// Messages per second of the open loop; `None` means a closed loop.
    pub rate_per_second: Option<f64>,
    /// What recipients and bodies are made from.
    pub seed: u64,
    /// The name of the run; never made from the seed.
    pub run_id: RunId,
    /// What EHLO says.
    pub helo: String,
    /// Open a lost connection again.
    pub keep_going: bool,
    /// How long the server may be silent while it owes something.
    pub timeout: Duration,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// Use CHUNKING where it is offered.
    pub chunking: bool,
    /// Threads, at least 1; never more than connections.
    pub workers: usize,
}

impl Plan {
    /// The default run against an address: ten connections per core, 60 seconds, 1024 bytes, a closed loop.
    pub fn new(target: impl Into<Target>) -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            target: target.into(),
            concurrency: 10 * cores,
            message_count: None,
            duration: None,
            content: ContentPlan::default(),
            recipients: RecipientPlan::default(),
            rate_per_second: None,
            seed: random(),
            run_id: RunId::from_random(random()),
            helo: "traffic-gen.localhost".to_owned(),
            keep_going: false,
            timeout: Duration::from_secs(60),
            pipelining: true,
            chunking: true,
            workers: cores,
        }
    }

    /// The same run for one address, for programs that run the generator inside.
    pub fn messages(target: SocketAddr, count: u64) -> Self {
        Self { message_count: Some(count), ..Self::new(target) }
    }

    /// How long messages begin: KumoMTA's 60 seconds unless one of the two limits is given.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let default = self.message_count.is_none().then_some(Duration::from_secs(60));
        self.duration.or(default)
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.clamp(1, self.concurrency.max(1))
    }
}

/// Raises the soft limit of open files to the hard one and returns what is in force. For the whole process,
/// so only a `main` calls it.
pub fn file_limit_raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // A refusal leaves the old limit in force, which is then what we report.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections fit under a limit of open files; at least 1.
pub fn connections_that_fit(files: usize, workers: usize) -> usize {
    files.saturating_sub(FILES_RESERVED + workers * FILES_RESERVED_PER_WORKER).max(1)
}

/// A number that the operating system's random source has a part in.
fn random() -> u64 {
    RandomState::new().hash_one(crate::clock::now_ns())
}
