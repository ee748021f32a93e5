//! The rules in force, sorted so that asking costs little.
//!
//! For each stage there is a set of bits, one for each rule; a connection crosses it with the bits of the
//! rules that its peer can meet, so that rules of other stages and for other clients cost one operation for
//! 64 of them. Rules for certain recipient domains are found by the domain. What is left is asked in the
//! order in which it was written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::RuleError;
use super::meant::{Action, Rule};
use super::stage::Stage;
use super::written::RuleSet;

/// One bit for each rule.
pub(super) type Bits = Box<[u64]>;

/// All rules in force.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// How many times each has acted.
    hits: Vec<Arc<AtomicU64>>,
    stages: Vec<AtStage>,
    words: usize,
}

/// The rules of one stage.
#[derive(Debug)]
pub(super) struct AtStage {
    /// Those that have to be asked whatever the recipient.
    pub(super) always: Bits,
    /// Those for one recipient domain, by its name in small letters.
    pub(super) by_domain: HashMap<Box<[u8]>, Bits>,
    pub(super) is_empty: bool,
}

impl Rules {
    /// Compiles the set, and the rule of `--magic` where that is wanted, in front of the others.
    pub(super) fn new(set: &RuleSet, first: Vec<Rule>) -> Result<Self, RuleError> {
        let mut rules = first;
        for rule in set.rules() {
            rules.push(Rule::new(rule)?);
        }
        let words = rules.len().div_ceil(64);
        let stages = Stage::ALL.into_iter().map(|stage| AtStage::new(stage, &rules, words)).collect();
        let hits = rules.iter().map(|_| Arc::default()).collect();
        Ok(Self { rules, hits, stages, words })
    }

    /// Goes on counting where `before` stopped, for rules of the same name.
    pub(super) fn keep_hits(&mut self, before: &Self) {
        let known: HashMap<&str, &Arc<AtomicU64>> = before.named_hits().collect();
        for (rule, hits) in self.rules.iter().zip(&mut self.hits) {
            if let Some(before) = known.get(&*rule.name) {
                *hits = Arc::clone(before);
            }
        }
    }

    pub(super) fn named_hits(&self) -> impl Iterator<Item = (&str, &Arc<AtomicU64>)> {
        self.rules.iter().map(|rule| &*rule.name).zip(&self.hits)
    }

    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    pub(crate) fn rule(&self, number: usize) -> &Rule {
        &self.rules[number]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    pub(super) fn at(&self, stage: Stage) -> &AtStage {
        &self.stages[stage as usize]
    }

    /// Whether the protocol has to ask about every command.
    pub(crate) fn ask_commands(&self) -> bool {
        Stage::ALL.into_iter().any(|stage| stage.is_asked_on_demand() && !self.at(stage).is_empty)
    }

    /// Counts that a rule acts. `false` where it has done so as often as it may.
    pub(super) fn count(&self, number: usize) -> bool {
        let hits = &self.hits[number];
        match self.rules[number].limit {
            None => {
                hits.fetch_add(1, Ordering::Relaxed);
                true
            }
            Some(limit) => hits
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hits| (hits < limit).then_some(hits + 1))
                .is_ok(),
        }
    }
}

impl AtStage {
    fn new(stage: Stage, rules: &[Rule], words: usize) -> Self {
        let none = || vec![0; words].into_boxed_slice();
        let mut at = Self { always: none(), by_domain: HashMap::new(), is_empty: true };
        for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.stage == stage) {
            at.is_empty = false;
            match exact_domains(rule) {
                Some(domains) => {
                    for domain in domains {
                        let bits = at.by_domain.entry(domain.as_bytes().into()).or_insert_with(none);
                        set(bits, number);
                    }
                }
                None => set(&mut at.always, number),
            }
        }
        at
    }
}

/// The domains of a rule that asks for the one recipient of its stage and for nothing but whole names.
fn exact_domains(rule: &Rule) -> Option<Vec<&str>> {
    let domains = &rule.condition.domain;
    if rule.stage != Stage::Rcpt || domains.is_empty() {
        return None;
    }
    domains.iter().map(|domain| domain.exact()).collect()
}

pub(super) fn set(bits: &mut [u64], number: usize) {
    bits[number / 64] |= 1 << (number % 64);
}

impl Action {
    /// The reply with which the action refuses or accepts, where it is one.
    pub(crate) fn reply(&self) -> Option<&smtp::reply::Reply> {
        match self {
            Self::Reply(reply)
            | Self::Greylist { reply, .. }
            | Self::MessagesMax { reply, .. }
            | Self::ConnectionsMax { reply, .. }
            | Self::RateLimit { reply, .. } => Some(reply),
            _ => None,
        }
    }
}
