//! Gets a policy from `https://mta-sts.DOMAIN/.well-known/mta-sts.txt` (RFC 8461 3.3).
//!
//! The certificate must be valid for that name, whatever else is configured: the policy is as good as it is. Redirects are not followed,
//! and what is too large, too slow or not `text/plain` is no policy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::{Dns, DnsError};
use super::policy::{PolicyError, StsPolicy};

/// RFC 8461 3.3 suggests a limit of 64 KiB.
pub(super) const POLICY_BYTES_MAX: usize = 64 << 10;
/// From the first question for an address to the last byte. RFC 8461 3.3 suggests a minute; mail waits meanwhile.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Addresses that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Why there is no policy to be had.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// A policy on this host is nobody's but an attacker's.
    #[error("{0} is an address that kumod does not ask")]
    Prohibited(IpAddr),
    #[error("no connection: {0}")]
    Connection(#[from] io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}; 200 is wanted, and redirects are not followed")]
    Status(StatusCode),
    #[error("the answer is {0:?}; text/plain is wanted")]
    ContentType(String),
    #[error("the answer is cut short, or larger than {POLICY_BYTES_MAX} bytes")]
    Body,
    #[error("no answer within {FETCH_TIMEOUT:?}")]
    TimedOut,
    #[error("the policy cannot be used: {0}")]
    Policy(#[from] PolicyError),
    #[error("{0}")]
    Trust(String),
}

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    /// 443, except in tests.
    pub(super) port: u16,
    pub(super) loopback_allowed: bool,
}

/// Gets the policy of a domain.
pub(super) async fn fetch(
    dns: &Dns,
    config: Arc<ClientConfig>,
    door: Door,
    domain: &str,
) -> Result<StsPolicy, FetchError> {
    let host = format!("mta-sts.{domain}");
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, async {
        let tcp = connect(dns, door, &host).await?;
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        StsPolicy::parse(&get(TokioIo::new(tls), &host).await?).map_err(FetchError::from)
    });
    fetched.await.unwrap_or(Err(FetchError::TimedOut))
}

async fn connect(dns: &Dns, door: Door, host: &str) -> Result<TcpStream, FetchError> {
    let mut last = FetchError::Connection(io::ErrorKind::AddrNotAvailable.into());
    for address in dns.addresses(host).await?.into_iter().take(ADDRESSES_TRIED_MAX) {
        if address.to_canonical().is_loopback() && !door.loopback_allowed {
            last = FetchError::Prohibited(address);
            continue;
        }
        match TcpStream::connect(SocketAddr::new(address, door.port)).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn get<S>(stream: TokioIo<S>, host: &str) -> Result<Bytes, FetchError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let request = Request::get("/.well-known/mta-sts.txt")
        .header(HOST, host)
        .header(USER_AGENT, concat!("kumod/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let media_type = kind.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("text/plain") {
            return Err(FetchError::ContentType(kind.to_owned()));
        }
        let body = Limited::new(answer.into_body(), POLICY_BYTES_MAX).collect().await;
        body.map(|body| body.to_bytes()).map_err(|_| FetchError::Body)
    };
    tokio::pin!(answer);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            // What the server said before it closed is still to be read.
            answer.await
        }
    }
}
