//! The rules in force, sorted so that asking costs little.
//!
//! For each stage there is a set of bits, one for each rule; a connection crosses it with the bits of the
//! rules that its peer can meet, so that rules of other stages and for other clients cost one operation for
//! 64 of them. Rules for certain domains of recipients or senders, or for certain local parts, are found by
//! them. What is left is asked in the order in which it was written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dice::Dice;
use super::error::RuleError;
use super::meant::{Action, Messages, Rule};
use super::pattern::Pattern;
use super::stage::Stage;
use super::written::RuleSet;

/// One bit for each rule.
pub(super) type Bits = Box<[u64]>;

/// All rules in force.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// What most questions end at, in one cache line for each rule.
    gates: Vec<Gate>,
    /// How many times each has acted.
    hits: Vec<Arc<AtomicU64>>,
    stages: Vec<AtStage>,
    words: usize,
}

/// The cheap part of a rule.
#[derive(Debug)]
pub(super) struct Gate {
    /// Seed and name, from which the rule's numbers are drawn.
    pub(super) dice: Dice,
    /// A number drawn has to be below this, where chance decides.
    pub(super) below: Option<u64>,
    /// How the local part of the recipient has to begin.
    pub(super) head: Head,
    pub(super) messages: Messages,
    /// Whether there are other conditions.
    pub(super) asks_more: bool,
    /// Whether numbers are drawn for a message wherever it comes from.
    pub(super) goes_by_message: bool,
    /// Whether the action draws numbers of its own.
    pub(super) draws: bool,
}

impl Gate {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a probability is from 0 to 1"
    )]
    #[expect(clippy::cast_precision_loss, reason = "chance needs no more than 53 bits")]
    fn new(rule: &Rule, seed: u64) -> Self {
        let condition = &rule.condition;
        let head = match &*condition.local_part {
            [pattern] if rule.stage == Stage::Rcpt => Head::new(pattern.beginning().as_bytes()),
            _ => Head::default(),
        };
        Self {
            dice: Dice::new(seed, rule.sum),
            below: (rule.probability < 1.0).then_some((rule.probability * u64::MAX as f64) as u64),
            head,
            messages: condition.messages,
            asks_more: condition.window.is_some()
                || !condition.sender.is_empty()
                || condition.asks_recipient(),
            goes_by_message: rule.action.goes_by_message(),
            draws: rule.action.draws(),
        }
    }
}

/// The first bytes of a text, in small letters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    bytes: u64,
    mask: u64,
}

impl Head {
    pub(super) fn new(text: &[u8]) -> Self {
        let (mut bytes, mut mask) = ([0; 8], [0; 8]);
        for (place, byte) in text.iter().take(8).enumerate() {
            bytes[place] = byte.to_ascii_lowercase();
            mask[place] = u8::MAX;
        }
        Self { bytes: u64::from_ne_bytes(bytes), mask: u64::from_ne_bytes(mask) }
    }

    /// Whether `text` begins with this, as far as eight bytes tell.
    pub(super) fn begins(self, text: Self) -> bool {
        text.bytes & self.mask == self.bytes
    }
}

/// The rules of one stage.
#[derive(Debug)]
pub(super) struct AtStage {
    /// Those that have to be asked whoever sends or receives.
    pub(super) always: Bits,
    /// Those for the one recipient of the stage, by domain.
    pub(super) by_domain: Index,
    /// The same by local part.
    pub(super) by_local_part: Index,
    /// Those for one sender, by the whole address.
    pub(super) by_sender: Index,
    pub(super) by_sender_domain: Index,
    pub(super) is_empty: bool,
}

/// Finds rules by a text that they ask for. Keys are sums without regard to case; two texts of one sum cost
/// a question too many, no more, because the rule itself looks again.
#[derive(Debug, Default)]
pub(super) struct Index(HashMap<u64, Bits>);

impl Index {
    fn add(&mut self, texts: &[&str], number: usize, words: usize) {
        for text in texts {
            let bits = self.0.entry(key(text)).or_insert_with(|| vec![0; words].into_boxed_slice());
            set(bits, number);
        }
    }

    /// The rules for `text`, which is made only where there are any at all.
    pub(super) fn find<'t>(&self, text: impl FnOnce() -> &'t str) -> Option<&Bits> {
        if self.0.is_empty() { None } else { self.0.get(&key(text())) }
    }
}

/// FNV-1a of the text in small letters.
fn key(text: &str) -> u64 {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| mix(sum, byte.to_ascii_lowercase()))
}

impl Rules {
    /// Compiles the set, and the rule of `--magic` where that is wanted, in front of the others.
    pub(super) fn new(set: &RuleSet, first: Vec<Rule>, seed: u64) -> Result<Self, RuleError> {
        let mut rules = first;
        for rule in set.rules() {
            rules.push(Rule::new(rule)?);
        }
        let words = rules.len().div_ceil(64);
        let stages = Stage::ALL.into_iter().map(|stage| AtStage::new(stage, &rules, words)).collect();
        let hits = rules.iter().map(|_| Arc::default()).collect();
        let gates = rules.iter().map(|rule| Gate::new(rule, seed)).collect();
        Ok(Self { rules, gates, hits, stages, words })
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

    pub(super) fn gate(&self, number: usize) -> &Gate {
        &self.gates[number]
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
        let mut at = Self {
            always: vec![0; words].into_boxed_slice(),
            by_domain: Index::default(),
            by_local_part: Index::default(),
            by_sender: Index::default(),
            by_sender_domain: Index::default(),
            is_empty: true,
        };
        for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.stage == stage) {
            at.is_empty = false;
            // One index is enough: the rule itself looks at the rest.
            let condition = &rule.condition;
            if let Some(domains) = exact(stage == Stage::Rcpt, &condition.domain, Pattern::exact) {
                at.by_domain.add(&domains, number, words);
            } else if let Some(locals) = exact(stage == Stage::Rcpt, &condition.local_part, Pattern::exact) {
                at.by_local_part.add(&locals, number, words);
            } else if let Some(senders) = exact(true, &condition.sender, Pattern::exact) {
                at.by_sender.add(&senders, number, words);
            } else if let Some(domains) = exact(true, &condition.sender, Pattern::exact_domain) {
                at.by_sender_domain.add(&domains, number, words);
            } else {
                set(&mut at.always, number);
            }
        }
        at
    }
}

/// What all patterns of a list ask for exactly, where that holds for every one and there is one.
fn exact(applies: bool, patterns: &[Pattern], text: impl Fn(&Pattern) -> Option<&str>) -> Option<Vec<&str>> {
    if !applies || patterns.is_empty() { None } else { patterns.iter().map(text).collect() }
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
