//! An SMTP server that swallows all mail and remembers what it saw.
//!
//! It is the far end of the laboratory: every message is accepted, summed up and thrown away. What stays is
//! a ledger of the numbers that the load generator put into `X-Traffic-Gen`, which shows lost, doubled and
//! damaged mail to the message, and the latency from the intended send to the arrival. It refuses nothing
//! that is SMTP. When the host runs out of files, connections wait in the backlog; when a sender sends
//! numbers that make no sense, the ledger stops growing and says so.
//!
//! One thread with its own runtime, listener and tally serves each core; they share nothing while mail
//! passes. Readers merge the tallies on demand.

mod body;
mod capture;
mod config;
mod connection;
mod ending;
pub mod faults;
mod gate;
mod http;
mod ledger;
mod ledger_report;
mod listener;
mod messages;
mod metrics;
mod notes;
mod offer;
mod order;
mod page;
mod recording;
mod self_test;
mod server;
mod stats;
mod tally;
mod tls;
mod worker;

pub use capture::{CaptureConfig, CaptureFormat, CaptureStats};
pub use config::{Auth, Certificate, Config, Extensions, Login, connections_that_fit, file_limit_raise};
pub use ledger_report::LedgerReport;
pub use notes::{Corruption, Duplicate, Reorder};
pub use self_test::{SelfTestError, SelfTestReport, Step};
pub use server::{CertificateError, Server, StartError};
pub use stats::{RunStats, Stats};
