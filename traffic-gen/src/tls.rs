//! TLS of the generator: what is asked of a server's certificate, the handshake, and a stream that is plain or encrypted.
//!
//! Owns the choice whom to trust. By default everybody: a laboratory's server has a certificate that nobody vouches for,
//! and what is measured is its speed. Resumes no session: every handshake is a full one, so that their times can be
//! compared. A handshake that fails closes the connection; there is no way back to the clear. The crypto provider is ring,
//! passed by hand: nothing here depends on the process's default, so no other library can change it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::transport::Verify;

/// Why there is no TLS. The operator is to blame, for what was given, or for the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The name cannot stand in a certificate.
    #[error(
        "{0:?} is neither a host name nor an address; give the name that the server's certificate is for"
    )]
    Name(String),
    /// What is to be trusted cannot be read.
    #[error("the certificates to trust are not PEM with at least one CERTIFICATE: {0}")]
    Ca(String),
    /// This host trusts nobody.
    #[error(
        "this host has no certificates to trust ({0}); install ca-certificates, or name a file of your own"
    )]
    NoSystemCertificates(String),
    /// The library refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// Does handshakes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl Connector {
    /// Trusts as `verify` says. `sni` is the name to ask for and to find in the certificate; `None`: the host of each
    /// target, which is not sent where it is an address (RFC 6066 3).
    ///
    /// # Errors
    /// What is given cannot be used.
    pub(crate) fn new(verify: &Verify, sni: Option<&str>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Library(error.to_string()))?;
        let mut config = match roots(verify)? {
            Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        let name = sni.map(server_name).transpose()?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// A host name, or an address with or without brackets.
fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name(host.to_owned()))
}

fn roots(verify: &Verify) -> Result<Option<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    match verify {
        Verify::Nothing => return Ok(None),
        Verify::System => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                return Err(TlsError::NoSystemCertificates(errors.join("; ")));
            }
        }
        Verify::Ca(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| TlsError::Ca(error.to_string()))?;
                roots.add(certificate).map_err(|error| TlsError::Ca(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(TlsError::Ca("there is none".to_owned()));
            }
        }
    }
    Ok(Some(roots))
}

/// Takes every certificate; that the server has the key to it is still asked for.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection, in the clear or through TLS.
pub(crate) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Through TLS; boxed, because most connections have none and should not pay for its size.
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake was begun and has not succeeded: nothing can be read or written any more.
    Closed,
}

impl Stream {
    /// The handshake; from then on everything is encrypted. `host` is the target's, for where no name was given. A call
    /// that is dropped halfway, and one that fails, close the connection. The caller sets the deadline.
    ///
    /// # Errors
    /// The server does not do TLS as it should, or shows a certificate that is not trusted, or is gone; TLS is up already.
    pub(crate) async fn start_tls(&mut self, connector: &Connector, host: &str) -> io::Result<()> {
        let name = match &connector.name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(io::Error::other)?,
        };
        let Self::Plain(tcp) = std::mem::replace(self, Self::Closed) else {
            return Err(io::Error::other("TLS is up already, or the connection is closed"));
        };
        *self = Self::Tls(Box::new(connector.connector.connect(name, tcp).await?));
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => {
                // The library may hold back what the socket did not take; who reads waits for an answer to it.
                if tls.get_ref().1.wants_write()
                    && let Poll::Ready(Err(error)) = Pin::new(&mut *tls).poll_flush(context)
                {
                    return Poll::Ready(Err(error));
                }
                Pin::new(tls).poll_read(context, buffer)
            }
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, parts),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, parts),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_trusted_is_said() {
        let pem = |text: &str| Connector::new(&Verify::Ca(text.into()), None).err().unwrap();
        assert_eq!(pem("no PEM at all"), TlsError::Ca("there is none".into()));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(pem(broken), TlsError::Ca(_)));
        let name = Connector::new(&Verify::Nothing, Some("two words")).err().unwrap();
        assert!(name.to_string().starts_with("\"two words\" is neither"), "{name}");
    }

    #[test]
    fn addresses_are_names_too() {
        for host in ["mx.example", "127.0.0.1", "[::1]", "::1", "localhost"] {
            assert!(server_name(host).is_ok(), "{host}");
        }
    }
}
