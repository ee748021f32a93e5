//! What is wanted: the rules, read from the files of `tuner/rules`, which are compiled in.
//!
//! A rule is data: a key, an operator with a direction, a value or a formula, the reason and its source. The reader
//! refuses unknown fields and values that do not fit their operator, with the key, so that a slip in a rule is a failing
//! test and not a silent default.

pub mod formula;
pub mod release;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use formula::Formula;
use release::Release;

/// One setting, what is wanted of it, and the reason.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The name people search for: a sysctl key, a resource limit, or a facility.
    pub key: String,
    /// Where the current value comes from.
    pub read: Read,
    /// How the current value is compared with the wanted one.
    pub wanted: Wanted,
    /// How far a change reaches.
    pub scope: Scope,
    /// What it is, in a few words.
    pub brief: String,
    /// What happens to mail without it.
    pub why: String,
    /// Where the facts can be read again: an address.
    pub source: String,
    /// What to do by hand; `{wanted}` stands for the value. Sysctls need none.
    pub remedy: Option<String>,
    /// What a change may cost.
    pub risk: String,
    /// The kernel that it came with, where older ones are still seen.
    pub since: Option<Release>,
    /// What the kernel sets by itself, and since which release. Less than that is somebody's lowering, and is raised
    /// without further evidence.
    pub defaults: Vec<(Release, Vec<String>)>,
    /// Any of these shows that the change is needed; where there is none it needs no showing.
    pub evidence: Vec<Evidence>,
    /// Counters that are shown beside the value.
    pub watch: Vec<String>,
    /// The profiles it holds for; empty is all.
    pub profiles: Vec<String>,
    /// What KumoMTA's page says about it, and why that is not taken as it is.
    pub kumomta: Option<String>,
    /// What it means when the host does not have it.
    pub absent: Option<String>,
}

/// Where a current value is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Read {
    /// `/proc/sys`, with the dots of the key as slashes.
    #[default]
    Sysctl,
    /// A row of `/proc/PID/limits`.
    Limits {
        /// The row's own name, such as `Max open files`.
        row: String,
        /// Which of its two values the rule is about.
        column: LimitColumn,
        /// The option of prlimit that sets it.
        option: String,
    },
    /// A line of the service's unit and its drop-ins, such as `LimitNOFILE`.
    Unit(String),
    /// Found out by code: see `host::devices`.
    Fact(Fact),
}

/// The two values of a resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitColumn {
    /// What holds now.
    Soft,
    /// What the process may raise the soft value to.
    Hard,
}

/// What is not one file with one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Whether io_uring can be used.
    IoUring,
    /// Mode of transparent huge pages.
    TransparentHugepage,
    /// Frequency governor of the processors.
    CpuGovernor,
    /// What the time is read from.
    Clocksource,
    /// Queues of the network interfaces.
    ReceiveQueues,
    /// Scheduler of the disk below the spool.
    IoScheduler,
    /// File system of the spool.
    SpoolFileSystem,
    /// Mount options of the spool.
    SpoolMount,
    /// Processors by quota.
    CgroupCpuQuota,
    /// Memory by control group.
    CgroupMemoryMax,
    /// The container, if it is one.
    Container,
    /// Nothing of the host: what programs do themselves.
    Program,
}

/// What a value is compared with. Every comparison has a direction, so that advice never makes a better value worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A number, at least this.
    AtLeast(Formula),
    /// A number, at most this.
    AtMost(Formula),
    /// This text.
    Equal(String),
    /// Two numbers, a range that holds this one.
    Superset(u64, u64),
    /// Numbers, each at least the one in its place.
    Elementwise(Vec<Formula>),
    /// One of these words; the first is what is recommended.
    OneOf(Vec<String>),
    /// A list of options with none of these.
    Without(Vec<String>),
    /// A list of ports that holds those that something listens on.
    ListeningPorts,
    /// A facility that should be there.
    Available,
    /// Shown; asks for no change.
    Info,
    /// Known, and not for a mail host.
    Declined,
}

