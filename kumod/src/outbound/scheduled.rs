//! Scheduled queues: one per `campaign:tenant@domain!routing_domain`, each with its retry rules and its way to a ready queue.
//!
//! The way is found once and used until it is out of date; while it is looked for, the queue's messages wait here. A name
//! that cannot be resolved ends the attempt for all of them, for now or for ever as DNS says.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ready::ReadyQueue;
use super::{Outbound, lock, route};
use crate::config::QueueConfig;
use crate::envelope::Outcome;
use crate::ports::Entry;
use crate::queue::{NamedRates, QueueName};

/// Messages that may wait here for an answer from DNS; more go back to the store for a moment.
const WAITING_MAX: usize = 4096;
/// How long a message waits in the store when it finds no place: between these two, by chance, so that they do not come back at once.
const POSTPONE_MIN: Duration = Duration::from_millis(500);
const POSTPONE_MAX: Duration = Duration::from_secs(5);

/// One scheduled queue.
pub(super) struct ScheduledQueue {
    name: QueueName,
    state: Mutex<State>,
}

/// The rules of a scheduled queue.
#[derive(Clone, Default)]
pub(super) struct Rules {
    pub(super) config: Arc<QueueConfig>,
    /// Rates that hold for its messages.
    pub(super) rates: Arc<NamedRates>,
}

struct State {
    rules: Rules,
    way: Way,
    used: Instant,
}

enum Way {
    /// Nobody has asked yet.
    Unknown,
    /// Being looked for; these wait for it.
    Sought(Vec<Entry>),
    /// Found, and good until then.
    Known(Arc<ReadyQueue>, Instant),
}

impl ScheduledQueue {
    /// `name` was a valid queue name when the message was accepted; if a stored one is not, it is taken as a domain.
    pub(super) fn new(name: &str, hostname: &str) -> Self {
        let name = name.parse().or_else(|_| QueueName::from_parts(None, None, hostname, None));
        let name = name.unwrap_or_else(|_| QueueName {
            campaign: None,
            tenant: None,
            domain: "localhost".to_owned(),
            routing_domain: None,
        });
        let state = State { rules: Rules::default(), way: Way::Unknown, used: Instant::now() };
        Self { name, state: Mutex::new(state) }
    }

    pub(super) fn name(&self) -> &QueueName {
        &self.name
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> Rules {
        lock(&self.state).rules.clone()
    }

    pub(super) fn is_idle(&self, since: Duration) -> bool {
        let state = lock(&self.state);
        state.used.elapsed() > since && !matches!(state.way, Way::Sought(_))
    }

    /// The ready queue this one feeds, if it is known and has no place.
    pub(super) fn full_ready_queue(&self) -> Option<Arc<ReadyQueue>> {
        match &lock(&self.state).way {
            Way::Known(ready, _) if ready.is_full() => Some(Arc::clone(ready)),
            _ => None,
        }
    }
}

/// Brings a message that is due on its way. Never waits.
pub(super) fn offer(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, entry: Entry) {
    let mut state = lock(&queue.state);
    let now = Instant::now();
    state.used = now;
    match &mut state.way {
        Way::Known(ready, until) if now < *until => {
            let ready = Arc::clone(ready);
            drop(state);
            push(outbound, queue, &ready, entry);
        }
        Way::Sought(waiting) if waiting.len() < WAITING_MAX => waiting.push(entry),
        Way::Sought(_) => {
            drop(state);
            outbound.postpone(entry, chance(POSTPONE_MIN, POSTPONE_MAX));
        }
        Way::Unknown | Way::Known(..) => {
            state.way = Way::Sought(vec![entry]);
            drop(state);
            tokio::spawn(seek(Arc::clone(outbound), Arc::clone(queue)));
        }
    }
}

fn push(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, ready: &Arc<ReadyQueue>, entry: Entry) {
    if let Err(entry) = super::ready::push(outbound, ready, queue, entry) {
        outbound.parts.metrics.delayed_due_to_ready_queue_full.inc();
        outbound.postpone(entry, chance(POSTPONE_MIN, POSTPONE_MAX));
    }
}

/// Asks policy and DNS, then sends on what has gathered meanwhile.
async fn seek(outbound: Arc<Outbound>, queue: Arc<ScheduledQueue>) {
    let config = route::queue_config(&outbound, queue.name());
    let rates = Arc::new(NamedRates::of_queue(queue.name(), &config));
    lock(&queue.state).rules = Rules { config: Arc::new(config), rates };
    match route::find(&outbound, queue.name()).await {
        Ok((ready, until)) => {
            let known = Way::Known(Arc::clone(&ready), until);
            let waiting = std::mem::replace(&mut lock(&queue.state).way, known).into_waiting();
            for entry in waiting {
                push(&outbound, &queue, &ready, entry);
            }
        }
        Err(outcome) => {
            let waiting = std::mem::replace(&mut lock(&queue.state).way, Way::Unknown).into_waiting();
            for entry in waiting {
                outbound.fail(&queue, entry, Outcome::clone(&outcome), "").await;
            }
        }
    }
}

impl Way {
    fn into_waiting(self) -> Vec<Entry> {
        match self {
            Self::Sought(waiting) => waiting,
            Self::Unknown | Self::Known(..) => Vec::new(),
        }
    }
}

/// A time between two, by chance.
fn chance(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f64(fastrand::f64())
}
