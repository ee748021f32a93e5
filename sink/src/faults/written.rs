//! Rules as they are written, in TOML or as the same in JSON.
//!
//! Owns the keys and the reading: a key that is not known is refused with the nearest that is. What the
//! values mean is checked by `meant`, and nothing leaves this module unchecked: a [`RuleSet`] compiles.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::{RuleError, nearest, with_near_miss};
use super::meant::Rule;
use super::stage::Stage;

/// The most rules in force at once.
pub const RULES_MAX: usize = 1_024;

/// The largest file of rules, in bytes; over HTTP too.
pub const RULE_FILE_BYTES_MAX: usize = 1 << 20;

/// The longest name of a rule, in bytes.
pub const RULE_NAME_BYTES_MAX: usize = 100;

/// Rules that have been checked, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    rules: Vec<WrittenRule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRule {
    pub(super) name: String,
    pub(super) stage: Stage,
    #[serde(rename = "match", default, skip_serializing_if = "is_default")]
    pub(super) condition: WrittenMatch,
    pub(super) action: WrittenAction,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u64>,
}

/// When a rule is asked at its stage; what is left out holds always.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenMatch {
    #[serde(skip_serializing_if = "is_default")]
    pub(super) client: Texts,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) helo: Texts,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) sender: Texts,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) domain: Texts,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) local_part: Texts,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) tls: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) message: Option<WrittenMessages>,
    #[serde(skip_serializing_if = "is_default")]
    pub(super) window: Option<WrittenWindow>,
}

/// One text or several, any of which will do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Texts {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// Which messages of a connection, counted from 1 by their MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a number, { every = N } or { from = N, to = N }")]
pub(crate) enum WrittenMessages {
    Number(u32),
    Every(Every),
    Span(Span),
}

/// Each N-th message.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Every {
    pub(super) every: u32,
}

/// From one message to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    pub(super) from: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<u32>,
}

/// Seconds since the sink started; `to` is no longer in it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenWindow {
    #[serde(default)]
    pub(super) from_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to_s: Option<u64>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum WrittenAction {
    Reply(String),
    Delay(String),
    Drop,
    Reset,
    HalfClose,
    Stall(String),
    Tarpit { bytes_per_s: u32 },
    SlowReader { bytes_per_s: u32 },
    Garbage { bytes: usize },
    Say(WrittenSpeech),
    BadTls(BadTls),
    Greylist { seconds: u64, reply: Option<String> },
    MessagesMax { messages: u32, reply: Option<String> },
    ConnectionsMax { connections: u32, reply: Option<String> },
    RateLimit { per_minute: f64, burst: u32, reply: Option<String> },
    Bounce { status: Option<String>, text: Option<String> },
    Lose,
    Double,
    Corrupt,
}

/// Bytes as they are.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenSpeech {
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) times: Option<usize>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) then: Then,
}

/// What follows when the bytes have been said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Then {
    /// The conversation goes on as after a refusal.
    #[default]
    Refuse,
    /// It goes on as after a good reply.
    Accept,
    /// The connection is closed.
    Drop,
    /// Nothing more is said or read.
    Stall,
}

/// How a handshake goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BadTls {
    /// The certificate has expired.
    Expired,
    /// The certificate is for another name.
    WrongName,
    /// What comes back is no TLS.
    Garbage,
}

impl RuleSet {
    /// Reads a file of rules.
    ///
    /// # Errors
    /// The first thing that is wrong, with the name of its rule.
    pub fn from_toml(text: &str) -> Result<Self, RuleError> {
        Self::from_value(toml_value(text)?)
    }

