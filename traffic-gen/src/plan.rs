//! What a run is to do, and how many connections the host allows for it.
//!
//! Owns the defaults, which are KumoMTA's where it has them.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use message::traffic::RunId;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::content::{ContentError, ContentPlan, RecipientPlan};
use crate::http::Injection;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::tls::{Connector, TlsError};
use crate::transport::{Tls, Transport};

/// Files that each worker needs beside its connections: event queue, timer, wake-ups.
pub const FILES_RESERVED_PER_WORKER: usize = 8;

/// Files that the process needs beside its workers: standard streams, reports, libraries.
const FILES_RESERVED: usize = 24;

/// How long replies are waited for in the end unless the plan says otherwise.
const DRAIN: Duration = Duration::from_secs(60);

/// Everything that describes a run. Public fields; [`Plan::new`] fills in the defaults.
/// It can be written down and read again, because other machines take their part of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The servers under load, at least one; connection n goes to target n modulo their number.
    pub targets: Vec<Target>,
    /// Addresses of this host that connections come from, in turn; none means that the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// How the servers are talked to.
    pub transport: Transport,
    /// Connections at once, at least 1.
    pub concurrency: usize,
    /// Connections that the operator asked for, where this host does not allow so many; else any smaller number.
    pub concurrency_asked: usize,
    /// Messages to send; `None` means until the time is over.
    pub message_count: Option<u64>,
    /// How long to begin messages after the warm-up; `None` means until all are sent, or until the schedule
    /// ends. With none of the three it is 60 seconds.
    pub duration: Option<Duration>,
    /// How long messages begin before those that count for the figures.
    pub warm_up: Duration,
    /// How long replies are waited for when nothing more begins; what has none then is unknown.
    pub drain: Duration,
    /// When messages are due.
    pub schedule: Schedule,
    /// The part of the messages that this process sends.
    pub share: Share,
    /// When messages begin, in nanoseconds since 1970 by the coordinator's clock; `None` means as soon as the
    /// connections stand.
    pub start_at_realtime_ns: Option<u64>,
    /// What the coordinator's clock shows less what this host's shows, in nanoseconds.
    pub clock_offset_ns: i64,
    /// Inject over HTTP; `None` means SMTP or LMTP.
    pub http: Option<Injection>,
    /// What the messages contain.
    pub content: ContentPlan,
    /// Who the mail is from and for.
    pub recipients: RecipientPlan,
    /// What recipients and bodies are made from.
    pub seed: u64,
    /// The name of the run; never made from the seed.
    #[serde(with = "run_id_as_text")]
    pub run_id: RunId,
    /// What EHLO says.
    pub helo: String,
    /// Open a lost connection again.
    pub keep_going: bool,
    /// How long the server may be silent while it owes something.
    pub timeout: Duration,
    /// Threads, at least 1; never more than connections.
    pub workers: usize,
}