/// How far a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The process.
    #[serde(rename = "process")]
    Process,
    /// The service.
    #[serde(rename = "service")]
    Service,
    /// The network namespace: a container's own.
    #[serde(rename = "network namespace")]
    NetworkNamespace,
    /// The host with all its containers.
    #[serde(rename = "host")]
    Host,
}

impl Scope {
    /// As the rule files write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Service => "service",
            Self::NetworkNamespace => "network namespace",
            Self::Host => "host",
        }
    }
}

/// A counter that shows a need when it is above a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Name of the counter: see `host::counters`.
    pub counter: String,
    /// Above this it shows a need.
    pub above: Formula,
}

impl Rule {
    /// What the kernel of this release sets by itself.
    pub fn default_of(&self, kernel: Release) -> Option<&[String]> {
        let known = self.defaults.iter().filter(|(since, _)| *since <= kernel);
        known.max_by_key(|(since, _)| *since).map(|(_, value)| value.as_slice())
    }

    /// Whether it holds for a profile.
    pub fn is_for(&self, profile: &str) -> bool {
        self.profiles.is_empty() || self.profiles.iter().any(|name| name == profile)
    }

    /// Whether it is a sysctl that tuner may write.
    pub fn is_sysctl(&self) -> bool {
        self.read == Read::Sysctl
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Written>,
}

/// A rule as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    key: String,
    #[serde(default)]
    read: Read,
    operator: String,
    value: Option<OneOrMore>,
    scope: Scope,
    brief: String,
    why: String,
    source: String,
    remedy: Option<String>,
    risk: Option<String>,
    since: Option<String>,
    #[serde(default)]
    defaults: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    evidence: Vec<WrittenEvidence>,
    #[serde(default)]
    watch: Vec<String>,
    #[serde(default)]
    profiles: Vec<String>,
    kumomta: Option<String>,
    absent: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEvidence {
    counter: String,
    above: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

/// Why a rule file was refused. The fault is ours: the files are compiled in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}: {problem}")]
pub struct RuleError {
    /// The rule file.
    pub file: String,
    /// What is wrong with it, with the key or the line.
    pub problem: String,
}

const FILES: [(&str, &str); 4] = [
    ("limits.toml", include_str!("../rules/limits.toml")),
    ("network.toml", include_str!("../rules/network.toml")),
    ("host.toml", include_str!("../rules/host.toml")),
    ("devices.toml", include_str!("../rules/devices.toml")),
];

static BUILT_IN: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let parsed = FILES.iter().map(|(file, text)| parse(file, text)).collect::<Result<Vec<_>, _>>();
    parsed.expect("the compiled-in rule files are parsed by a test").concat()
});

/// The rules that come with this program, in the order of their files.
pub fn built_in() -> &'static [Rule] {
    &BUILT_IN
}

/// Reads one rule file; `file` is only used to name it in an error.
///
/// # Errors
/// Text that is not TOML, a missing or unknown field, an unknown operator, a value that does not fit its operator.
pub fn parse(file: &str, text: &str) -> Result<Vec<Rule>, RuleError> {
    let refuse = |problem: String| RuleError { file: file.into(), problem };
    let written: File = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
    let rule = |written: Written| {
        let key = written.key.clone();
        meant(written).map_err(|problem| refuse(format!("{key}: {problem}")))
    };
    written.rule.into_iter().map(rule).collect()
}

fn meant(written: Written) -> Result<Rule, String> {
    let values = written.value.map(OneOrMore::into_vec).unwrap_or_default();
    let evidence = |written: WrittenEvidence| {
        Ok(Evidence { above: Formula::parse(&written.above)?, counter: written.counter })
    };
    let default = |(since, value): (String, OneOrMore)| Ok((Release::parse(&since)?, value.into_vec()));
    Ok(Rule {
        wanted: wanted(&written.operator, values)?,
        since: written.since.as_deref().map(Release::parse).transpose()?,
        defaults: written.defaults.into_iter().map(default).collect::<Result<_, String>>()?,
        evidence: written.evidence.into_iter().map(evidence).collect::<Result<_, String>>()?,
        key: written.key,
        read: written.read,
        scope: written.scope,
        brief: written.brief,
        why: written.why,
        source: written.source,
        remedy: written.remedy,
        risk: written.risk.unwrap_or_else(|| "nothing is changed".into()),
        watch: written.watch,
        profiles: written.profiles,
        kumomta: written.kumomta,
        absent: written.absent,
    })
}

