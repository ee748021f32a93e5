//! Certificates for the tests, and clients that trust them.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// A certificate that vouches for itself, with its key.
pub(crate) struct Pair {
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Pair {
    pub(crate) fn new(name: &str) -> Self {
        Self { made: rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap() }
    }

    pub(crate) fn certificate(&self) -> String {
        self.made.cert.pem()
    }

    pub(crate) fn key(&self) -> String {
        self.made.signing_key.serialize_pem()
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.made.signing_key.serialize_der()).into()
    }
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap()
}

/// Trusts whoever answers.
pub(crate) fn anybody() -> ClientConfig {
    builder().dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth()
}

/// The same, and shows a certificate of its own.
pub(crate) fn anybody_as(pair: &Pair) -> ClientConfig {
    let chain = vec![pair.made.cert.der().clone()];
    let builder = builder().dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    builder.with_client_auth_cert(chain, pair.key_der()).unwrap()
}

/// Trusts this certificate and no other.
pub(crate) fn only(pair: &Pair) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(pair.made.cert.der().clone()).unwrap();
    builder().with_root_certificates(roots).with_no_client_auth()
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
