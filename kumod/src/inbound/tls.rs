//! The server's side of TLS: certificate and key, and when they are read again.
//!
//! Files are looked at before each handshake, which costs a fraction of one, and read again when they have changed; what cannot
//! be used then is logged and the old pair stays. Without a certificate one is made in memory that vouches for itself. With
//! `tls_required_client_ca` a client without a certificate of that authority fails the handshake. The crypto provider is named here.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use thiserror::Error;

use crate::client::TlsFacts;
use crate::config::{FileState, KeySource, SmtpListener};

/// Why there is no TLS. The operator is to blame, for what was given.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A source cannot be read.
    #[error("option '{option}' = {given}: {source}")]
    Unreadable {
        /// The option.
        option: &'static str,
        /// The source.
        given: String,
        /// What the host said.
        source: io::Error,
    },
    /// A source does not hold what it should.
    #[error("option '{option}' = {given}: PEM with {wanted} is wanted: {reason}")]
    Content {
        /// The option.
        option: &'static str,
        /// The source.
        given: String,
        /// What should be there.
        wanted: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// One of the two is missing.
    #[error("options 'tls_certificate' and 'tls_private_key' belong together; give both or neither")]
    Half,
    /// What was read cannot be used.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(String),
    /// No certificate can be made for the name of the listener.
    #[error("no certificate can be made for {name:?}: {reason}; give option 'tls_certificate'")]
    SelfSigned {
        /// The name.
        name: String,
        /// Of the library.
        reason: String,
    },
}

/// What one listener shows, as it is now.
#[derive(Debug)]
pub(super) struct Tls {
    certificate: Option<KeySource>,
    key: Option<KeySource>,
    client_authority: Option<KeySource>,
    name: String,
    current: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    seen: [Option<FileState>; 3],
    config: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn new(listener: &SmtpListener, hostname: &str) -> Self {
        Self {
            certificate: listener.tls_certificate.clone(),
            key: listener.tls_private_key.clone(),
            client_authority: listener.tls_required_client_ca.clone(),
            name: hostname.to_owned(),
            current: Mutex::new(None),
        }
    }

    /// What to do handshakes with.
    ///
    /// # Errors
    /// Nothing that can be used was there yet. Where something was, it is used, and the error is logged.
    pub(super) fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let sources = [&self.certificate, &self.key, &self.client_authority];
        let seen = sources.map(|source| source.as_ref().and_then(KeySource::state));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = current.as_ref().filter(|current| current.seen == seen) {
            return Ok(Arc::clone(&current.config));
        }
        match (self.load(), &mut *current) {
            (Ok(config), _) => {
                *current = Some(Current { seen, config: Arc::clone(&config) });
                Ok(config)
            }
            (Err(error), Some(current)) => {
                tracing::error!(%error, "the certificate has changed and cannot be used; the old one stays");
                current.seen = seen;
                Ok(Arc::clone(&current.config))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let (chain, key) = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                (certificates("tls_certificate", certificate)?, private_key(key)?)
            }
            (None, None) => self_signed(&self.name)?,
            _ => return Err(TlsError::Half),
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Pair(error.to_string()))?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(source) => {
                const OPTION: &str = "tls_required_client_ca";
                let refuse = |reason: String| TlsError::Content {
                    option: OPTION,
                    given: source.to_string(),
                    wanted: "certificates of authorities",
                    reason,
                };
                let mut roots = RootCertStore::empty();
                for certificate in certificates(OPTION, source)? {
                    roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| refuse(error.to_string()))?)
            }
        };
        let config = builder.with_single_cert(chain, key);
        config.map(Arc::new).map_err(|error| TlsError::Pair(error.to_string()))
    }
}

fn content(option: &'static str, source: &KeySource) -> Result<Vec<u8>, TlsError> {
    source.read().map_err(|error| TlsError::Unreadable { option, given: source.to_string(), source: error })
}

fn certificates(option: &'static str, source: &KeySource) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refuse = |reason| TlsError::Content {
        option,
        given: source.to_string(),
        wanted: "at least one CERTIFICATE",
        reason,
    };
    let read = CertificateDer::pem_slice_iter(&content(option, source)?).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| refuse(error.to_string()))?;
    if read.is_empty() { Err(refuse("there is none".to_owned())) } else { Ok(read) }
}

fn private_key(source: &KeySource) -> Result<PrivateKeyDer<'static>, TlsError> {
    const OPTION: &str = "tls_private_key";
    PrivateKeyDer::from_pem_slice(&content(OPTION, source)?).map_err(|error| TlsError::Content {
        option: OPTION,
        given: source.to_string(),
        wanted: "a PRIVATE KEY that is not encrypted",
        reason: error.to_string(),
    })
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn self_signed(name: &str) -> Result<Pair, TlsError> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])
        .map_err(|error| TlsError::SelfSigned { name: name.to_owned(), reason: error.to_string() })?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

/// What a handshake agreed on, for handlers and the log.
pub(super) fn facts(connection: &ServerConnection) -> TlsFacts {
    let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let version = connection.protocol_version().map(|version| format!("{version:?}"));
    let subject = connection.peer_certificates().and_then(|chain| subject_of(chain.first()?));
    TlsFacts { cipher: cipher.unwrap_or_default(), version: version.unwrap_or_default(), subject }
}

/// The subject of a certificate that the handshake has verified.
fn subject_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.subject().to_string())
}
