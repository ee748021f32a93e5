//! Who is believed to be who he says: the verifiers of certificates, one for each [`Peer`](super::Peer).
//!
//! That a server has the key to the certificate that it shows is asked for in every case.

use std::io;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::KeySource;

/// The verifier for certificates of authorities that this host trusts: those of the system, or of the files that `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name, and `more`.
///
/// # Errors
/// There are none, or `more` cannot be used; the text says why, and what to do.
pub(super) fn of_this_host(
    provider: &Arc<CryptoProvider>,
    more: Option<&KeySource>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if let Some(more) = more {
        add_authorities(more, &mut roots).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "this host trusts no authority ({}); install ca-certificates, or name a file in SSL_CERT_FILE",
            errors.join("; ")
        ));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>).map_err(|error| error.to_string())
}

/// Adds the certificates of a file.
///
/// # Errors
/// It cannot be read, or holds none, or one that cannot be an authority's.
pub(super) fn add_authorities(source: &KeySource, roots: &mut RootCertStore) -> io::Result<()> {
    let pem = source.read()?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.len() == before { Err(io::Error::other("there is no CERTIFICATE in it")) } else { Ok(()) }
}

/// Takes every certificate.
#[derive(Debug)]
pub(super) struct Anybody {
    pub(super) provider: Arc<CryptoProvider>,
    /// Who is asked nevertheless, so that it can be counted.
    pub(super) watched: Option<Watched>,
}

/// Counts certificates that are not valid.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) strict: Arc<dyn ServerCertVerifier>,
    pub(super) failures: Counter,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(Watched { strict, failures }) = &self.watched
            && strict.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).is_err()
        {
            failures.inc();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
