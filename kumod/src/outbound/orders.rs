//! Standing orders: what is not to be sent from here now, or not at all, by whose word, why, and until when.
//!
//! An operator suspends or bounces scheduled queues by campaign, tenant, domain or name, and ready queues by name; a source whose address
//! is gone, or whose day is used up, is suspended by kumod itself. What is suspended waits in the store, unclaimed, and is looked after at
//! once when the order ends; what is bounced is given up, also what arrives while the order stands. A message that a connection has taken
//! already goes its way. Orders live in memory: a restart forgets them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Notify;

use super::lock;
use crate::clock::UnixMs;
use crate::config::{SuspendRule, Trigger};
use crate::envelope::{Outcome, Response};
use crate::queue::QueueName;
use crate::settle::Manner;

/// How long an order stands that says nothing else, as in KumoMTA.
pub const ORDER_DURATION: Duration = Duration::from_secs(300);
/// Orders that stand at once.
const ORDERS_MAX: usize = 10_000;
/// Queues of which a bounce tells how many messages it took; more are counted together.
const QUEUES_COUNTED_MAX: usize = 10_000;
/// Where those are counted.
const OTHER_QUEUES: &str = "others";

/// Names an order until it ends. Made by chance, so that the number of another process's order is none of this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrderId(u128);

impl fmt::Display for OrderId {
    /// As a UUID is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        let (a, b, c, d, e) =
            (n >> 96, n >> 80 & 0xffff, n >> 64 & 0xffff, n >> 48 & 0xffff, n & 0xffff_ffff_ffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl std::str::FromStr for OrderId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = u128::from_str_radix(&digits, 16).ok().map(Self);
        number.filter(|id| id.to_string().eq_ignore_ascii_case(text)).ok_or_else(|| {
            format!("{text:?} is not the id of an order, such as 7a1f0c9e-52d1-4c6b-9b0e-2f6f0d7c1a55")
        })
    }
}

impl OrderId {
    fn by_chance() -> Self {
        let (version, variant) = (4 << 76, 2 << 62);
        Self(fastrand::u128(..) & !(0xf << 76) & !(3 << 62) | version | variant)
    }
}

/// Which scheduled queues are meant: those of which everything is so that is given. Nothing given means all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Criteria {
    /// The campaign.
    pub campaign: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The recipients' domain.
    pub domain: Option<String>,
    /// Where the mail goes instead.
    pub routing_domain: Option<String>,
    /// Whole names; if there are any, one of them.
    pub queue_names: Vec<String>,
}

impl Criteria {
    /// Whether a queue is meant.
    pub fn hold_for(&self, text: &str, name: &QueueName) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        let same_domain = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is.is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
        };
        same(&self.campaign, name.campaign.as_deref())
            && same(&self.tenant, name.tenant.as_deref())
            && same_domain(&self.domain, Some(&name.domain))
            && same_domain(&self.routing_domain, name.routing_domain.as_deref())
            && (self.queue_names.is_empty() || self.queue_names.iter().any(|wanted| wanted == text))
    }
}

/// What an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing is sent of these scheduled queues.
    Suspend(Criteria),
    /// Nothing is sent from this ready queue.
    SuspendReadyQueue(String),
    /// Nothing is sent from this source; its pools go on with the others.
    SuspendSource(String),
    /// What is in these scheduled queues, or comes into them, is given up.
    Bounce(Criteria),
    /// Nothing is sent of these scheduled queues while their messages are moved.
    Rebind(Criteria),
}

impl What {
    /// For the diagnostic log.
    pub(super) fn said(&self) -> &'static str {
        match self {
            Self::Suspend(_) => "scheduled queues are suspended",
            Self::SuspendReadyQueue(_) => "a ready queue is suspended",
            Self::SuspendSource(_) => "an egress source is suspended",
            Self::Bounce(_) => "scheduled queues are bounced",
            Self::Rebind(_) => "scheduled queues are rebound",
        }
    }
}

/// An order that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it is cancelled by.
    pub id: OrderId,
    /// What it is about.
    pub what: What,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub expires: UnixMs,
    /// Messages that were given up so far, by scheduled queue.
    pub bounced: BTreeMap<String, u64>,
}

