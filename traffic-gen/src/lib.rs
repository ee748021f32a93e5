//! Concurrent SMTP load with an audit trail.
//!
//! Drives a server with as many connections as asked for and counts only what the server answered in the
//! end: `sent` is a final 250 that was read, `failed` a final refusal, `unknown` a message whose connection
//! was lost before the answer. Each message carries `X-Traffic-Gen`, so that the far end can tell lost,
//! doubled and damaged mail. It refuses hosts on the public Internet unless told that they are the
//! operator's own. A message that may have arrived is never sent again.
//!
//! One thread with its own runtime serves each core. The only thing that they share while mail passes is
//! the counter that gives out sequence numbers.

mod claims;
mod clock;
mod connection;
mod content;
mod cpu;
mod cursor;
mod dial;
mod flight;
mod hiccup;
mod honesty;
mod http;
mod integral;
mod pacer;
mod phases;
mod plan;
mod preview;
mod recorded;
mod report;
mod run;
mod schedule;
mod second;
mod sequences;
mod start;
mod stopwatch;
mod tally;
mod target;
mod tls;
mod transcript;
mod transport;
mod watcher;
mod wire;
mod worker;

pub mod audit;
pub mod find_max;
pub mod parse;
pub mod threshold;

pub use content::{
    BODY_BYTES_MAX, CORPUS_BYTES_DEFAULT, ContentError, ContentPlan, Corpus, Domain, GROUPS_MAX, Group,
    MailFile, POOL_BODIES_MAX, POOL_BYTES_DEFAULT, PerMessage, RECIPIENTS_MAX, RecipientPlan,
    SizeDistribution, USERS_MAX, ZIPF_MAX, check_header, is_domain,
};
pub use http::{Endpoint, EndpointError, Injection};
pub use phases::Phases;
pub use plan::{FILES_RESERVED_PER_WORKER, Plan, PlanError, Share, connections_that_fit, file_limit_raise};
pub use preview::{Preview, preview};
pub use report::{Measured, Report};
pub use run::{Control, run, run_observed};
pub use schedule::{Arrivals, STAGES_MAX, Schedule, Stage};
pub use second::{Observer, Second, Window};
pub use target::{Target, TargetError};
pub use tls::TlsError;
pub use transcript::transcript;
pub use transport::{Auth, AuthType, MESSAGES_PER_CONNECTION, Reuse, Tls, Transport, Verify};
