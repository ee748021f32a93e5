//! The mail log: one JSON line for everything that happens to a message, with KumoMTA's record types and field names.
//!
//! [`record`] says what a line looks like, [`writer`] brings lines into files (each a [`segment`]), in order and without losing one that somebody
//! waited for. Neither knows why a record is written; intake and settle do. Records are plain text on purpose: `grep`
//! and `jq` read them while the file grows.

mod note;
mod record;
mod segment;
mod source_address;
mod timings;
mod writer;

pub use note::Note;
pub use record::{Attempted, Egress, Kind, Peer, Reception, Record, TlsFacts};
pub use segment::segments;
pub use source_address::{ProxyProtocol, SourceAddress};
pub use timings::Timings;
pub use writer::{LogError, LogLimits, MailLog};
