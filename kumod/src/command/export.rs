//! `kumod spool export`: messages as files, exactly as they would be sent, each with what its envelope says.
//!
//! The spool is not changed: what was exported is still delivered when kumod runs. A message that is damaged is named and left
//! out. A file is there whole or not at all, and one that is there already is kept unless `--force` is given.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use spool::Access;

use super::table::count;
use super::{CommandError, Common, Verdict, failed, remark, say};
use crate::envelope::{Envelope, MessageId};
use crate::store::{Stored, Undecodable, Unread, View};

/// Time between two words about a long export.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that are left out for one reason and named; more are counted.
const NAMED_MAX: u64 = 1000;

#[derive(Args, Debug)]
pub(super) struct Export {
    #[command(flatten)]
    common: Common,
    /// The folder for the files; made when it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only this message; may be given more than once
    #[arg(long, value_name = "ID")]
    id: Vec<MessageId>,
    /// Only messages of this queue, by its whole name
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only messages with a recipient in this domain
    #[arg(long, value_name = "D")]
    domain: Option<String>,
    /// Overwrites files that are there
    #[arg(long)]
    force: bool,
}

/// What became of the messages that were chosen.
#[derive(Debug, Default)]
struct Tally {
    exported: u64,
    bytes: u64,
    /// Left the spool while we looked.
    gone: u64,
    damaged: u64,
    undecodable: u64,
    /// Their files are there already.
    kept: u64,
    missing: u64,
}

impl Tally {
    fn is_well(&self) -> bool {
        self.damaged + self.undecodable + self.kept + self.missing == 0
    }
}

impl Export {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Verdict, CommandError> {
        let view = self.common.view(Access::Moving)?;
        fs::create_dir_all(&self.to).map_err(failed(&self.to))?;
        say(out, &remark(&view))?;
        let mut tally = Tally::default();
        let mut wanted: HashSet<MessageId> = self.id.iter().copied().collect();
        let (all, mut told) = (view.found().messages.len() as u64, Instant::now());
        for (seen, message) in view.messages().enumerate() {
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                eprintln!("exported {} messages, looked at {} of {}", tally.exported, seen, all);
            }
            match message {
                Ok(stored) if self.wants(&stored.envelope) => {
                    wanted.remove(&stored.envelope.id);
                    self.export(&view, &stored, &mut tally, out)?;
                }
                Ok(_) => {}
                Err(undecodable) => self.undecodable(&undecodable, &mut wanted, &mut tally, out)?,
            }
        }
        self.orphans(&view, &mut wanted, &mut tally, out)?;
        for id in &wanted {
            tally.missing += 1;
            say(out, &format!("not there: no message {id} is in the spool\n"))?;
        }
        say(out, &self.summary(&tally))?;
        self.common.write_json(&report(&view, &tally))?;
        Ok(if tally.is_well() { Verdict::Well } else { Verdict::Amiss })
    }

    fn wants(&self, envelope: &Envelope) -> bool {
        let domain_of = |recipient: &String| recipient.rsplit_once('@').map(|(_, domain)| domain.to_owned());
        let is_there = |domain: &String| {
            let mut domains = envelope.recipients.iter().filter_map(domain_of);
            domains.any(|found| found.eq_ignore_ascii_case(domain))
        };
        (self.id.is_empty() || self.id.contains(&envelope.id))
            && self.queue.as_ref().is_none_or(|queue| envelope.queue == *queue)
            && self.domain.as_ref().is_none_or(is_there)
    }

    fn export(
        &self,
        view: &View,
        stored: &Stored,
        tally: &mut Tally,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let id = stored.envelope.id;
        let (message, facts) = (self.to.join(format!("{id}.eml")), self.to.join(format!("{id}.json")));
        if !self.force
            && let Some(there) = [&message, &facts].into_iter().find(|path| path.exists())
        {
            tally.kept += 1;
            let there = there.display();
            return named(
                tally.kept,
                out,
                &format!("kept: {there} is there already; --force overwrites it\n"),
            );
        }
        let body = match view.read_body(stored.envelope.body) {
            Ok(body) => body,
            Err(Unread::Gone) => {
                tally.gone += 1;
                return Ok(());
            }
            Err(Unread::Damaged(what)) => {
                tally.damaged += 1;
                return named(tally.damaged, out, &format!("damaged: message {id}: {what}\n"));
            }
        };
        let contents = [&stored.envelope.header_prefix[..], &body[..]];
        write_whole(&message, &contents).map_err(failed(&message))?;
        let text = format!("{:#}\n", describe(stored));
        write_whole(&facts, &[text.as_bytes()]).map_err(failed(&facts))?;
        tally.exported += 1;
        tally.bytes += contents.iter().map(|part| part.len() as u64).sum::<u64>();
        Ok(())
    }

    fn undecodable(
        &self,
        message: &Undecodable,
        wanted: &mut HashSet<MessageId>,
        tally: &mut Tally,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        let is_chosen = wanted.remove(&message.id);
        // Its queue and recipients cannot be known, so a choice by these may have meant it.
        if !is_chosen && !self.id.is_empty() {
            return Ok(());
        }
        tally.undecodable += 1;
        let Undecodable { id, reason } = message;
        named(tally.undecodable, out, &format!("not readable by this kumod: message {id}: {reason}\n"))
    }

    /// Messages whose body is nowhere; in a spool that moves they may only have moved.
    fn orphans(
        &self,
        view: &View,
        wanted: &mut HashSet<MessageId>,
        tally: &mut Tally,
        out: &mut dyn Write,
    ) -> Result<(), CommandError> {
        for orphan in &view.found().orphans {
            let id = MessageId(orphan.id.0);
            let is_wanted = match Envelope::decode(&orphan.envelope) {
                Ok(envelope) => self.wants(&envelope),
                Err(_) => self.id.is_empty() || self.id.contains(&id),
            };
            if !is_wanted {
                continue;
            }
            wanted.remove(&id);
            if view.found().holder.is_some() {
                tally.gone += 1;
                continue;
            }
            tally.damaged += 1;
            let (segment, offset) = (orphan.segment, orphan.offset);
            let text = format!(
                "damaged: message {id}: segment {segment:08}, offset {offset}: its body is nowhere\n"
            );
            named(tally.damaged, out, &text)?;
        }
        Ok(())
    }

    fn summary(&self, tally: &Tally) -> String {
        let mut text = format!("{} messages exported to {}", count(tally.exported), self.to.display());
        for (number, what) in [
            (tally.gone, "left the spool meanwhile"),
            (tally.damaged, "are damaged and left out"),
            (tally.undecodable, "cannot be read by this kumod"),
            (tally.kept, "have files there already"),
            (tally.missing, "are not there"),
        ] {
            if number > 0 {
                text.push_str(&format!("; {} {what}", count(number)));
            }
        }
        text + "\n"
    }
}

