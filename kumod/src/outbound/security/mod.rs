//! TLS to next hops: what a connection has to be, and the handshake that makes it so.
//!
//! `posture` decides for a host, `clients` and `verifier` do as it decided, `sessions` makes the next handshake cheap, `broken` remembers hosts
//! that cannot do TLS. A handshake that fails ends its connection; what becomes of the message is for the caller to say.

mod broken;
mod clients;
mod dane;
mod posture;
mod sessions;
mod verifier;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
use tokio::time::timeout;
use x509_parser::x509::X509Name;

use broken::Broken;
use clients::Clients;
use dane::Rules;
use posture::{Dane, Peer};
pub(super) use posture::{Posture, Sts};

use super::classify;
use super::route::Site;
use super::stream::Stream;
use crate::config::{KeySource, OutboundSpec, PathConfig};
use crate::dns::{self, Dns, MailHosts, MtaSts, StsMode};
use crate::envelope::Outcome;
use crate::maillog::TlsFacts;
use crate::metrics::Metrics;

/// What all connections of the process share.
#[derive(Debug)]
pub(super) struct Security {
    clients: Arc<Clients>,
    broken: Broken,
    mta_sts: MtaSts,
    dane: dns::Dane,
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
    pub(super) fn new(metrics: Arc<Metrics>, dns: &Dns, spec: &OutboundSpec) -> Self {
        let clients = Arc::new(Clients::new(&metrics, spec.authorities.clone()));
        let of_policies = Arc::clone(&clients);
        let trust = Arc::new(move || of_policies.config(&PathConfig::default(), &Peer::Certified));
        let mta_sts = MtaSts::new(dns.clone(), spec.mta_sts, trust);
        let dane = dns::Dane::new(dns.clone());
        Self { clients, broken: Broken::default(), mta_sts, dane, metrics }
    }

    /// What a connection to a host of a site has to be.
    ///
    /// # Errors
    /// It cannot be found out this time, so there must be none: the outcome for the message that wanted it.
    pub(super) async fn posture(
        &self,
        host: &str,
        port: u16,
        site: &Site,
        path: &PathConfig,
    ) -> Result<Posture, Outcome> {
        let is_broken = path.remember_broken_tls.is_some() && self.broken.contains(host, Instant::now());
        let dane = if path.enable_dane && site.is_certain {
            self.published(host, port).await?
        } else {
            Dane::Nothing
        };
        Ok(Posture::decide(path, dane, site.sts, is_broken))
    }

    /// What a host asks for by its TLSA records.
    async fn published(&self, host: &str, port: u16) -> Result<Dane, Outcome> {
        let found = self.dane.records(host, port).await.inspect_err(|_| {
            self.metrics.dane_results.failed.inc();
        });
        let Some(found) = found.map_err(|error| classify::no_tls(host, &error.to_string()))? else {
            self.metrics.dane_results.nothing.inc();
            return Ok(Dane::Nothing);
        };
        let rules = Rules::new(host, &found);
        let results = &self.metrics.dane_results;
        if rules.is_some() {
            results.usable.inc()
        } else {
            results.unusable.inc()
        };
        Ok(rules.map_or(Dane::Unusable, |rules| Dane::Rules(Arc::new(rules))))
    }

    /// Whether it is certain that these are the hosts of a domain, so that what they publish by DANE is worth something.
    ///
    /// # Errors
    /// It cannot be found out this time: the outcome for all mail of the domain.
    pub(super) async fn are_certain(&self, domain: &str, hosts: &MailHosts) -> Result<bool, Outcome> {
        self.dane.are_certain(domain, hosts).await.map_err(|error| classify::dns(&error))
    }

    /// Asks for the MTA-STS policy of a domain, and leaves those of its hosts that the policy allows.
    ///
    /// # Errors
    /// There is none (RFC 8461 5): the outcome for all mail of the domain.
    pub(super) async fn allowed(
        &self,
        domain: &str,
        hosts: Arc<MailHosts>,
    ) -> Result<(Arc<MailHosts>, Sts), Outcome> {
        let Some(policy) = self.mta_sts.policy(domain, Instant::now()).await else {
            return Ok((hosts, Sts::Nothing));
        };
        match policy.mode {
            StsMode::None => Ok((hosts, Sts::Nothing)),
            StsMode::Testing => {
                if !hosts.hosts.iter().all(|host| policy.allows(&host.name)) {
                    self.metrics.mta_sts_testing_failures.inc();
                }
                Ok((hosts, Sts::Testing))
            }
            StsMode::Enforce => match hosts.only(|host| policy.allows(host)) {
                Some(allowed) => Ok((Arc::new(allowed), Sts::Enforced)),
                None => Err(classify::no_allowed_host(domain)),
            },
        }
    }

    /// A connection stands: where it should have been through TLS and is not, that is counted.
    pub(super) fn note_open(&self, posture: &Posture, is_tls: bool) {
        if posture.peer == Peer::Watched && !is_tls {
            self.metrics.mta_sts_testing_failures.inc();
        }
    }

    /// What a handshake with a source's proxy is done with.
    ///
    /// # Errors
    /// Nobody is trusted on this host.
    pub(super) fn proxy_config(&self, is_verified: bool) -> Result<Arc<ClientConfig>, String> {
        let peer = if is_verified { Peer::Certified } else { Peer::Anybody };
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
        let target = match &posture.peer {
            Peer::Named(rules) => Target { name: rules.name().unwrap_or(target.name), ..target },
            _ => target,
        };
        let shaking = stream.start_tls(config, target.server_name());
        match timeout(path.starttls_timeout, shaking).await {
            Ok(Ok(connection)) => {
                self.metrics.tls_handshakes.inc();
                if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
                    self.metrics.tls_handshakes_resumed.inc();
                }
                Ok(Arc::new(facts(connection)))
            }
            Ok(Err(error)) => {
                let by = if matches!(posture.peer, Peer::Named(_)) { " (by its TLSA records)" } else { "" };
                Err(self.failed(target.name, path, format!("{error}{by}")))
            }
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

/// Whether certificates of authorities can be read from a file.
///
/// # Errors
/// Why not.
pub fn check_authorities(source: &KeySource) -> std::io::Result<()> {
    verifier::add_authorities(source, &mut RootCertStore::empty())
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
