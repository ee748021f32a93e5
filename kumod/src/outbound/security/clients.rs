//! Our side of handshakes: what is offered, what is shown, who is believed. Made once for all connections that want the same.
//!
//! The certificate that we show is read again when its file has changed. The authorities of the host are read once, by the first handshake
//! that needs them. What cannot be used is an error for the message at hand, never a handshake with less than was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::metrics::counter::Counter;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::dane::Named;
use super::posture::Peer;
use super::sessions::Sessions;
use super::verifier::{self, Anybody, Watched};
use crate::config::{CipherSuites, FileState, KeySource, PathConfig};
use crate::metrics::Metrics;

/// Configurations that are kept. Over it all are forgotten, and their sessions with them.
const CONFIGS_MAX: usize = 1024;

/// What handshakes are done with.
#[derive(Debug)]
pub(super) struct Clients {
    provider: Arc<CryptoProvider>,
    anybody: Arc<dyn ServerCertVerifier>,
    certified: OnceLock<Result<Arc<dyn ServerCertVerifier>, String>>,
    watched: OnceLock<Arc<dyn ServerCertVerifier>>,
    authorities: Option<KeySource>,
    /// Certificates that were taken although they are not valid.
    failures: Counter,
    sessions: Arc<Sessions>,
    made: Mutex<HashMap<Key, Arc<ClientConfig>>>,
}

/// What makes one configuration differ from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    peer: Peer,
    identity: Option<Identity>,
    suites: CipherSuites,
}

/// The certificate that we show, with its key, as the files were.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    certificate: KeySource,
    key: KeySource,
    seen: [Option<FileState>; 2],
}

impl Clients {
    /// `authorities` are trusted besides the system's.
    pub(super) fn new(metrics: &Metrics, authorities: Option<KeySource>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let anybody = Arc::new(Anybody { provider: Arc::clone(&provider), watched: None });
        Self {
            provider,
            anybody,
            certified: OnceLock::new(),
            watched: OnceLock::new(),
            authorities,
            failures: metrics.mta_sts_testing_failures.clone(),

            sessions: Arc::default(),
            made: Mutex::default(),
        }
    }

