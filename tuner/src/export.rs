//! What is wanted, in the words of other tools.
//!
//! Owns the eight formats. Values are those that this host should have: a better value of this host is kept in them. The
//! formats that can compare (script, ansible, the DaemonSet of k8s, tuned where its operator allows) raise a setting only
//! where it is lower, so that they do no harm on another host either; the others say in their first lines that they are
//! for hosts like this one. What a format cannot express stands in it as a comment.

mod container;
mod script;
mod service;

use crate::facts::Facts;
use crate::finding::{Finding, Question, Verdict};
use crate::rule::formula::Formula;
use crate::rule::{Rule, Scope, Wanted, built_in};
use crate::sizing::Sizing;

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A file for `/etc/sysctl.d`.
    SysctlD,
    /// A drop-in of the service's unit.
    Systemd,
    /// A playbook.
    Ansible,
    /// A command line of `docker run`.
    Docker,
    /// A Compose file.
    Compose,
    /// A Pod and a DaemonSet.
    Kubernetes,
    /// A profile of tuned.
    Tuned,
    /// A script for `/bin/sh`.
    Script,
}

/// The formats by name.
pub const FORMATS: [(&str, Format); 8] = [
    ("sysctl.d", Format::SysctlD),
    ("systemd", Format::Systemd),
    ("ansible", Format::Ansible),
    ("docker", Format::Docker),
    ("compose", Format::Compose),
    ("k8s", Format::Kubernetes),
    ("tuned", Format::Tuned),
    ("script", Format::Script),
];

/// How a setting is compared by a tool that can.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guard {
    Raise(Vec<String>),
    Lower(String),
    Widen(u64, u64),
    Exact(String),
    Reserve(String),
}

/// A sysctl to write.
#[derive(Debug, Clone)]
struct Setting {
    key: String,
    brief: String,
    scope: Scope,
    guard: Guard,
    /// The value for hosts like this one.
    value: String,
}

/// Everything that a format may need.
#[derive(Debug)]
struct Content {
    settings: Vec<Setting>,
    nofile: u64,
    memlock_bytes: u64,
    tasks: u64,
    /// The service, without `.service`.
    service: String,
}

impl Content {
    fn of_scope(&self, scope: Scope) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(move |setting| setting.scope == scope)
    }
}

/// Writes what `findings` ask for or find right.
pub fn export(
    format: Format,
    findings: &[Finding],
    facts: &Facts,
    question: &Question,
    unit: &str,
) -> String {
    let content = content(findings, facts, question, unit);
    let text = match format {
        Format::SysctlD => service::sysctl_d(&content),
        Format::Systemd => service::systemd(&content),
        Format::Ansible => script::ansible(&content),
        Format::Docker => container::docker(&content),
        Format::Compose => container::compose(&content),
        Format::Kubernetes => container::kubernetes(&content),
        Format::Tuned => service::tuned(&content),
        Format::Script => script::script(&content),
    };
    let Sizing { connections, rate, .. } = question.sizing;
    let profile = &question.profile;
    let origin = format!(
        "# From tuner {}: profile {profile}, {connections} connections, {rate} messages/s.\n",
        env!("CARGO_PKG_VERSION")
    );
    match text.strip_prefix("#!/bin/sh\n") {
        Some(rest) => format!("#!/bin/sh\n{origin}{rest}"),
        None => origin + &text,
    }
}

fn content(findings: &[Finding], facts: &Facts, question: &Question, unit: &str) -> Content {
    let limit = |key: &str| {
        let rule = built_in().iter().find(|rule| rule.key == key);
        let formula = rule.and_then(|rule| match &rule.wanted {
            Wanted::AtLeast(formula) => Some(formula),
            _ => None,
        });
        formula.map_or(0, |formula| formula.value(&question.sizing))
    };
    let mut settings: Vec<Setting> =
        findings.iter().filter_map(|finding| setting(finding, facts, question)).collect();
    settings.sort_by_key(|setting| !matches!(setting.guard, Guard::Reserve(_)));
    Content {
        settings,
        nofile: limit("unit.LimitNOFILE"),
        memlock_bytes: limit("unit.LimitMEMLOCK"),
        tasks: limit("unit.TasksMax"),
        service: unit.trim_end_matches(".service").to_owned(),
    }
}

fn setting(finding: &Finding, facts: &Facts, question: &Question) -> Option<Setting> {
    let rule = built_in().iter().find(|rule| rule.key == finding.key && rule.is_sysctl())?;
    let asks = finding.verdict.asks_for_change();
    let right = matches!(finding.verdict, Verdict::Ok | Verdict::Kept) && rule.evidence.is_empty();
    let value = finding.target.clone().unwrap_or_else(|| finding.current.clone());
    if !(asks || right) || value.is_empty() {
        return None;
    }
    let (key, brief) = (rule.key.clone(), rule.brief.clone());
    Some(Setting {
        key,
        brief,
        scope: rule.scope,
        guard: guard(rule, finding, facts, &question.sizing)?,
        value,
    })
}

fn guard(rule: &Rule, finding: &Finding, facts: &Facts, sizing: &Sizing) -> Option<Guard> {
    let number = |formula: &Formula| formula.value(sizing).to_string();
    // A target differs from the rule's value where it is the kernel's default or a wish.
    let parts = |formulas: &[Formula]| match &finding.target {
        Some(target) => target.split(' ').map(str::to_owned).collect(),
        None => formulas.iter().map(number).collect(),
    };
    Some(match &rule.wanted {
        Wanted::AtLeast(formula) => Guard::Raise(parts(std::slice::from_ref(formula))),
        Wanted::Elementwise(formulas) => Guard::Raise(parts(formulas)),
        Wanted::AtMost(formula) => Guard::Lower(number(formula)),
        Wanted::Superset(first, last) => Guard::Widen(*first, *last),
        Wanted::Equal(text) => Guard::Exact(text.clone()),
        Wanted::ListeningPorts => {
            let ports = facts.listening.iter().filter(|port| {
                finding
                    .target
                    .iter()
                    .chain([&finding.current])
                    .any(|list| list.split(',').any(|part| part == port.to_string()))
            });
            let ports: Vec<String> = ports.map(u16::to_string).collect();
            if ports.is_empty() {
                return None;
            }
            Guard::Reserve(ports.join(","))
        }
        _ => return None,
    })
}
