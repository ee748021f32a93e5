//! TLS of the sink: a certificate, the handshake, and a stream that is plain or encrypted.
//!
//! Owns the certificate, one made at the start where none is given, and on purpose a bad one for the fault
//! `bad_tls`. Asks clients for no certificate, and resumes no session: every handshake is a full one, so that what is
//! measured does not depend on who was here before. A handshake that fails closes the connection. The crypto provider
//! is ring, passed by hand: nothing here depends on the process's default, so no other library can change it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The name in the certificate of [`Flaw::WrongName`]; nobody's (RFC 6761 6.4).
const WRONG_NAME: &str = "wrong-name.invalid";

/// Certificate and key in PEM, as their files hold them.
#[derive(Clone, Copy)]
pub(crate) struct Pem<'a> {
    /// The server's own first, then those that vouch for it.
    pub(crate) certificates: &'a [u8],
    /// PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub(crate) key: &'a [u8],
}

/// What is wrong with a certificate on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Its time is over.
    Expired,
    /// It is for another host.
    WrongName,
}

/// Why there is no TLS. The operator is to blame, for what was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The certificate's file holds none, or is damaged.
    #[error("certificate is not PEM with at least one CERTIFICATE: {0}")]
    Certificate(rustls::pki_types::pem::Error),
    /// The key's file holds none, or is damaged.
    #[error("key is not PEM with a PRIVATE KEY that is not encrypted: {0}")]
    Key(rustls::pki_types::pem::Error),
    /// The two do not fit together, or are of a sort that is not known.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// No certificate can be made for these names.
    #[error("no certificate can be made for {names}: {error}; use host names and addresses in ASCII")]
    SelfSigned {
        /// As given, with commas between.
        names: String,
        /// Of the library.
        error: rcgen::Error,
    },
}