/// Why there can be no run with a plan. The operator is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is nobody to send to.
    #[error("no target to send to; name one, such as 127.0.0.1:2025")]
    NoTarget,
    /// No message can be made.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Requests of the HTTP interface cannot be made.
    #[error("{0}")]
    Injection(String),
    /// TLS was asked for and cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Plan {
    /// The default run against an address: ten connections per core, 60 seconds, 1024 bytes, a closed loop.
    pub fn new(target: impl Into<Target>) -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            targets: vec![target.into()],
            sources: Vec::new(),
            transport: Transport::default(),
            concurrency: 10 * cores,
            concurrency_asked: 0,
            message_count: None,
            duration: None,
            warm_up: Duration::ZERO,
            drain: DRAIN,
            schedule: Schedule::Closed,
            share: Share::default(),
            start_at_realtime_ns: None,
            clock_offset_ns: 0,
            http: None,
            content: ContentPlan::default(),
            recipients: RecipientPlan::default(),
            seed: random(),
            run_id: RunId::from_random(random()),
            helo: "traffic-gen.localhost".to_owned(),
            keep_going: false,
            timeout: Duration::from_secs(60),
            workers: cores,
        }
    }

    /// The same run for one address, for programs that run the generator inside.
    pub fn messages(target: SocketAddr, count: u64) -> Self {
        Self { message_count: Some(count), ..Self::new(target) }
    }

    /// How long messages begin, the warm-up included; `None` means without end. KumoMTA's 60 seconds unless a
    /// limit is given. The stages of a schedule have the warm-up inside of them.
    pub fn length(&self) -> Option<Duration> {
        let stages = self.schedule.length();
        let default = (self.message_count.is_none() && stages.is_none()).then_some(Duration::from_secs(60));
        let duration = self.duration.or(default).map(|duration| self.warm_up.saturating_add(duration));
        duration.into_iter().chain(stages).min()
    }

    /// Whether TLS can be set up as asked for. A run checks it, too; a command asks before it opens its reports.
    ///
    /// # Errors
    /// What is given cannot be used.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.targets.is_empty() {
            return Err(PlanError::NoTarget);
        }
        self.connector().map(drop)
    }

    pub(crate) fn connector(&self) -> Result<Option<Connector>, PlanError> {
        let Transport { tls, verify, sni, .. } = &self.transport;
        if *tls == Tls::None { Ok(None) } else { Ok(Some(Connector::new(verify, sni.as_deref())?)) }
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.clamp(1, self.concurrency.max(1))
    }
}

/// The part of a run that one process has: of all messages, numbered from 0, every `of`-th from `index` on.
/// The schedule is divided in the same way, and so is the number of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Which part, below `of`.
    pub index: u64,
    /// Parts altogether, at least 1.
    pub of: u64,
}

impl Share {
    /// How many of so many messages are in this part.
    pub(crate) fn part(self, count: u64) -> u64 {
        count.saturating_sub(self.index).div_ceil(self.of.max(1))
    }
}

impl Default for Share {
    /// Everything.
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

/// The name of a run is a word in JSON.
mod run_id_as_text {
    use message::traffic::RunId;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(run_id: &RunId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(run_id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunId, D::Error> {
        RunId::new(&String::deserialize(deserializer)?).map_err(Error::custom)
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
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(crate::clock::now_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrivals, Stage};

    fn plan() -> Plan {
        Plan::new(SocketAddr::from(([127, 0, 0, 1], 2025)))
    }

    #[test]
    fn a_plan_survives_its_way_to_another_machine() {
        let plan = Plan {
            sources: vec![[127, 0, 0, 2].into()],
            schedule: Schedule::Open {
                arrivals: Arrivals::Poisson,
                stages: Stage::parse_list("0>5k:30s,5k").unwrap(),
            },
            share: Share { index: 2, of: 3 },
            start_at_realtime_ns: Some(1 << 60),
            clock_offset_ns: -5,
            ..plan()
        };
        let text = serde_json::to_string(&plan).unwrap();
        let read: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{plan:?}"));
        let unknown = text.replacen("\"sources\"", "\"courses\"", 1);
        assert!(serde_json::from_str::<Plan>(&unknown).is_err());
    }

    #[test]
    fn the_length_of_a_run_has_the_warm_up_in_it() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let warm = Plan { warm_up: Duration::from_secs(5), ..plan() };
        assert_eq!(warm.length(), seconds(65));
        assert_eq!(Plan { duration: seconds(10), ..warm.clone() }.length(), seconds(15));
        assert_eq!(Plan { message_count: Some(1), ..warm.clone() }.length(), None);
        let stages = Stage::parse_list("0>5k:30s,5k:60s").unwrap();
        let staged = Plan { schedule: Schedule::Open { arrivals: Arrivals::Constant, stages }, ..warm };
        assert_eq!(staged.length(), seconds(90));
        assert_eq!(Plan { duration: seconds(10), ..staged }.length(), seconds(15));
    }
}
