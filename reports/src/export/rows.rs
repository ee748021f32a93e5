//! Runs as named rows.
//!
//! It owns the names: unique over all records, and the same for the same kind of run from one record to the next where there
//! is only one record. It refuses nothing.

use std::collections::BTreeMap;

use crate::results::Entry;
use crate::run::Run;

/// A run with its record and a unique name.
pub(super) struct Row<'r> {
    pub(super) name: String,
    pub(super) entry: &'r Entry,
    pub(super) run: &'r Run,
}

/// All runs. A name that occurs in one record only stays as it is, so that other tools can follow it; otherwise the tier and
/// then the run's id come in front.
pub(super) fn rows(entries: &[Entry]) -> Vec<Row<'_>> {
    let all = || entries.iter().flat_map(|entry| entry.record.runs.iter().map(move |run| (entry, run)));
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    let with_tier =
        |entry: &Entry, run: &Run| format!("{}/{}", entry.record.machine.tier_key(&run.tier), run.name);
    for (entry, run) in all() {
        *count.entry(run.name.clone()).or_default() += 1;
        *count.entry(with_tier(entry, run)).or_default() += 1;
    }
    let is_unique = |name: &str| count.get(name) == Some(&1);
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    all()
        .map(|(entry, run)| {
            let tier = with_tier(entry, run);
            let name = match (is_unique(&run.name), is_unique(&tier)) {
                (true, _) => run.name.clone(),
                (false, true) => tier,
                (false, false) => format!("{}/{}", entry.record.run_id, run.name),
            };
            let repeated = used.entry(name.clone()).or_default();
            *repeated += 1;
            let name = if *repeated > 1 { format!("{name}#{repeated}") } else { name };
            Row { name, entry, run }
        })
        .collect()
}
