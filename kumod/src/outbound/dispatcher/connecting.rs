//! How a dispatcher comes to a connection: which host is next, and what is done when one does not answer, greet or do TLS as it should.
//!
//! All addresses of a site are tried before a message has failed for want of a connection; none is tried twice for it, except in the clear
//! after a handshake that failed, where the path allows that.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Dispatcher;
use crate::clock::UnixMs;
use crate::config::ReconnectStrategy;
use crate::envelope::Outcome;
use crate::outbound::candidates::ADDRESSES_TRIED_MAX;
use crate::outbound::dial::{self, DialError};
use crate::outbound::path::Path;
use crate::outbound::security::Posture;
use crate::outbound::session::{Connection, NotOpen};

/// Where the next connection leads.
#[derive(Default)]
pub(super) struct NextHost {
    /// There, if it can be reached.
    again: Option<(Arc<str>, SocketAddr)>,
    /// Not there, as long as there are others.
    avoid: Vec<SocketAddr>,
}

impl NextHost {
    /// Not where this connection led.
    pub(super) fn avoid(&mut self, connection: &Connection) {
        self.avoid.push(connection.host().1);
    }

    /// Whether nothing is known that would speak for another host than the first.
    pub(super) fn is_the_first(&self) -> bool {
        self.again.is_none() && self.avoid.is_empty()
    }
}

impl Dispatcher {
    /// A connection is lost; the path says where the next one leads.
    pub(super) fn lost(&mut self, connection: &Connection, path: &Path) {
        let (name, address) = connection.host();
        match path.config.reconnect_strategy {
            ReconnectStrategy::ConnectNextHost => self.next_host.avoid.push(address),
            ReconnectStrategy::ReconnectSameHost => self.next_host.again = Some((name, address)),
            ReconnectStrategy::TerminateSession => self.is_over = true,
        }
    }

    /// Connects to the first host that answers and greets. `broken`: how the connection broke that this message had; where there is no other
    /// host then, that is the outcome.
    pub(super) async fn connect(
        &mut self,
        path: &Arc<Path>,
        broken: Option<Outcome>,
    ) -> Result<Box<Connection>, DialError> {
        let outbound = Arc::clone(&self.outbound);
        if let Some((name, address)) = self.next_host.again.take()
            && let Ok(dialed) = self.timed(dial::again(&outbound, name, address, path)).await
            && let Ok(connection) = self.open(dialed, path).await
        {
            return Ok(connection);
        }
        let site = self.ready.site();
        let mut last = broken;
        loop {
            let (ready, avoid) = (Arc::clone(&self.ready), self.next_host.avoid.clone());
            match self.timed(dial::dial(&outbound, &site, path, &ready.quiet, &avoid)).await {
                Ok(dialed) => {
                    let address = dialed.address;
                    match self.open(dialed, path).await {
                        Ok(connection) => return Ok(connection),
                        // RFC 5321 5.1: the next one may do better.
                        Err(DialError::Site(outcome)) => last = Some(outcome),
                        Err(error) => return Err(error),
                    }
                    self.next_host.avoid.push(address);
                    if self.next_host.avoid.len() < ADDRESSES_TRIED_MAX {
                        continue;
                    }
                }
                // Of the others none could be reached; behind the last comes the first.
                Err(DialError::NoOther | DialError::Site(_)) if last.is_none() && !avoid.is_empty() => {
                    self.next_host = NextHost::default();
                    continue;
                }
                Err(DialError::NoOther) => {}
                // What a server said tells more than that another one is not there.
                Err(DialError::Site(_)) if last.is_some() => {}
                Err(error) => {
                    self.next_host = NextHost::default();
                    return Err(error);
                }
            }
            self.next_host = NextHost::default();
            return Err(last.map_or(DialError::NoOther, DialError::Site));
        }
    }

    /// Notes how long it takes to connect.
    async fn timed<T>(&mut self, dialing: impl Future<Output = T>) -> T {
        let began = UnixMs::now();
        let dialed = dialing.await;
        self.timings.began.get_or_insert(began);
        let took = self.timings.connect.unwrap_or_default() + UnixMs::now().since(began);
        self.timings.connect = Some(took);
        dialed
    }

    /// Greets, through TLS or not as the path says.
    async fn open(&mut self, dialed: dial::Dialed, path: &Arc<Path>) -> Result<Box<Connection>, DialError> {
        let ehlo = path.config.ehlo_domain.as_deref().or(path.source.ehlo_domain.as_deref());
        let ehlo = ehlo.unwrap_or(&self.outbound.parts.hostname);
        let outbound = &self.outbound;
        let (port, site) = (dialed.address.port(), self.ready.site());
        let posture = outbound.security.posture(&dialed.name, port, &site, &path.config).await;
        let posture = posture.map_err(DialError::Site)?;
        let again = posture.clear_after_failure.then(|| (Arc::clone(&dialed.name), dialed.address));
        let opened = match (Connection::open(dialed, posture, ehlo, path, outbound).await, again) {
            (Err(NotOpen { tls_took: Some(_), .. }), Some((name, address))) => {
                let dialed = dial::again(outbound, name, address, path).await?;
                Connection::open(dialed, Posture::CLEAR, ehlo, path, outbound).await
            }
            (opened, _) => opened,
        };
        self.timings.tls = match &opened {
            Ok(connection) => connection.tls_took,
            Err(error) => error.tls_took,
        };
        let mut connection = opened.map_err(|error| DialError::Site(error.outcome))?;
        connection.assured = site.is_assured();
        self.ready.connected();
        Ok(Box::new(connection))
    }
}
