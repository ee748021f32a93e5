//! Rules as they are meant: every value checked, every default filled in.
//!
//! Owns which action is accepted at which stage, and which condition can hold there. What makes no sense is
//! refused with the rule, the stage, the action and what would be accepted.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use smtp::reply::{EnhancedCode, Reply};

use super::delay::{Delay, duration};
use super::dice::sum;
use super::error::RuleError;
use super::pattern::Pattern;
use super::stage::{Stage, names};
use super::written::{
    BadTls, RULE_NAME_BYTES_MAX, Texts, Then, WrittenAction, WrittenMatch, WrittenMessages, WrittenRule,
    WrittenSpeech,
};

/// The most texts that one condition lists.
pub const TEXTS_MAX: usize = 1_000;

/// The longest text of a reply or a pattern, in bytes.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// The most garbage that is sent at once, and the most that `say` says, in bytes.
pub const GARBAGE_BYTES_MAX: usize = 1 << 20;

/// The longest memory of a greylist, in seconds: a week.
pub const GREYLIST_SECONDS_MAX: u64 = 7 * 86_400;

const GREYLISTED: Reply = Reply::new(450, (4, 7, 1), "Greylisted, please try again later");
const TOO_MANY_MESSAGES: Reply =
    Reply::new(421, (4, 7, 0), "Enough messages on this connection, please connect again");
const TOO_MANY_CONNECTIONS: Reply = Reply::new(421, (4, 7, 0), "Too many connections from your address");
const TOO_FAST: Reply = Reply::new(421, (4, 7, 0), "Too fast for your address, please slow down");

/// One rule, ready to be asked.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(super) name: Box<str>,
    pub(super) stage: Stage,
    pub(super) condition: Condition,
    pub(crate) action: Action,
    /// From 0 to 1.
    pub(super) probability: f64,
    /// How many times it acts, over all connections.
    pub(super) limit: Option<u64>,
    /// Stands for the name where chance is drawn, so that a rule's dice do not change with its place.
    pub(super) sum: u64,
}

/// What has to hold. An empty list holds always.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) clients: Vec<IpNet>,
    pub(super) helo: Vec<Pattern>,
    pub(super) tls: Option<bool>,
    pub(super) sender: Vec<Pattern>,
    pub(super) domain: Vec<Pattern>,
    pub(super) local_part: Vec<Pattern>,
    pub(super) messages: Messages,
    /// Since the start of the sink.
    pub(super) window: Option<(Duration, Duration)>,
}

/// Which messages of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Messages {
    All,
    Every(u32),
    /// Both included.
    Span(u32, u32),
}

/// What is done.
#[derive(Debug)]
pub(crate) enum Action {
    Reply(Reply),
    Delay(Delay),
    Drop,
    Reset,
    HalfClose,
    /// `None`: for as long as the peer stays and the sink's patience lasts.
    Stall(Option<Duration>),
    Tarpit {
        bytes_per_s: u32,
    },
    SlowReader {
        bytes_per_s: u32,
    },
    Garbage {
        bytes: usize,
    },
    Say {
        text: Box<str>,
        times: usize,
        then: Then,
    },
    BadTls(BadTls),
    Greylist {
        wait: Duration,
        reply: Reply,
    },
    MessagesMax {
        messages: u32,
        reply: Reply,
    },
    ConnectionsMax {
        connections: u32,
        reply: Reply,
    },
    RateLimit {
        /// Between two events at the rate allowed.
        interval: Duration,
        burst: u32,
        reply: Reply,
    },
    Bounce {
        status: EnhancedCode,
        text: Box<str>,
    },
    Lose,
    Double,
    Corrupt,
    /// The reply whose code stands before the hyphen in the local part; only `--magic` makes it.
    AsAddressed,
}

impl Rule {
    pub(super) fn new(written: &WrittenRule) -> Result<Self, RuleError> {
        Self::meant(written).map_err(|text| RuleError::of_rule(&written.name, text))
    }

