//! Many records as one: what the page shows, run by run.
//!
//! It owns the names of runs of several records, the tiers and their places in the legend, and which runs are shown with their
//! histograms. It refuses nothing: a record without runs is a record without runs.

use std::collections::BTreeMap;

use super::format;
use crate::machine::Machine;
use crate::results::Entry;
use crate::run::{Kind, Record, Run, SCHEMA_VERSION, Tier, TierSource};
use crate::software::Software;

/// Runs whose histograms and rates are drawn and embedded; of more, the tables tell.
pub(super) const SHOWN_MAX: usize = 12;

/// Colours of tiers; a further tier takes the colour of an earlier one.
pub(super) const TIER_COLOURS: usize = 8;

/// One run on the page.
#[derive(Clone, Copy)]
pub(super) struct Place<'r> {
    /// Index of its record.
    pub(super) entry: usize,
    /// As it was recorded, with its own name.
    pub(super) original: &'r Run,
    /// Index of its tier.
    pub(super) tier: usize,
    /// Whether its histograms are drawn.
    pub(super) is_shown: bool,
}

/// A tier and the machine that it was measured on.
pub(super) struct TierName {
    pub(super) tier: Tier,
    /// Such as `2 CPUs, 8 GiB`.
    pub(super) name: String,
    /// US dollars an hour, where it was given and the tier is all that it was given for.
    pub(super) price_per_hour: Option<f64>,
}

/// Everything that the page shows.
pub(super) struct View<'r> {
    pub(super) entries: &'r [Entry],
    /// A record that holds all runs under unique names; of one record, that record.
    pub(super) record: Record,
    /// For each run of `record`.
    pub(super) places: Vec<Place<'r>>,
    pub(super) tiers: Vec<TierName>,
}

impl<'r> View<'r> {
    pub(super) fn of(entries: &'r [Entry]) -> Self {
        let mut tiers = Tiers::default();
        let mut places: Vec<Place<'r>> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            for run in &entry.record.runs {
                let tier = tiers.place(entry, run);
                places.push(Place { entry: index, original: run, tier, is_shown: false });
            }
        }
        // Small tiers first, in the legend and in every chart.
        let mut order = tiers.order.clone();
        order.sort();
        for place in &mut places {
            let key = &tiers.order[place.tier];
            place.tier = order.iter().position(|known| known == key).unwrap_or(place.tier);
        }
        tiers.order = order;
        let tiers = tiers.named();
        mark_shown(&mut places);
        let record = match entries {
            [only] => only.record.clone(),
            _ => together(entries, &places, &tiers),
        };
        Self { entries, record, places, tiers }
    }

    /// Whether there is more than one tier: then colours tell tiers apart, and not kinds.
    pub(super) fn by_tier(&self) -> bool {
        self.tiers.len() > 1
    }

    /// All runs with their places.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Run, &Place<'r>)> {
        self.record.runs.iter().zip(&self.places)
    }

    /// The word by which the legend, the script and the style sheet know a run.
    pub(super) fn class(&self, run: &Run, place: &Place<'_>) -> String {
        if self.by_tier() && run.kind == Kind::Kumod {
            return format!("t{}", place.tier % TIER_COLOURS);
        }
        run.kind.as_str().to_owned()
    }
}

#[derive(Default)]
struct Tiers {
    /// By CPUs and GiB in thousandths, then by machine.
    found: BTreeMap<(u64, u64, String), (Tier, Option<f64>)>,
    order: Vec<(u64, u64, String)>,
}

impl Tiers {
    /// Tiers are numbered as they come.
    fn place(&mut self, entry: &Entry, run: &Run) -> usize {
        let thousandths = |amount: f64| format::whole(amount * 1000.0);
        let machine = &entry.record.machine;
        let model = machine.cpu.model.clone().unwrap_or_default();
        let instance = machine.cloud.instance_type.clone().unwrap_or(model);
        let key = (thousandths(run.tier.cpus), thousandths(run.tier.memory_gib), instance);
        if let Some(index) = self.order.iter().position(|known| *known == key) {
            return index;
        }
        self.order.push(key.clone());
        // The price is that of the whole: nobody sells the part that a control group left.
        let is_part = run.tier_source == TierSource::Cgroup && run.tier != machine.tier();
        let price_per_hour = machine.cloud.price_per_hour.filter(|_| !is_part);
        self.found.insert(key, (run.tier, price_per_hour));
        self.order.len() - 1
    }

