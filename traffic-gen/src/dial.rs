//! How a connection comes to be: from which address of this host, to which of the target's, and why not.
//!
//! Owns the choice of addresses and ports. A connection that the host itself does not allow is told apart
//! from one that the server does not take, because the first is the generator's limit and the second the
//! server's.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use crate::plan::Plan;
use crate::target::Target;

/// Beyond so many connections every second one has its port chosen when it is bound. Linux looks for even
/// ports first when it connects and for odd ones first when it binds; without this, connecting becomes a
/// search through all even ports as soon as they are taken (half of the default range are 14,116).
const CONNECTIONS_PLAIN_MAX: usize = 8_192;

/// What the host has too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Local ports.
    Ports,
    /// Files or memory.
    Files,
}

/// What this host lacked when a connection could not be opened; `None` where the server did not take it.
pub(crate) fn lacking(error: &io::Error) -> Option<Lacking> {
    match Errno::from_io_error(error)? {
        Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => Some(Lacking::Ports),
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Some(Lacking::Files),
        _ => None,
    }
}

/// Connects to the first address of the target that answers.
pub(crate) async fn connect(plan: &Plan, target: &Target, number: u64) -> io::Result<TcpStream> {
    let mut refused = io::Error::other("no source address of the target's kind of address");
    let bind_first = number % 2 == 1 && plan.concurrency > CONNECTIONS_PLAIN_MAX;
    for address in &target.addresses {
        let opened = match source(plan, *address, number) {
            Source::Any if bind_first => open(*address, Some(unspecified(*address))).await,
            Source::Any => open(*address, None).await,
            Source::This(source) => open(*address, Some(source)).await,
            Source::None => continue,
        };
        match opened {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Where a connection comes from.
enum Source {
    /// The kernel chooses.
    Any,
    This(IpAddr),
    /// Sources were given, and none can reach that address.
    None,
}

/// Sources take turns; those of the other kind of address are passed over. Their turn goes by groups as many
/// as there are targets, so that each source reaches each target.
fn source(plan: &Plan, address: SocketAddr, number: u64) -> Source {
    if plan.sources.is_empty() {
        return Source::Any;
    }
    let round = number / plan.targets.len().max(1) as u64;
    let fitting = || plan.sources.iter().filter(|source| source.is_ipv4() == address.is_ipv4());
    let turn = usize::try_from(round % (fitting().count().max(1) as u64)).unwrap_or(0);
    fitting().nth(turn).map_or(Source::None, |source| Source::This(*source))
}

fn unspecified(address: SocketAddr) -> IpAddr {
    if address.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }
}

async fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(targets: u16, sources: &[&str]) -> Plan {
        let address = |port| Target::from(SocketAddr::from(([127, 0, 0, 1], port)));
        Plan {
            targets: (1..=targets).map(address).collect(),
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
            ..Plan::new(address(1))
        }
    }

    fn from(plan: &Plan, address: &str, number: u64) -> String {
        match source(plan, address.parse().unwrap(), number) {
            Source::Any => "any".to_owned(),
            Source::This(source) => source.to_string(),
            Source::None => "none".to_owned(),
        }
    }

    #[test]
    fn every_source_reaches_every_target() {
        let plan = plan(2, &["127.0.0.2", "::1", "127.0.0.3"]);
        let sources: Vec<_> = (0..6).map(|number| from(&plan, "127.0.0.1:25", number)).collect();
        assert_eq!(sources, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.2", "127.0.0.2"]);
        assert_eq!(from(&plan, "[::1]:25", 5), "::1");
    }

    #[test]
    fn without_a_fitting_source_there_is_no_connection() {
        assert_eq!(from(&plan(1, &[]), "127.0.0.1:25", 3), "any");
        assert_eq!(from(&plan(1, &["::1"]), "127.0.0.1:25", 3), "none");
    }

    #[test]
    fn what_the_host_lacks_is_not_the_servers_fault() {
        let lacks = |number: Errno| lacking(&number.into());
        assert_eq!(lacks(Errno::ADDRNOTAVAIL), Some(Lacking::Ports));
        assert_eq!(lacks(Errno::MFILE), Some(Lacking::Files));
        assert_eq!(lacks(Errno::CONNREFUSED), None);
        assert_eq!(lacking(&io::ErrorKind::ConnectionRefused.into()), None);
    }
}
