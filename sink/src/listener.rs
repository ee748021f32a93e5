//! Listening sockets: one for each worker on the same address, so that the kernel spreads connections and
//! nothing is shared.
//!
//! SO_REUSEPORT would let a second sink of the same user take half of the connections without a word, so
//! the address is first bound without it: a port in use is refused here.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Opens `count` listeners on one address; port 0 takes a free one for all of them. Connections inherit the
/// size of the receive buffer.
pub(crate) fn open_shared(
    address: SocketAddr,
    count: usize,
    backlog: i32,
    receive_buffer_bytes: Option<usize>,
) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        let probe = socket(address)?;
        probe.bind(&address.into())?;
        probe.listen(1)?;
    }
    // For port 0 the kernel picks a port that nobody shares.
    let first = open(address, backlog, true, receive_buffer_bytes)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(open(address, backlog, true, receive_buffer_bytes)?);
    }
    Ok(listeners)
}

/// Opens one listener that nobody shares.
pub(crate) fn open_single(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    open(address, backlog, false, None)
}

fn open(
    address: SocketAddr,
    backlog: i32,
    shared: bool,
    receive_buffer_bytes: Option<usize>,
) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(shared)?;
    // Linux hands the option down to each accepted connection, which saves a system call there.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer_bytes {
        // Before the window is agreed upon (tcp(7)).
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    // A restarted sink must not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_share_one_free_port_and_nobody_else_gets_it() {
        let free = "127.0.0.1:0".parse().unwrap();
        let listeners = open_shared(free, 3, 16, Some(8_192)).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(open_shared(address, 2, 16, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(open_single(address, 16).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
