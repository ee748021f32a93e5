//! `kumod spool inspect`: a picture of the spool, for people and as JSON. Judges nothing; that is `verify`'s.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use spool::{Access, SegmentReport, SetAside};

use super::table::{Table, age, bytes, count};
use super::{CommandError, Common, Verdict, remark, say};
use crate::clock::UnixMs;
use crate::envelope::Envelope;
use crate::store::{Stored, View};

/// Queues that the text names; the JSON has all of them.
const QUEUES_SHOWN_MAX: usize = 30;
/// Files of `damaged/` that the text names.
const FILES_SHOWN_MAX: usize = 30;
/// Ages by which messages are counted.
const AGES: [(&str, Duration); 4] = [
    ("under a minute", Duration::from_secs(60)),
    ("under an hour", Duration::from_secs(3600)),
    ("under a day", Duration::from_secs(86_400)),
    ("under a week", Duration::from_secs(604_800)),
];

#[derive(Args, Debug)]
pub(super) struct Inspect {
    #[command(flatten)]
    common: Common,
}

impl Inspect {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        let view = self.common.view(Access::Moving)?;
        let tally = Tally::of(&view, UnixMs::now());
        let text =
            [remark(&view), segments_text(&view), tally.text(), trouble_text(&view), aside_text(&view)]
                .concat();
        say(out, &text)?;
        self.common.write_json(&report(&view, &tally))?;
        Ok(Verdict::Well)
    }
}

/// What is counted of one queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    messages: u64,
    bytes: u64,
    due: u64,
    attempts_max: u32,
    oldest: Duration,
}

/// Messages by queue and by age.
#[derive(Debug, Default)]
struct Tally {
    all: Queue,
    queues: BTreeMap<String, Queue>,
    /// As many as [`AGES`], and those that are older.
    ages: [u64; AGES.len() + 1],
    undecodable: u64,
}

impl Queue {
    fn add(&mut self, stored: &Stored, now: UnixMs) {
        self.messages += 1;
        self.bytes += stored.envelope.message_bytes();
        self.due += u64::from(stored.mark.due <= now);
        self.attempts_max = self.attempts_max.max(stored.mark.attempts);
        self.oldest = self.oldest.max(now.since(stored.envelope.created));
    }

    fn json(&self) -> Value {
        json!({
            "messages": self.messages,
            "bytes": self.bytes,
            "due_now": self.due,
            "attempts_max": self.attempts_max,
            "oldest_seconds": self.oldest.as_secs(),
        })
    }
}

impl Tally {
    fn of(view: &View, now: UnixMs) -> Self {
        let mut tally = Self::default();
        for message in view.messages() {
            let Ok(stored) = message else {
                tally.undecodable += 1;
                continue;
            };
            tally.all.add(&stored, now);
            let old = now.since(stored.envelope.created);
            tally.ages[AGES.iter().position(|(_, limit)| old < *limit).unwrap_or(AGES.len())] += 1;
            tally.queues.entry(stored.envelope.queue.clone()).or_default().add(&stored, now);
        }
        tally
    }

    fn text(&self) -> String {
        let all = &self.all;
        let mut text = format!(
            "\nmessages: {}, {}, {} due now\n",
            count(all.messages),
            bytes(all.bytes),
            count(all.due)
        );
        if self.undecodable > 0 {
            let _ = writeln!(text, "messages that this kumod cannot read: {}", count(self.undecodable));
        }
        if all.messages == 0 {
            return text;
        }
        let names = AGES.iter().map(|(name, _)| *name).chain(["older"]);
        let ages = names.zip(self.ages).filter(|(_, messages)| *messages > 0);
        let ages: Vec<String> = ages.map(|(name, messages)| format!("{} {name}", count(messages))).collect();
        let _ = writeln!(text, "by age: {}\n", ages.join(", "));
        text + &self.queues_text()
    }

    fn queues_text(&self) -> String {
        let mut queues: Vec<(&String, &Queue)> = self.queues.iter().collect();
        queues.sort_by_key(|(name, queue)| (std::cmp::Reverse(queue.messages), *name));
        let mut table = Table::new(&["queue", "messages", "bytes", "due now", "attempts", "oldest"]);
        for (name, queue) in queues.iter().take(QUEUES_SHOWN_MAX) {
            table.row(vec![
                (*name).clone(),
                count(queue.messages),
                bytes(queue.bytes),
                count(queue.due),
                format!("up to {}", queue.attempts_max),
                age(queue.oldest),
            ]);
        }
        let more = queues.len().saturating_sub(QUEUES_SHOWN_MAX);
        let more = if more == 0 { String::new() } else { format!("and {more} more queues: see --json\n") };
        table.text() + &more
    }
}

/// One word for what a segment is.
fn state(segment: &SegmentReport) -> &'static str {
    match segment {
        SegmentReport { spare: true, .. } => "spare",
        SegmentReport { damaged: 1.., .. } => "damaged",
        SegmentReport { sealed: true, .. } => "sealed",
        SegmentReport { torn: 1.., .. } => "torn",
        _ => "open",
    }
}

fn totals(segments: &[SegmentReport]) -> SegmentReport {
    let mut all = SegmentReport::default();
    for segment in segments {
        all.bytes += segment.bytes;
        all.bodies += segment.bodies;
        all.envelopes += segment.envelopes;
        all.marks += segment.marks;
        all.deletes += segment.deletes;
        all.live_bytes += segment.live_bytes;
        all.dead_bytes += segment.dead_bytes;
        all.torn += segment.torn;
        all.damaged += segment.damaged;
    }
    all
}