    fn meant(written: &WrittenRule) -> Result<Self, String> {
        let WrittenRule { name, stage, condition, action, probability, limit } = written;
        if name.is_empty() || name.len() > RULE_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!("a name has 1 to {RULE_NAME_BYTES_MAX} bytes and no control characters"));
        }
        let probability = probability.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&probability) {
            return Err(format!("probability {probability} is not from 0 to 1"));
        }
        let accepted = stages_of(action);
        if !accepted.contains(stage) {
            let kind = kind_of(action);
            return Err(format!(
                "action {kind} makes no sense at stage {stage}; it is accepted at {}, and {stage} accepts {}",
                names(accepted),
                actions_at(*stage).join(", ")
            ));
        }
        Ok(Self {
            name: name.as_str().into(),
            stage: *stage,
            condition: Condition::new(condition, *stage)?,
            action: Action::new(action, *stage)?,
            probability,
            limit: *limit,
            sum: sum(name.as_bytes()),
        })
    }

    /// The rule that obeys a local part such as `450-x`.
    pub(super) fn as_addressed(name: &str) -> Self {
        Self {
            name: name.into(),
            stage: Stage::Rcpt,
            condition: Condition::always(),
            action: Action::AsAddressed,
            probability: 1.0,
            limit: None,
            sum: sum(name.as_bytes()),
        }
    }
}

impl Condition {
    fn always() -> Self {
        Self {
            clients: Vec::new(),
            helo: Vec::new(),
            tls: None,
            sender: Vec::new(),
            domain: Vec::new(),
            local_part: Vec::new(),
            messages: Messages::All,
            window: None,
        }
    }

    fn new(written: &WrittenMatch, stage: Stage) -> Result<Self, String> {
        let WrittenMatch { client, helo, sender, domain, local_part, tls, message, window } = written;
        known("sender", !sender.as_slice().is_empty(), stage, Stage::has_sender)?;
        known("domain", !domain.as_slice().is_empty(), stage, Stage::has_recipient)?;
        known("local_part", !local_part.as_slice().is_empty(), stage, Stage::has_recipient)?;
        known("helo", !helo.as_slice().is_empty(), stage, |stage| stage > Stage::Banner)?;
        known("tls", tls.is_some(), stage, |stage| stage > Stage::Connect)?;
        known("message", message.is_some(), stage, |stage| stage >= Stage::Mail)?;
        let window = window.map(|window| {
            let to = window.to_s.map_or(Duration::MAX, Duration::from_secs);
            (Duration::from_secs(window.from_s), to)
        });
        if window.is_some_and(|(from, to)| from >= to) {
            return Err("match.window ends before it begins; from_s is the smaller one".to_owned());
        }
        Ok(Self {
            clients: texts("client", client)?.iter().map(|text| network(text)).collect::<Result<_, _>>()?,
            helo: patterns("helo", helo)?,
            tls: *tls,
            sender: patterns("sender", sender)?,
            domain: patterns("domain", domain)?,
            local_part: patterns("local_part", local_part)?,
            messages: message.map_or(Ok(Messages::All), messages)?,
            window,
        })
    }

    /// Whether it asks for what stays the same between two EHLO.
    pub(super) fn holds_for_peer(&self, client: IpAddr, helo: &str, tls: bool) -> bool {
        self.tls.is_none_or(|wanted| wanted == tls)
            && (self.clients.is_empty() || self.clients.iter().any(|net| net.contains(&client)))
            && any(&self.helo, helo)
    }

    pub(super) fn asks_recipient(&self) -> bool {
        !(self.domain.is_empty() && self.local_part.is_empty())
    }

    pub(super) fn holds_for_recipient(&self, local: &str, domain: &str) -> bool {
        any(&self.domain, domain) && any(&self.local_part, local)
    }
}