    /// Reads the same as JSON.
    ///
    /// # Errors
    /// As [`Self::from_toml`].
    pub fn from_json(text: &[u8]) -> Result<Self, RuleError> {
        Self::from_value(json_value(text)?)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// These rules and behind them the others, which are asked later.
    ///
    /// # Errors
    /// Two rules of one name, or too many rules.
    pub fn followed_by(mut self, others: Self) -> Result<Self, RuleError> {
        self.rules.extend(others.rules);
        Self::checked(self.rules)
    }

    pub(super) fn checked(rules: Vec<WrittenRule>) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX {
            let text = format!("{} rules are more than the {RULES_MAX} that may be in force", rules.len());
            return Err(RuleError::of_file(text));
        }
        let mut names = BTreeSet::new();
        for rule in &rules {
            Rule::new(rule)?;
            if !names.insert(&rule.name) {
                return Err(RuleError::of_rule(&rule.name, "there are two rules of this name; rename one"));
            }
        }
        Ok(Self { rules })
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, RuleError> {
        Self::checked(rule_values(value)?.into_iter().enumerate().map(read_rule).collect::<Result<_, _>>()?)
    }

    /// These rules with those of `value` merged in by name: what a rule of `value` leaves out stays, what is
    /// null goes, a name that is new comes last (the rules of RFC 7396 for each rule).
    pub(crate) fn merged(&self, value: Value) -> Result<Self, RuleError> {
        let mut rules = self.rules.clone();
        for (place, patch) in rule_values(value)?.into_iter().enumerate() {
            let name = name_of(place, &patch);
            match rules.iter_mut().find(|rule| rule.name == name) {
                Some(rule) => {
                    let mut whole = as_value(rule);
                    merge(&mut whole, patch);
                    *rule = read_rule((place, whole))?;
                }
                None => rules.push(read_rule((place, patch))?),
            }
        }
        Self::checked(rules)
    }

    pub(super) fn rules(&self) -> &[WrittenRule] {
        &self.rules
    }

    /// As JSON, in the form that is read.
    pub(super) fn as_values(&self) -> Vec<Value> {
        self.rules.iter().map(as_value).collect()
    }
}

/// The tables of a TOML file.
pub(crate) fn toml_value(text: &str) -> Result<Value, RuleError> {
    toml::from_str(text).map_err(|error| RuleError::of_file(error.to_string().trim_end()))
}

pub(crate) fn json_value(text: &[u8]) -> Result<Value, RuleError> {
    serde_json::from_slice(text).map_err(|error| RuleError::of_file(format!("this is no JSON: {error}")))
}

/// What stands under `rule`. The counts, which a reader of `GET /rules` has got with the rules, are passed over.
fn rule_values(value: Value) -> Result<Vec<Value>, RuleError> {
    const KEYS: [&str; 3] = ["rule", "hits", "bounces"];
    let Value::Object(mut file) = value else {
        return Err(RuleError::of_file("rules are a table with a list named rule"));
    };
    if let Some(key) = file.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let near = nearest(key, KEYS.into_iter()).unwrap_or("rule");
        return Err(RuleError::of_file(format!("unknown key `{key}`; did you mean `{near}`?")));
    }
    match file.remove("rule") {
        None => Ok(Vec::new()),
        Some(Value::Array(rules)) => Ok(rules),
        Some(_) => Err(RuleError::of_file("rule is a list: write [[rule]] before each rule")),
    }
}

fn read_rule((place, value): (usize, Value)) -> Result<WrittenRule, RuleError> {
    let name = name_of(place, &value);
    serde_json::from_value(value)
        .map_err(|error| RuleError::of_rule(&name, with_near_miss(&error.to_string())))
}

/// The name, or where none is given the place, counted from 1.
fn name_of(place: usize, rule: &Value) -> String {
    let name = rule.get("name").and_then(Value::as_str);
    name.map_or_else(|| format!("#{}", place + 1), str::to_owned)
}

fn as_value(rule: &WrittenRule) -> Value {
    // Only texts, numbers and maps with keys of text: nothing that JSON could not hold.
    serde_json::to_value(rule).map(without_nulls).unwrap_or_default()
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(|value| *value = without_nulls(value.take()));
    }
    value
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else if key == "action" && kind_of(&value) != target.get(&key).and_then(kind_of) {
            // An action has one kind, so another kind takes the place of the first.
            target.insert(key, value);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The name of an action: `"drop"`, or the key of `{ "reply": … }`.
fn kind_of(action: &Value) -> Option<&str> {
    match action {
        Value::String(kind) => Some(kind),
        Value::Object(map) => map.keys().next().map(String::as_str),
        _ => None,
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
