//! How the host and the rules compare: one [`Finding`] for each rule.
//!
//! Pure: facts and a question in, findings out. The comparison has a direction, so a host that is better than the rule is
//! told to stay as it is. Where a rule asks for evidence, a value that is low stays as it is until a counter shows the need;
//! only what somebody set below the kernel's own default is raised without.

pub(crate) mod compare;
mod wish;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::facts::{Facts, Observed, Reading};
use crate::rule::{Read, Rule, Scope, Wanted};
use crate::sizing::{Sizing, profiles};
use compare::{Context, compare, in_words, range, with_values};

/// What is asked of the rules.
#[derive(Debug, Clone)]
pub struct Question {
    /// What the host is for: the name of a profile.
    pub profile: String,
    /// How large it is.
    pub sizing: Sizing,
    /// Whether to do without evidence.
    pub eager: bool,
    /// Values that the operator would like, by key.
    pub wishes: BTreeMap<String, String>,
}

impl Question {
    /// The first profile, sized by the host.
    pub fn of(facts: &Facts) -> Self {
        let profile = &profiles()[0];
        Self {
            profile: profile.name.clone(),
            sizing: profile.sizing(&facts.machine, None, None),
            eager: false,
            wishes: BTreeMap::new(),
        }
    }
}

/// What a rule found on a host. The names of the fields are those of the JSON report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The setting.
    pub key: String,
    /// What it is, in a few words.
    pub brief: String,
    /// Its value on this host, or why it has none.
    pub current: String,
    /// What the rule asks for.
    pub wanted: String,
    /// How the two compare.
    pub verdict: Verdict,
    /// Why the verdict is what it is, where the values alone do not tell.
    pub reason: Option<String>,
    /// The value that it should get; only where it should change.
    pub target: Option<String>,
    /// Who can change it here.
    pub reach: Reach,
    /// How far a change reaches.
    pub scope: Scope,
    /// What a change may cost.
    pub risk: String,
    /// Counters with their values.
    pub evidence: Vec<String>,
    /// What this kernel sets by itself, where that is known.
    pub kernel_default: Option<String>,
    /// What became of the operator's wish, where there was one.
    pub wish: Option<Wish>,
    /// What the setting does for mail.
    pub why: String,
    /// Where that can be read again.
    pub source: String,
    /// What KumoMTA's page says about it, and why that is not taken as it is.
    pub kumomta: Option<String>,
    /// What to change, where something should be changed or may be.
    pub remedy: Option<String>,
}

/// How a current value compares with the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Just what is wanted.
    Ok,
    /// Better than what is wanted; it stays.
    Kept,
    /// Less than what is wanted; asks for a change.
    Low,
    /// More than what is wanted; asks for a change.
    High,
    /// Not what is wanted; asks for a change.
    Differs,
    /// Less than what is wanted, and no counter shows that it matters.
    NotNeeded,
    /// A facility is switched off or forbidden here; things work without it.
    Blocked,
    /// Shown; asks for nothing.
    Info,
    /// Known, and left alone on a mail host.
    Declined,
    /// The host does not have it.
    Absent,
    /// The value could not be read or understood; `reason` says why.
    Unknown,
}

impl Verdict {
    /// Whether it asks for a change.
    pub const fn asks_for_change(self) -> bool {
        matches!(self, Self::Low | Self::High | Self::Differs)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "ok",
            Self::Kept => "kept (better)",
            Self::Low => "low",
            Self::High => "high",
            Self::Differs => "differs",
            Self::NotNeeded => "not needed",
            Self::Blocked => "blocked",
            Self::Info => "info",
            Self::Declined => "left alone",
            Self::Absent => "not there",
            Self::Unknown => "unknown",
        })
    }
}

/// Who can change a setting here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// This process.
    Here,
    /// This host's root.
    Root,
    /// Whoever starts this container.
    Runtime,
    /// Whoever owns the host of this container.
    Host,
    /// A person: tuner writes no such setting.
    Hand,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The value that was wished for.
    pub value: String,
    /// Whether it is taken.
    pub taken: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Compares one setting with its rule.
