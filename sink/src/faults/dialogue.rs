//! What the rules know of one connection, and the asking.
//!
//! Owns the facts that conditions are about and the count of decisions, from which chance is drawn: the
//! n-th decision of a rule about a connection depends on the seed, the rule's name, the connection's number
//! and n. What an audit has to find (`lose`, `double`, `corrupt`) and `bounce` go by the run and the
//! sequence number of the message where it has them, so that which messages are hit does not depend on the
//! connection that brought them. Nothing depends on time but what is about time. Asking allocates nothing,
//! and reads the clock only for a rule that needs it.

use std::net::IpAddr;
use std::sync::Arc;

use message::traffic::TrafficHeader;
use tokio::time::Duration;

use super::dice::{Draw, mix, sum};
use super::live::Live;
use super::magic;
use super::meant::{Action, Rule, any};
use super::notice::Bounce;
use super::rules::{Bits, Gate, Head, Rules, set};
use super::stage::Stage;
use super::tables::{key, network_of};

/// One connection as the rules see it.
#[derive(Debug)]
pub(crate) struct Dialogue {
    rules: Arc<Rules>,
    revision: u64,
    facts: Facts,
}

/// What conditions are about.
#[derive(Debug)]
struct Facts {
    live: Arc<Live>,
    client: IpAddr,
    connection: u64,
    tls: bool,
    helo: String,
    sender: String,
    recipients: Recipients,
    /// MAIL commands so far.
    messages: u32,
    /// The sum of run and sequence number of the message that is complete.
    message: Option<u64>,
    /// The rules that this peer can meet at all.
    eligible: Vec<u64>,
    /// How many decisions each rule with a probability or a distribution has made here; empty until the first.
    decisions: Vec<u64>,
    /// Seats among the connections of this client.
    seats: Vec<u64>,
}

/// The recipients of a transaction, in one text that is used again.
#[derive(Debug, Default)]
struct Recipients {
    text: String,
    /// Where each local part and each domain ends.
    ends: Vec<(usize, usize)>,
}

/// What the rules want at a stage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// Before anything else, the sum of all.
    pub(crate) delay: Duration,
    pub(crate) tarpit_bytes_per_s: Option<u32>,
    pub(crate) slow_reader_bytes_per_s: Option<u32>,
    /// The rule that ends the asking.
    pub(crate) last: Option<Acting>,
}

/// A rule that acts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acting {
    rule: usize,
    draw: Draw,
}

/// The question at hand.
#[derive(Clone, Copy)]
struct Asked {
    stage: Stage,
    head: Head,
}

impl Acting {
    /// What it does. `rules` are those that were asked.
    pub(crate) fn action(self, rules: &Rules) -> &Action {
        &rules.rule(self.rule).action
    }

    /// Random bytes of this decision.
    pub(crate) fn fill(self, bytes: &mut [u8]) {
        self.draw.again().fill(bytes);
    }
}

impl Dialogue {
    pub(crate) fn new(live: &Arc<Live>, client: IpAddr, connection: u64) -> Self {
        let facts = Facts {
            live: Arc::clone(live),
            client: client.to_canonical(),
            connection,
            tls: false,
            helo: String::new(),
            sender: String::new(),
            recipients: Recipients::default(),
            messages: 0,
            message: None,
            eligible: Vec::new(),
            decisions: Vec::new(),
            seats: Vec::new(),
        };
        let mut dialogue = Self { revision: live.revision(), rules: live.rules(), facts };
        dialogue.facts.find_eligible(&dialogue.rules);
        dialogue
    }

    /// Takes the rules that are in force now. Decisions are counted from 0 again.
    pub(crate) fn refresh(&mut self) {
        self.revision = self.facts.live.revision();
        self.rules = self.facts.live.rules();
        self.facts.decisions.clear();
        self.facts.find_eligible(&self.rules);
    }

