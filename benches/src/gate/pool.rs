//! Two pools of runs, as `lab --compare` left them, reduced to what a message cost.
//!
//! It owns their file format and the way back from a cost to an entry that is judged. It refuses folders that hold something else, and
//! leaves out runs that were disturbed, with their partners, as every comparison does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reports::disturbance::disturbances;
use reports::machine::Machine;
use reports::results::{Entry, Results};
use reports::run::{LOAD_PAIR_LABEL, PAIR_LABEL, ProcessUse, Record, Run};
use reports::software::Software;
use serde::{Deserialize, Serialize};

use crate::error::{During, Error, Result};

/// Runs of one program, and of the same program with a slowdown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pools {
    /// The command that measured them.
    pub command: String,
    /// Where.
    pub machine: Machine,
    /// The laboratory's version.
    pub software: Software,
    /// Generator and sink: of more than one version where the pools were measured in several sittings, but the same in both runs of
    /// a pair.
    pub load_pairs: BTreeSet<String>,
    /// Pairs of which a run was disturbed, left out.
    pub disturbed_pairs: u32,
    /// Runs of the program.
    pub base: Vec<Cost>,
    /// Runs of the slower one, each measured beside the run of the same place in `base`.
    pub planted: Vec<Cost>,
}

/// What one run cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cost {
    /// The pair that it was measured in.
    pub pair: u32,
    /// Messages delivered.
    pub delivered: u64,
    /// Seconds from the first send to the last delivery.
    pub elapsed_s: f64,
    /// Bytes of each body.
    pub body_bytes: u64,
    /// Processor time of the relay in seconds.
    pub kumod_cpu_s: f64,
    /// Processor time of the sink in seconds.
    pub sink_cpu_s: f64,
    /// Processor time of the generator in seconds.
    pub traffic_gen_cpu_s: f64,
    /// What was counted beside.
    pub counters: BTreeMap<String, f64>,
}

impl Pools {
    /// The pools in the folders of comparisons of the same two programs, measured one after the other.
    ///
    /// # Errors
    /// [`Error::Operator`] when one is not the folder of a comparison.
    pub fn of_comparisons(folders: &[PathBuf]) -> Result<Self> {
        let results = Results::gather(folders);
        if let Some(refused) = results.refused.first() {
            return Err(Error::Operator(refused.to_string()));
        }
        let no_pairs = || {
            let shown: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let shown = shown.join(", ");
            Error::Operator(format!(
                "{shown}: not only runs of `lab --compare BASE HEAD`; give the folders that it printed"
            ))
        };
        let first = &results.entries.first().ok_or_else(no_pairs)?.record;
        let (command, machine, software) =
            (first.command.clone(), first.machine.clone(), first.software.clone());
        let mut load_pairs = BTreeSet::new();
        let mut pairs: BTreeMap<(String, u32), [Option<Cost>; 2]> = BTreeMap::new();
        for Entry { record, .. } in &results.entries {
            for run in &record.runs {
                let (comparison, pair, side) = place(run, record).ok_or_else(no_pairs)?;
                load_pairs.insert(run.labels.get(LOAD_PAIR_LABEL).ok_or_else(no_pairs)?.clone());
                let quiet = disturbances(run, machine.cpu.online.map_or(run.tier.cpus, f64::from)).is_empty();
                let cost = Cost::of(run, pair).filter(|_| quiet);
                pairs.entry((comparison, pair)).or_default()[side] = cost;
            }
        }
        let all = pairs.len();
        let whole = pairs.into_values().filter_map(|[base, planted]| Some((base?, planted?)));
        let (base, planted): (Vec<_>, Vec<_>) = whole.unzip();
        let disturbed_pairs = u32::try_from(all - base.len()).unwrap_or(u32::MAX);
        Ok(Self { command, machine, software, load_pairs, disturbed_pairs, base, planted })
    }

    /// Reads a file that [`Pools::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Operator`] with the place of the fault.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).during(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| Error::Operator(format!("{}: {error}", path.display())))
    }

    /// Writes both pools, a run on each line.
    ///
    /// # Errors
    /// [`Error::Host`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).during(|| "write JSON".into())?;
        let text = text.replace("},{\"pair\"", "},\n{\"pair\"").replace(":[{\"pair\"", ":[\n{\"pair\"");
        std::fs::write(path, text + "\n").during(|| format!("write {}", path.display()))
    }
}

/// The comparison of a run, by the time in its name, its pair, and its side: 0 is base, 1 is head.
fn place(run: &Run, record: &Record) -> Option<(String, u32, usize)> {
    let pair = run.labels.get(PAIR_LABEL)?.parse().ok()?;
    let name = ["-base-", "-head-"].iter().enumerate();
    let mut sides = name.filter_map(|(side, word)| Some((record.run_id.split_once(word)?.0, side)));
    sides.next().map(|(time, side)| (time.to_owned(), pair, side))
}

impl Cost {
    fn of(run: &Run, pair: u32) -> Option<Self> {
        let used = &run.processes;
        Some(Self {
            pair,
            delivered: run.delivered,
            elapsed_s: run.elapsed_s,
            body_bytes: run.body_bytes,
            kumod_cpu_s: used.kumod?.cpu_s,
            sink_cpu_s: used.sink?.cpu_s,
            traffic_gen_cpu_s: used.traffic_gen?.cpu_s,
            counters: run.counters.clone(),
        })
    }

    /// The entry that is judged, as the given pair.
    pub fn entry(&self, template: &Record, pair: usize) -> Entry {
        let used = |cpu_s| Some(ProcessUse { cpu_s, ..ProcessUse::default() });
        let mut run = Run {
            name: "kumod".into(),
            body_bytes: self.body_bytes,
            delivered: self.delivered,
            elapsed_s: self.elapsed_s,
            counters: self.counters.clone(),
            ..Run::default()
        };
        run.processes.kumod = used(self.kumod_cpu_s);
        run.processes.sink = used(self.sink_cpu_s);
        run.processes.traffic_gen = used(self.traffic_gen_cpu_s);
        run.labels.insert(PAIR_LABEL.into(), pair.to_string());
        let mut record = template.clone();
        record.run_id = pair.to_string();
        record.runs = vec![run];
        Entry::new(record, &PathBuf::new())
    }
}
