//! Opens a connection to the first host of a site that answers.
//!
//! Addresses are tried in order. One that has not answered within its head start is not given up, but the next is tried beside it, and
//! whoever answers first is taken; the other is remembered as silent (`quiet`). So a dead first MX costs a connection the head start at
//! most, and most connections nothing. What is the fault of the source, its address or its proxy, ends the search at once: no
//! other host would do better.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::candidates::{Candidate, Candidates};
use super::path::Path;
use super::proxy::{self, Fault};
use super::quiet::Quiet;
use super::route::Site;
use super::socket::{self, SocketError};
use super::wire::Wire;
use super::{Outbound, classify};
use crate::envelope::Outcome;
use crate::maillog::SourceAddress;

/// How long an address is waited for before the next is tried beside it.
const HEAD_START: Duration = Duration::from_secs(3);

/// An open connection and who is at its other end.
pub(super) struct Dialed {
    pub(super) stream: Wire,
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    /// Where it comes from, if the source has an address or a proxy.
    pub(super) from: Option<SourceAddress>,
}

/// Why there is no connection, as an outcome for the message that wanted it.
pub(super) enum DialError {
    /// The site is to blame.
    Site(Outcome),
    /// The source's address is not on this host, whatever the site.
    Unplumbed(Outcome),
    /// The source's proxy does not serve, whatever the site.
    Proxy(Outcome),
    /// There is no address but those that were to be avoided.
    NoOther,
}

/// An open connection, and where it comes from.
pub(super) struct Opened {
    pub(super) stream: Wire,
    pub(super) from: Option<SourceAddress>,
}

/// Tries hosts and addresses in order, but not those to avoid.
///
/// # Errors
/// Who is to blame, and the outcome for the message that wanted the connection.
pub(super) async fn dial(
    outbound: &Outbound,
    site: &Site,
    path: &Path,
    quiet: &Quiet,
    avoid: &[SocketAddr],
) -> Result<Dialed, DialError> {
    let mut candidates = Candidates::new(outbound, site, path, quiet, avoid);
    let mut race = Race { outbound, path, running: Vec::new() };
    let mut is_last = false;
    loop {
        if !is_last {
            match candidates.next().await {
                Some(candidate) => race.begin(candidate),
                None => is_last = true,
            }
        }
        if race.running.is_empty() {
            return Err(candidates.outcome().map_or(DialError::NoOther, DialError::Site));
        }
        let head_start = if is_last { Duration::MAX } else { HEAD_START };
        // Nobody has answered within the head start: the next is tried beside those who are waited for.
        let Ok((candidate, ended)) = timeout(head_start, race.first_to_end()).await else { continue };
        let Candidate { name, address } = candidate;
        match ended {
            Ok(Opened { stream, from }) => {
                quiet.note_answer(address);
                race.overtaken().for_each(|slower| quiet.note_silence(slower, Instant::now()));
                return Ok(Dialed { stream, name, address, from });
            }
            Err(Fault::Host(reason)) => {
                quiet.note_silence(address, Instant::now());
                candidates.note_failure(format!("{name}[{address}]: {reason}"));
            }
            Err(of_source) => return Err(DialError::of(of_source, &name, address, path)),
        }
    }
}

/// Connects to a host once more.
///
/// # Errors
/// As [`dial`].
pub(super) async fn again(
    outbound: &Outbound,
    name: Arc<str>,
    address: SocketAddr,
    path: &Path,
) -> Result<Dialed, DialError> {
    match open(outbound, path, address).await {
        Ok(Opened { stream, from }) => Ok(Dialed { stream, name, address, from }),
        Err(fault) => Err(DialError::of(fault, &name, address, path)),
    }
}

impl DialError {
    fn of(fault: Fault, name: &str, address: SocketAddr, path: &Path) -> Self {
        let source = &path.source.name;
        match fault {
            Fault::Unplumbed(from) => Self::Unplumbed(classify::unplumbed(source, from)),
            Fault::Proxy(reason) => Self::Proxy(classify::proxy(source, &reason)),
            Fault::Host(reason) => {
                let reason = format!("{name}[{address}]: {reason}");
                Self::Site(classify::unreachable(name, &reason))
            }
        }
    }
}

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Opened, Fault>> + Send + 'a>>;

/// The attempts that are under way, oldest first; at most as many as there are candidates.
struct Race<'a> {
    outbound: &'a Outbound,
    path: &'a Path,
    running: Vec<(Candidate, Instant, Attempt<'a>)>,
}

impl Race<'_> {
    fn begin(&mut self, candidate: Candidate) {
        let attempt = Box::pin(open(self.outbound, self.path, candidate.address));
        self.running.push((candidate, Instant::now(), attempt));
    }

    /// The attempt that ends first, which is taken out. Never ends where none is under way.
    async fn first_to_end(&mut self) -> (Candidate, Result<Opened, Fault>) {
        let (at, ended) = poll_fn(|context| {
            for (at, (_, _, attempt)) in self.running.iter_mut().enumerate() {
                if let Poll::Ready(ended) = attempt.as_mut().poll(context) {
                    return Poll::Ready((at, ended));
                }
            }
            Poll::Pending
        })
        .await;
        (self.running.remove(at).0, ended)
    }

    /// Those that had their head start and are still waited for.
    fn overtaken(&self) -> impl Iterator<Item = SocketAddr> {
        let slow = self.running.iter().filter(|(_, begun, _)| begun.elapsed() >= HEAD_START);
        slow.map(|(candidate, _, _)| candidate.address)
    }
}

/// Connects to one address, through the source's proxy if it has one.
async fn open(outbound: &Outbound, path: &Path, to: SocketAddr) -> Result<Opened, Fault> {
    let (source, patience) = (&path.source, path.config.connect_timeout);
    if source.has_proxy() {
        return proxy::open(&outbound.parts.dns, &outbound.security, source, to, patience).await;
    }
    let opened = timeout(patience, socket::connect(source.source_address, to)).await;
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(SocketError::Unplumbed(from))) => return Err(Fault::Unplumbed(from)),
        Ok(Err(SocketError::Peer(error))) => return Err(Fault::Host(error.to_string())),
        Err(_) => return Err(Fault::Host(format!("no answer within {patience:?}"))),
    };
    let local = source.source_address.and_then(|_| stream.local_addr().ok());
    Ok(Opened { stream: Wire::Socket(stream), from: local.map(SourceAddress::direct) })
}