/// Does handshakes with one certificate. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Presents the certificate that is given, or else one that vouches for itself and for `hostnames` (names and
    /// addresses).
    ///
    /// # Errors
    /// What is given cannot be used.
    pub(crate) fn new(pem: Option<Pem<'_>>, hostnames: &[String]) -> Result<Self, TlsError> {
        let Some(pem) = pem else {
            return Self::self_signed(hostnames, None);
        };
        let certificates = CertificateDer::pem_slice_iter(pem.certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(TlsError::Certificate)?;
        if certificates.is_empty() {
            return Err(TlsError::Certificate(rustls::pki_types::pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(TlsError::Key)?;
        Self::with(certificates, key)
    }

    /// Presents a certificate that a client that looks must refuse.
    ///
    /// # Errors
    /// [`TlsError::SelfSigned`].
    pub(crate) fn flawed(flaw: Flaw, hostnames: &[String]) -> Result<Self, TlsError> {
        Self::self_signed(hostnames, Some(flaw))
    }

    fn self_signed(hostnames: &[String], flaw: Option<Flaw>) -> Result<Self, TlsError> {
        let made = || -> Result<_, rcgen::Error> {
            let names =
                if flaw == Some(Flaw::WrongName) { vec![WRONG_NAME.to_owned()] } else { hostnames.to_vec() };
            let mut params = CertificateParams::new(names)?;
            if flaw == Some(Flaw::Expired) {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }
            let key = KeyPair::generate()?;
            Ok((params.self_signed(&key)?, key))
        };
        let (certificate, key) =
            made().map_err(|error| TlsError::SelfSigned { names: hostnames.join(", "), error })?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Self::with(vec![certificate.der().clone()], key.into())
    }

    fn with(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(TlsError::Pair)?;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
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
    /// The handshake; from then on everything is encrypted. A call that is dropped halfway, and one that fails, close
    /// the connection. The caller sets the deadline.
    ///
    /// # Errors
    /// The client does not do TLS as it should, or refuses the certificate, or is gone; TLS is up already.
    pub(crate) async fn start_tls(&mut self, acceptor: &Acceptor) -> io::Result<()> {
        let Self::Plain(tcp) = std::mem::replace(self, Self::Closed) else {
            return Err(io::Error::other("TLS is up already, or the connection is closed"));
        };
        *self = Self::Tls(Box::new(acceptor.0.accept(tcp).await?));
        Ok(())
    }

    /// The socket; `None` once it is closed.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.get_ref().0),
            Self::Closed => None,
        }
    }

    /// Whether TLS is up.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
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
    use std::sync::Mutex;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Takes any certificate and keeps it.
    #[derive(Debug, Default)]
    struct Keeper(Mutex<Option<CertificateDer<'static>>>);

    impl ServerCertVerifier for Keeper {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            *self.0.lock().unwrap() = Some(end_entity.clone().into_owned());
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

    type Client = tokio_rustls::client::TlsStream<TcpStream>;

    async fn tcp_pair() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, Stream::Plain(listener.accept().await.unwrap().0))
    }

    /// Both sides of a handshake with a client that wants to talk to `localhost`.
    async fn shake(acceptor: &Acceptor, client: ClientConfig) -> (io::Result<Client>, Stream) {
        let (tcp, mut server) = tcp_pair().await;
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("localhost").unwrap();
        let (_, client) = tokio::join!(server.start_tls(acceptor), connector.connect(name, tcp));
        (client, server)
    }

    fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        builder.with_safe_default_protocol_versions().unwrap()
    }

    fn trusting(certificate: CertificateDer<'static>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        builder().with_root_certificates(roots).with_no_client_auth()
    }

    /// What a client says that trusts the very certificate that `acceptor` shows.
    async fn verdict(acceptor: &Acceptor) -> String {
        let keeper = Arc::new(Keeper::default());
        let verifier = Arc::<Keeper>::clone(&keeper);
        let lax = builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        shake(acceptor, lax).await.0.unwrap();
        let certificate = keeper.0.lock().unwrap().take().unwrap();
        match shake(acceptor, trusting(certificate)).await.0 {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn localhost() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
    }

    #[tokio::test]
    async fn a_certificate_of_ones_own_is_good_and_a_flawed_one_is_not() {
        assert_eq!(verdict(&Acceptor::new(None, &localhost()).unwrap()).await, "fine");
        let expired = verdict(&Acceptor::flawed(Flaw::Expired, &localhost()).unwrap()).await;
        assert!(expired.contains("expired"), "{expired}");
        let wrong = verdict(&Acceptor::flawed(Flaw::WrongName, &localhost()).unwrap()).await;
        assert!(wrong.contains("not valid for name"), "{wrong}");
    }

    #[tokio::test]
    async fn bytes_pass_in_both_directions() {
        let pair = rcgen::generate_simple_self_signed(localhost()).unwrap();
        let (certificates, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let pem = Pem { certificates: certificates.as_bytes(), key: key.as_bytes() };
        let acceptor = Acceptor::new(Some(pem), &[]).unwrap();
        let (client, mut server) = shake(&acceptor, trusting(pair.cert.der().clone())).await;
        let mut client = client.unwrap();
        assert!(server.is_tls() && server.tcp().is_some() && server.is_write_vectored());
        // More than the library buffers and the socket takes, so that something is held back while the other reads.
        let large = vec![7; 4 << 20];
        let exchange = async {
            server.write_all(&large).await.unwrap();
            let mut answer = [0; 4];
            server.read_exact(&mut answer).await.unwrap();
            answer
        };
        let other = async {
            let mut read = vec![0; large.len()];
            client.read_exact(&mut read).await.unwrap();
            client.write_all(b"done").await.unwrap();
            client.flush().await.unwrap();
            read
        };
        let (answer, read) = tokio::join!(exchange, other);
        assert!(&answer == b"done" && read == large);
    }

    #[tokio::test]
    async fn who_does_not_speak_tls_loses_the_connection() {
        let (mut client, mut server) = tcp_pair().await;
        client.write_all(b"EHLO in.the.clear\r\n").await.unwrap();
        let acceptor = Acceptor::new(None, &localhost()).unwrap();
        assert!(server.start_tls(&acceptor).await.is_err());
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(server.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(server.tcp().is_none() && !server.is_tls());
        assert!(server.start_tls(&acceptor).await.is_err());
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let pair = rcgen::generate_simple_self_signed(localhost()).unwrap();
        let other = rcgen::generate_simple_self_signed(localhost()).unwrap();
        let (certificate, key) = (pair.cert.pem(), other.signing_key.serialize_pem());
        let said = |certificates: &str, key: &str| {
            let pem = Pem { certificates: certificates.as_bytes(), key: key.as_bytes() };
            Acceptor::new(Some(pem), &[]).err().unwrap().to_string()
        };
        assert!(said("", &key).starts_with("certificate is not PEM"));
        assert!(said(&certificate, "").starts_with("key is not PEM"));
        assert!(said(&certificate, &key).starts_with("certificate and key cannot be used together"));
        let name = Acceptor::new(None, &["bücher".to_owned()]).err().unwrap().to_string();
        assert!(name.starts_with("no certificate can be made for bücher"), "{name}");
    }
}