    fn named(&self) -> Vec<TierName> {
        let machines: std::collections::BTreeSet<&str> =
            self.order.iter().map(|key| key.2.as_str()).collect();
        let name = |key: &(u64, u64, String)| {
            let (tier, price_per_hour) = self.found.get(key).copied().unwrap_or_default();
            let cpus = if tier.cpus == 1.0 { "CPU" } else { "CPUs" };
            let size = format!("{} {cpus}, {} GiB", format::short(tier.cpus), format::short(tier.memory_gib));
            let name = if machines.len() > 1 { format!("{size}, {}", key.2) } else { size };
            TierName { tier, name, price_per_hour }
        };
        self.order.iter().map(name).collect()
    }
}

/// The first runs through kumod, then the others, as many as are shown. Parts of a rate have a table and no chart.
fn mark_shown(places: &mut [Place<'_>]) {
    let mut left = SHOWN_MAX;
    for wanted in [true, false] {
        let is_wanted = |place: &&mut Place<'_>| {
            place.original.is_at_full_rate() && (place.original.kind == Kind::Kumod) == wanted
        };
        for place in places.iter_mut().filter(is_wanted) {
            place.is_shown = left > 0;
            left = left.saturating_sub(1);
        }
    }
}

fn together(entries: &[Entry], places: &[Place<'_>], tiers: &[TierName]) -> Record {
    let newest = entries.iter().max_by(|a, b| a.record.started_utc.cmp(&b.record.started_utc));
    let newest = newest.map(|entry| &entry.record);
    let same = |of: fn(&Record) -> &str| {
        let first = newest.map_or("", of);
        if entries.iter().all(|entry| of(&entry.record) == first) { first.to_owned() } else { String::new() }
    };
    Record {
        schema_version: SCHEMA_VERSION,
        run_id: format!("{} records", entries.len()),
        suite: same(|record| &record.suite),
        started_utc: newest.map_or_else(String::new, |record| record.started_utc.clone()),
        finished_utc: None,
        command: same(|record| &record.command),
        machine: newest.map_or_else(Machine::default, |record| record.machine.clone()),
        software: newest.map_or_else(Software::default, |record| record.software.clone()),
        tuner: Vec::new(),
        runs: named(entries, places, tiers),
        skipped: entries.iter().flat_map(|entry| entry.record.skipped.clone()).collect(),
        notes: entries
            .iter()
            .flat_map(|entry| {
                entry.record.notes.iter().map(|note| format!("{}: {note}", entry.record.run_id))
            })
            .take(200)
            .collect(),
    }
}

/// Runs under names that are unique: with the tier where that is enough, else with the id of their record.
fn named(entries: &[Entry], places: &[Place<'_>], tiers: &[TierName]) -> Vec<Run> {
    let with_tier = |place: &Place<'_>| format!("{}, {}", place.original.name, tiers[place.tier].name);
    let mut count: BTreeMap<String, u32> = BTreeMap::new();
    for place in places {
        *count.entry(place.original.name.clone()).or_default() += 1;
        *count.entry(with_tier(place)).or_default() += 1;
    }
    let name = |place: &Place<'_>| {
        let (own, tier) = (&place.original.name, with_tier(place));
        if count.get(own) == Some(&1) {
            return own.clone();
        }
        if count.get(&tier) == Some(&1) {
            tier
        } else {
            format!("{own}, {}", entries[place.entry].record.run_id)
        }
    };
    places.iter().map(|place| Run { name: name(place), ..place.original.clone() }).collect()
}