/// An order more would be one too many.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{ORDERS_MAX} orders stand already; cancel some, or wait for their end")]
pub struct TooManyOrders;

/// All orders.
#[derive(Default)]
pub(super) struct Orders {
    standing: Mutex<Vec<Standing>>,
    /// Tells those who hold a message and wait for a permit.
    pub(super) changed: Notify,
    /// When sources failed last, as far back as their rules look.
    failures: Mutex<HashMap<(String, SourceFault), VecDeque<Instant>>>,
}

/// What makes a source unfit. Each has a rule of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SourceFault {
    /// Its address is not on this host.
    Unplumbed,
    /// Its proxy does not serve.
    Proxy,
}

struct Standing {
    id: OrderId,
    what: What,
    reason: String,
    until: UnixMs,
    bounce: Arc<Bounce>,
}

/// How messages are given up by an order.
pub(super) struct Bounce {
    pub(super) outcome: Outcome,
    pub(super) manner: Manner,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Bounce {
    fn new(reason: &str, suppress_logging: bool) -> Self {
        let content = format!("Administrator bounced this message: {reason}");
        Self {
            outcome: Outcome::Failed(Response::internal(551, (5, 7, 1), content)),
            manner: if suppress_logging { Manner::Unlogged } else { Manner::AdminBounce },
            counts: Mutex::default(),
        }
    }

    pub(super) fn count(&self, queue: &str) {
        let mut counts = lock(&self.counts);
        let known = counts.contains_key(queue) || counts.len() < QUEUES_COUNTED_MAX;
        *counts.entry(if known { queue } else { OTHER_QUEUES }.to_owned()).or_default() += 1;
    }
}

/// What the orders say of a scheduled queue.
#[derive(Clone)]
pub(super) enum Hold {
    Suspended,
    Bounced(Arc<Bounce>),
}

impl Orders {
    /// Whether a ready queue is held.
    pub(super) fn hold_ready(&self, name: &str, source: &str) -> bool {
        lock(&self.standing).iter().any(|standing| match &standing.what {
            What::SuspendSource(held) => held == source,
            What::SuspendReadyQueue(held) => held == name,
            What::Suspend(_) | What::Bounce(_) | What::Rebind(_) => false,
        })
    }

    /// Whether and how a scheduled queue is held. What is given up need not wait.
    pub(super) fn hold_scheduled(&self, text: &str, name: &QueueName) -> Option<Hold> {
        let standing = lock(&self.standing);
        let bounce = standing.iter().find_map(|standing| match &standing.what {
            What::Bounce(criteria) if criteria.hold_for(text, name) => Some(&standing.bounce),
            _ => None,
        });
        let suspended = || {
            standing.iter().any(|standing| match &standing.what {
                What::Suspend(criteria) | What::Rebind(criteria) => criteria.hold_for(text, name),
                _ => false,
            })
        };
        bounce
            .map(|bounce| Hold::Bounced(Arc::clone(bounce)))
            .or_else(|| suspended().then_some(Hold::Suspended))
    }

    /// Adds an order. The same about the same is the same order, with the later end.
    pub(super) fn add(
        &self,
        what: &What,
        reason: &str,
        until: UnixMs,
        suppress_logging: bool,
    ) -> Result<(OrderId, bool), TooManyOrders> {
        let mut standing = lock(&self.standing);
        if let Some(known) = standing.iter_mut().find(|known| known.what == *what) {
            known.until = known.until.max(until);
            known.reason = reason.to_owned();
            return Ok((known.id, false));
        }
        if standing.len() >= ORDERS_MAX {
            return Err(TooManyOrders);
        }
        let bounce = Arc::new(Bounce::new(reason, suppress_logging));
        let id = OrderId::by_chance();
        standing.push(Standing { id, what: what.clone(), reason: reason.to_owned(), until, bounce });
        Ok((id, true))
    }

    /// Takes an order away. `false`: there is none of this id.
    pub(super) fn remove(&self, id: OrderId) -> bool {
        let mut standing = lock(&self.standing);
        let at = standing.iter().position(|known| known.id == id);
        at.map(|at| standing.swap_remove(at)).is_some()
    }

    /// How much longer an order stands; `None` when it does no more.
    pub(super) fn remaining(&self, id: OrderId, now: UnixMs) -> Option<Duration> {
        let standing = lock(&self.standing);
        let known = standing.iter().find(|known| known.id == id)?;
        (known.until > now).then(|| known.until.since(now))
    }

