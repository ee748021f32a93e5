//! The rules of a running sink, which HTTP may exchange at any time.
//!
//! Workers look at one number to see whether anything has changed and take the new rules when it has, so
//! that mail never waits for whoever changes them. A change that is wrong changes nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::error::RuleError;
use super::magic;
use super::meant::Action;
use super::notice::Bounce;
use super::postman::Letterbox;
use super::rules::Rules;
use super::tables::Tables;
use super::written::RuleSet;

/// Shared by all workers and HTTP.
#[derive(Debug)]
pub(crate) struct Live {
    pub(super) seed: u64,
    pub(super) tables: Tables,
    magic: bool,
    letterbox: Option<Letterbox>,
    start: Instant,
    /// 0 while there has never been a rule; odd where there is none now.
    revision: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    written: RuleSet,
    rules: Arc<Rules>,
}

impl Live {
    /// The rules that a sink starts with. Without a `letterbox` there can be no rule that bounces.
    pub(crate) fn new(
        written: RuleSet,
        magic: bool,
        seed: u64,
        letterbox: Option<Letterbox>,
    ) -> Result<Self, RuleError> {
        let rules = Arc::new(compile(&written, magic, letterbox.is_some(), seed)?);
        let revision = AtomicU64::new(u64::from(rules.len() > 0) * 2);
        let current = Mutex::new(Current { written, rules });
        Ok(Self {
            seed,
            tables: Tables::default(),
            magic,
            letterbox,
            start: Instant::now(),
            revision,
            current,
        })
    }

    /// Changes when the rules do; one reading without a lock.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether there are no rules.
    pub(crate) fn is_empty(&self) -> bool {
        let revision = self.revision();
        revision == 0 || revision % 2 == 1
    }

    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.current().rules)
    }

    /// Sends a message back.
    pub(crate) fn bounce(&self, bounce: Bounce) {
        if let Some(letterbox) = &self.letterbox {
            letterbox.post(bounce);
        }
    }

    /// Since the sink started.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Puts these rules in the place of all others; they count from 0.
    pub(crate) fn replace(&self, value: Value) -> Result<(), RuleError> {
        let written = RuleSet::from_value(value)?;
        let rules = compile(&written, self.magic, self.letterbox.is_some(), self.seed)?;
        self.put(&mut self.current(), written, rules);
        Ok(())
    }

    /// Merges these rules in by name; the others stay as they are and go on counting.
    pub(crate) fn merge(&self, value: Value) -> Result<(), RuleError> {
        let mut current = self.current();
        let written = current.written.merged(value)?;
        let mut rules = compile(&written, self.magic, self.letterbox.is_some(), self.seed)?;
        rules.keep_hits(&current.rules);
        self.put(&mut current, written, rules);
        Ok(())
    }

    /// The rules in the form in which they are read, and how many times each has acted.
    pub(crate) fn report(&self) -> Value {
        let current = self.current();
        let hits: BTreeMap<&str, u64> =
            current.rules.named_hits().map(|(name, hits)| (name, hits.load(Ordering::Relaxed))).collect();
        let bounces = self.letterbox.as_ref().map(Letterbox::report);
        json!({ "rule": current.written.as_values(), "hits": hits, "bounces": bounces })
    }

    fn put(&self, current: &mut Current, written: RuleSet, rules: Rules) {
        let is_empty = rules.len() == 0;
        *current = Current { written, rules: Arc::new(rules) };
        // The lock is held, so nobody else counts meanwhile.
        let next = (self.revision() / 2 + 1) * 2;
        self.revision.store(next + u64::from(is_empty), Ordering::Release);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing panics half-way, so a poisoned lock still holds good rules.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn compile(written: &RuleSet, magic: bool, can_bounce: bool, seed: u64) -> Result<Rules, RuleError> {
    let first = if magic { magic::rules() } else { Vec::new() };
    let rules = Rules::new(written, first, seed)?;
    let bounces = rules.iter().find(|rule| matches!(rule.action, Action::Bounce { .. }));
    match bounces {
        Some(rule) if !can_bounce => {
            let text =
                "it bounces, but nobody takes what comes back; start the sink with --bounce-to HOST:PORT";
            Err(RuleError::of_rule(&rule.name, text))
        }
        _ => Ok(rules),
    }
}
