//! Which sources a queue's mail may leave from: the policy's answers about pools and sources, kept for their time.
//!
//! The policy is asked once for each name and `ttl`, however many queues use it. A pool or source that it does not know, or cannot be
//! asked about, is nobody's default route: mail for it waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{classify, lock};
use crate::config::{PoolConfig, SourceConfig, UNSPECIFIED};
use crate::envelope::Outcome;
use crate::policy::{Policy, PolicyError};

/// Names of pools, and of sources, remembered before those that are out of date are forgotten. It doubles where that leaves more than half.
const NAMES_MAX: usize = 1024;

/// A source and its share of a pool.
#[derive(Clone)]
pub(super) struct Weighted {
    pub(super) source: Arc<SourceConfig>,
    pub(super) weight: u32,
}

/// The policy's answers.
#[derive(Default)]
pub(super) struct Sources {
    pools: Mutex<Answers<PoolConfig>>,
    sources: Mutex<Answers<SourceConfig>>,
}

struct Answers<T> {
    known: HashMap<String, (Arc<T>, Instant)>,
    names_max: usize,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { known: HashMap::new(), names_max: NAMES_MAX }
    }
}

impl Sources {
    /// The sources of a pool that have a share, and until when that holds.
    ///
    /// # Errors
    /// The outcome for mail of this pool: it waits.
    pub(super) fn of_pool(&self, policy: &Policy, name: &str) -> Result<(Vec<Weighted>, Instant), Outcome> {
        let (pool, mut until) = self.pool(policy, name)?;
        let mut weighted = Vec::with_capacity(pool.entries.len());
        for entry in pool.entries.iter().filter(|entry| entry.weight > 0) {
            let (source, source_until) = self.source(policy, &entry.name)?;
            until = until.min(source_until);
            weighted.push(Weighted { source, weight: entry.weight });
        }
        if weighted.is_empty() {
            return Err(classify::no_source(name));
        }
        Ok((weighted, until))
    }

    /// One source.
    ///
    /// # Errors
    /// The outcome for mail of this source: it waits.
    pub(super) fn one(&self, policy: &Policy, name: &str) -> Result<Arc<SourceConfig>, Outcome> {
        self.source(policy, name).map(|(source, _)| source)
    }

    fn pool(&self, policy: &Policy, name: &str) -> Result<(Arc<PoolConfig>, Instant), Outcome> {
        let ask = || match name {
            UNSPECIFIED => Ok(Some(PoolConfig::unspecified())),
            name => policy.egress_pool(name),
        };
        answer(&self.pools, name, |pool| pool.ttl, "get_egress_pool", ask)
    }

    fn source(&self, policy: &Policy, name: &str) -> Result<(Arc<SourceConfig>, Instant), Outcome> {
        let ask = || match name {
            UNSPECIFIED => Ok(Some(SourceConfig::unspecified())),
            name => policy.egress_source(name),
        };
        answer(&self.sources, name, |source| source.ttl, "get_egress_source", ask)
    }
}

/// What is known, or what the policy says now.
fn answer<T>(
    answers: &Mutex<Answers<T>>,
    name: &str,
    ttl: impl Fn(&T) -> std::time::Duration,
    event: &str,
    ask: impl FnOnce() -> Result<Option<T>, PolicyError>,
) -> Result<(Arc<T>, Instant), Outcome> {
    let now = Instant::now();
    if let Some((known, until)) = lock(answers).known.get(name).filter(|(_, until)| now < *until) {
        return Ok((Arc::clone(known), *until));
    }
    // The policy is asked without the lock: it may take its time.
    let asked = ask().map_err(|error| {
        tracing::error!(%error, name, "{event} failed; mail that needs it waits");
        classify::policy()
    })?;
    let Some(asked) = asked else {
        tracing::error!(name, "the policy knows no such pool or source ({event}); mail that needs it waits");
        return Err(classify::no_source(name));
    };
    let until = now + ttl(&asked);
    let asked = Arc::new(asked);
    let mut answers = lock(answers);
    if answers.known.len() >= answers.names_max {
        answers.known.retain(|_, (_, until)| now < *until);
        answers.names_max = (2 * answers.known.len()).max(NAMES_MAX);
    }
    answers.known.insert(name.to_owned(), (Arc::clone(&asked), until));
    Ok((asked, until))
}
