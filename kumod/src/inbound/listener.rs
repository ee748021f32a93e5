//! Accepts connections and answers for their number.
//!
//! A connection over the limit is told 421 and closed; when the process is out of file descriptors the rest waits in the kernel's
//! backlog until one is closed. Nothing a client does ends the loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smtp::reply::Reply;
use smtp::server::Mechanism;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{BodyBudget, BodyPool};
use super::clients::ClientCounts;
use super::connection::Connection;
use super::profile::{Profile, Profiles};
use super::tls::TlsError;
use crate::config::SmtpListener;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::ports::Shutdown;

/// Pause before accepting again when the host is out of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// What all SMTP listeners share.
#[derive(Clone)]
pub struct Inbound {
    /// The door in.
    pub intake: Arc<Intake>,
    /// Buffers for bodies.
    pub pool: Arc<BodyPool>,
    /// The budget of bodies in reception.
    pub budget: Arc<BodyBudget>,
    /// Connections of each client address.
    pub clients: Arc<ClientCounts>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Says when to stop.
    pub shutdown: Shutdown,
}

/// What all connections of one listener share.
pub(super) struct Context {
    pub(super) inbound: Inbound,
    pub(super) profiles: Profiles,
}

/// A bound SMTP listener with all that it needs to serve.
pub struct SmtpDoor {
    socket: std::net::TcpListener,
    connections_max: usize,
    context: Arc<Context>,
}

impl SmtpDoor {
    /// Gets a listener ready. To be called before the first mail is taken, so that a certificate that cannot be used stops the start.
    ///
    /// # Errors
    /// Certificate or key cannot be used.
    pub fn new(
        socket: std::net::TcpListener,
        listener: SmtpListener,
        hostname: &str,
        inbound: Inbound,
    ) -> Result<Self, TlsError> {
        let connections_max = listener.max_connections;
        let profiles = Profiles::new(listener, hostname, mechanisms(&inbound.intake.policy))?;
        let context = Arc::new(Context { inbound, profiles });
        Ok(Self { socket, connections_max, context })
    }

    /// Serves until the process stops. Returns when the last connection has ended or the grace is over.
    ///
    /// # Errors
    /// The socket cannot be used with the runtime.
    pub async fn serve(self, grace: Duration) -> io::Result<()> {
        let socket = TcpListener::from_std(self.socket)?;
        let slots = Arc::new(Semaphore::new(self.connections_max));
        let context = self.context;
        let mut shutdown = context.inbound.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = shutdown.wait() => break,
            };
            match accepted {
                Ok((stream, peer)) => open(&context, &slots, stream, peer),
                Err(error) => {
                    tracing::debug!(%error, "accept failed; waiting for a connection to close");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        drop(socket);
        let all = u32::try_from(self.connections_max).unwrap_or(u32::MAX);
        if tokio::time::timeout(grace, slots.acquire_many(all)).await.is_err() {
            tracing::warn!(
                "connections were still open after the grace of {grace:?}; they are cut, without loss of accepted mail"
            );
        }
        Ok(())
    }
}

/// How users can show who they are: as the policy can judge it. What keeps the password to itself comes first.
fn mechanisms(policy: &Policy) -> Vec<Mechanism> {
    let (plain, scram) = (policy.handles_auth_plain(), policy.handles_auth_scram());
    let known = |mechanism: &Mechanism| if *mechanism == Mechanism::ScramSha256 { scram } else { plain };
    Mechanism::ALL.into_iter().filter(known).collect()
}

fn open(context: &Arc<Context>, slots: &Arc<Semaphore>, stream: TcpStream, peer: SocketAddr) {
    let inbound = &context.inbound;
    let Ok(via) = stream.local_addr() else {
        // The client is gone already.
        return;
    };
    let profile = context.profiles.of(peer, via);
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        inbound.metrics.total_connections_denied.esmtp_listener.inc();
        return refuse(&stream, &profile, "Too many connections; try again later");
    };
    if let Some(reason) = inbound.intake.refusal() {
        tracing::debug!(%reason, "connection refused");
        inbound.metrics.total_connections_denied.esmtp_listener.inc();
        return refuse(&stream, &profile, "Service not available; try again later");
    }
    // Nagle's delay would hold back each reply; a failure only costs speed.
    let _ = stream.set_nodelay(true);
    let connection = Connection::new(Arc::clone(context), profile, stream, (peer, via));
    tokio::spawn(converse(Arc::clone(context), connection, peer, slot));
}

async fn converse(
    context: Arc<Context>,
    connection: Connection,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
) {
    let metrics = &context.inbound.metrics;
    metrics.total_connection_count.esmtp_listener.inc();
    metrics.connection_count.esmtp_listener.inc();
    let end = connection.run().await;
    metrics.connection_count.esmtp_listener.dec();
    tracing::trace!(%peer, ?end, "connection ended");
    drop(slot);
}

/// The send buffer of a new socket is empty, so the line fits without waiting.
fn refuse(stream: &TcpStream, profile: &Profile, why: &'static str) {
    let mut line = Vec::new();
    Reply::owned(421, (4, 3, 2), format!("{} {why}", profile.hostname)).write(true, &mut line);
    let _ = stream.try_write(&line);
}
