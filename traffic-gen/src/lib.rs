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
mod flight;
mod pacer;
mod plan;
mod report;
mod run;
mod sequences;
mod start;
mod tally;
mod target;
mod worker;

pub mod find_max;
pub mod parse;

pub use content::{
    BODY_BYTES_MAX, CORPUS_BYTES_DEFAULT, ContentError, ContentPlan, Corpus, Domain, MailFile,
    POOL_BODIES_MAX, POOL_BYTES_DEFAULT, RecipientPlan, SizeDistribution, check_header, is_domain,
};
pub use plan::{FILES_RESERVED_PER_WORKER, Plan, connections_that_fit, file_limit_raise};
pub use report::Report;
pub use run::{Control, Observer, Second, run, run_observed};
pub use target::{Target, TargetError};
