//! The result in plain words, the large numbers, and the warnings.
//!
//! It owns what the reader sees first. It refuses to praise: whatever makes a number doubtful is said before
//! the charts, and a loss stands in the headline itself.

use super::format;
use super::series;
use crate::run::{Kind, LimitedBy, Record, Run};

/// A measurement shorter than this says little, in seconds.
const SHORT_RUN_S: f64 = 5.0;

/// Large numbers of throughput shown at most.
const SIZES_MAX: usize = 3;

/// Runs named in one warning at most.
const NAMES_MAX: usize = 12;

/// File systems that keep nothing through a power cut.
const VOLATILE_FILESYSTEMS: [&str; 2] = ["tmpfs", "ramfs"];

/// A large number.
pub(super) struct Tile {
    pub(super) value: String,
    pub(super) unit: String,
    pub(super) label: String,
    pub(super) detail: String,
    /// `good`, `bad` or nothing; a class of the style sheet.
    pub(super) mood: &'static str,
}

/// Something that makes a number doubtful.
pub(super) struct Warning {
    /// Whether mail was lost or damaged, or a number is plainly wrong.
    pub(super) severe: bool,
    pub(super) text: String,
}

/// One kumod run for each body size, the largest bodies first.
fn relayed(record: &Record) -> Vec<&Run> {
    let mut runs: Vec<&Run> =
        series::ordered(record).into_iter().filter(|run| run.kind == Kind::Kumod).collect();
    runs.dedup_by_key(|run| run.body_bytes);
    runs.reverse();
    runs
}

fn sum(record: &Record, of: fn(&Run) -> u64) -> u64 {
    record.runs.iter().filter(|run| run.kind == Kind::Kumod).map(of).sum()
}

/// The result in one sentence.
pub(super) fn headline(record: &Record) -> String {
    let runs = relayed(record);
    let (Some(largest), Some(smallest)) = (runs.first(), runs.last()) else {
        return "This record holds no run through kumod.".to_owned();
    };
    // Numbers stay with their units at the end of a line.
    let size = |run: &Run| format::body(run.body_bytes).replace(' ', "\u{a0}");
    let millions = |run: &Run| format::three_digits(run.mmh_delivered);
    let mut text =
        format!("kumod delivered {}\u{a0}million messages an hour at {}", millions(largest), size(largest));
    if largest.body_bytes != smallest.body_bytes {
        text.push_str(&format!(" and {}\u{a0}million at {}", millions(smallest), size(smallest)));
    }
    if runs.iter().all(|run| run.durability.as_deref() == Some("commit")) {
        text.push_str(", durably");
    }
    match sum(record, |run| run.lost) {
        0 => text.push_str(", and lost none."),
        lost => text.push_str(&format!(", and lost {}.", format::count(lost))),
    }
    text
}

/// What the headline leaves out: what was promised, counted, and reached of the possible.
pub(super) fn summary(record: &Record) -> Vec<String> {
    let runs = relayed(record);
    let mut sentences: Vec<String> = promise(&runs).into_iter().collect();
    if !runs.is_empty() {
        sentences.push(format!(
            "Counted at the sink by sequence number: {} accepted, {} delivered, {} lost, {} delivered twice.",
            format::count(sum(record, |run| run.accepted)),
            format::count(sum(record, |run| run.delivered)),
            format::count(sum(record, |run| run.lost)),
            format::count(sum(record, |run| run.duplicated)),
        ));
    }
    let ratios: Vec<String> = runs
        .iter()
        .filter_map(|run| Some(format!("{:.2} at {}", run.floor_ratio?, format::body(run.body_bytes))))
        .collect();
    if !ratios.is_empty() {
        let ratios = format::list(&ratios);
        let durable = runs.iter().all(|run| run.durability.as_deref() == Some("commit"));
        let promise = if durable { "that is just as durable" } else { "that makes each message durable" };
        sentences.push(format!("Against the floor, a bare relay {promise}, it reached {ratios}."));
    }
    sentences
}

/// What a 250 meant, where that was the same in all runs.
fn promise(runs: &[&Run]) -> Option<String> {
    let durability = runs.first()?.durability.as_deref()?;
    if runs.iter().any(|run| run.durability.as_deref() != Some(durability)) {
        return Some("What a 250 promised differs from run to run; the table says which.".to_owned());
    }
    Some(match durability {
        "commit" => "Each 250 was sent after the message was on stable storage.".to_owned(),
        "written" => {
            "Each 250 was sent after the message was written: it survives a crash of kumod, not of the machine."
                .to_owned()
        }
        "deferred" => "A 250 promised nothing on disk: messages were stored only if a first delivery failed.".to_owned(),
        other => format!("Durability was {other}."),
    })
}

