//! Scheduled queues: one per `campaign:tenant@domain!routing_domain`, each with its retry rules and its ways to ready queues, one for each
//! source of its pool, which take turns.
//!
//! The ways are found once and used until they are out of date; while they are looked for, the queue's new messages wait here. Due
//! messages stay in the store until a ready queue has a place for them. A name that cannot be resolved ends the attempt for all that are due,
//! for now or for ever as DNS says.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::orders::{Bounce, Hold, Orders};
use super::ready::{Item, ReadyQueue};
use super::route::Route;
use super::{CLAIM_MAX, Outbound, lock, ready, route};
use crate::clock::UnixMs;
use crate::config::QueueConfig;
use crate::envelope::{Envelope, Outcome};
use crate::ports::Entry;
use crate::queue::{FlowKey, NamedRates, QueueName};

/// New messages that may wait here for an answer from DNS; more wait in the store.
const WAITING_MAX: usize = 4096;

/// The age at which messages expire of a queue whose rules nobody has asked for: not before somebody has.
const AGE_UNKNOWN: u64 = u64::MAX;

/// Numbers of queues, for the rounds of their ready queues.
static KEYS: AtomicU64 = AtomicU64::new(0);

/// One scheduled queue.
pub(super) struct ScheduledQueue {
    /// As the store knows it.
    text: Arc<str>,
    name: QueueName,
    key: FlowKey,
    priority: AtomicU32,
    max_age_ms: AtomicU64,
    /// Whether an order holds it; which, the state says.
    is_held: AtomicBool,
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
    hold: Option<Hold>,
    way: Way,
    used: Instant,
}

enum Way {
    /// Nobody has asked yet.
    Unknown,
    /// Being looked for.
    Sought(Sought),
    /// Found, and good for its time.
    Known(Route),
}

/// What is to be done when the way is found.
#[derive(Default)]
struct Sought {
    /// These wait for it.
    waiting: Vec<Entry>,
    /// The store has due messages.
    due: bool,
    /// The ways that it was until now.
    before: Vec<Arc<ReadyQueue>>,
}

impl ScheduledQueue {
    /// `name` was a valid queue name when the message was accepted; if a stored one is not, it is taken as a domain.
    pub(super) fn new(text: &str, hostname: &str, orders: &Orders) -> Self {
        let name = text.parse().or_else(|_| QueueName::from_parts(None, None, hostname, None));
        let name = name.unwrap_or_else(|_| QueueName {
            campaign: None,
            tenant: None,
            domain: "localhost".to_owned(),
            routing_domain: None,
        });
        let hold = orders.hold_scheduled(text, &name);
        let is_held = AtomicBool::new(hold.is_some());
        let state = State { rules: Rules::default(), hold, way: Way::Unknown, used: Instant::now() };
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        let (priority, max_age_ms) = (AtomicU32::new(1), AtomicU64::new(AGE_UNKNOWN));
        Self { text: text.into(), name, key, priority, max_age_ms, is_held, state: Mutex::new(state) }
    }

