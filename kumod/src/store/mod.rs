//! Where accepted mail lives until it is settled: the implementations of [`MailStore`](crate::ports::MailStore).
//!
//! `local` keeps bodies and envelopes in the spool of this host and the schedule in memory; `view` looks at a spool from outside,
//! for an operator's commands. It is the only room that opens the spool. `allowances` keeps what warming sources have sent today.

mod allowances;
mod local;
mod view;
mod waiting;

pub use allowances::{Allowances, Untaken};
pub use local::{LocalStore, OpenStoreError, Restored};
pub use waiting::WAITING_BYTES;

pub use view::{Stored, Undecodable, Unread, View, compact, segments_dir};
