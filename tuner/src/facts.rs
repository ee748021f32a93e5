//! What is known of a host, as values: the only thing that the rules are compared with.
//!
//! Owns no reading of files ([`crate::host`] does that), so that every host of every age can be written down in a test.

use std::collections::{BTreeMap, BTreeSet};

use reports::machine::Machine;

use crate::rule::release::Release;

/// A host at one moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The kernel's release as it names itself, such as `6.1.0-30-amd64`.
    pub kernel: Option<String>,
    /// What was read for each rule, by its key.
    pub readings: BTreeMap<String, Observed>,
    /// Counters by name.
    pub counters: BTreeMap<String, u64>,
    /// Ports on which something listens.
    pub listening: BTreeSet<u16>,
    /// Processors, memory, disk.
    pub machine: Machine,
    /// The process whose limits were read, where it is not this one.
    pub process: Option<u32>,
    /// Hard limits by the key of their rule; `u64::MAX` is none.
    pub hard_limits: BTreeMap<String, u64>,
}

impl Facts {
    /// The kernel's release as a number.
    pub fn release(&self) -> Option<Release> {
        Release::parse(self.kernel.as_deref()?).ok()
    }
}

/// What came of reading one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It has a value.
    Value(Reading),
    /// A facility is forbidden; the text says by what.
    Blocked(String),
    /// The host does not have it.
    Absent,
    /// It could not be read; the text says why.
    Unknown(String),
}

/// A value that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The value that the rule compares; white space between its parts is one space.
    pub value: String,
    /// The value as a person wants to see it.
    pub shown: String,
    /// Whether this process may write it, as far as the file's permissions tell.
    pub writable: bool,
}

impl Reading {
    /// A value that is shown as it is, and not for writing.
    pub fn plain(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { shown: value.clone(), value, writable: false }
    }
}

/// One space between the parts of a value.
pub fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
