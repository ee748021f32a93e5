//! From flags to a host, a question and the settings that are meant.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tuner::facts::Facts;
use tuner::sizing::{self, Profile};
use tuner::wishes::{self, WISHES_BYTES_MAX};
use tuner::{Finding, Host, Question, rule};

use super::{Common, Failure};

impl Common {
    /// The host that is meant.
    pub(super) fn host(&self) -> Result<Host, Failure> {
        let host = match &self.root {
            Some(root) => Host::at(root).map_err(Failure::usage)?,
            None => Host::running(),
        };
        let host = match &self.spool {
            Some(spool) => host.with_spool(spool).map_err(Failure::usage)?,
            None => host,
        };
        let host = host.with_unit(&self.unit);
        match self.pid {
            Some(id) => host.with_process(id).map_err(Failure::usage),
            None => Ok(host),
        }
    }

    /// What is asked of the rules.
    pub(super) fn question(&self, facts: &Facts) -> Result<Question, Failure> {
        for key in self.only.iter().chain(&self.skip) {
            known_key(key)?;
        }
        let profile = named_profile(&self.profile)?;
        Ok(Question {
            profile: profile.name.clone(),
            sizing: profile.sizing(&facts.machine, self.connections, self.rate),
            eager: self.eager,
            wishes: self.wishes()?,
        })
    }

    /// The findings that `--only` and `--skip` leave.
    pub(super) fn selected(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let named = |list: &[String], key: &str| list.iter().any(|name| is_within(key, name));
        let mut findings = findings;
        findings.retain(|finding| {
            (self.only.is_empty() || named(&self.only, &finding.key)) && !named(&self.skip, &finding.key)
        });
        findings
    }

    fn wishes(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut wishes = BTreeMap::new();
        if let Some(path) = &self.wishes {
            let name = path.display().to_string();
            let text =
                read_wishes(path).map_err(|error| Failure::usage(format!("--wishes: {name}: {error}")))?;
            wishes::add_file(&mut wishes, &name, &text).map_err(Failure::usage)?;
        }
        for wish in &self.set {
            wishes::add(&mut wishes, "--set", wish).map_err(Failure::usage)?;
        }
        Ok(wishes)
    }
}

fn read_wishes(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(WISHES_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// `net.core` holds `net.core.somaxconn`.
pub(super) fn is_within(key: &str, name: &str) -> bool {
    key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Refuses a name that no rule's key lies within.
pub(super) fn known_key(name: &str) -> Result<(), Failure> {
    let known = rule::built_in().iter().any(|rule| is_within(&rule.key, name));
    if known { Ok(()) } else { Err(unknown_key(name)) }
}

/// The error of a key that no rule knows.
pub(super) fn unknown_key(name: &str) -> Failure {
    let known: Vec<_> = rule::built_in().iter().map(|rule| rule.key.as_str()).collect();
    Failure::usage(format!("no rule is called `{name}`; there are: {}", known.join(", ")))
}

/// A profile by its name.
pub(super) fn named_profile(name: &str) -> Result<&'static Profile, Failure> {
    let profiles = sizing::profiles();
    profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
        let known: Vec<_> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        Failure::usage(format!("no profile is called `{name}`; there are: {}", known.join(", ")))
    })
}