/// Whether one of the patterns matches; no pattern asks for nothing.
pub(super) fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
}

impl Messages {
    pub(super) fn holds(self, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Every(count) => number > 0 && number.is_multiple_of(count),
            Self::Span(from, to) => (from..=to).contains(&number),
        }
    }
}

impl Action {
    fn new(written: &WrittenAction, stage: Stage) -> Result<Self, String> {
        Ok(match written {
            WrittenAction::Reply(text) => Self::Reply(reply(text, stage)?),
            WrittenAction::Delay(text) => Self::Delay(text.parse()?),
            WrittenAction::Drop => Self::Drop,
            WrittenAction::Reset => Self::Reset,
            WrittenAction::HalfClose => Self::HalfClose,
            WrittenAction::Stall(text) if text == "forever" => Self::Stall(None),
            WrittenAction::Stall(text) => Self::Stall(Some(duration(text)?)),
            &WrittenAction::Tarpit { bytes_per_s } => Self::Tarpit { bytes_per_s: rate(bytes_per_s)? },
            &WrittenAction::SlowReader { bytes_per_s } => {
                Self::SlowReader { bytes_per_s: rate(bytes_per_s)? }
            }
            &WrittenAction::Garbage { bytes } => {
                if !(1..=GARBAGE_BYTES_MAX).contains(&bytes) {
                    return Err(format!("garbage has 1 to {GARBAGE_BYTES_MAX} bytes, not {bytes}"));
                }
                Self::Garbage { bytes }
            }
            WrittenAction::Say(speech) => said(speech, stage)?,
            WrittenAction::BadTls(kind) => Self::BadTls(*kind),
            WrittenAction::Greylist { seconds, reply } => {
                if *seconds > GREYLIST_SECONDS_MAX {
                    return Err(format!(
                        "{seconds} s are more than the {GREYLIST_SECONDS_MAX} s of a greylist"
                    ));
                }
                let reply = refusal(reply.as_deref(), &GREYLISTED, stage)?;
                Self::Greylist { wait: Duration::from_secs(*seconds), reply }
            }
            WrittenAction::MessagesMax { messages, reply } => {
                let reply = refusal(reply.as_deref(), &TOO_MANY_MESSAGES, stage)?;
                Self::MessagesMax { messages: *messages, reply }
            }
            WrittenAction::ConnectionsMax { connections, reply } => {
                let reply = refusal(reply.as_deref(), &TOO_MANY_CONNECTIONS, stage)?;
                Self::ConnectionsMax { connections: *connections, reply }
            }
            WrittenAction::RateLimit { per_minute, burst, reply } => {
                let reply = refusal(reply.as_deref(), &TOO_FAST, stage)?;
                if !(*per_minute >= 0.001 && *per_minute <= 1e9) || *burst == 0 {
                    return Err("rate_limit needs per_minute from 0.001 to 1e9 and a burst from 1".to_owned());
                }
                Self::RateLimit { interval: Duration::from_secs_f64(60.0 / per_minute), burst: *burst, reply }
            }
            WrittenAction::Bounce { status, text } => {
                let status = status.as_deref().unwrap_or("5.0.0");
                let code = EnhancedCode::parse(status).filter(|code| code.class == 5);
                let text = text.as_deref().unwrap_or("The message could not be delivered");
                Self::Bounce {
                    status: code.ok_or_else(|| format!("status {status:?} is none such as \"5.1.1\""))?,
                    text: short(text)?.into(),
                }
            }
            WrittenAction::Lose => Self::Lose,
            WrittenAction::Double => Self::Double,
            WrittenAction::Corrupt => Self::Corrupt,
        })
    }
}

