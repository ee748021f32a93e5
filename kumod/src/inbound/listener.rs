//! Accepts connections and answers for their number.
//!
//! A connection over the limit is told 421 and closed; when the process is out of file descriptors the rest waits in the kernel's
//! backlog until one is closed. Nothing a client does ends the loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smtp::reply::Reply;
use smtp::server;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{BodyBudget, BodyPool};
use super::connection::Connection;
use crate::config::{LineEndings, SmtpListener};
use crate::intake::Intake;
use crate::metrics::Metrics;
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
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Says when to stop.
    pub shutdown: Shutdown,
}

/// What all connections of one listener share.
pub(super) struct Context {
    pub(super) inbound: Inbound,
    pub(super) listener: SmtpListener,
    pub(super) hostname: Arc<str>,
    pub(super) session: Arc<server::Config>,
    pub(super) body_rules: smtp::data::BodyRules,
}

impl Context {
    fn new(inbound: Inbound, listener: SmtpListener, hostname: &str) -> Self {
        let hostname: Arc<str> = listener.hostname.as_deref().unwrap_or(hostname).into();
        let limits = server::Limits {
            recipients_max: listener.max_recipients_per_message,
            message_bytes_max: listener.max_message_size,
            messages_max: listener.max_messages_per_connection,
            ..server::Limits::default()
        };
        let session = server::Config {
            hostname: hostname.to_string(),
            banner: listener.banner.clone(),
            limits,
            ..server::Config::default()
        };
        let line_endings = match listener.invalid_line_endings {
            LineEndings::Deny => smtp::data::LineEndings::Deny,
            LineEndings::Allow => smtp::data::LineEndings::Allow,
        };
        let body_rules =
            smtp::data::BodyRules { line_bytes_max: listener.line_length_hard_limit, line_endings };
        Self { inbound, listener, hostname, session: Arc::new(session), body_rules }
    }
}

/// Serves one listener until the process stops. Returns when its last connection has ended or the grace is over.
///
/// # Errors
/// The socket cannot be used with the runtime.
pub async fn serve(
    socket: std::net::TcpListener,
    listener: SmtpListener,
    hostname: String,
    inbound: Inbound,
    grace: Duration,
) -> io::Result<()> {
    let socket = TcpListener::from_std(socket)?;
    let connections_max = listener.max_connections;
    let slots = Arc::new(Semaphore::new(connections_max));
    let context = Arc::new(Context::new(inbound, listener, &hostname));
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
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(grace, slots.acquire_many(all)).await.is_err() {
        tracing::warn!(
            "connections were still open after the grace of {grace:?}; they are cut, without loss of accepted mail"
        );
    }
    Ok(())
}

fn open(context: &Arc<Context>, slots: &Arc<Semaphore>, stream: TcpStream, peer: SocketAddr) {
    let inbound = &context.inbound;
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        inbound.metrics.total_connections_denied.esmtp_listener.inc();
        return refuse(&stream, context, "Too many connections; try again later");
    };
    if let Some(reason) = inbound.intake.refusal() {
        tracing::debug!(%reason, "connection refused");
        inbound.metrics.total_connections_denied.esmtp_listener.inc();
        return refuse(&stream, context, "Service not available; try again later");
    }
    // Nagle's delay would hold back each reply; a failure only costs speed.
    let _ = stream.set_nodelay(true);
    tokio::spawn(converse(Arc::clone(context), stream, peer, slot));
}

async fn converse(context: Arc<Context>, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
    let metrics = &context.inbound.metrics;
    metrics.total_connection_count.esmtp_listener.inc();
    metrics.connection_count.esmtp_listener.inc();
    let end = Connection::new(Arc::clone(&context), stream, peer).run().await;
    metrics.connection_count.esmtp_listener.dec();
    tracing::trace!(%peer, ?end, "connection ended");
    drop(slot);
}

/// The send buffer of a new socket is empty, so the line fits without waiting.
fn refuse(stream: &TcpStream, context: &Context, why: &'static str) {
    let mut line = Vec::new();
    Reply::owned(421, (4, 3, 2), format!("{} {why}", context.hostname)).write(true, &mut line);
    let _ = stream.try_write(&line);
}