fn segments_text(view: &View) -> String {
    let mut table = Table::new(&[
        "segment",
        "generation",
        "size",
        "bodies",
        "envelopes",
        "marks",
        "deletes",
        "live",
        "dead",
        "state",
    ]);
    let row = |name: String, generation: String, segment: &SegmentReport, state: &str| {
        let kinds = [segment.bodies, segment.envelopes, segment.marks, segment.deletes].map(count);
        let sizes = [bytes(segment.live_bytes), bytes(segment.dead_bytes), state.to_owned()];
        [name, generation, bytes(segment.bytes)].into_iter().chain(kinds).chain(sizes).collect::<Vec<_>>()
    };
    let segments = &view.found().segments;
    for segment in segments {
        let name = format!("{:08}", segment.number);
        table.row(row(name, segment.generation.to_string(), segment, state(segment)));
    }
    let spare: Vec<&SegmentReport> = segments.iter().filter(|segment| segment.spare).collect();
    let spare_bytes = bytes(spare.iter().map(|segment| segment.bytes).sum());
    table.row(row("all".to_owned(), String::new(), &totals(segments), ""));
    format!("\n{}{} segments, {} of them spare ({spare_bytes})\n", table.text(), segments.len(), spare.len())
}

/// What is not as it should be, as far as a look can tell.
fn trouble_text(view: &View) -> String {
    let found = view.found();
    let mut text = String::new();
    if found.torn > 0 {
        let _ = writeln!(text, "\nwrites cut short, which nobody was promised: {}", count(found.torn));
    }
    if !found.is_sound() {
        let (damages, orphans) = (found.damages.len() as u64, found.orphans.len() as u64);
        let advice = match found.holder {
            Some(_) => "they may be in the middle of a move: stop kumod and run `kumod spool verify`",
            None => "run `kumod spool verify`",
        };
        let _ = writeln!(
            text,
            "\nregions that do not verify: {}, messages without a body: {}; {advice}",
            count(damages),
            count(orphans)
        );
    }
    if !found.foreign.is_empty() {
        let _ = writeln!(text, "\nnot ours and left alone: {}", found.foreign.join(", "));
    }
    text
}

fn aside_text(view: &View) -> String {
    let files = &view.found().set_aside;
    if files.is_empty() {
        return "\nnothing was set aside in damaged/\n".to_owned();
    }
    let all = bytes(files.iter().map(|file| file.bytes).sum());
    let mut text = format!("\nset aside in damaged/: {} files, {all}\n", files.len());
    for SetAside { name, bytes: length } in files.iter().take(FILES_SHOWN_MAX) {
        let _ = writeln!(text, "  {name}  {}", bytes(*length));
    }
    if files.len() > FILES_SHOWN_MAX {
        let _ = writeln!(text, "  and {} more: see --json", files.len() - FILES_SHOWN_MAX);
    }
    let envelopes = view.set_aside_envelopes();
    if !envelopes.is_empty() {
        let _ = writeln!(text, "messages that lost their body: {}", envelopes.len());
    }
    for Envelope { id, sender, recipients, .. } in envelopes.iter().take(FILES_SHOWN_MAX) {
        let _ = writeln!(text, "  {id}  from <{sender}> to <{}>", recipients.join(">, <"));
    }
    text
}

fn segment_json(segment: &SegmentReport) -> Value {
    json!({
        "number": segment.number,
        "generation": segment.generation,
        "bytes": segment.bytes,
        "bodies": segment.bodies,
        "envelopes": segment.envelopes,
        "marks": segment.marks,
        "deletes": segment.deletes,
        "live_bytes": segment.live_bytes,
        "dead_bytes": segment.dead_bytes,
        "torn": segment.torn,
        "damaged": segment.damaged,
        "state": state(segment),
    })
}

fn report(view: &View, tally: &Tally) -> Value {
    let found = view.found();
    let all = totals(&found.segments);
    let spare_bytes: u64 =
        found.segments.iter().filter(|segment| segment.spare).map(|segment| segment.bytes).sum();
    let queues = tally.queues.iter().map(|(name, queue)| {
        let mut value = queue.json();
        value["queue"] = json!(name);
        value
    });
    let limits = AGES.iter().map(|(_, limit)| Some(limit.as_secs())).chain([None]);
    let ages = limits
        .zip(tally.ages)
        .map(|(limit, messages)| json!({ "under_seconds": limit, "messages": messages }));
    let mut messages = tally.all.json();
    messages["undecodable"] = json!(tally.undecodable);
    let lost = view.set_aside_envelopes().into_iter().map(|envelope| {
        let (id, created) = (envelope.id.to_string(), envelope.created.rfc3339());
        json!({ "message": id, "created": created, "sender": envelope.sender, "recipients": envelope.recipients })
    });
    let aside = found.set_aside.iter().map(|file| json!({ "name": file.name, "bytes": file.bytes }));
    json!({
        "spool": view.dir(),
        "held_by": found.holder,
        "segments": found.segments.iter().map(segment_json).collect::<Vec<_>>(),
        "totals": {
            "segments": found.segments.len(),
            "segments_spare": found.segments.iter().filter(|segment| segment.spare).count(),
            "bytes": all.bytes,
            "spare_bytes": spare_bytes,
            "live_bytes": all.live_bytes,
            "dead_bytes": all.dead_bytes,
            "records": found.records,
            "torn": found.torn,
        },
        "messages": messages,
        "queues": queues.collect::<Vec<_>>(),
        "ages": ages.collect::<Vec<_>>(),
        "unverified": super::verify::damages_json(found),
        "orphans": super::verify::orphans_json(found),
        "set_aside": aside.collect::<Vec<_>>(),
        "lost_bodies": lost.collect::<Vec<_>>(),
        "foreign": found.foreign,
    })
}