    /// The name as the store knows it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn name(&self) -> &QueueName {
        &self.name
    }

    pub(super) fn key(&self) -> FlowKey {
        self.key
    }

    /// Its share of a round.
    pub(super) fn priority(&self) -> u32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// When a message expires: at its own time if it has one, else at the age that the queue sets.
    pub(super) fn expiry(&self, envelope: &Envelope) -> UnixMs {
        if let Some(expires) = envelope.scheduling.as_ref().and_then(|scheduling| scheduling.expires) {
            return expires;
        }
        UnixMs(envelope.created.0.saturating_add(self.max_age_ms.load(Ordering::Relaxed)))
    }

    /// The rules that hold for a message.
    pub(super) fn rules_for(&self, envelope: &Envelope) -> Arc<QueueConfig> {
        let config = self.rules().config;
        match envelope.scheduling.as_ref().and_then(|scheduling| scheduling.expires) {
            Some(expires) => {
                Arc::new(QueueConfig { max_age: expires.since(envelope.created), ..(*config).clone() })
            }
            None => config,
        }
    }

    /// Messages born before this are too old now; `None` where none can be.
    pub(super) fn expired_if_born_before(&self, now: UnixMs) -> Option<UnixMs> {
        now.0.checked_sub(self.max_age_ms.load(Ordering::Relaxed)).map(UnixMs)
    }

    /// The rules in force.
    pub(super) fn rules(&self) -> Rules {
        lock(&self.state).rules.clone()
    }

    fn set_rules(&self, config: QueueConfig) {
        self.priority.store(config.priority, Ordering::Relaxed);
        let max_age_ms = u64::try_from(config.max_age.as_millis()).unwrap_or(AGE_UNKNOWN);
        self.max_age_ms.store(max_age_ms, Ordering::Relaxed);
        let rates = Arc::new(NamedRates::of_queue(&self.name, &config));
        lock(&self.state).rules = Rules { config: Arc::new(config), rates };
    }

    /// Whether it can be forgotten. One that is held may have mail in the store that only it will be told of again.
    pub(super) fn is_idle(&self, since: Duration) -> bool {
        let state = lock(&self.state);
        let is_at_rest = match &state.way {
            Way::Unknown => true,
            Way::Sought(_) => false,
            Way::Known(route) => !route.ways.iter().any(|ready| ready.is_held()),
        };
        is_at_rest && state.hold.is_none() && state.used.elapsed() > since
    }

    /// A ready queue that this one feeds, if new mail should wait for a place in it: all of them are full.
    pub(super) fn full_ready_queue(&self) -> Option<Arc<ReadyQueue>> {
        match &lock(&self.state).way {
            Way::Known(route) if route.ways.iter().all(|ready| ready.is_full_for(self.key)) => {
                route.ways.first().cloned()
            }
            _ => None,
        }
    }

    /// Whether an order holds it.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    /// What the orders say of it.
    pub(super) fn hold(&self) -> Option<Hold> {
        lock(&self.state).hold.clone()
    }

    /// Takes what the orders say now. `None`: as before; else the order that holds it from now on, if any does.
    pub(super) fn heed(&self, orders: &Orders) -> Option<Option<Hold>> {
        let mut state = lock(&self.state);
        // Asked under the lock, so that whoever asks last is right.
        let hold = orders.hold_scheduled(&self.text, &self.name);
        let was = std::mem::replace(&mut state.hold, hold.clone());
        self.is_held.store(hold.is_some(), Ordering::Relaxed);
        let is_same = match (&was, &hold) {
            (Some(Hold::Bounced(was)), Some(Hold::Bounced(is))) => Arc::ptr_eq(was, is),
            (Some(Hold::Suspended), Some(Hold::Suspended)) | (None, None) => true,
            _ => false,
        };
        (!is_same).then_some(hold)
    }

    /// What waits of it in ready queues.
    pub(super) fn withdraw(&self) -> Vec<Item> {
        let ways = match &lock(&self.state).way {
            Way::Known(route) => route.ways.clone(),
            Way::Sought(sought) => sought.before.clone(),
            Way::Unknown => Vec::new(),
        };
        ways.iter().flat_map(|ready| ready.remove(self.key)).collect()
    }

    /// Whether this queue feeds one of these.
    pub(super) fn feeds(&self, queues: &[Arc<ReadyQueue>]) -> bool {
        let state = lock(&self.state);
        let ways = match &state.way {
            Way::Known(route) => &route.ways,
            Way::Sought(sought) => &sought.before,
            Way::Unknown => return false,
        };
        ways.iter().any(|way| queues.iter().any(|ready| Arc::ptr_eq(way, ready)))
    }

    /// The ready queues that this one feeds, unless they have to be looked for.
    fn ways(&self) -> Option<Vec<Arc<ReadyQueue>>> {
        match &lock(&self.state).way {
            Way::Known(route) if Instant::now() < route.until => Some(route.ways.clone()),
            _ => None,
        }
    }

    /// Whether its mail may take another way than this one now.
    pub(super) fn has_other_way(&self, ready: &Arc<ReadyQueue>) -> bool {
        let may =
            |way: &Arc<ReadyQueue>| !Arc::ptr_eq(way, ready) && !way.is_held() && !way.is_chosen_enough();
        matches!(&lock(&self.state).way, Way::Known(route) if route.ways.iter().any(may))
    }

    /// The ready queue of the next message, where there are several.
    fn next_way(&self) -> Option<Arc<ReadyQueue>> {
        match &mut lock(&self.state).way {
            Way::Known(route) if route.ways.len() > 1 => Some(route.next()),
            _ => None,
        }
    }
}

