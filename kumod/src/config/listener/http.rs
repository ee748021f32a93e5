//! `start_http_listener`: where liveness and metrics are served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use crate::config::CidrSet;

/// One HTTP listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpListener {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The name in answers; the host's own unless set.
    pub hostname: Option<String>,
    /// Clients that may ask for more than liveness.
    pub trusted_hosts: CidrSet,
}

impl Default for HttpListener {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000),
            hostname: None,
            trusted_hosts: CidrSet::parse(&["127.0.0.1", "::1"]).unwrap_or_default(),
        }
    }
}
