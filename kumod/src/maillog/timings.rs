//! How long the parts of an attempt took: what its records say in `queued_ms`, `connect_ms`, `tls_ms` and `data_ms`.
//!
//! Outbound fills it from clock readings that it has made anyway, so a message costs none more; a new connection costs two. It is the time of
//! day that is read: where the clock is set back meanwhile a part took nothing, never less.

use std::time::Duration;

use serde::ser::SerializeStruct;

use crate::clock::UnixMs;

/// The parts of one attempt. A part that there was not has no field in the record: a connection that was open already, a server without
/// TLS, an attempt that ended before MAIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// When the message stopped waiting: all rates allowed it, and a connection was there or began to be opened. `None`: it never came so
    /// far, and waited until its attempt ended.
    pub began: Option<UnixMs>,
    /// Opening the connection that this message was the first to use, or failing to: names looked up, hosts and addresses tried in turn, a
    /// proxy asked, until TCP stood.
    pub connect: Option<Duration>,
    /// The handshake of that connection, or what was made of it.
    pub tls: Option<Duration>,
    /// From MAIL to the final reply, or to the loss of the connection; the body is in it.
    pub data: Option<Duration>,
}

impl Timings {
    /// The fields of a record, for a message that was accepted then and whose attempt ended `at`.
    pub(super) fn serialize_into<S: SerializeStruct>(
        &self,
        created: UnixMs,
        at: UnixMs,
        line: &mut S,
    ) -> Result<(), S::Error> {
        line.serialize_field("queued_ms", &milliseconds(self.began.unwrap_or(at).since(created)))?;
        let parts = [("connect_ms", self.connect), ("tls_ms", self.tls), ("data_ms", self.data)];
        for (name, took) in parts {
            if let Some(took) = took {
                line.serialize_field(name, &milliseconds(took))?;
            }
        }
        Ok(())
    }
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
