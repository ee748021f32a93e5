//! Goes where a client wants, from where it wants, if the rules let it.
//!
//! A name is looked up here, and what it resolves to is held against the rules, so that a name is no way around them. Addresses are
//! tried one after the other within one time for all of them. From one source address there can be as many connections at once as the
//! host has ports for it (`net.ipv4.ip_local_port_range`, 28,000 unless told otherwise).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::rules::Rules;
use crate::socks::{Outcome, Place};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why a client does not get where it wants: what it is told, and what the log says.
#[derive(Debug)]
pub struct Failure {
    /// For the client.
    pub outcome: Outcome,
    /// For the operator.
    pub reason: String,
}

impl Failure {
    fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into() }
    }

    fn of(error: &io::Error, reason: &str) -> Self {
        let outcome = match error.kind() {
            io::ErrorKind::ConnectionRefused => Outcome::Refused,
            io::ErrorKind::NetworkUnreachable => Outcome::NetworkUnreachable,
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Outcome::HostUnreachable,
            _ => Outcome::Failed,
        };
        Self::new(outcome, format!("{reason}: {error}"))
    }
}

/// Whether connections can come from this address, which a client asked for.
///
/// # Errors
/// It is no address, the rules forbid it, or this host does not have it.
pub fn source(place: &Place, rules: &Rules) -> Result<SocketAddr, Failure> {
    let Place::Address(source) = place else {
        return Err(Failure::new(Outcome::AddressUnknown, format!("{place}: a source has to be an address")));
    };
    if !rules.allows_source(source.ip()) {
        return Err(Failure::new(Outcome::Forbidden, format!("{source} is not among the allowed sources")));
    }
    let bound = socket(*source).and_then(|socket| socket.bind(*source));
    bound.map_err(|error| Failure::of(&error, &format!("from {source}")))?;
    Ok(*source)
}

/// Connects.
///
/// # Errors
/// The rules forbid it, or nobody can be reached in time.
pub async fn connect(
    place: &Place,
    source: Option<SocketAddr>,
    rules: &Rules,
    time_max: Duration,
) -> Result<TcpStream, Failure> {
    match timeout(time_max, connect_any(place, source, rules)).await {
        Ok(connected) => connected,
        Err(_) => {
            Err(Failure::new(Outcome::HostUnreachable, format!("{place}: no connection within {time_max:?}")))
        }
    }
}

async fn connect_any(place: &Place, source: Option<SocketAddr>, rules: &Rules) -> Result<TcpStream, Failure> {
    let addresses = addresses(place).await?;
    let mut failure =
        Failure::new(Outcome::HostUnreachable, format!("{place}: no address of the source's family"));
    for address in addresses {
        if source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
            continue;
        }
        if !rules.allows_destination(address) {
            failure = Failure::new(
                Outcome::Forbidden,
                format!("{place}: {address} is not among the allowed destinations"),
            );
            continue;
        }
        match connect_one(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Failure::of(&error, &address.to_string()),
        }
    }
    Err(failure)
}

async fn addresses(place: &Place) -> Result<Vec<SocketAddr>, Failure> {
    let (name, port) = match place {
        Place::Address(address) => return Ok(vec![*address]),
        Place::Name(name, port) => (name.as_str(), *port),
    };
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip.to_canonical(), port)]);
    }
    let found = tokio::net::lookup_host((name, port)).await;
    let found = found.map_err(|error| Failure::new(Outcome::HostUnreachable, format!("{place}: {error}")))?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

async fn connect_one(address: SocketAddr, source: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = socket(address)?;
    if let Some(source) = source {
        socket.bind(source)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_keepalive(true)?;
    Ok(stream)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}