    /// Which state of the rules this is.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn note_helo(&mut self, domain: &str) {
        domain.clone_into(&mut self.facts.helo);
        self.facts.find_eligible(&self.rules);
    }

    pub(crate) fn note_tls(&mut self) {
        self.facts.tls = true;
        self.facts.find_eligible(&self.rules);
    }

    pub(crate) fn note_mail(&mut self, local: &str, domain: &str) {
        self.facts.recipients.clear();
        self.facts.message = None;
        self.facts.messages = self.facts.messages.saturating_add(1);
        self.facts.sender.clear();
        self.facts.sender.push_str(local);
        if !local.is_empty() {
            self.facts.sender.push('@');
            self.facts.sender.push_str(domain);
        }
    }

    pub(crate) fn note_recipient(&mut self, local: &str, domain: &str) {
        self.facts.recipients.push(local, domain);
    }

    /// The last recipient is none after all.
    pub(crate) fn forget_recipient(&mut self) {
        self.facts.recipients.pop();
    }

    pub(crate) fn note_message(&mut self, traffic: Option<&TrafficHeader>) {
        self.facts.message = traffic.map(|header| sum(header.run.as_str().as_bytes()) ^ mix(header.seq));
    }

    /// The message that a rule sends back, with the recipients that the rule is about.
    pub(crate) fn bounce(&self, acting: Acting, traffic: Option<TrafficHeader>) -> Option<Bounce> {
        let rule = self.rules.rule(acting.rule);
        let Action::Bounce { status, text } = &rule.action else { return None };
        let recipients = self.facts.recipients.iter();
        let recipients =
            recipients.filter(|(local, domain)| rule.condition.holds_for_recipient(local, domain));
        Some(Bounce {
            sender: self.facts.sender.clone(),
            recipients: recipients.map(|(local, domain)| format!("{local}@{domain}")).collect(),
            status: *status,
            text: text.to_string(),
            traffic,
        })
    }

    /// The local part of the recipient asked about.
    pub(crate) fn last_local_part(&self) -> &str {
        self.facts.last_local_part()
    }

    /// The rules that were asked; [`Acting::action`] finds one of them.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    /// Asks the rules of a stage, in order, up to the first that ends the asking.
    pub(crate) fn ask(&mut self, stage: Stage) -> Found {
        let mut found = Found::default();
        let Self { rules, facts, .. } = self;
        let at = rules.at(stage);
        if at.is_empty {
            return found;
        }
        let by_domain = at.by_domain.find(|| facts.recipients.last().1);
        let by_local_part = at.by_local_part.find(|| facts.recipients.last().0);
        let by_sender = at.by_sender.find(|| &facts.sender);
        let by_sender_domain = at.by_sender_domain.find(|| facts.sender_domain());
        let recipient = if stage == Stage::Rcpt { facts.recipients.last().0 } else { "" };
        let asked = Asked { stage, head: Head::new(recipient.as_bytes()) };
        for word in 0..rules.words() {
            let found_at = |bits: Option<&Bits>| bits.map_or(0, |bits| bits[word]);
            let of_sender = found_at(by_sender) | found_at(by_sender_domain);
            let indexed = found_at(by_domain) | found_at(by_local_part) | of_sender;
            let mut bits = facts.eligible[word] & (at.always[word] | indexed);
            while bits != 0 {
                let number = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if facts.meets(rules, number, asked, &mut found) {
                    return found;
                }
            }
        }
        found
    }
}

impl Facts {
    /// Asks one rule; `true` where it ends the asking.
    fn meets(&mut self, rules: &Rules, number: usize, asked: Asked, found: &mut Found) -> bool {
        let gate = rules.gate(number);
        if !(gate.messages.holds(self.messages) && gate.head.begins(asked.head)) {
            return false;
        }
        if gate.asks_more && !self.holds(rules.rule(number), asked.stage) {
            return false;
        }
        let draw = self.draw(rules, gate, number);
        if gate.below.is_some_and(|below| !draw.is_below(below)) {
            return false;
        }
        let rule = rules.rule(number);
        if !self.wants_to_act(rule) || !rules.count(number) {
            return false;
        }
        match &rule.action {
            Action::Delay(delay) => found.delay += delay.draw(draw),
            &Action::Tarpit { bytes_per_s } => found.tarpit_bytes_per_s = Some(bytes_per_s),
            &Action::SlowReader { bytes_per_s } => found.slow_reader_bytes_per_s = Some(bytes_per_s),
            _ => {
                found.last = Some(Acting { rule: number, draw });
                return true;
            }
        }
        false
    }

