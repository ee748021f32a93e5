//! Listeners: `start_esmtp_listener` and `start_http_listener` of a policy, with KumoMTA's names and defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::{CidrSet, duration};

/// One SMTP listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpListener {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The name in banner, replies and `Received`; the host's own unless set.
    pub hostname: Option<String>,
    /// The text after the name in the 220.
    pub banner: String,
    /// Clients that may relay to anywhere. Everybody else gets 550 5.7.1 at RCPT.
    pub relay_hosts: CidrSet,
    /// Connections at once; over it a client is told 421 4.3.2.
    pub max_connections: usize,
    /// Bytes of one message, announced as SIZE (RFC 1870).
    pub max_message_size: u64,
    /// Recipients of one transaction; over it 452 4.5.3.
    pub max_recipients_per_message: usize,
    /// Messages of one connection; over it 421 4.5.3.
    pub max_messages_per_connection: u32,
    /// Bytes of one body line without its CRLF (RFC 5321 4.5.3.1.6).
    pub line_length_hard_limit: usize,
    /// What to do with a lone CR or LF in a body.
    pub invalid_line_endings: LineEndings,
    /// How long a client may be silent.
    #[serde(deserialize_with = "duration::deserialize")]
    pub client_timeout: Duration,
    /// How long the work after the final dot may take before the client gets 451 4.4.5.
    #[serde(deserialize_with = "duration::deserialize")]
    pub data_processing_timeout: Duration,
    /// Messages are written only when their first attempt fails. The spool makes one promise for all, so listeners agree on it.
    pub deferred_spool: bool,
}

impl Default for SmtpListener {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2025),
            hostname: None,
            banner: "kumod".to_owned(),
            relay_hosts: CidrSet::parse(&["127.0.0.1", "::1"]).unwrap_or_default(),
            max_connections: 32_768,
            max_message_size: 20 << 20,
            max_recipients_per_message: 1024,
            max_messages_per_connection: 10_000,
            line_length_hard_limit: 998,
            invalid_line_endings: LineEndings::Deny,
            client_timeout: Duration::from_secs(60),
            data_processing_timeout: Duration::from_secs(300),
            deferred_spool: false,
        }
    }
}

/// What to do with a lone CR or LF in a body, the raw material of SMTP smuggling.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum LineEndings {
    /// Refuse the message with 552 5.6.0.
    Deny,
    /// Take it as it is. Only for peers that are known.
    Allow,
}

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
