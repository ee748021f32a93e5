//! JUnit's XML, as Jenkins and GitLab read it.
//!
//! It owns the escaping: XML 1.0 has no place for most control characters, so they become spaces. It refuses nothing.

use super::rows::rows;
use crate::metrics::ALL;
use crate::results::Entry;
use crate::words;

pub(super) fn junit(entries: &[Entry]) -> String {
    let rows = rows(entries);
    let total = rows.len();
    let failures = rows.iter().filter(|row| !row.run.is_clean()).count();
    let seconds: f64 = rows.iter().map(|row| row.run.elapsed_s).sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"kumod lab\" tests=\"{total}\" \
         failures=\"{failures}\" errors=\"0\" time=\"{seconds:.3}\">\n"
    );
    for entry in entries {
        let of_entry: Vec<_> = rows.iter().filter(|row| std::ptr::eq(row.entry, entry)).collect();
        let failures = of_entry.iter().filter(|row| !row.run.is_clean()).count();
        let seconds: f64 = of_entry.iter().map(|row| row.run.elapsed_s).sum();
        let record = &entry.record;
        xml.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"{seconds:.3}\" \
             timestamp=\"{}\">\n",
            escape(&record.run_id),
            of_entry.len(),
            escape(record.started_utc.split(['.', 'Z']).next().unwrap_or_default()),
        ));
        for row in of_entry {
            case(&mut xml, row);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn case(xml: &mut String, row: &super::rows::Row<'_>) {
    let run = row.run;
    xml.push_str(&format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">\n",
        escape(&format!("lab.{}", run.kind.as_str())),
        escape(&row.name),
        run.elapsed_s
    ));
    if !run.is_clean() {
        let message = format!(
            "{} messages lost, {} delivered twice, {} corrupted of {} accepted",
            run.lost, run.duplicated, run.corrupted, run.accepted
        );
        xml.push_str(&format!("      <failure message=\"{message}\" type=\"mail\">{message}</failure>\n"));
    }
    xml.push_str("      <system-out>");
    for metric in &ALL {
        if let Some(value) = metric.of(run) {
            xml.push_str(&escape(&format!("{}: {} {}\n", metric.title, words::digits(value), metric.unit)));
        }
    }
    xml.push_str("</system-out>\n    </testcase>\n");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            // XML 1.0, 2.2: these cannot be written at all.
            '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
