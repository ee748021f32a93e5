//! Leaving this host through the proxy of an egress source, which has the address that mail comes from.
//!
//! `haproxy` writes the header by which HAProxy learns where a connection is to come from and go to; `socks5` asks a SOCKS5 server for
//! the same. A proxy that cannot be reached, does not know us, or does not have the address, is the fault of the source; a
//! destination that the proxy could not reach is the destination's, and the next one is tried.

mod haproxy;
mod socks5;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::dial::Opened;
use super::security::Security;
use super::socket::{self, SocketError};
use super::wire::Wire;
use crate::config::{Destination, ProxyTls, SourceConfig};
use crate::dns::Dns;
use crate::maillog::{ProxyProtocol, SourceAddress};

use socks5::{Credentials, Refusal};

/// Time for a proxy to answer up to the request that takes us to the destination. It is near, or of no use.
const PROXY_PATIENCE: Duration = Duration::from_secs(10);
/// Addresses of a proxy's name that are tried.
const PROXY_ADDRESSES_MAX: usize = 4;

/// Why there is no connection, by who is to blame.
#[derive(Debug)]
pub(super) enum Fault {
    /// The source's address is not on this host.
    Unplumbed(IpAddr),
    /// The source's proxy.
    Proxy(String),
    /// The destination.
    Host(String),
}

/// Connects to an address through the proxy of a source, which has one.
///
/// # Errors
/// Who is to blame, in words that name the proxy where it is that.
pub(super) async fn open(
    dns: &Dns,
    security: &Security,
    source: &SourceConfig,
    to: SocketAddr,
    patience: Duration,
) -> Result<Opened, Fault> {
    match (&source.ha_proxy_server, source.ha_proxy_source_address, &source.socks5_proxy_server) {
        (Some(server), Some(from), _) => through_haproxy(dns, source, server, from, to).await,
        (_, _, Some(server)) => through_socks5(dns, security, source, server, to, patience).await,
        // The reader of the source's options has seen to it that this is not so.
        _ => Err(Fault::Proxy("the source has no complete proxy".to_owned())),
    }
}

async fn through_haproxy(
    dns: &Dns,
    source: &SourceConfig,
    server: &Destination,
    from: IpAddr,
    to: SocketAddr,
) -> Result<Opened, Fault> {
    let deadline = Instant::now() + PROXY_PATIENCE;
    let (mut stream, address) = in_time(server, deadline, reach(dns, source, server)).await?;
    // Port 0: the proxy, or its kernel, chooses one.
    let from = SocketAddr::new(from, 0);
    let header = haproxy::header(from, to).map_err(|reason| Fault::Host(reason.to_owned()))?;
    let written = async { stream.write_all(&header).await.map_err(|error| broken(server, &error)) };
    in_time(server, deadline, written).await?;
    let from = SourceAddress { address: from, proxy: Some((ProxyProtocol::HaProxy, address)) };
    Ok(Opened { stream: Wire::Socket(stream), from: Some(from) })
}

async fn through_socks5(
    dns: &Dns,
    security: &Security,
    source: &SourceConfig,
    server: &Destination,
    to: SocketAddr,
    patience: Duration,
) -> Result<Opened, Fault> {
    let deadline = Instant::now() + PROXY_PATIENCE;
    let credentials = credentials(source).map_err(|reason| Fault::Proxy(format!("{server}: {reason}")))?;
    let (socket, address) = in_time(server, deadline, reach(dns, source, server)).await?;
    let mut stream = in_time(server, deadline, secure(security, source, server, socket)).await?;
    let from = source.socks5_proxy_source_address;
    in_time(server, deadline, introduce(&mut stream, server, credentials.as_ref(), from)).await?;
    let asked = timeout(patience, connect(&mut stream, server, to)).await;
    let bound = asked.unwrap_or_else(|_| {
        Err(Fault::Host(format!("proxy {server} had no connection within {patience:?}")))
    })?;
    let shown = from.map_or(bound, |from| SocketAddr::new(from, bound.port()));
    let from = SourceAddress { address: shown, proxy: Some((ProxyProtocol::Socks5, address)) };
    Ok(Opened { stream, from: Some(from) })
}

/// Opens a connection to the proxy itself, from the source's address on this host if it has one.
async fn reach(
    dns: &Dns,
    source: &SourceConfig,
    server: &Destination,
) -> Result<(TcpStream, SocketAddr), Fault> {
    let port = server.port.unwrap_or_default();
    let addresses = match server.address() {
        Some(address) => vec![address],
        None => dns.addresses(&server.host).await.map_err(|error| broken(server, &error))?,
    };
    let from = source.source_address;
    let fits = |address: &IpAddr| from.is_none_or(|from| from.is_ipv4() == address.is_ipv4());
    let mut last = Fault::Proxy(format!("proxy {server} has no address of the family of source_address"));
    for address in addresses.into_iter().filter(fits).take(PROXY_ADDRESSES_MAX) {
        let address = SocketAddr::new(address, port);
        match socket::connect(from, address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(SocketError::Unplumbed(from)) => return Err(Fault::Unplumbed(from)),
            Err(SocketError::Peer(error)) => last = broken(server, &error),
        }
    }
    Err(last)
}

