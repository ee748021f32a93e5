//! A verdict in words, for people.

use std::fmt;

use super::{Audit, Lost};

/// Entries of each list that are shown; `--json` has all.
const SHOWN_MAX: usize = 20;

impl fmt::Display for Audit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_clean() { "clean" } else { "NOT CLEAN" };
        writeln!(out, "run {}: {verdict}", self.run_id)?;
        writeln!(out, "  promised     {:>12}  messages whose final 250 was read", self.promised)?;
        writeln!(out, "  arrived      {:>12}  different deliveries at the sink", self.delivered)?;
        self.write_lost(out)?;
        self.write_duplicates(out)?;
        self.write_corruptions(out)?;
        self.write_reorders(out)?;
        for (what, listed) in [
            ("never sent", &self.never_sent),
            ("failed", &self.delivered_though_failed),
            ("unknown", &self.delivered_though_unknown),
        ] {
            if listed.count > 0 {
                writeln!(out, "  {what:<12} {:>12}  arrived all the same: {}", listed.count, listed.shown())?;
            }
        }
        self.uncertain.iter().try_for_each(|sentence| writeln!(out, "  cannot tell: {sentence}"))
    }
}

impl Audit {
    fn write_lost(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  lost         {:>12}  promised deliveries that are not there", self.lost)?;
        for Lost { first, last, after_ns, before_ns } in self.lost_messages.iter().take(SHOWN_MAX) {
            let number = if first == last { first.to_string() } else { format!("{first}-{last}") };
            write!(out, "    message {number}")?;
            match (after_ns, before_ns) {
                (Some(after), Some(before)) => {
                    writeln!(
                        out,
                        ", its neighbours arrived at {} and {}",
                        self.at(*after),
                        self.at(*before)
                    )?;
                }
                (None, Some(before)) => writeln!(out, ", the next arrived at {}", self.at(*before))?,
                (Some(after), None) => {
                    writeln!(out, ", nothing above it has arrived; the last came at {}", self.at(*after))?
                }
                (None, None) => writeln!(out)?,
            }
        }
        more(out, self.lost_messages.len())
    }

    fn write_duplicates(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  duplicated   {:>12}  deliveries beyond the first", self.duplicated)?;
        for note in self.duplicates.iter().take(SHOWN_MAX) {
            let (first, again) = (self.at(note.first_ns), self.at(note.again_ns));
            let by = |connection: Option<u64>| {
                connection.map_or_else(String::new, |number| format!(" by connection {number}"))
            };
            writeln!(
                out,
                "    message {} for {}: first at {first}{}, again at {again}{}",
                note.seq,
                note.recipient,
                by(note.first_connection),
                by(note.again_connection)
            )?;
        }
        more(out, self.duplicates.len())?;
        cut(out, self.duplicated, self.duplicates.len())
    }

    fn write_corruptions(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  corrupted    {:>12}  messages that arrived with another sum", self.corrupted)?;
        for note in self.corruptions.iter().take(SHOWN_MAX) {
            let (at, connection) = (self.at(note.at_ns), note.connection);
            let (expected, found) = (&note.expected, &note.found);
            let seq = note.seq;
            writeln!(
                out,
                "    message {seq} at {at} by connection {connection}: {expected} was sent, {found} arrived"
            )?;
        }
        more(out, self.corruptions.len())?;
        cut(out, self.corrupted, self.corruptions.len())
    }

    fn write_reorders(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = "messages overtaken by a later one of their connection (no fault: SMTP promises no order)";
        writeln!(out, "  reordered    {:>12}  {what}", self.reordered)?;
        for note in self.reorders.iter().take(SHOWN_MAX) {
            let (seq, after, conn) = (note.seq, note.after, note.conn);
            writeln!(
                out,
                "    message {seq} at {}, after {after} of connection {conn}",
                self.at(note.at_ns)
            )?;
        }
        more(out, self.reorders.len())?;
        cut(out, self.reordered, self.reorders.len())
    }

    /// A time of the sink's clock as seconds after the first arrival of the run.
    fn at(&self, at_ns: u64) -> String {
        let since = at_ns.saturating_sub(self.first_ns.unwrap_or(0));
        format!("{:.6} s", since as f64 / 1e9)
    }
}

fn more(out: &mut fmt::Formatter<'_>, listed: usize) -> fmt::Result {
    match listed.saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(out, "    and {more} more, which --json lists"),
    }
}

fn cut(out: &mut fmt::Formatter<'_>, count: u64, listed: usize) -> fmt::Result {
    match count.saturating_sub(listed as u64) {
        0 => Ok(()),
        unlisted => writeln!(out, "    and {unlisted} that the sink counted and did not list"),
    }
}
