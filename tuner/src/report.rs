//! The JSON report of check, plan and explain.
//!
//! Owns its version and its schema, which is a file of the project and is given out with the program.

use serde::Serialize;

use crate::conflicts::Conflict;
use crate::facts::Facts;
use crate::finding::{Finding, Question};
use crate::sizing::Sizing;

/// Version of the report; raised when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 2;

/// The JSON schema (draft 2020-12) of the report.
pub const SCHEMA: &str = include_str!("../schema/report.schema.json");

/// A report.
#[derive(Debug, Serialize)]
pub struct Report {
    schema_version: u32,
    kernel: Option<String>,
    profile: String,
    sizing: Sizing,
    changes_needed: bool,
    findings: Vec<Finding>,
    conflicts: Vec<Conflict>,
}

impl Report {
    /// A report of `findings`; whether changes are needed is the caller's verdict, because it may be a strict one.
    pub fn new(
        facts: &Facts,
        question: &Question,
        findings: Vec<Finding>,
        conflicts: Vec<Conflict>,
        changes_needed: bool,
    ) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            kernel: facts.kernel.clone(),
            profile: question.profile.clone(),
            sizing: question.sizing,
            changes_needed,
            findings,
            conflicts,
        }
    }
}