pub fn judge(rule: &Rule, facts: &Facts, question: &Question) -> Finding {
    let context = context(facts, question);
    let unread = Observed::Unknown("it was not read".into());
    let observed = facts.readings.get(&rule.key).unwrap_or(&unread);
    let mut finding = blank(rule, facts, context);
    match observed {
        Observed::Value(reading) => {
            finding.current = reading.shown.clone();
            finding.reach = reach(rule, reading, facts);
            weigh(&mut finding, rule, reading, facts, question, context);
        }
        Observed::Blocked(reason) => {
            (finding.verdict, finding.current) = (Verdict::Blocked, format!("blocked: {reason}"));
        }
        Observed::Absent => finding.reason = Some(absence(rule, facts)),
        Observed::Unknown(reason) => {
            (finding.verdict, finding.reason) = (Verdict::Unknown, Some(reason.clone()));
        }
    }
    wish::weigh(&mut finding, rule, observed, question, context);
    finding.remedy = remedy(&finding, rule, facts);
    finding
}

/// What the host contributes to what is wanted.
pub(crate) fn context<'a>(facts: &'a Facts, question: &'a Question) -> Context<'a> {
    Context { sizing: &question.sizing, listening: &facts.listening, port_range: port_range(facts) }
}

/// A finding of a setting that is not there.
fn blank(rule: &Rule, facts: &Facts, context: Context<'_>) -> Finding {
    let counters = rule.evidence.iter().map(|evidence| &evidence.counter).chain(&rule.watch);
    let told = counters.filter_map(|name| Some(format!("{name} {}", facts.counters.get(name)?)));
    Finding {
        key: rule.key.clone(),
        brief: rule.brief.clone(),
        current: "-".into(),
        wanted: in_words(rule, context),
        verdict: Verdict::Absent,
        reason: None,
        target: None,
        reach: Reach::Hand,
        scope: rule.scope,
        risk: rule.risk.clone(),
        evidence: told.collect(),
        kernel_default: default_of(rule, facts).map(|value| value.join(" ")),
        wish: None,
        why: rule.why.clone(),
        source: rule.source.clone(),
        kumomta: rule.kumomta.clone(),
        remedy: None,
    }
}

fn default_of<'r>(rule: &'r Rule, facts: &Facts) -> Option<&'r [String]> {
    rule.default_of(facts.release()?)
}

/// The range for connections out as it will be.
fn port_range(facts: &Facts) -> (u64, u64) {
    let rules = crate::rule::built_in().iter();
    let mut wanted = rules.filter_map(|rule| match rule.wanted {
        Wanted::Superset(first, last) => Some((first, last)),
        _ => None,
    });
    let wanted = wanted.next_back().unwrap_or((u64::MAX, 0));
    let current = match facts.readings.get("net.ipv4.ip_local_port_range") {
        Some(Observed::Value(reading)) => range(&reading.value),
        _ => None,
    };
    current.map_or(wanted, |current| (current.0.min(wanted.0), current.1.max(wanted.1)))
}

fn weigh(
    finding: &mut Finding,
    rule: &Rule,
    reading: &Reading,
    facts: &Facts,
    question: &Question,
    context: Context<'_>,
) {
    let Some(found) = compare(&rule.wanted, &reading.value, context) else {
        let value = &reading.value;
        (finding.verdict, finding.reason) = (Verdict::Unknown, Some(format!("`{value}` is not understood")));
        return;
    };
    finding.verdict = match (&rule.wanted, found.order) {
        (Wanted::Info, _) => Verdict::Info,
        (Wanted::Declined, _) => Verdict::Declined,
        (_, Ordering::Greater) => Verdict::Kept,
        (_, Ordering::Equal) => Verdict::Ok,
        (Wanted::AtMost(_), Ordering::Less) => Verdict::High,
        (Wanted::Equal(_) | Wanted::OneOf(_) | Wanted::Without(_), Ordering::Less) => Verdict::Differs,
        (_, Ordering::Less) => Verdict::Low,
    };
    if !finding.verdict.asks_for_change() {
        return;
    }
    finding.target = Some(found.target).filter(|target| !target.is_empty());
    if rule.evidence.is_empty() {
        return;
    }
    match need(rule, facts, question) {
        Need::Shown(reason) => finding.reason = Some(reason),
        Need::NotShown(reason) => restrain(finding, rule, reading, facts, context, reason),
    }
}

