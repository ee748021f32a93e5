//! Where accepted mail lives until it is settled: the implementations of [`MailStore`](crate::ports::MailStore).
//!
//! `local` keeps bodies and envelopes in the spool of this host and the schedule in memory. It is the only room that names the spool.

mod local;

pub use local::{LocalStore, OpenStoreError, Restored};