    /// All of them, those first that end first.
    pub(super) fn list(&self) -> Vec<Order> {
        let shown = |standing: &Standing| Order {
            id: standing.id,
            what: standing.what.clone(),
            reason: standing.reason.clone(),
            expires: standing.until,
            bounced: lock(&standing.bounce.counts).clone(),
        };
        let mut orders: Vec<Order> = lock(&self.standing).iter().map(shown).collect();
        orders.sort_by_key(|order| order.expires);
        orders
    }

    /// Counts a failure of a source and says whether its rule holds now.
    pub(super) fn is_last_straw(
        &self,
        source: &str,
        fault: SourceFault,
        rule: &SuspendRule,
        now: Instant,
    ) -> bool {
        let Trigger::Threshold(spec) = rule.trigger else { return true };
        let mut failures = lock(&self.failures);
        let key = (source.to_owned(), fault);
        let times = failures.entry(key.clone()).or_default();
        times.push_back(now);
        while times.front().is_some_and(|time| now.duration_since(*time) > spec.period) {
            times.pop_front();
        }
        let holds = times.len() as u64 >= spec.count;
        if holds {
            failures.remove(&key);
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_queue_is_meant_where_everything_given_is_so() {
        let holds = |criteria: &Criteria, queue: &str| criteria.hold_for(queue, &queue.parse().unwrap());
        let given = |text: &str| Some(text.to_owned());
        assert!(holds(&Criteria::default(), "any.net"));
        let spring = Criteria { campaign: given("spring"), ..Criteria::default() };
        assert!(holds(&spring, "spring:acme@a.net") && !holds(&spring, "acme@a.net"));
        let both = Criteria { tenant: given("acme"), domain: given("A.net"), ..Criteria::default() };
        assert!(holds(&both, "spring:acme@a.net!mx.net") && !holds(&both, "acme@b.net"));
        let routed = Criteria { routing_domain: given("mx.net"), ..Criteria::default() };
        assert!(holds(&routed, "a.net!mx.net") && !holds(&routed, "mx.net"));
        let named = Criteria { queue_names: vec!["a.net".to_owned()], ..Criteria::default() };
        assert!(holds(&named, "a.net") && !holds(&named, "acme@a.net"));
    }

    #[test]
    fn an_order_is_found_by_its_id_and_ends_in_time() {
        let orders = Orders::default();
        let what = What::Suspend(Criteria::default());
        let (id, is_new) = orders.add(&what, "test", UnixMs(5000), false).unwrap();
        assert!(is_new && id.to_string().parse() == Ok(id));
        assert_eq!(
            orders.add(&what, "longer", UnixMs(9000), false),
            Ok((id, false)),
            "one order, with the later end"
        );
        assert_eq!(orders.remaining(id, UnixMs(4000)), Some(Duration::from_secs(5)));
        assert_eq!(orders.remaining(id, UnixMs(9000)), None);
        assert_eq!(orders.list()[0].reason, "longer");
        assert!(orders.remove(id) && !orders.remove(id));
        assert!("7a1f0c9e52d14c6b9b0e2f6f0d7c1a55".parse::<OrderId>().is_err());
    }

    #[test]
    fn a_source_is_suspended_at_its_threshold() {
        let (orders, start) = (Orders::default(), Instant::now());
        let (unplumbed, mut rule) = (SourceFault::Unplumbed, SuspendRule::default());
        assert!(orders.is_last_straw("a", unplumbed, &rule, start), "at once, unless told otherwise");
        rule.trigger = Trigger::Threshold("3/m".parse().unwrap());
        let straws = [0, 10, 75, 80, 90].map(|s| {
            let now = start + Duration::from_secs(s);
            assert!(
                !orders.is_last_straw(
                    "a",
                    SourceFault::Proxy,
                    &SuspendRule {
                        duration: rule.duration,
                        trigger: Trigger::Threshold("9/m".parse().unwrap())
                    },
                    now
                ),
                "another fault, another count"
            );
            orders.is_last_straw("a", unplumbed, &rule, now)
        });
        assert_eq!(straws, [false, false, false, false, true], "three within a minute");
    }
}