enum Need {
    Shown(String),
    NotShown(String),
}

fn need(rule: &Rule, facts: &Facts, question: &Question) -> Need {
    if question.eager {
        return Need::Shown("asked for without evidence".into());
    }
    let mut told = Vec::new();
    for evidence in &rule.evidence {
        let above = evidence.above.value(&question.sizing);
        match facts.counters.get(&evidence.counter) {
            Some(value) if *value > above => {
                return Need::Shown(format!("{} is {value}, above {above}", evidence.counter));
            }
            Some(value) => told.push(format!("{} is {value}, not above {above}", evidence.counter)),
            None => told.push(format!("{} cannot be read", evidence.counter)),
        }
    }
    Need::NotShown(told.join("; "))
}

/// Without a need only the kernel's own default is restored, where somebody went below it.
fn restrain(
    finding: &mut Finding,
    rule: &Rule,
    reading: &Reading,
    facts: &Facts,
    context: Context<'_>,
    reason: String,
) {
    // Another value than the default of a switch is somebody's choice, not a lowering.
    let by_degree = !matches!(rule.wanted, Wanted::Equal(_) | Wanted::AtMost(_));
    let default = default_of(rule, facts).filter(|_| by_degree);
    let floor = default.and_then(|values| with_values(&rule.wanted, values));
    let below = floor.and_then(|floor| compare(&floor, &reading.value, context));
    match below.filter(|below| below.order == Ordering::Less) {
        Some(below) => {
            finding.target = Some(below.target);
            finding.reason = Some("below what the kernel sets by itself".into());
        }
        None => {
            (finding.verdict, finding.target) = (Verdict::NotNeeded, None);
            finding.reason = Some(reason);
        }
    }
}

fn absence(rule: &Rule, facts: &Facts) -> String {
    match (&rule.absent, rule.since, facts.release()) {
        (Some(reason), ..) => reason.clone(),
        (None, Some(since), Some(release)) if release < since => format!("came with Linux {since}"),
        _ if matches!(rule.scope, Scope::Service) => "there is no such unit here (see --unit)".into(),
        _ => "this kernel or this network namespace does not have it".into(),
    }
}

fn reach(rule: &Rule, reading: &Reading, facts: &Facts) -> Reach {
    let contained = facts.machine.system.container.is_some();
    match rule.scope {
        _ if reading.writable => Reach::Here,
        _ if !rule.is_sysctl() => Reach::Hand,
        Scope::NetworkNamespace if contained => Reach::Runtime,
        _ if contained => Reach::Host,
        _ => Reach::Root,
    }
}

fn remedy(finding: &Finding, rule: &Rule, facts: &Facts) -> Option<String> {
    let wanted = finding.target.as_deref().unwrap_or(&finding.wanted);
    if finding.verdict == Verdict::Blocked {
        return rule.remedy.clone();
    }
    if !finding.verdict.asks_for_change() {
        return None;
    }
    if let Some(remedy) = &rule.remedy {
        let remedy = remedy.replace("{wanted}", wanted);
        return Some(match (&rule.read, facts.process) {
            (Read::Limits { option, .. }, Some(id)) => {
                format!(
                    "Now, as root: prlimit --pid {id} --{option}={wanted}:{wanted}. For its next start: {remedy}"
                )
            }
            _ => remedy,
        });
    }
    let key = &rule.key;
    let lasting =
        format!("sysctl -w {key}='{wanted}', and the line {key} = {wanted} in /etc/sysctl.d/50-mail.conf");
    Some(match finding.reach {
        Reach::Runtime => format!("Where the container is started: docker run --sysctl {key}='{wanted}'."),
        Reach::Host => format!("On the host of this container, for all its containers: {lasting}."),
        _ => format!("As root: {lasting}."),
    })
}

#[cfg(test)]
mod tests;
