//! Where the load goes, and whether it may.
//!
//! Load is let loose on loopback, private networks and the range reserved for benchmarks only. For any
//! other address the operator must say that the host is theirs: a mistyped name must not become an attack.
//! Names are resolved once, before the run.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Serialize};

use crate::http::Endpoint;

/// The server under load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// As the operator wrote it.
    pub name: String,
    /// What it resolved to; never empty. The first that answers is used.
    pub addresses: Vec<SocketAddr>,
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The operator's text has no port.
    #[error("{0:?} is no target; write HOST:PORT, such as 127.0.0.1:2025, or a URL with --http")]
    Syntax(String),
    /// The name is not known.
    #[error("cannot resolve {name}: {error}")]
    Unknown {
        /// As the operator wrote it.
        name: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// The host is on the public Internet.
    #[error(
        "{name} is {address}, a public address; load is let loose only on hosts that are yours. \
         If it is, say so:"
    )]
    Public {
        /// As the operator wrote it.
        name: String,
        /// The address that is not private.
        address: IpAddr,
    },
}

impl Target {
    /// Resolves `HOST:PORT`, or a URL of HTTP; with `owned` even to a public address.
    pub fn resolve(name: &str, owned: bool) -> Result<Self, TargetError> {
        if Endpoint::is_url(name) {
            let endpoint = Endpoint::parse(name).map_err(|_| TargetError::Syntax(name.to_owned()))?;
            return Ok(Self { name: name.to_owned(), ..Self::resolve(&endpoint.host_and_port(), owned)? });
        }
        let has_port = name.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !has_port {
            return Err(TargetError::Syntax(name.to_owned()));
        }
        let unknown = |error| TargetError::Unknown { name: name.to_owned(), error };
        let addresses: Vec<SocketAddr> = resolve(name).map_err(unknown)?;
        let public = addresses.iter().find(|address| !is_private(address.ip()));
        match public {
            Some(address) if !owned => {
                Err(TargetError::Public { name: name.to_owned(), address: address.ip() })
            }
            _ if addresses.is_empty() => Err(unknown(io::ErrorKind::NotFound.into())),
            _ => Ok(Self { name: name.to_owned(), addresses }),
        }
    }
}

impl Target {
    /// The host without its port, as the operator wrote it.
    pub(crate) fn host(&self) -> &str {
        self.name.rsplit_once(':').map_or(&self.name, |(host, _)| host)
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { name: address.to_string(), addresses: vec![address] }
    }
}

fn resolve(name: &str) -> io::Result<Vec<SocketAddr>> {
    let host_and_port =
        name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if let Some((host, port)) = host_and_port
        && is_localhost(host)
    {
        // RFC 6761 6.3: these names are loopback, and no resolver is asked.
        return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]);
    }
    Ok(name.to_socket_addrs()?.collect())
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Loopback, private (RFC 1918, RFC 4193), link-local (RFC 4291), shared (RFC 6598) or reserved for
/// benchmarks (RFC 2544).
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_loopback()
                || address.is_private()
                || address.is_unspecified()
                || (a == 198 && b & 0xfe == 18)
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_hosts_pass_and_public_ones_do_not() {
        let private = [
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ];
        let public = [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "169.254.169.254",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "fec0::1",
            "224.0.0.1",
        ];
        for text in private {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in public {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn targets_are_resolved_or_refused() {
        assert_eq!(
            Target::resolve("127.0.0.1:2025", false).unwrap().addresses,
            ["127.0.0.1:2025".parse().unwrap()]
        );
        assert_eq!(
            Target::resolve("mx.localhost:25", false).unwrap().addresses,
            ["127.0.0.1:25".parse().unwrap()]
        );
        assert_eq!(Target::resolve("[::1]:25", false).unwrap().addresses, ["[::1]:25".parse().unwrap()]);
        assert!(matches!(Target::resolve("192.0.2.1:25", false), Err(TargetError::Public { .. })));
        assert!(Target::resolve("192.0.2.1:25", true).is_ok());
        for url in ["http://192.0.2.1/api", "https://192.0.2.1"] {
            assert!(matches!(Target::resolve(url, false), Err(TargetError::Public { .. })), "{url}");
        }
        let url = Target::resolve("http://mx.localhost:8000/x", false).unwrap();
        assert_eq!((&url.name[..], url.addresses[0].port()), ("http://mx.localhost:8000/x", 8000));
        for text in ["", "localhost", ":25", "localhost:0", "localhost:x", "localhost:99999"] {
            assert!(matches!(Target::resolve(text, true), Err(TargetError::Syntax(_))), "{text}");
        }
    }
}