/// The actions by name, each with the stages that accept it.
pub(crate) const ACTIONS: [(&str, &[Stage]); 19] = [
    ("reply", REPLY_STAGES),
    ("delay", ALL_STAGES),
    ("drop", ALL_STAGES),
    ("reset", ALL_STAGES),
    ("half_close", ALL_STAGES),
    ("stall", ALL_STAGES),
    ("tarpit", TARPIT_STAGES),
    ("slow_reader", &[Stage::Connect, Stage::Body]),
    ("garbage", GARBAGE_STAGES),
    ("say", GARBAGE_STAGES),
    ("bad_tls", &[Stage::Connect, Stage::Starttls]),
    ("greylist", &[Stage::Rcpt]),
    ("messages_max", &[Stage::Mail]),
    ("connections_max", &[Stage::Banner]),
    ("rate_limit", &[Stage::Banner, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot]),
    ("bounce", &[Stage::FinalDot]),
    ("lose", &[Stage::FinalDot]),
    ("double", &[Stage::FinalDot]),
    ("corrupt", &[Stage::FinalDot]),
];

const ALL_STAGES: &[Stage] = &Stage::ALL;

/// All but `connect`, where nobody has been greeted.
const REPLY_STAGES: &[Stage] = ALL_STAGES.split_at(1).1;

/// All but `body`, which has no reply of its own.
const TARPIT_STAGES: &[Stage] = &{
    let mut stages = [Stage::Connect; Stage::ALL.len() - 1];
    let mut place = 0;
    while place < stages.len() {
        // Stage::ALL without the entry of Body.
        stages[place] = Stage::ALL[if place < Stage::Body as usize { place } else { place + 1 }];
        place += 1;
    }
    stages
};

/// All but `connect`, which is before anybody reads, and `body`, which has no reply of its own.
const GARBAGE_STAGES: &[Stage] = TARPIT_STAGES.split_at(1).1;

fn stages_of(action: &WrittenAction) -> &'static [Stage] {
    let kind = kind_of(action);
    ACTIONS.iter().find(|(name, _)| *name == kind).map_or(&[], |(_, stages)| stages)
}

fn actions_at(stage: Stage) -> Vec<&'static str> {
    ACTIONS.iter().filter(|(_, stages)| stages.contains(&stage)).map(|(name, _)| *name).collect()
}

fn kind_of(action: &WrittenAction) -> &'static str {
    match action {
        WrittenAction::Reply(_) => "reply",
        WrittenAction::Delay(_) => "delay",
        WrittenAction::Drop => "drop",
        WrittenAction::Reset => "reset",
        WrittenAction::HalfClose => "half_close",
        WrittenAction::Stall(_) => "stall",
        WrittenAction::Tarpit { .. } => "tarpit",
        WrittenAction::SlowReader { .. } => "slow_reader",
        WrittenAction::Garbage { .. } => "garbage",
        WrittenAction::Say(_) => "say",
        WrittenAction::BadTls(_) => "bad_tls",
        WrittenAction::Greylist { .. } => "greylist",
        WrittenAction::MessagesMax { .. } => "messages_max",
        WrittenAction::ConnectionsMax { .. } => "connections_max",
        WrittenAction::RateLimit { .. } => "rate_limit",
        WrittenAction::Bounce { .. } => "bounce",
        WrittenAction::Lose => "lose",
        WrittenAction::Double => "double",
        WrittenAction::Corrupt => "corrupt",
    }
}

fn said(WrittenSpeech { text, times, then }: &WrittenSpeech, stage: Stage) -> Result<Action, String> {
    let times = times.unwrap_or(1);
    let bytes = short(text)?.len().saturating_mul(times);
    if !(1..=GARBAGE_BYTES_MAX).contains(&bytes) {
        return Err(format!("say has 1 to {GARBAGE_BYTES_MAX} bytes, all its times together, not {bytes}"));
    }
    // What a good reply promises there, the sink could not keep.
    if *then == Then::Accept && matches!(stage, Stage::Starttls | Stage::Data) {
        return Err(format!("then = \"accept\" makes no sense at stage {stage}; refuse, drop and stall do"));
    }
    Ok(Action::Say { text: text.as_str().into(), times, then: *then })
}

