//! MTA-STS (RFC 8461): what a domain has published about the hosts that take its mail, fetched and remembered.
//!
//! A policy is kept for its `max_age`, in memory. Meanwhile the TXT record is looked at again when its time is over; a changed id has the policy
//! fetched anew, and so has the second half of its life. Whatever goes wrong then, the policy that is known holds to its end (RFC 8461 3.3);
//! where none is known, the domain has none until it is looked for again. Nothing here decides about a connection.

mod fetch;
mod policy;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::Dns;
use super::cache::{Cache, Flights};
use super::mx::Target;
use crate::config::MtaStsSpec;
use fetch::{Door, FetchError};
pub use policy::{StsMode, StsPolicy};

/// Domains of which something is known, be it that they have no policy.
const DOMAINS_MAX: usize = 64 << 10;
/// RFC 8461 3.3: a policy that could not be fetched is not asked for again before.
const FETCH_RETRY: Duration = Duration::from_secs(300);

/// Gives what HTTPS connections are made with, or says why this host can trust nobody.
pub type Trust = Arc<dyn Fn() -> Result<Arc<ClientConfig>, String> + Send + Sync>;

/// The policies of all domains.
pub struct MtaSts {
    dns: Dns,
    trust: Trust,
    spec: MtaStsSpec,
    known: Cache<Arc<Known>>,
    asked: Flights<Arc<Known>>,
}

/// What is known of a domain.
#[derive(Debug)]
struct Known {
    /// The policy, its id, and how long it holds.
    policy: Option<Held>,
    /// When the TXT record is looked at again.
    look_again: Instant,
}

#[derive(Clone, Debug)]
struct Held {
    policy: Arc<StsPolicy>,
    id: String,
    fetched: Instant,
}

impl Held {
    fn expires(&self) -> Instant {
        self.fetched + self.policy.max_age
    }

    /// Whether it need not be fetched for this id. In the second half of its life it is, so that it is not gone when it is needed.
    fn is_fresh(&self, id: &str, now: Instant) -> bool {
        self.id == id && now < self.fetched + self.policy.max_age / 2
    }
}

impl Known {
    fn held(&self, now: Instant) -> Option<&Held> {
        self.policy.as_ref().filter(|held| now < held.expires())
    }
}

impl MtaSts {
    /// Asks nobody yet.
    pub fn new(dns: Dns, spec: MtaStsSpec, trust: Trust) -> Self {
        let (known, asked) = (Cache::new(DOMAINS_MAX), Flights::default());
        Self { dns, trust, spec, known, asked }
    }

    /// The policy of a domain, if it has one, from memory or fetched now. What is no domain (a literal, a name under `.localhost`) has none.
    pub async fn policy(&self, domain: &str, now: Instant) -> Option<Arc<StsPolicy>> {
        let Ok(Target::Domain(domain)) = Target::parse(domain) else { return None };
        if !self.spec.enabled {
            return None;
        }
        let domain = domain.as_ref();
        let known = match self.known.get(domain, now).filter(|known| now < known.look_again) {
            Some(known) => known,
            None => self.asked.join(domain, || self.look(domain, now)).await,
        };
        known.held(now).map(|held| Arc::clone(&held.policy))
    }

    /// Looks at the TXT record, and fetches the policy where that is due.
    async fn look(&self, domain: &str, now: Instant) -> Arc<Known> {
        let before = self.known.get(domain, now);
        if let Some(known) = before.as_ref().filter(|known| now < known.look_again) {
            return Arc::clone(known);
        }
        let held = before.as_ref().and_then(|known| known.held(now)).cloned();
        let texts = self.dns.texts(&format!("_mta-sts.{domain}")).await;
        let (id, look_again) = (policy::id_in(texts.texts.iter().map(Vec::as_slice)), texts.expires);
        let known = match id {
            None => Known { policy: held, look_again },
            Some(id) if held.as_ref().is_some_and(|held| held.is_fresh(&id, now)) => {
                Known { policy: held, look_again }
            }
            Some(id) => match self.fetch(domain).await {
                Ok(policy) => {
                    let policy = Some(Held { policy: Arc::new(policy), id, fetched: now });
                    Known { policy, look_again }
                }
                Err(error) => {
                    tracing::info!(%error, domain, "an MTA-STS policy cannot be fetched");
                    Known { policy: held, look_again: now + FETCH_RETRY }
                }
            },
        };
        let known = Arc::new(known);
        let until = known.held(now).map_or(known.look_again, |held| held.expires().max(known.look_again));
        self.known.insert(domain, Arc::clone(&known), until, now);
        known
    }

    async fn fetch(&self, domain: &str) -> Result<StsPolicy, FetchError> {
        let config = (self.trust)().map_err(FetchError::Trust)?;
        let door = Door { port: self.spec.port, loopback_allowed: self.spec.loopback_allowed };
        fetch::fetch(&self.dns, config, door, domain).await
    }
}

impl fmt::Debug for MtaSts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MtaSts").field("spec", &self.spec).finish_non_exhaustive()
    }
}
