//! The floor: what this machine can do when a relay does nothing but its two promises.
//!
//! Three programs of a few hundred lines, generator, relay and sink, started as processes of their own so that they are
//! scheduled like the real ones. The relay makes every message durable before its 250 and delivers it; there is no
//! policy, no queue, no log and no second checksum. Deliveries are counted at the sink from the first send to the last
//! delivery. What kumod reaches is always told as a part of this, measured in the same minutes on the same disk.

pub mod measure;

pub mod generator;
pub mod relay;
pub mod sink;

mod disk;
mod wire;

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

pub use self::disk::LOG_BYTES;
pub use self::wire::{INBOUND_CONNECTIONS, MESSAGES_IN_RELAY_MAX, OUTBOUND_CONNECTIONS, monotonic_ns};
use crate::error::{During, Result};

/// Listens on a free loopback port and announces it on standard error, the way all servers of the project do.
fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during(|| "floor: listen".into())?;
    listener.set_nonblocking(true).during(|| "floor: listen".into())?;
    let address = listener.local_addr().during(|| "floor: listen".into())?;
    let announced = writeln!(std::io::stderr(), "smtp listener on {address}\ninitialization complete");
    announced.during(|| "floor: write to standard error".into())?;
    Ok(listener)
}

/// The next waiting connection, greeted and non-blocking.
fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    let mut stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error).during(|| "floor: accept".into()),
    };
    stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).during(|| "floor: accept".into())?;
    sink::greet(&mut stream)?;
    Ok(Some(stream))
}

/// Makes the kernel end this process when the laboratory is gone, however that happened.
///
/// # Errors
/// [`crate::error::Error::Host`] when the kernel refuses.
pub fn end_with_parent() -> Result<()> {
    let set = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    set.during(|| "floor: ask for the death signal".into())
}

/// Prints the result of one floor program, one line of JSON on standard output.
fn report(result: &serde_json::Value) -> Result<()> {
    writeln!(std::io::stdout(), "{result}").during(|| "floor: write to standard output".into())
}