/// Refuses a condition about what is not known at the stage.
fn known(key: &str, given: bool, stage: Stage, is_known: impl Fn(Stage) -> bool) -> Result<(), String> {
    if !given || is_known(stage) {
        return Ok(());
    }
    let stages: Vec<Stage> = Stage::ALL.into_iter().filter(|stage| is_known(*stage)).collect();
    Err(format!("match.{key} is not known at stage {stage}; it is at {}", names(&stages)))
}

fn texts<'a>(key: &str, texts: &'a Texts) -> Result<&'a [String], String> {
    let texts = texts.as_slice();
    if texts.len() > TEXTS_MAX {
        return Err(format!("match.{key} lists {} texts; at most {TEXTS_MAX} are allowed", texts.len()));
    }
    texts.iter().try_for_each(|text| short(text).map(|_| ()))?;
    Ok(texts)
}

fn patterns(key: &str, written: &Texts) -> Result<Vec<Pattern>, String> {
    // The null sender is the empty one.
    let pattern = |text: &String| Pattern::new(if text == "<>" { "" } else { text });
    Ok(texts(key, written)?.iter().map(pattern).collect())
}

fn network(text: &str) -> Result<IpNet, String> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| format!("match.client {text:?} is no address and no network such as 192.0.2.0/24"))
}

fn messages(written: WrittenMessages) -> Result<Messages, String> {
    let meant = match written {
        WrittenMessages::Number(number) => Messages::Span(number, number),
        WrittenMessages::Every(every) => Messages::Every(every.every),
        WrittenMessages::Span(span) => Messages::Span(span.from, span.to.unwrap_or(u32::MAX)),
    };
    match meant {
        Messages::Every(0) => Err("match.message.every counts from 1".to_owned()),
        Messages::Span(from, to) if from == 0 || from > to => {
            Err("match.message counts from 1, and from is not after to".to_owned())
        }
        good => Ok(good),
    }
}

fn short(text: &str) -> Result<&str, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("a text has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len()));
    }
    Ok(text)
}

fn rate(bytes_per_s: u32) -> Result<u32, String> {
    if bytes_per_s == 0 {
        return Err("bytes_per_s counts from 1; use stall for nothing at all".to_owned());
    }
    Ok(bytes_per_s)
}

/// The reply that refuses, the usual one where none is written.
fn refusal(text: Option<&str>, usual: &Reply, stage: Stage) -> Result<Reply, String> {
    let Some(text) = text else { return Ok(usual.clone()) };
    let reply = reply(text, stage)?;
    if reply.is_positive() {
        Err(format!("reply {text:?} has to refuse: write 4xx or 5xx"))
    } else {
        Ok(reply)
    }
}

fn reply(text: &str, stage: Stage) -> Result<Reply, String> {
    let reply = Reply::parse(short(text)?).map_err(|_| {
        format!("reply {text:?} is none; write a code and a text, such as \"450 4.2.1 Busy\"")
    })?;
    let first = reply.text.split([' ', '\n']).next().unwrap_or_default();
    if EnhancedCode::parse(first).is_some() {
        return Err(format!("reply {text:?}: the first digit of {first} is not that of {}", reply.code));
    }
    let positive = match stage {
        Stage::Banner => Some(220),
        // What a positive reply promises there, the sink could not keep.
        Stage::Starttls | Stage::Data | Stage::Body => None,
        _ => Some(reply.code).filter(|_| reply.is_positive()),
    };
    if reply.is_transient() || reply.is_permanent() || positive == Some(reply.code) {
        return Ok(reply);
    }
    let positive = match stage {
        Stage::Banner => "220, ",
        Stage::Starttls | Stage::Data | Stage::Body => "",
        _ => "2xx, ",
    };
    Err(format!("reply code {} makes no sense at stage {stage}; {positive}4xx or 5xx would", reply.code))
}