    /// The configuration for a path and a peer.
    ///
    /// # Errors
    /// The certificate to show cannot be used, or nobody is trusted on this host.
    pub(super) fn config(&self, path: &PathConfig, peer: &Peer) -> Result<Arc<ClientConfig>, String> {
        let identity = match (&path.tls_certificate, &path.tls_private_key) {
            (Some(certificate), Some(key)) => Some(Identity {
                seen: [certificate.state(), key.state()],
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        let key = Key { peer: peer.clone(), identity, suites: path.rustls_cipher_suites.clone() };
        if let Some(known) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let config = Arc::new(self.make(&key)?);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= CONFIGS_MAX {
            made.clear();
        }
        made.insert(key, Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, key: &Key) -> Result<ClientConfig, String> {
        let provider = CryptoProvider { cipher_suites: key.suites.chosen(), ..(*self.provider).clone() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("option 'rustls_cipher_suites': {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(&key.peer)?);
        let mut config = match &key.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, private_key) = identity.read()?;
                builder.with_client_auth_cert(chain, private_key).map_err(|error| {
                    format!("tls_certificate and tls_private_key cannot be used together: {error}")
                })?
            }
        };
        config.resumption = Resumption::store(Arc::clone(&self.sessions) as _);
        Ok(config)
    }

    fn verifier(&self, peer: &Peer) -> Result<Arc<dyn ServerCertVerifier>, String> {
        match peer {
            Peer::Anybody => Ok(Arc::clone(&self.anybody)),
            Peer::Certified => self
                .certified
                .get_or_init(|| verifier::of_this_host(&self.provider, self.authorities.as_ref()))
                .clone(),
            Peer::Named(rules) => {
                Ok(Arc::new(Named { provider: Arc::clone(&self.provider), rules: Arc::clone(rules) }))
            }
            Peer::Watched => {
                let strict = self.verifier(&Peer::Certified).ok();
                let make = || {
                    let (failures, provider) = (self.failures.clone(), Arc::clone(&self.provider));
                    Arc::new(Anybody { provider, watched: strict.map(|strict| Watched { strict, failures }) })
                        as _
                };
                Ok(Arc::clone(self.watched.get_or_init(make)))
            }
        }
    }
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Identity {
    fn read(&self) -> Result<Pair, String> {
        let (certificate, key) = (&self.certificate, &self.key);
        let wanted = |error: &dyn ToString| {
            format!(
                "option 'tls_certificate' = {certificate}: PEM with a CERTIFICATE is wanted: {}",
                error.to_string()
            )
        };
        let pem = certificate.read().map_err(|error| wanted(&error))?;
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wanted(&error))?;
        if chain.is_empty() {
            return Err(wanted(&"there is none"));
        }
        let wanted = |error: &dyn ToString| {
            format!(
                "option 'tls_private_key' = {key}: PEM with a PRIVATE KEY that is not encrypted is wanted: {}",
                error.to_string()
            )
        };
        let pem = key.read().map_err(|error| wanted(&error))?;
        let private_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wanted(&error))?;
        Ok((chain, private_key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rustls::{ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

    use super::*;

    #[test]
    fn connections_that_want_the_same_share_what_was_made_once() {
        let clients = Clients::new(&Metrics::new(), None);
        let path = PathConfig::default();
        let first = clients.config(&path, &Peer::Anybody).unwrap();
        assert!(Arc::ptr_eq(&first, &clients.config(&path.clone(), &Peer::Anybody).unwrap()));
        let suites = serde_json::from_str(r#"["TLS13_AES_128_GCM_SHA256"]"#).unwrap();
        let other = PathConfig { rustls_cipher_suites: suites, ..path };
        let other = clients.config(&other, &Peer::Anybody).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(
            (first.crypto_provider().cipher_suites.len(), other.crypto_provider().cipher_suites.len()),
            (9, 1)
        );
    }

    #[test]
    fn a_certificate_is_read_again_when_its_file_has_changed_and_one_that_cannot_be_used_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("cert.pem"), folder.path().join("key.pem")];
        let [certificate, key] = files.clone().map(|file| Some(KeySource::File(file)));
        let path = PathConfig { tls_certificate: certificate, tls_private_key: key, ..PathConfig::default() };
        let clients = Clients::new(&Metrics::new(), None);
        assert!(clients.config(&path, &Peer::Anybody).unwrap_err().contains("option 'tls_certificate'"));
        let write = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            std::fs::write(&files[0], made.cert.pem()).unwrap();
            std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
        };
        let pair = || rcgen::generate_simple_self_signed(vec!["client.test".to_owned()]).unwrap();
        let made = pair();
        write(&made);
        let first = clients.config(&path, &Peer::Anybody).unwrap();
        assert!(Arc::ptr_eq(&first, &clients.config(&path, &Peer::Anybody).unwrap()));
        std::fs::write(&files[0], made.cert.pem() + &made.cert.pem()).unwrap();
        assert!(!Arc::ptr_eq(&first, &clients.config(&path, &Peer::Anybody).unwrap()));
        std::fs::write(&files[1], pair().signing_key.serialize_pem()).unwrap();
        assert!(clients.config(&path, &Peer::Anybody).unwrap_err().contains("cannot be used together"));
        std::fs::write(&files[1], "nonsense").unwrap();
        assert!(clients.config(&path, &Peer::Anybody).unwrap_err().contains("option 'tls_private_key'"));
    }

    /// A handshake in memory. How it went for the client; its tickets are read, too.
    fn shake(config: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<HandshakeKind, rustls::Error> {
        let name = "mx.test".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            // What the server thinks of a client that turns away is not the question here.
            let _ = server.process_new_packets();
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                client.read_tls(&mut wire).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(client.handshake_kind().unwrap())
    }

    /// A session is taken up without certificates: one with anybody must not open a door at which certificates are looked at.
    #[test]
    fn a_session_is_taken_up_by_those_who_ask_for_no_more_than_its_first_handshake_did() {
        let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
        let (chain, authority) = (vec![made.cert.der().clone()], KeySource::Inline(made.cert.pem()));
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut server = server.with_single_cert(chain, key).unwrap();
        server.ticketer = ring::Ticketer::new().unwrap();
        let server = Arc::new(server);
        let path = PathConfig::default();
        for (authorities, trusted) in [(None, false), (Some(authority), true)] {
            let clients = Clients::new(&Metrics::new(), authorities);
            let anybody = clients.config(&path, &Peer::Anybody).unwrap();
            assert_eq!(shake(&anybody, &server), Ok(HandshakeKind::Full));
            assert_eq!(shake(&anybody, &server), Ok(HandshakeKind::Resumed));
            let Ok(certified) = clients.config(&path, &Peer::Certified) else {
                eprintln!("skipped: this host trusts no authority");
                continue;
            };
            assert_eq!(shake(&certified, &server).is_ok(), trusted);
            if trusted {
                assert_eq!(shake(&certified, &server), Ok(HandshakeKind::Resumed));
            }
        }
    }
}
