//! The byte stream to a next hop: in the clear, or through TLS.
//!
//! In the clear it is the socket and one branch. A handshake that fails, or is given up, leaves a stream that nothing can be read from or
//! written to: there is no way back to the clear on the same connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::Wire;

/// A connection to a server.
#[derive(Debug)]
pub(super) enum Stream {
    /// In the clear.
    Plain(Wire),
    /// Through TLS; boxed, because a connection without it should not pay for its size.
    Tls(Box<TlsStream<Wire>>),
    /// A handshake was begun and has not succeeded.
    Closed,
}

impl Stream {
    /// The handshake; from then on everything is encrypted. A call that is dropped halfway, and one that fails, close the
    /// connection. The caller sets the deadline.
    ///
    /// # Errors
    /// The server does not do TLS as it should, or is not who it must be, or is gone; TLS is up already.
    pub(super) async fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<&ClientConnection> {
        let Self::Plain(tcp) = std::mem::replace(self, Self::Closed) else {
            return Err(io::Error::other("TLS is up already, or the connection is closed"));
        };
        *self = Self::Tls(Box::new(TlsConnector::from(config).connect(name, tcp).await?));
        match self {
            Self::Tls(tls) => Ok(tls.get_ref().1),
            Self::Plain(_) | Self::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Whether what is written has to be flushed.
    pub(super) fn is_tls(&self) -> bool {
        match self {
            Self::Plain(wire) => wire.holds_back(),
            Self::Tls(_) => true,
            Self::Closed => false,
        }
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
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
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