/// Brings a new message on its way. Never waits.
pub(super) fn offer(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, entry: Entry) {
    let mut state = lock(&queue.state);
    let now = Instant::now();
    state.used = now;
    if state.hold.is_some() {
        drop(state);
        return outbound.postpone(entry, Duration::ZERO);
    }
    match &mut state.way {
        Way::Known(route) if now < route.until => {
            let ready = route.next();
            drop(state);
            push(outbound, queue, &ready, entry);
        }
        Way::Sought(sought) if sought.waiting.len() < WAITING_MAX => sought.waiting.push(entry),
        Way::Sought(_) => {
            drop(state);
            outbound.postpone(entry, Duration::ZERO);
        }
        Way::Unknown | Way::Known(..) => {
            state.seek(outbound, queue, Sought { waiting: vec![entry], ..Sought::default() });
        }
    }
}

/// The store has due messages of this queue: sees to it that they are claimed. Never waits.
pub(super) fn stir(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>) {
    let mut state = lock(&queue.state);
    let now = Instant::now();
    state.used = now;
    match &state.hold {
        // It waits in the store.
        Some(Hold::Suspended) => return,
        Some(Hold::Bounced(bounce)) => {
            tokio::spawn(give_up_due(Arc::clone(outbound), Arc::clone(queue), Arc::clone(bounce)));
            return;
        }
        None => {}
    }
    match &mut state.way {
        Way::Known(route) if now < route.until => {
            drop(state);
            tokio::spawn(fill(Arc::clone(outbound), Arc::clone(queue)));
        }
        Way::Sought(sought) => sought.due = true,
        Way::Unknown | Way::Known(..) => {
            state.seek(outbound, queue, Sought { due: true, ..Sought::default() });
        }
    }
}

impl State {
    fn seek(&mut self, outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, mut sought: Sought) {
        if let Way::Known(route) = &self.way {
            sought.before = route.ways.clone();
        }
        self.way = Way::Sought(sought);
        tokio::spawn(seek(Arc::clone(outbound), Arc::clone(queue)));
    }

    /// What has gathered; the way is `way` from now on.
    fn found(&mut self, way: Way) -> Sought {
        match std::mem::replace(&mut self.way, way) {
            Way::Sought(sought) => sought,
            Way::Unknown | Way::Known(..) => Sought::default(),
        }
    }
}

/// New mail that finds no place by any way waits in the store behind what is due there already.
fn push(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, ready: &Arc<ReadyQueue>, entry: Entry) {
    let Err(mut entry) = ready::push(outbound, ready, queue, entry) else { return };
    let others = queue.ways().unwrap_or_default();
    for other in others.iter().filter(|other| !Arc::ptr_eq(other, ready)) {
        match ready::push(outbound, other, queue, entry) {
            Ok(()) => return,
            Err(back) => entry = back,
        }
    }
    outbound.parts.metrics.delayed_due_to_ready_queue_full.inc();
    outbound.postpone(entry, Duration::ZERO);
}

/// Asks policy and DNS, then sends on what has gathered meanwhile.
async fn seek(outbound: Arc<Outbound>, queue: Arc<ScheduledQueue>) {
    let config = route::queue_config(&outbound, queue.name());
    let pool = config.egress_pool.clone();
    queue.set_rules(config);
    match route::find(&outbound, queue.name(), &pool).await {
        Ok(route) => {
            let ways = route.ways.clone();
            let sought = lock(&queue.state).found(Way::Known(route));
            let is_gone = |before: &&Arc<ReadyQueue>| !ways.iter().any(|way| Arc::ptr_eq(way, before));
            let mut has_moved = ways.len() > sought.before.len();
            for before in sought.before.iter().filter(is_gone) {
                has_moved = true;
                for item in before.remove(queue.key) {
                    place(&outbound, &queue, &ways[0], item.entry);
                }
            }
            for entry in sought.waiting {
                offer(&outbound, &queue, entry);
            }
            if sought.due || has_moved {
                fill(outbound, queue).await;
            }
        }
        Err(outcome) => {
            let sought = lock(&queue.state).found(Way::Unknown);
            let moved: Vec<_> = sought.before.iter().flat_map(|before| before.remove(queue.key)).collect();
            for entry in moved.into_iter().map(|item| item.entry).chain(sought.waiting) {
                outbound.fail(&queue, entry, Outcome::clone(&outcome), "").await;
            }
            if sought.due || !sought.before.is_empty() {
                fail_due(&outbound, &queue, &outcome).await;
            }
        }
    }
}