/// The large numbers.
pub(super) fn tiles(record: &Record) -> Vec<Tile> {
    let runs = relayed(record);
    let mut tiles: Vec<Tile> = runs.iter().take(SIZES_MAX).map(|run| speed(run)).collect();
    if runs.is_empty() {
        return tiles;
    }
    let lost = sum(record, |run| run.lost);
    tiles.push(Tile {
        value: format::count(lost),
        unit: String::new(),
        label: "Messages lost".into(),
        detail: format!("of {} accepted", format::count(sum(record, |run| run.accepted))),
        mood: if lost == 0 { "good" } else { "bad" },
    });
    let duplicated = sum(record, |run| run.duplicated);
    let corrupted = sum(record, |run| run.corrupted);
    tiles.push(Tile {
        value: format::count(duplicated),
        unit: String::new(),
        label: "Delivered twice".into(),
        detail: format!("{} corrupted", format::count(corrupted)),
        mood: if duplicated + corrupted == 0 { "good" } else { "bad" },
    });
    tiles.extend(memory(record));
    tiles
}

fn speed(run: &Run) -> Tile {
    let floor = run.floor_ratio.map(|ratio| format!("{ratio:.2} of the floor"));
    Tile {
        value: format::three_digits(run.mmh_delivered),
        unit: "MMH".into(),
        label: format!("{} bodies", format::body(run.body_bytes)),
        detail: floor.unwrap_or_else(|| "delivered".to_owned()),
        mood: "",
    }
}

fn memory(record: &Record) -> Option<Tile> {
    let kumod = |run: &Run| run.processes.kumod.filter(|_| run.kind == Kind::Kumod);
    let peak = record.runs.iter().filter_map(kumod).map(|used| used.rss_peak_bytes).max()?;
    let text = format::bytes(peak);
    let (value, unit) = text.split_once(' ').unwrap_or((&text, ""));
    Some(Tile {
        value: value.to_owned(),
        unit: unit.to_owned(),
        label: "Memory of kumod".into(),
        detail: "peak resident set".into(),
        mood: "",
    })
}

/// All that makes a number doubtful, the worst first.
pub(super) fn warnings(record: &Record) -> Vec<Warning> {
    let mut warnings = Vec::new();
    mail(record, &mut warnings);
    conditions(record, &mut warnings);
    for (limit, who) in [(LimitedBy::Generator, "traffic-gen"), (LimitedBy::Sink, "the sink")] {
        let text = format!(
            "the number says more about {who} than about the relay: straight into the sink, less than three times as much was reached"
        );
        each(record, &mut warnings, false, &text, |run| run.limited_by == Some(limit));
    }
    let text = format!("shorter than {SHORT_RUN_S} seconds, too short to be trusted");
    each(record, &mut warnings, false, &text, |run| run.elapsed_s < SHORT_RUN_S);
    warnings.sort_by_key(|warning| !warning.severe);
    warnings
}

/// What happened to mail.
fn mail(record: &Record, warnings: &mut Vec<Warning>) {
    type Count = fn(&Run) -> u64;
    let counts: [(bool, Count, &str); 5] = [
        (true, |run| run.lost, "accepted and never delivered"),
        (true, |run| run.corrupted, "delivered with another body than was sent"),
        (false, |run| run.duplicated, "delivered more than once"),
        (false, |run| run.failed, "refused"),
        (false, |run| run.unknown, "without an answer: the connection was lost before the reply"),
    ];
    for (severe, of, what) in counts {
        for run in series::ordered(record).into_iter().filter(|run| of(run) > 0) {
            let messages = if of(run) == 1 { "message" } else { "messages" };
            let text = format!("{}: {} {messages} {what}.", run.name, format::count(of(run)));
            warnings.push(Warning { severe, text });
        }
    }
    let nothing = "nothing was delivered";
    each(record, warnings, true, nothing, |run| run.delivered == 0);
}

/// What was wrong with the place or the programs.
fn conditions(record: &Record, warnings: &mut Vec<Warning>) {
    let filesystem = record.machine.disk.as_ref().and_then(|disk| disk.filesystem.as_deref());
    if let Some(name) = filesystem.filter(|name| VOLATILE_FILESYSTEMS.contains(name)) {
        let text = format!("The spool lay on {name}, in memory: no number here is durable.");
        warnings.push(Warning { severe: true, text });
    }
    if let Some(profile) = record.software.profile.as_deref().filter(|profile| *profile != "release") {
        let text = format!(
            "The programs were built with profile {profile}, not release: they are slower than they can be."
        );
        warnings.push(Warning { severe: false, text });
    }
    if record.software.git_dirty == Some(true) {
        let text =
            "The checkout had changes that its commit does not have: nobody else can build what ran here.";
        warnings.push(Warning { severe: false, text: text.to_owned() });
    }
}

/// One warning that names all runs it holds for.
fn each(
    record: &Record,
    warnings: &mut Vec<Warning>,
    severe: bool,
    text: &str,
    holds: impl Fn(&Run) -> bool,
) {
    let runs = series::ordered(record);
    let mut names: Vec<String> =
        runs.into_iter().filter(|run| holds(run)).map(|run| run.name.clone()).collect();
    if !names.is_empty() {
        let more = names.len().saturating_sub(NAMES_MAX);
        if more > 0 {
            names.truncate(NAMES_MAX);
            names.push(format!("{more} more"));
        }
        warnings.push(Warning { severe, text: format!("{}: {text}.", format::list(&names)) });
    }
}
