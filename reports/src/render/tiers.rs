//! What the page says about several tiers at once.
//!
//! It owns the headline, the legend, the table of machines and the remarks beside the chart of processors. It refuses to
//! leave out a tier that was not measured: it is named with its reason.

use std::collections::BTreeSet;

use super::charts::REFERENCE_SOURCE;
use super::format;
use super::view::{TIER_COLOURS, View};
use crate::run::{Kind, Run};
use crate::stats::SCALING_POINTS_MIN;

/// Tiers that are named in the legend at most; of more, those that share a colour stand together.
const NAMES_PER_COLOUR_MAX: usize = 2;

/// The fastest and the slowest tier at the largest bodies, in one sentence.
pub(super) fn headline(view: &View<'_>) -> String {
    let relayed = || view.runs().filter(|(run, _)| run.kind == Kind::Kumod && run.is_at_full_rate());
    let Some(body_bytes) = relayed().map(|(run, _)| run.body_bytes).max() else {
        return "These records hold no run through kumod.".to_owned();
    };
    let at_size = relayed().filter(|(run, _)| run.body_bytes == body_bytes);
    let mut runs: Vec<_> = at_size.collect();
    runs.sort_by(|a, b| b.0.mmh_delivered.total_cmp(&a.0.mmh_delivered));
    let words = |(run, place): &(&Run, &super::view::Place<'_>)| {
        let rate = format::three_digits(run.mmh_delivered);
        (rate, view.tiers[place.tier].name.replacen(", ", " and ", 1).replace(' ', "\u{a0}"))
    };
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return String::new() };
    let size = format::body(body_bytes).replace(' ', "\u{a0}");
    let lost: u64 = relayed().map(|(run, _)| run.lost).sum();
    let ending =
        if lost == 0 { "and lost none".to_owned() } else { format!("and lost {}", format::count(lost)) };
    let ((most, large), (least, small)) = (words(first), words(last));
    format!(
        "At {size} kumod delivered {most}\u{a0}million messages an hour with {large}, {least}\u{a0}million with {small}, {ending}."
    )
}

/// How much stands on the page.
pub(super) fn place(view: &View<'_>) -> String {
    let (records, runs, tiers) = (view.entries.len(), view.places.len(), view.tiers.len());
    let records = if records == 1 { "one record".to_owned() } else { format!("{records} records") };
    format!("{tiers} tiers, {runs} runs, {records}")
}

/// Classes and names: kinds, or tiers.
pub(super) fn legend(view: &View<'_>) -> Vec<(String, String)> {
    if !view.by_tier() {
        let kinds = [
            ("kumod", "kumod"),
            ("floor", "floor, a bare durable relay"),
            ("direct", "direct, generator into sink"),
        ];
        return kinds.map(|(class, name)| (class.to_owned(), name.to_owned())).to_vec();
    }
    let mut legend: Vec<(String, String)> = Vec::new();
    for colour in 0..TIER_COLOURS.min(view.tiers.len()) {
        let names: Vec<&str> =
            view.tiers.iter().skip(colour).step_by(TIER_COLOURS).map(|tier| tier.name.as_str()).collect();
        let more = names.len().saturating_sub(NAMES_PER_COLOUR_MAX);
        let mut name = names[..names.len() - more].join("; ");
        if more > 0 {
            name.push_str(&format!("; {more} more"));
        }
        legend.push((format!("t{colour}"), name));
    }
    legend.push(("projection".into(), "projected, not measured".into()));
    legend.push(("reference".into(), "KumoMTA, published".into()));
    legend
}

/// What must be known to read the chart of processors.
pub(super) fn remarks(view: &View<'_>) -> Vec<String> {
    if !view.by_tier() {
        return Vec::new();
    }
    let relayed = || view.record.runs.iter().filter(|run| run.kind == Kind::Kumod && run.is_at_full_rate());
    let mut remarks = Vec::new();
    let is_hollow = |run: &&Run| run.shared_cores || run.limited_by.is_some();
    let sizes: BTreeSet<u64> = relayed().map(|run| run.body_bytes).collect();
    let filled = |size: u64| relayed().filter(|run| run.body_bytes == size && !is_hollow(run)).count();
    if relayed().any(|run| is_hollow(&run)) {
        remarks.push(
            "Hollow dots shared their cores with the generator and the sink, or were limited by them: they are no part of any \
             projection."
                .to_owned(),
        );
    }
    if sizes.into_iter().any(|size| filled(size) < SCALING_POINTS_MIN) {
        remarks.push(format!(
            "No projection is drawn at a size with fewer than {SCALING_POINTS_MIN} runs that had cores of their own."
        ));
    }
    if relayed().any(|run| run.tier_source == crate::run::TierSource::Cgroup) {
        remarks.push("Tiers marked cgroup-limited were cut out of a larger machine.".to_owned());
    }
    for skipped in &view.record.skipped {
        let (cpus, memory) = (format::short(skipped.tier.cpus), format::short(skipped.tier.memory_gib));
        remarks.push(format!("{cpus} CPUs, {memory} GiB was skipped: {}.", skipped.reason));
    }
    remarks.push(format!("Reference: {REFERENCE_SOURCE}"));
    remarks
}

/// One row for each machine and commit: id, processor, memory, disk, place, commit. Empty where there is only one record.
pub(super) fn machines(view: &View<'_>) -> Vec<[String; 6]> {
    if view.entries.len() < 2 {
        return Vec::new();
    }
    let mut rows: Vec<[String; 6]> = Vec::new();
    for entry in view.entries {
        let (machine, software) = (&entry.record.machine, &entry.record.software);
        let unknown = || "unknown".to_owned();
        let cloud = [machine.cloud.provider.clone(), machine.cloud.instance_type.clone()];
        let cloud: Vec<String> = cloud.into_iter().flatten().collect();
        let price = machine.cloud.price_per_hour.map(|price| format!(", ${} an hour", format::short(price)));
        let row = [
            machine.cpu.model.clone().unwrap_or_else(unknown),
            machine.cpu.usable.map_or_else(unknown, format::short),
            machine.memory.usable_bytes.map_or_else(unknown, format::bytes),
            machine.disk.as_ref().and_then(|disk| disk.device.clone()).unwrap_or_else(unknown),
            if cloud.is_empty() {
                unknown()
            } else {
                format!("{}{}", cloud.join(" "), price.unwrap_or_default())
            },
            software.git_commit.as_ref().map_or_else(unknown, |hash| hash.chars().take(12).collect()),
        ];
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows
}