/// TLS to the proxy, where it wants that.
async fn secure(
    security: &Security,
    source: &SourceConfig,
    server: &Destination,
    socket: TcpStream,
) -> Result<Wire, Fault> {
    let is_verified = match source.socks5_proxy_tls {
        ProxyTls::Disabled => return Ok(Wire::Socket(socket)),
        ProxyTls::Required => true,
        ProxyTls::RequiredInsecure => false,
    };
    let failed = |reason: &dyn std::fmt::Display| {
        Fault::Proxy(format!("proxy {server}: TLS failed (socks5_proxy_tls): {reason}"))
    };
    let config = security.proxy_config(is_verified).map_err(|reason| failed(&reason))?;
    let name = ServerName::try_from(server.host.clone()).map_err(|error| failed(&error))?;
    let shaken = TlsConnector::from(config).connect(name, socket).await;
    shaken.map(|tls| Wire::Proxy(Box::new(tls))).map_err(|error| failed(&error))
}

/// Everything that is said before the destination: who we are, and where to come from. RFC 1928 3 and 4, RFC 1929.
async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    server: &Destination,
    credentials: Option<&Credentials>,
    from: Option<IpAddr>,
) -> Result<(), Fault> {
    let failed = |error: std::io::Error| broken(server, &error);
    let refused = |refusal: Refusal| broken(server, &refusal);
    say(stream, &socks5::greeting(credentials.is_some())).await.map_err(failed)?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.map_err(failed)?;
    let wants_password = socks5::method(method, credentials.is_some()).map_err(refused)?;
    if let (true, Some(credentials)) = (wants_password, credentials) {
        say(stream, credentials.message()).await.map_err(failed)?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map_err(failed)?;
        socks5::password_answer(answer).map_err(refused)?;
    }
    if let Some(from) = from {
        let request = socks5::request(socks5::BIND, SocketAddr::new(from, 0));
        say(stream, &request).await.map_err(failed)?;
        answer(stream).await.map_err(|refusal| {
            Fault::Proxy(format!("proxy {server} does not let mail come from {from}: {refusal}"))
        })?;
    }
    Ok(())
}

/// Asks for the destination; answers with the proxy's end of the connection.
async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    server: &Destination,
    to: SocketAddr,
) -> Result<SocketAddr, Fault> {
    let request = socks5::request(socks5::CONNECT, to);
    say(stream, &request).await.map_err(|error| broken(server, &error))?;
    answer(stream).await.map_err(|refusal| {
        let said = format!("proxy {server}: {refusal}");
        if refusal.is_of_destination() { Fault::Host(said) } else { Fault::Proxy(said) }
    })
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// One answer to a request, and not a byte of what comes behind it.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<SocketAddr, Refusal> {
    let mut bytes = Vec::with_capacity(socks5::ANSWER_BYTES_MAX);
    loop {
        let missing = match socks5::read_answer(&bytes)? {
            socks5::Answer::Whole(bound) => return Ok(bound),
            socks5::Answer::Missing(missing) => missing,
        };
        let begun = bytes.len();
        bytes.resize(begun + missing, 0);
        stream.read_exact(&mut bytes[begun..]).await?;
    }
}

/// User and password as they are now.
fn credentials(source: &SourceConfig) -> Result<Option<Credentials>, String> {
    let (Some(user), Some(password)) = (&source.socks5_proxy_username, &source.socks5_proxy_password) else {
        return Ok(None);
    };
    let read = password.read().map_err(|error| format!("socks5_proxy_password, {password}: {error}"))?;
    // A file ends with a line end, which is not meant.
    let secret = read.strip_suffix(b"\n").unwrap_or(&read);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    Credentials::new(user.as_bytes(), secret)
        .map(Some)
        .ok_or_else(|| "user and password of a SOCKS5 proxy have 1 to 255 bytes each".to_owned())
}

/// What a proxy is to do before the destination is asked for, within its time.
async fn in_time<T>(
    server: &Destination,
    deadline: Instant,
    step: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout_at(deadline, step).await.unwrap_or_else(|_| {
        Err(Fault::Proxy(format!("proxy {server} did not answer within {PROXY_PATIENCE:?}")))
    })
}

fn broken(server: &Destination, error: &dyn std::fmt::Display) -> Fault {
    Fault::Proxy(format!("proxy {server}: {error}"))
}

#[cfg(test)]
mod tests;
