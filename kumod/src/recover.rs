//! What a crash may have taken from the log is written again from what the spool kept.
//!
//! A record is written (not synced) before the deletion it speaks of, so a killed process loses no line; a power cut can take the
//! end of the log while the deletions behind it survived. Each deletion carries a note of recipient, reply and time, and
//! here those that the log does not have are written once more. Envelopes and marks are restored by the store itself.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::clock::UnixMs;
use crate::envelope::{MessageId, Response};
use crate::maillog::{self, Kind, MailLog, Note, Record};

/// Lines older than the last one of the log by more than this are taken to be there: the kernel writes files back in half that time.
const WRITE_BACK_MAX: Duration = Duration::from_secs(120);

/// The part of a log line that tells which attempt it speaks of.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    recipient: serde_json::Value,
    timestamp: i64,
}

/// Writes the records of deletions that the log in `dir` does not have, and says how many those were.
///
/// # Errors
/// The log cannot be read or written.
pub fn write_missing_records(gone: &[(MessageId, Bytes)], dir: &Path, log: &MailLog) -> io::Result<usize> {
    if gone.is_empty() {
        return Ok(0);
    }
    let known = Known::read(dir)?;
    let mut lines = Vec::new();
    let mut missing = 0;
    for (id, notes) in gone {
        let mut rest = notes.clone();
        while let Some(note) = Note::decode(&mut rest) {
            if known.lacks(*id, &note) {
                render(*id, &note, &mut lines);
                missing += 1;
            }
        }
    }
    log.write_through(&lines)?;
    Ok(missing)
}

/// The end of the log as it survived.
#[derive(Default)]
struct Known {
    records: HashSet<(MessageId, String)>,
    /// Before this every line is taken to be there.
    since: UnixMs,
}

impl Known {
    fn read(dir: &Path) -> io::Result<Self> {
        let mut known = Self::default();
        let mut segments = maillog::segments(dir)?;
        // Newest first: reading stops where the lines are old enough to have been written back long ago.
        segments.sort_unstable_by(|a, b| b.cmp(a));
        for segment in segments {
            let (first, last) = known.read_segment(&segment)?;
            let Some(last) = last else { continue };
            if known.since == UnixMs(0) {
                let reach = u64::try_from(WRITE_BACK_MAX.as_millis()).unwrap_or(u64::MAX);
                known.since = UnixMs(last.0.saturating_sub(reach));
            }
            if first.is_some_and(|first| first < known.since) {
                break;
            }
        }
        Ok(known)
    }

    /// Takes the lines of one file; what is not a whole line is the cut itself and is passed over.
    fn read_segment(&mut self, path: &Path) -> io::Result<(Option<UnixMs>, Option<UnixMs>)> {
        let (mut first, mut last) = (None, None);
        for line in BufReader::new(fs::File::open(path)?).split(b'\n') {
            let Ok(line) = serde_json::from_slice::<Line>(&line?) else { continue };
            let at = UnixMs(u64::try_from(line.timestamp).unwrap_or(0).saturating_mul(1000));
            first = first.or(Some(at));
            last = Some(at);
            if let (Ok(id), Some(recipient), "Delivery" | "Bounce" | "Expiration") =
                (line.id.parse(), line.recipient.as_str(), line.kind.as_str())
            {
                self.records.insert((id, recipient.to_owned()));
            }
        }
        Ok((first, last))
    }

    fn lacks(&self, id: MessageId, note: &Note) -> bool {
        note.at >= self.since && !self.records.contains(&(id, note.recipient.clone()))
    }
}

fn render(id: MessageId, note: &Note, lines: &mut Vec<u8>) {
    let kind = match note.kind {
        b'D' => Kind::Delivery,
        b'E' => Kind::Expiration,
        _ => Kind::Bounce,
    };
    let response = Response { code: note.code, enhanced: None, content: note.content.clone() };
    let record =
        Record { recipient: &note.recipient, response: Some(&response), ..Record::new(kind, id, note.at) };
    record.render(lines);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::{IdSource, NodeId};
    use crate::maillog::LogLimits;

    fn note(at: UnixMs, recipient: &str) -> Bytes {
        let mut out = Vec::new();
        let note =
            Note { at, kind: b'D', code: 250, recipient: recipient.to_owned(), content: "OK".to_owned() };
        note.encode(&mut out);
        out.into()
    }

    fn recipients(dir: &Path) -> Vec<String> {
        let mut segments = maillog::segments(dir).unwrap();
        segments.sort_unstable();
        let text: String = segments.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
        lines.map(|line| line.recipient.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_lines_that_a_power_cut_took_are_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let ids = IdSource::new(NodeId(1), 1);
        let now = UnixMs(1_700_000_000_000);
        let gone: Vec<_> = ["a@x", "b@x", "c@x"].iter().map(|to| (ids.next(now), note(now, to))).collect();
        let log = MailLog::open(dir.path(), LogLimits::default()).unwrap();
        assert_eq!(write_missing_records(&gone[..1], dir.path(), &log).unwrap(), 1);
        log.close();
        let log = MailLog::open(dir.path(), LogLimits::default()).unwrap();
        assert_eq!(write_missing_records(&gone, dir.path(), &log).unwrap(), 2);
        assert_eq!(write_missing_records(&gone, dir.path(), &log).unwrap(), 0);
        log.close();
        assert_eq!(recipients(dir.path()), ["a@x", "b@x", "c@x"]);
    }

    #[test]
    fn what_is_old_enough_to_be_on_disk_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let ids = IdSource::new(NodeId(1), 1);
        let (old, now) = (UnixMs(1_700_000_000_000), UnixMs(1_700_001_000_000));
        let log = MailLog::open(dir.path(), LogLimits::default()).unwrap();
        let last = (ids.next(now), note(now, "last@x"));
        write_missing_records(&[last], dir.path(), &log).unwrap();
        // Its line was shipped and its file removed long ago.
        let shipped = (ids.next(old), note(old, "shipped@x"));
        assert_eq!(write_missing_records(&[shipped], dir.path(), &log).unwrap(), 0);
        log.close();
    }
}
