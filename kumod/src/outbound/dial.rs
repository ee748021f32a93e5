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

/// Tries hosts and addresses in order.
///
/// # Errors
/// The outcome for the message that wanted the connection.
pub(super) async fn dial(outbound: &Outbound, site: &Site, path: &Path) -> Result<Dialed, Outcome> {
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
                Err(error) => last = Some(format!("{}[{address}]: {error}", host.name)),
            }
        }
    }
    Err(match last {
        Some(last) => classify::unreachable(&site.name, &last),
        None => classify::prohibited(&site.name),
    })
}

async fn connect(address: SocketAddr, path: &Path) -> io::Result<TcpStream> {
    let opening = async {
        match path.source.source_address {
            Some(from) => socket_from(from, address)?.connect(address).await,
            None => TcpStream::connect(address).await,
        }
    };
    let opened = timeout(path.config.connect_timeout, opening).await;
    let stream = opened.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))?;
    // Commands and body leave in one write; waiting to fill a segment would only delay the last one.
    stream.set_nodelay(true)?;
    if is_self_connection(&stream) {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    }
    Ok(stream)
}

/// A socket that leaves from one address of this host.
fn socket_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    Ok(socket)
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
