//! A record before anything was measured.
//!
//! It owns what the laboratory knows about itself at the start: folder, command, checkout, tuner's findings. It refuses nothing;
//! without a current folder there is no record.

use std::path::Path;

use reports::machine::Machine;
use reports::run::{Record, SCHEMA_VERSION};
use reports::software::Software;

use crate::error::{During, Result};

/// A record without measurements, begun now, whose run id is the name of its folder.
pub(crate) fn empty_record(
    suite: &str,
    machine: Machine,
    folder: &Path,
    findings: &[tuner::Finding],
) -> Result<Record> {
    let checkout = std::env::current_dir().during(|| "find the current folder".into())?;
    let command: Vec<String> = std::env::args().collect();
    let mut software = Software::probe(&checkout);
    software.allocator = Some("system".into());
    software.profile = Some(if cfg!(debug_assertions) { "dev" } else { "release" }.into());
    Ok(Record {
        schema_version: SCHEMA_VERSION,
        run_id: folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        suite: suite.into(),
        started_utc: jiff::Timestamp::now().to_string(),
        finished_utc: None,
        command: format!("lab {}", command.get(1..).unwrap_or_default().join(" ")).trim_end().into(),
        machine,
        software,
        tuner: findings.iter().map(finding).collect(),
        runs: Vec::new(),
        skipped: Vec::new(),
        notes: Vec::new(),
    })
}

/// A finding as the record keeps it: what tuner writes, and the two names that every reader may count on.
fn finding(finding: &tuner::Finding) -> serde_json::Value {
    let mut value = serde_json::to_value(finding).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("name".into(), finding.key.clone().into());
        fields.insert("status".into(), finding.verdict.to_string().into());
    }
    value
}
