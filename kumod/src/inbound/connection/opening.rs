//! The first moments of a connection, and those in which it is learnt anew who the client is.
//!
//! In this order: the PROXY header, the client's place among its connections, TLS from the first byte, silence before the banner. Who cannot
//! stay is told 421 with the reason, and counted by it. A header or an XCLIENT changes who the client is: relay rules, limits and all
//! other options are then those of the new one.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use smtp::reply::Reply;
use smtp::server::XClient;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Connection, End};
use crate::config::ListenerTls;
use crate::inbound::proxy_header::{self, Announced};
use crate::inbound::tls;

/// Bytes that are looked at for a client that speaks before it is greeted.
const EARLY_BYTES: usize = 64;

impl Connection {
    pub(super) async fn talk(&mut self) -> Result<End, End> {
        if self.profile.listener.require_proxy_protocol {
            self.read_proxy_header().await?;
        }
        self.take_place().await?;
        if self.profile.listener.enable_tls == ListenerTls::Implicit {
            self.shake_hands().await?;
            self.session = smtp::server::Session::new(self.profile.session_for(self.peer)).within_tls();
        }
        if !self.profile.listener.banner_delay.is_zero() {
            self.listen_before_greeting().await?;
        }
        self.session.greet(&mut self.out);
        self.converse().await
    }

    /// Tells the client why it cannot stay.
    async fn turn_away(&mut self, why: &'static str, code: (u8, u16, u16)) -> End {
        let metrics = &self.context.inbound.metrics;
        metrics.total_connections_denied.esmtp_listener.inc();
        metrics.reject(why);
        Reply::owned(421, code, format!("{} {why}", self.profile.hostname)).write(true, &mut self.out);
        // Whoever does not read it has lost nothing.
        let _ = self.flush().await;
        End::TurnedAway(why)
    }

    async fn read_proxy_header(&mut self) -> Result<(), End> {
        if !self.profile.listener.trusted_hosts.contains(self.peer.ip()) {
            return Err(self.turn_away("not a proxy that is trusted here", (4, 7, 1)).await);
        }
        let deadline = Instant::now() + self.profile.listener.client_timeout;
        match timeout_at(deadline, proxy_header::read(&mut self.stream)).await {
            Ok(Ok(Announced::Nobody)) => Ok(()),
            Ok(Ok(Announced::Client { from, via })) => {
                self.becomes(from, via);
                Ok(())
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::debug!(peer = %self.peer, %error, "refused");
                Err(self.turn_away("the PROXY header is missing or malformed", (4, 7, 1)).await)
            }
            Ok(Err(error)) => Err(End::Io(error)),
            Err(_) => Err(self.turn_away("the PROXY header did not come in time", (4, 4, 2)).await),
        }
    }

    /// The client is another than the connection is from.
    fn becomes(&mut self, from: SocketAddr, via: SocketAddr) {
        let original = (mem::replace(&mut self.peer, from), mem::replace(&mut self.via, via));
        self.original.get_or_insert_with(|| Box::new(original));
        self.profile = self.context.profiles.of(from, via);
        self.session.reconfigure(self.profile.session_for(from));
        self.log_out();
    }

    /// A proxy says for whom it speaks (XCLIENT). What it does not say stays as it was.
    pub(super) fn speaks_for(&mut self, client: &XClient) {
        let from = SocketAddr::new(
            client.address.unwrap_or_else(|| self.peer.ip()),
            client.port.unwrap_or_else(|| self.peer.port()),
        );
        let via = SocketAddr::new(
            client.destination_address.unwrap_or_else(|| self.via.ip()),
            client.destination_port.unwrap_or_else(|| self.via.port()),
        );
        self.becomes(from, via);
        self.helo.clear();
        self.extended = false;
        self.session.accept(&mut self.out);
    }

    /// Clients that may relay are the operator's own, and have no limit of their own.
    async fn take_place(&mut self) -> Result<(), End> {
        if self.may_relay {
            return Ok(());
        }
        let connections_max = self.profile.listener.max_connections_per_client;
        self._counted = self.context.inbound.clients.enter(self.peer.ip(), connections_max);
        if self._counted.is_none() {
            return Err(self.turn_away("too many connections from this client", (4, 7, 0)).await);
        }
        Ok(())
    }

    /// A client that speaks before it is greeted does not listen: it is no mail server (RFC 5321 3.1).
    async fn listen_before_greeting(&mut self) -> Result<(), End> {
        let mut early = Vec::with_capacity(EARLY_BYTES);
        match timeout(self.profile.listener.banner_delay, self.stream.read_buf(&mut early)).await {
            Err(_) => Ok(()),
            Ok(Ok(0)) => Err(End::Closed),
            Ok(Ok(_)) => Err(self.turn_away("spoke before the greeting", (4, 7, 0)).await),
            Ok(Err(error)) => Err(End::Io(error)),
        }
    }

    pub(super) async fn start_tls(&mut self) -> Result<(), End> {
        self.flush().await?;
        // What came in the clear behind STARTTLS is nobody's word (RFC 3207 6).
        self.input.clear();
        self.taken = 0;
        self.shake_hands().await?;
        self.session.tls_started();
        self.log_out();
        self.helo.clear();
        self.extended = false;
        Ok(())
    }

    /// The handshake, within the time that a command may take.
    async fn shake_hands(&mut self) -> Result<(), End> {
        let config = self.profile.tls.config().map_err(io::Error::other);
        let deadline = self.profile.listener.client_timeout;
        let shaken = match config {
            Ok(config) => {
                timeout(deadline, self.stream.start_tls(config)).await.map_err(|_| End::Deadline)?
            }
            Err(error) => {
                tracing::error!(%error, "TLS is not to be had");
                Err(error)
            }
        };
        match shaken {
            Ok(connection) => {
                self.tls = Some(Arc::new(tls::facts(connection)));
                self.client = None;
                Ok(())
            }
            Err(error) => {
                self.context.inbound.metrics.reject("TLS handshake failed");
                Err(End::Io(error))
            }
        }
    }

    /// Each bad command since the last look costs the client a while.
    pub(super) async fn tarpit(&mut self) {
        let errors = self.session.errors();
        if errors > self.errors_punished {
            self.context.inbound.metrics.reject("tarpitted");
            sleep(self.profile.listener.tarpit_delay).await;
        }
        self.errors_punished = errors;
    }

    /// The protocol has ended the session: by which limit?
    pub(super) fn count_close(&self) {
        let limits = &self.profile.session.limits;
        let why = if self.session.errors() >= limits.errors_max {
            "too many errors"
        } else if self.session.messages() >= limits.messages_max {
            "too many messages"
        } else {
            "a stream that cannot be followed"
        };
        self.context.inbound.metrics.reject(why);
    }
}
