//! A client's byte stream: in the clear, or through TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A connection of a client.
#[derive(Debug)]
pub(super) enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Through TLS; boxed, because most connections have none and should not pay for its size.
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake was begun and has not succeeded: nothing can be read or written any more.
    Closed,
}

impl Stream {
    /// The handshake; from then on everything is encrypted. A call that is dropped halfway, and one that fails, close the
    /// connection. The caller sets the deadline.
    ///
    /// # Errors
    /// The client does not do TLS as it should, or refuses the certificate, or is gone; TLS is up already.
    pub(super) async fn start_tls(&mut self, config: Arc<ServerConfig>) -> io::Result<&ServerConnection> {
        let Self::Plain(tcp) = std::mem::replace(self, Self::Closed) else {
            return Err(io::Error::other("TLS is up already, or the connection is closed"));
        };
        *self = Self::Tls(Box::new(TlsAcceptor::from(config).accept(tcp).await?));
        match self {
            Self::Tls(tls) => Ok(tls.get_ref().1),
            Self::Plain(_) | Self::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// One attempt to write a last line without waiting. Through TLS it would have to be encrypted and flushed: it is left out.
    pub(super) fn try_write(&self, line: &[u8]) {
        if let Self::Plain(tcp) = self {
            let _ = tcp.try_write(line);
        }
    }

    /// Whether what is written has to be flushed, and the end be said (RFC 8446 6.1).
    pub(super) fn is_tls(&self) -> bool {
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