fn wanted(operator: &str, values: Vec<String>) -> Result<Wanted, String> {
    let one = || match values.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(format!("`{operator}` takes one value")),
    };
    let number = |text: &String| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
    match operator {
        "ge" => Ok(Wanted::AtLeast(Formula::parse(&one()?)?)),
        "le" => Ok(Wanted::AtMost(Formula::parse(&one()?)?)),
        "eq" => Ok(Wanted::Equal(one()?)),
        "superset" => match values.as_slice() {
            [first, last] => Ok(Wanted::Superset(number(first)?, number(last)?)),
            _ => Err("`superset` takes the first and the last of a range".into()),
        },
        "vec_ge" => {
            Ok(Wanted::Elementwise(values.iter().map(|text| Formula::parse(text)).collect::<Result<_, _>>()?))
        }
        "one_of" if !values.is_empty() => Ok(Wanted::OneOf(values)),
        "without" if !values.is_empty() => Ok(Wanted::Without(values)),
        "ports" => Ok(Wanted::ListeningPorts),
        "available" => Ok(Wanted::Available),
        "info" => Ok(Wanted::Info),
        "declined" => Ok(Wanted::Declined),
        _ => Err(format!(
            "`operator` is ge, le, eq, superset, vec_ge, one_of, without, ports, available, info or declined, \
             with a value where it needs one; not `{operator}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "[[rule]]\nkey = \"a.b\"\noperator = \"ge\"\nvalue = \"1\"\nscope = \"host\"\n\
                        brief = \"b\"\nwhy = \"w\"\nsource = \"s\"\n";

    #[test]
    fn every_built_in_file_parses_and_no_key_stands_twice() {
        for (file, text) in FILES {
            assert!(!parse(file, text).unwrap().is_empty(), "{file} holds no rule");
        }
        let mut keys: Vec<_> = built_in().iter().map(|rule| &rule.key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), built_in().len());
    }

    #[test]
    fn every_key_of_kumomtas_page_is_known_with_its_reason() {
        for key in [
            "vm.max_map_count",
            "net.core.rmem_default",
            "net.core.wmem_default",
            "net.core.rmem_max",
            "net.core.wmem_max",
            "net.core.somaxconn",
            "fs.file-max",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.tcp_tw_reuse",
            "kernel.shmmax",
            "kernel.shmmni",
            "vm.nr_hugepages",
        ] {
            let rule = built_in().iter().find(|rule| rule.key == key);
            assert!(rule.is_some_and(|rule| rule.kumomta.is_some()), "{key}");
        }
    }

    #[test]
    fn what_tuner_cannot_write_says_what_to_do_where_it_may_ask_for_a_change() {
        for rule in built_in() {
            let asks = !matches!(rule.wanted, Wanted::Info | Wanted::Declined);
            assert!(rule.is_sysctl() || !asks || rule.remedy.is_some(), "{}", rule.key);
        }
    }

    #[test]
    fn a_slip_is_named() {
        let problem = |text: &str| parse("x.toml", text).unwrap_err().to_string();
        assert!(parse("x.toml", RULE).is_ok());
        assert!(
            problem(&RULE.replace("\"ge\"", "\"gt\"")).starts_with("x.toml: a.b: `operator` is ge, le, ")
        );
        assert!(problem(&format!("{RULE}surprise = \"x\"\n")).contains("unknown field `surprise`"));
        assert!(problem(&RULE.replace("why = \"w\"\n", "")).contains("missing field `why`"));
        assert_eq!(
            problem(&RULE.replace("value = \"1\"", "value = [\"1\", \"2\"]")),
            "x.toml: a.b: `ge` takes one value"
        );
    }
}
