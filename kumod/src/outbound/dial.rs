//! Opens a connection to the first host of a site that answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::ready::Path;
use super::route::{Site, is_prohibited, port};
use super::{Outbound, classify};
use crate::envelope::Outcome;

/// Addresses tried for one connection. A site with more is tried again with the next attempt, in another order.
const ADDRESSES_TRIED_MAX: usize = 8;

/// An open connection and who is at its other end.
pub(super) struct Dialed {
    pub(super) stream: TcpStream,
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    /// Where it comes from, if the source has an address.
    pub(super) from: Option<SocketAddr>,
}

/// Why there is no connection, as an outcome for the message that wanted it.
pub(super) enum DialError {
    /// The site is to blame.
    Site(Outcome),
    /// The source's address is not on this host, whatever the site.
    Unplumbed(Outcome),
}

/// Tries hosts and addresses in order.
///
/// # Errors
/// Who is to blame, and the outcome for the message that wanted the connection.
pub(super) async fn dial(outbound: &Outbound, site: &Site, path: &Path) -> Result<Dialed, DialError> {
    let mut last = None;
    let mut tried = 0;
    for host in &site.hosts {
        let addresses = match host.address {
            Some(address) => vec![address],
            None => match outbound.parts.dns.addresses(&host.name).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    last = Some(format!("{}: {error}", host.name));
                    continue;
                }
            },
        };
        let allowed = addresses.into_iter().filter(|address| !is_prohibited(site, &path.config, *address));
        let (fit, unfit): (Vec<_>, Vec<_>) = allowed.partition(|address| is_of_family(*address, path));
        if let Some(address) = unfit.first() {
            last = Some(format!("{}[{address}]: the source's address is of the other family", host.name));
        }
        for address in fit.into_iter().take(ADDRESSES_TRIED_MAX - tried) {
            tried += 1;
            let address = SocketAddr::new(address, port(outbound, path, host));
            match connect(address, path).await {
                Ok(stream) => {
                    let from = path.source.source_address.and_then(|_| stream.local_addr().ok());
                    return Ok(Dialed { stream, name: Arc::clone(&host.name), address, from });
                }
                Err(ConnectError::Unplumbed(from)) => {
                    return Err(DialError::Unplumbed(classify::unplumbed(&path.source.name, from)));
                }
                Err(ConnectError::Host(error)) => last = Some(format!("{}[{address}]: {error}", host.name)),
            }
        }
    }
    Err(DialError::Site(match last {
        Some(last) => classify::unreachable(&site.name, &last),
        None => classify::prohibited(&site.name),
    }))
}

/// Connects to a host once more.
///
/// # Errors
/// As [`dial`].
pub(super) async fn again(name: Arc<str>, address: SocketAddr, path: &Path) -> Result<Dialed, DialError> {
    match connect(address, path).await {
        Ok(stream) => {
            let from = path.source.source_address.and_then(|_| stream.local_addr().ok());
            Ok(Dialed { stream, name, address, from })
        }
        Err(ConnectError::Unplumbed(from)) => {
            Err(DialError::Unplumbed(classify::unplumbed(&path.source.name, from)))
        }
        Err(ConnectError::Host(error)) => {
            Err(DialError::Site(classify::unreachable(&name, &format!("{name}[{address}]: {error}"))))
        }
    }
}

enum ConnectError {
    Host(io::Error),
    Unplumbed(IpAddr),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

async fn connect(address: SocketAddr, path: &Path) -> Result<TcpStream, ConnectError> {
    let bound = path.source.source_address.map(|from| socket_from(from, address)).transpose()?;
    let opening = async {
        match bound {
            Some(socket) => socket.connect(address).await,
            None => TcpStream::connect(address).await,
        }
    };
    let opened = timeout(path.config.connect_timeout, opening).await;
    let stream = opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))?;
    // Commands and body leave in one write; waiting to fill a segment would only delay the last one.
    stream.set_nodelay(true)?;
    if is_self_connection(&stream) {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
    }
    Ok(stream)
}

/// A socket that leaves from one address of this host.
fn socket_from(from: IpAddr, to: SocketAddr) -> Result<TcpSocket, ConnectError> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    match socket.bind(SocketAddr::new(from, 0)) {
        Ok(()) => Ok(socket),
        // EADDRNOTAVAIL; where only the ports are used up, bind says EADDRINUSE.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(ConnectError::Unplumbed(from)),
        Err(error) => Err(error.into()),
    }
}

/// Whether an address can be reached from the source's.
fn is_of_family(address: IpAddr, path: &Path) -> bool {
    path.source.source_address.is_none_or(|from| from.is_ipv4() == address.is_ipv4())
}

/// A connect to a port of this host on which nobody listens can meet itself when that port is also the one it leaves from.
fn is_self_connection(stream: &TcpStream) -> bool {
    let ends: Option<(SocketAddr, SocketAddr)> = stream.local_addr().ok().zip(stream.peer_addr().ok());
    ends.is_some_and(|(local, peer)| local == peer)
}
