//! `kumod spool verify`: reads every record and compares every checksum. Names what is damaged by segment and offset.

use std::fmt::Write as _;
use std::io::Write;

use clap::Args;
use serde_json::{Value, json};
use spool::{Access, Examination};

use super::table::count;
use super::{CommandError, Common, Verdict, remark, say};
use crate::store::Undecodable;

/// Messages that cannot be read and are named; more are counted.
const NAMED_MAX: usize = 1000;

#[derive(Args, Debug)]
pub(super) struct Verify {
    #[command(flatten)]
    common: Common,
}

impl Verify {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        let view = self.common.view(Access::Quiet)?;
        let found = view.found();
        let undecodable: Vec<Undecodable> = view.messages().filter_map(Result::err).collect();
        let is_well = found.is_sound() && undecodable.is_empty();
        let text = [remark(&view), trouble(found, &undecodable), summary(found, is_well)].concat();
        say(out, &text)?;
        self.common.write_json(&json!({
            "spool": view.dir(),
            "sound": is_well,
            "segments": found.segments.len(),
            "records": found.records,
            "messages": found.messages.len(),
            "torn": found.torn,
            "damages": damages_json(found),
            "orphans": orphans_json(found),
            "undecodable": undecodable
                .iter()
                .map(|message| json!({ "message": message.id.to_string(), "what": message.reason }))
                .collect::<Vec<_>>(),
        }))?;
        Ok(if is_well { Verdict::Well } else { Verdict::Amiss })
    }
}

fn trouble(found: &Examination, undecodable: &[Undecodable]) -> String {
    let mut text = String::new();
    for damage in &found.damages {
        let (segment, offset, bytes) = (damage.segment, damage.offset, damage.bytes);
        let _ = writeln!(
            text,
            "damaged: segment {segment:08}, offset {offset}, {bytes} bytes: {what}",
            what = damage.what
        );
    }
    for orphan in &found.orphans {
        let (id, body, segment, offset) = (orphan.id, orphan.body, orphan.segment, orphan.offset);
        let _ = writeln!(
            text,
            "without a body: message {id}, segment {segment:08}, offset {offset}: its body {body} is nowhere"
        );
    }
    for Undecodable { id, reason } in undecodable.iter().take(NAMED_MAX) {
        let _ = writeln!(text, "not readable by this kumod: message {id}: {reason}");
    }
    if undecodable.len() > NAMED_MAX {
        let _ = writeln!(text, "and {} more of this kind: see --json", undecodable.len() - NAMED_MAX);
    }
    text
}

fn summary(found: &Examination, is_well: bool) -> String {
    let (segments, records, messages) =
        (found.segments.len(), count(found.records), count(found.messages.len() as u64));
    let torn = match found.torn {
        0 => String::new(),
        torn => format!("{} writes were cut short, which nobody was promised\n", count(torn)),
    };
    let verdict = match (is_well, found.is_sound()) {
        (true, _) => "sound",
        (_, false) => "NOT SOUND; the next start sets the damaged regions aside in damaged/, and goes on",
        _ => "every checksum is right, but messages cannot be read; kumod leaves them where they are",
    };
    format!("{torn}{segments} segments, {records} records, {messages} messages: {verdict}\n")
}

pub(super) fn damages_json(found: &Examination) -> Value {
    let damages = found.damages.iter().map(|damage| {
        let (segment, offset, bytes) = (damage.segment, damage.offset, damage.bytes);
        json!({ "segment": segment, "offset": offset, "bytes": bytes, "what": damage.what })
    });
    damages.collect()
}

pub(super) fn orphans_json(found: &Examination) -> Value {
    let orphans = found.orphans.iter().map(|orphan| {
        let (id, body) = (orphan.id.to_string(), orphan.body.to_string());
        json!({ "message": id, "body": body, "segment": orphan.segment, "offset": orphan.offset })
    });
    orphans.collect()
}
