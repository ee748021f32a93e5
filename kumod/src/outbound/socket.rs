//! A TCP connection, from one address of this host where that is asked for.
//!
//! An address that this host does not have is told from a peer that cannot be reached: the first is the source's fault, whatever the peer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum SocketError {
    /// The address to come from is not on this host.
    Unplumbed(IpAddr),
    /// Everything else.
    Peer(io::Error),
}

impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> Self {
        Self::Peer(error)
    }
}

/// Connects. The caller sets the deadline.
///
/// # Errors
/// The address to come from is not here, or the peer cannot be reached.
pub(super) async fn connect(from: Option<IpAddr>, to: SocketAddr) -> Result<TcpStream, SocketError> {
    let stream = match from {
        Some(from) => socket_from(from, to)?.connect(to).await?,
        None => TcpStream::connect(to).await?,
    };
    // Commands and body leave in one write; waiting to fill a segment would only delay the last one.
    stream.set_nodelay(true)?;
    if is_self_connection(&stream) {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
    }
    Ok(stream)
}

/// A socket that leaves from one address of this host.
fn socket_from(from: IpAddr, to: SocketAddr) -> Result<TcpSocket, SocketError> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    match socket.bind(SocketAddr::new(from, 0)) {
        Ok(()) => Ok(socket),
        // EADDRNOTAVAIL; where only the ports are used up, bind says EADDRINUSE.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(SocketError::Unplumbed(from)),
        Err(error) => Err(error.into()),
    }
}

/// A connect to a port of this host on which nobody listens can meet itself when that port is also the one it leaves from.
fn is_self_connection(stream: &TcpStream) -> bool {
    let ends: Option<(SocketAddr, SocketAddr)> = stream.local_addr().ok().zip(stream.peer_addr().ok());
    ends.is_some_and(|(local, peer)| local == peer)
}