/// Brings due messages from the store for a ready queue in which those of this queue run low, in a task of its own.
pub(super) fn pull(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, ready: &Arc<ReadyQueue>) {
    let (outbound, queue, ready) = (Arc::clone(outbound), Arc::clone(queue), Arc::clone(ready));
    tokio::spawn(async move { fill_one(&outbound, &queue, &ready).await });
}

/// Brings due messages from the store as long as there are places for them by any way.
async fn fill(outbound: Arc<Outbound>, queue: Arc<ScheduledQueue>) {
    for ready in queue.ways().unwrap_or_default() {
        fill_one(&outbound, &queue, &ready).await;
    }
}

async fn fill_one(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, ready: &Arc<ReadyQueue>) {
    while !outbound.parts.shutdown.is_stopping() {
        let Some(ways) = queue.ways().filter(|_| !queue.is_held()) else {
            return stir(outbound, queue);
        };
        if !ways.iter().any(|way| Arc::ptr_eq(way, ready)) {
            return;
        }
        let count = ready.begin_pull(queue.key);
        if count == 0 {
            return;
        }
        let claims = outbound.parts.store.claim_due(&queue.text, count).await;
        let more = claims.len() == count;
        for entry in outbound.readable(&queue.text, claims) {
            place(outbound, queue, ready, entry);
        }
        for other in ways.iter().filter(|other| more && !Arc::ptr_eq(other, ready)) {
            if other.note_more(queue.key) {
                pull(outbound, queue, other);
            }
        }
        if !ready.end_pull(queue.key, more) {
            return;
        }
    }
}

/// Brings a message from the store to the way whose turn it is, or to `ready`, where a place was found for it; back, if an order has come.
fn place(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, ready: &Arc<ReadyQueue>, entry: Entry) {
    if queue.is_held() {
        return outbound.postpone(entry, Duration::ZERO);
    }
    let entry = match queue.next_way().filter(|next| !Arc::ptr_eq(next, ready)) {
        Some(next) => match ready::place_if_room(outbound, &next, queue, entry) {
            Ok(()) => return,
            Err(back) => back,
        },
        None => entry,
    };
    ready::place(outbound, ready, queue, entry);
}

/// Gives up by order everything that is due.
async fn give_up_due(outbound: Arc<Outbound>, queue: Arc<ScheduledQueue>, bounce: Arc<Bounce>) {
    while !outbound.parts.shutdown.is_stopping() {
        let claims = outbound.parts.store.claim_due(&queue.text, CLAIM_MAX).await;
        let is_last = claims.len() < CLAIM_MAX;
        for entry in outbound.readable(&queue.text, claims) {
            outbound.give_up(&queue, entry, &bounce).await;
        }
        if is_last {
            return;
        }
    }
}

/// Ends the attempt for everything that is due. A queue may be deep: when the process is stopping, what is left keeps its attempt.
async fn fail_due(outbound: &Arc<Outbound>, queue: &Arc<ScheduledQueue>, outcome: &Outcome) {
    while !outbound.parts.shutdown.is_stopping() {
        let claims = outbound.parts.store.claim_due(&queue.text, CLAIM_MAX).await;
        let is_last = claims.len() < CLAIM_MAX;
        for entry in outbound.readable(&queue.text, claims) {
            outbound.fail(queue, entry, outcome.clone(), "").await;
        }
        if is_last {
            return;
        }
    }
}