    /// The conditions that the gate leaves, cheap ones first.
    fn holds(&self, rule: &Rule, stage: Stage) -> bool {
        let condition = &rule.condition;
        any(&condition.sender, &self.sender)
            && (!condition.asks_recipient() || self.holds_for_recipients(rule, stage))
            && condition.window.is_none_or(|(from, to)| (from..to).contains(&self.live.now()))
    }

    fn holds_for_recipients(&self, rule: &Rule, stage: Stage) -> bool {
        let holds = |(local, domain): (&str, &str)| rule.condition.holds_for_recipient(local, domain);
        if stage == Stage::Rcpt { holds(self.recipients.last()) } else { self.recipients.iter().any(holds) }
    }

    /// What the action itself has to be asked, where it remembers something.
    fn wants_to_act(&mut self, rule: &Rule) -> bool {
        match &rule.action {
            Action::Greylist { wait, .. } => {
                let recipient = self.recipients.last();
                let key = key((rule.sum, network_of(self.client), &self.sender, recipient));
                !self.live.tables.greylist_passes(key, self.live.now(), *wait)
            }
            Action::RateLimit { interval, burst, .. } => {
                let key = key((rule.sum, self.client));
                !self.live.tables.rate_allows(key, self.live.now(), *interval, *burst)
            }
            Action::MessagesMax { messages, .. } => self.messages > *messages,
            Action::ConnectionsMax { connections, .. } => {
                let key = key((rule.sum, self.client));
                let seated = self.live.tables.sit_down(key, *connections);
                if seated {
                    self.seats.push(key);
                }
                !seated
            }
            Action::AsAddressed => magic::asked_for(self.last_local_part()).is_some(),
            _ => true,
        }
    }

    fn draw(&mut self, rules: &Rules, gate: &Gate, number: usize) -> Draw {
        if let (Some(message), true) = (self.message, gate.goes_by_message) {
            return gate.dice.draw(message, 0);
        }
        if gate.below.is_none() && !gate.draws {
            return gate.dice.draw(self.connection, 0);
        }
        if self.decisions.is_empty() {
            self.decisions.resize(rules.len(), 0);
        }
        let count = self.decisions[number];
        self.decisions[number] += 1;
        gate.dice.draw(self.connection, count)
    }

    fn find_eligible(&mut self, rules: &Rules) {
        self.eligible.clear();
        self.eligible.resize(rules.words(), 0);
        for (number, rule) in rules.iter().enumerate() {
            if rule.condition.holds_for_peer(self.client, &self.helo, self.tls) {
                set(&mut self.eligible, number);
            }
        }
    }

    fn last_local_part(&self) -> &str {
        self.recipients.last().0
    }

    fn sender_domain(&self) -> &str {
        self.sender.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.seats.iter().for_each(|seat| self.live.tables.stand_up(*seat));
    }
}

impl Action {
    /// Whether chance is drawn for a message wherever it comes from.
    pub(super) fn goes_by_message(&self) -> bool {
        matches!(self, Self::Lose | Self::Double | Self::Corrupt | Self::Bounce { .. })
    }

    /// Whether the action draws numbers of its own.
    pub(super) fn draws(&self) -> bool {
        matches!(self, Self::Delay(_) | Self::Garbage { .. })
    }
}

impl Recipients {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn push(&mut self, local: &str, domain: &str) {
        self.text.push_str(local);
        let local_end = self.text.len();
        self.text.push_str(domain);
        self.ends.push((local_end, self.text.len()));
    }

    fn pop(&mut self) {
        self.ends.pop();
        self.text.truncate(self.ends.last().map_or(0, |&(_, end)| end));
    }

    /// The last one; empty where there is none.
    fn last(&self) -> (&str, &str) {
        self.ends.len().checked_sub(1).map_or(("", ""), |place| self.at(place))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.ends.len()).map(|place| self.at(place))
    }

    fn at(&self, place: usize) -> (&str, &str) {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let (local_end, end) = self.ends[place];
        (&self.text[start..local_end], &self.text[local_end..end])
    }
}
