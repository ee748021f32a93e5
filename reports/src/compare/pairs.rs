//! Which runs are compared with which.
//!
//! It owns the sorting out: runs through kumod only, without the disturbed ones, by cells of one tier, body size, durability
//! and load, and in a cell by the pair that they were measured in. It refuses nothing; what has no counterpart is remarked.

use std::collections::{BTreeMap, BTreeSet};

use crate::disturbance::disturbances;
use crate::results::Entry;
use crate::run::{Kind, PAIR_LABEL, Run};

/// One side of the comparison.
pub(super) struct Set<'r> {
    pub(super) name: &'static str,
    pub(super) runs: Vec<&'r Run>,
    pub(super) thrown_away: Vec<String>,
    pub(super) unsound: Vec<String>,
}

/// Runs of one kind on both sides; where they are paired, in the order of their pairs.
pub(super) struct Cell<'r> {
    pub(super) name: String,
    pub(super) base: Vec<&'r Run>,
    pub(super) head: Vec<&'r Run>,
    pub(super) is_paired: bool,
}

impl<'r> Set<'r> {
    pub(super) fn of(entries: &'r [Entry], name: &'static str) -> Self {
        let mut set = Self { name, runs: Vec::new(), thrown_away: Vec::new(), unsound: Vec::new() };
        for entry in entries {
            for run in entry.record.runs.iter().filter(|run| run.kind == Kind::Kumod) {
                let who = format!("{} {}", entry.record.run_id, run.name);
                if run.lost + run.corrupted > 0 {
                    set.unsound
                        .push(format!("{who}: {} messages lost, {} corrupted.", run.lost, run.corrupted));
                }
                let processors = entry.record.machine.cpu.online.map_or(run.tier.cpus, f64::from);
                let found = disturbances(run, processors);
                if found.is_empty() {
                    set.runs.push(run);
                } else {
                    set.thrown_away.push(format!("{name} {who}: {}.", found.join("; ")));
                }
            }
        }
        set
    }

    fn by_cell(&self) -> BTreeMap<String, Vec<&'r Run>> {
        let mut cells: BTreeMap<String, Vec<&'r Run>> = BTreeMap::new();
        for run in &self.runs {
            cells.entry(cell_of(run)).or_default().push(run);
        }
        cells
    }
}

/// `2 CPUs, 23.5 GiB, 10000 B, commit`, and the step of a search where it is one.
pub(crate) fn cell_of(run: &Run) -> String {
    let tier = format!("{} CPUs, {} GiB", run.tier.cpus, run.tier.memory_gib);
    let durability = run.durability.as_ref().map_or_else(String::new, |durability| format!(", {durability}"));
    let load = run.load.map_or_else(String::new, |load| format!(", {} % load", load.percent));
    format!("{tier}, {} B{durability}{load}", run.body_bytes)
}

/// Cells that both sets have, and remarks about the others.
pub(super) fn cells<'r>(base: &Set<'r>, head: &Set<'r>) -> (Vec<Cell<'r>>, Vec<String>) {
    let (of_base, mut of_head) = (base.by_cell(), head.by_cell());
    let (mut cells, mut remarks) = (Vec::new(), Vec::new());
    for (name, base_runs) in of_base {
        match of_head.remove(&name) {
            Some(head_runs) => cells.push(cell(name, base_runs, head_runs, &mut remarks)),
            None => remarks.push(format!("Only base has usable runs of {name}.")),
        }
    }
    remarks.extend(of_head.keys().map(|name| format!("Only head has usable runs of {name}.")));
    (cells, remarks)
}

/// Runs are paired when all of them say which pair they belong to, and each pair once on each side.
fn cell<'r>(name: String, base: Vec<&'r Run>, head: Vec<&'r Run>, remarks: &mut Vec<String>) -> Cell<'r> {
    let (Some(of_base), Some(of_head)) = (by_pair(&base), by_pair(&head)) else {
        return Cell { name, base, head, is_paired: false };
    };
    let common: BTreeSet<&str> = of_base.keys().filter(|pair| of_head.contains_key(*pair)).copied().collect();
    let alone = of_base.len() + of_head.len() - 2 * common.len();
    if alone > 0 {
        remarks.push(format!("{alone} runs of {name} were left out because their partners are missing."));
    }
    let chosen =
        |runs: &BTreeMap<&str, &'r Run>| common.iter().filter_map(|pair| runs.get(pair).copied()).collect();
    Cell { name, base: chosen(&of_base), head: chosen(&of_head), is_paired: true }
}

fn by_pair<'r>(runs: &[&'r Run]) -> Option<BTreeMap<&'r str, &'r Run>> {
    let pairs: BTreeMap<&str, &Run> =
        runs.iter().map(|run| Some((run.labels.get(PAIR_LABEL)?.as_str(), *run))).collect::<Option<_>>()?;
    (pairs.len() == runs.len()).then_some(pairs)
}
