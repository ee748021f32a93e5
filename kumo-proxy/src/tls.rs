//! TLS for clients: certificate and key from files, read again when they have changed.
//!
//! Files are looked at before each handshake, which costs a fraction of one. What cannot be used then is logged, and the old pair stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Where certificate and key are, and what they were.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    seen: [Option<(SystemTime, u64)>; 2],
    config: Arc<ServerConfig>,
}

impl Tls {
    /// With these files, in PEM.
    ///
    /// # Errors
    /// They cannot be read or used, in words that name the file.
    pub fn new(certificate: PathBuf, key: PathBuf) -> Result<Self, String> {
        let seen = [&certificate, &key].map(|path| state(path));
        let config = load(&certificate, &key)?;
        Ok(Self { certificate, key, current: Mutex::new(Current { seen, config }) })
    }

    /// What to do the next handshake with.
    pub fn acceptor(&self) -> TlsAcceptor {
        let seen = [&self.certificate, &self.key].map(|path| state(path));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.seen != seen {
            current.seen = seen;
            match load(&self.certificate, &self.key) {
                Ok(config) => current.config = config,
                Err(error) => {
                    tracing::error!(%error, "the certificate has changed and cannot be used; the old one stays")
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&current.config))
    }
}

fn state(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let named = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| named(certificate, &error))?;
    if chain.is_empty() {
        return Err(named(certificate, &"there is no CERTIFICATE in it; give a PEM file that has one"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map(Arc::new)
        .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))
}