/// Says something about one message, unless there are too many of its kind.
fn named(number: u64, out: &mut dyn Write, text: &str) -> Result<(), CommandError> {
    match number {
        ..=NAMED_MAX => say(out, text),
        _ if number == NAMED_MAX + 1 => say(out, "more of this kind are counted and not named\n"),
        _ => Ok(()),
    }
}

/// Under another name first, so that an interruption leaves no half of a message behind.
fn write_whole(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let half = path.with_added_extension("part");
    let mut file = fs::File::create(&half)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    fs::rename(half, path)
}

/// What the envelope says.
fn describe(stored: &Stored) -> Value {
    let Stored { envelope, mark } = stored;
    let done = |index: usize| mark.done.get(index).copied().unwrap_or(false);
    let recipients = envelope.recipients.iter().enumerate();
    let due = (mark.attempts > 0).then(|| mark.due.rfc3339());
    json!({
        "id": envelope.id.to_string(),
        "body": envelope.body.to_string(),
        "created": envelope.created.rfc3339(),
        "sender": envelope.sender,
        "recipients": recipients
            .map(|(index, recipient)| json!({ "recipient": recipient, "done": done(index) }))
            .collect::<Vec<_>>(),
        "queue": envelope.queue,
        "meta": envelope.meta,
        "attempts": mark.attempts,
        "due": due,
        "received_from": envelope.received_from.map(|peer| peer.to_string()),
        "eight_bit": envelope.eight_bit,
        "smtputf8": envelope.smtputf8,
        "header_bytes": envelope.header_prefix.len(),
        "body_bytes": envelope.body_bytes,
        "message_bytes": envelope.message_bytes(),
    })
}

fn report(view: &View, tally: &Tally) -> Value {
    json!({
        "spool": view.dir(),
        "held_by": view.found().holder,
        "exported": tally.exported,
        "bytes": tally.bytes,
        "gone_meanwhile": tally.gone,
        "damaged": tally.damaged,
        "undecodable": tally.undecodable,
        "kept": tally.kept,
        "missing": tally.missing,
    })
}
