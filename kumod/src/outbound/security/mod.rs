//! TLS to next hops: what a connection has to be, and the handshake that makes it so.
//!
//! `posture` decides for a host, `clients` and `verifier` do as it decided, `sessions` makes the next handshake cheap, `broken` remembers hosts
//! that cannot do TLS. A handshake that fails ends its connection; what becomes of the message is for the caller to say.

mod broken;
mod clients;
mod posture;
mod sessions;
mod verifier;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use tokio::time::timeout;
use x509_parser::x509::X509Name;

use broken::Broken;
use clients::Clients;
pub(super) use posture::Posture;

use super::stream::Stream;
use crate::config::PathConfig;
use crate::maillog::TlsFacts;
use crate::metrics::Metrics;

/// What all connections of the process share.
#[derive(Debug)]
pub(super) struct Security {
    clients: Clients,
    broken: Broken,
    metrics: Arc<Metrics>,
}

/// The host that a handshake is done with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The name under which it was found; an address in brackets has none.
    pub(super) name: &'a str,
    /// Where it was found.
    pub(super) address: IpAddr,
}

impl Target<'_> {
    /// The name to ask for, which must be in the certificate. An address is not sent (RFC 6066 3).
    fn server_name(self) -> ServerName<'static> {
        ServerName::try_from(self.name.to_owned()).unwrap_or_else(|_| self.address.into())
    }
}

impl Security {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { clients: Clients::new(), broken: Broken::default(), metrics }
    }

    /// What a connection to a host has to be.
    pub(super) fn posture(&self, host: &str, path: &PathConfig) -> Posture {
        let is_broken = path.remember_broken_tls.is_some() && self.broken.contains(host, Instant::now());
        let decided = posture::decide(path.enable_tls, is_broken);
        Posture {
            clear_after_failure: decided.clear_after_failure
                || (decided.starttls == smtp::client::StartTls::IfOffered
                    && path.opportunistic_tls_reconnect_on_failed_handshake),
            ..decided
        }
    }

    /// What a handshake with a source's proxy is done with.
    ///
    /// # Errors
    /// Nobody is trusted on this host.
    pub(super) fn proxy_config(&self, is_verified: bool) -> Result<Arc<ClientConfig>, String> {
        let peer = if is_verified { posture::Peer::Certified } else { posture::Peer::Anybody };
        self.clients.config(&PathConfig::default(), &peer)
    }

    /// The handshake, with whom the posture names.
    ///
    /// # Errors
    /// Why there is no TLS; the stream is of no more use.
    pub(super) async fn handshake(
        &self,
        stream: &mut Stream,
        target: Target<'_>,
        posture: &Posture,
        path: &PathConfig,
    ) -> Result<Arc<TlsFacts>, String> {
        let config = self.clients.config(path, &posture.peer)?;
        let shaking = stream.start_tls(config, target.server_name());
        match timeout(path.starttls_timeout, shaking).await {
            Ok(Ok(connection)) => {
                self.metrics.tls_handshakes.inc();
                if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
                    self.metrics.tls_handshakes_resumed.inc();
                }
                Ok(Arc::new(facts(connection)))
            }
            Ok(Err(error)) => Err(self.failed(target.name, path, error.to_string())),
            Err(_) => Err(self.failed(
                target.name,
                path,
                format!("no end within {:?} (starttls_timeout)", path.starttls_timeout),
            )),
        }
    }

    fn failed(&self, host: &str, path: &PathConfig, reason: String) -> String {
        self.metrics.tls_handshakes_failed.inc();
        if let Some(duration) = path.remember_broken_tls {
            self.broken.remember(host, duration, Instant::now());
        }
        reason
    }
}

/// What a handshake agreed on, for the log.
fn facts(connection: &ClientConnection) -> TlsFacts {
    let suite = connection.negotiated_cipher_suite();
    TlsFacts {
        cipher: suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
        version: connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("unknown"),
        subject: connection
            .peer_certificates()
            .and_then(|chain| subject_of(chain.first()?))
            .unwrap_or_default(),
    }
}

/// The subject of a certificate, a text for each of its attributes: `C=US`, `CN=mx.example.com`.
fn subject_of(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.subject().iter_rdn().map(|part| X509Name::new(vec![part.clone()], &[]).to_string()).collect())
}
