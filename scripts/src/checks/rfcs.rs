//! docs/rfcs.md and the marks in the sources must say the same, in both directions: `RFC 5321 4.5.2` in a comment leads to a row, and
//! a row that says Yes or Partial leads to a mark.
//!
//! Every RFC that is named has a row `| 5321 | title | status | … |`. Those that a mail server is made of have a table of their
//! sections besides, under a heading `### RFC 5321 …`, with rows `| 4.5.2 | title | status | … |`. A mark belongs to the row
//! of its section, or of the nearest section around it that has one. Text that it misreads costs a wrong finding, never a crash.

use std::collections::BTreeMap;

use super::Finding;
use crate::Tree;
use crate::code::line_of;

const TABLE: &str = "docs/rfcs.md";

/// All rules of this family.
pub fn all(tree: &Tree) -> Vec<Finding> {
    let (table, marks) = (Table::read(tree.text(TABLE).unwrap_or_default()), marks(tree));
    [table.statuses(), table.unlisted(&marks), table.unmarked(&marks)].concat()
}

/// One place that names an RFC, and a section of it where it says one.
struct Mark<'t> {
    path: &'t str,
    line: usize,
    number: u32,
    section: Option<&'t str>,
}

struct Row<'t> {
    line: usize,
    status: &'t str,
}

impl Row<'_> {
    fn is_done(&self) -> bool {
        self.status != "No"
    }
}

#[derive(Default)]
struct Table<'t> {
    rfcs: BTreeMap<u32, Row<'t>>,
    sections: BTreeMap<u32, BTreeMap<&'t str, Row<'t>>>,
}

impl<'t> Table<'t> {
    fn read(text: &'t str) -> Self {
        let mut table = Self::default();
        let mut of = None;
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                of = line.strip_prefix("### RFC ").and_then(|title| digits(title).parse().ok());
                continue;
            }
            let Some((first, status)) = cells(line) else { continue };
            let row = Row { line: index + 1, status };
            match (of, first.parse()) {
                (Some(number), _) if section(first).is_some_and(|whole| whole == first) => {
                    table.sections.entry(number).or_default().insert(first, row);
                }
                (None, Ok(number)) => drop(table.rfcs.insert(number, row)),
                _ => {}
            }
        }
        table
    }

    /// The row that a mark belongs to; `None` where its RFC has no table of sections, or the mark names none.
    fn row_of(&self, mark: &Mark<'_>) -> Option<Result<(&'t str, &Row<'t>), ()>> {
        let rows = self.sections.get(&mark.number)?;
        let mut section = mark.section?;
        loop {
            if let Some((name, row)) = rows.get_key_value(section) {
                return Some(Ok((*name, row)));
            }
            match section.rsplit_once('.') {
                Some((around, _)) => section = around,
                None => return Some(Err(())),
            }
        }
    }

    fn statuses(&self) -> Vec<Finding> {
        let rows = self.rfcs.values().chain(self.sections.values().flat_map(BTreeMap::values));
        let wrong = rows.filter(|row| !matches!(row.status, "Yes" | "Partial" | "No"));
        let problem = |row: &Row<'_>| format!("status {:?}: say Yes, Partial or No", row.status);
        wrong.map(|row| Finding::new(TABLE, row.line, problem(row))).collect()
    }

    /// Marks without a row, and marks of what is said not to be done; of each the first place is told.
    fn unlisted(&self, marks: &[Mark<'_>]) -> Vec<Finding> {
        let mut told = BTreeMap::new();
        for mark in marks {
            let Mark { number, section, .. } = mark;
            let name = section.map_or_else(|| number.to_string(), |section| format!("{number} {section}"));
            let problem = match (self.rfcs.contains_key(number), self.row_of(mark)) {
                (false, _) => format!("RFC {number} has no row in {TABLE}"),
                (true, Some(Err(()))) => {
                    format!("RFC {name} has no row in {TABLE}, under `### RFC {number}`")
                }
                (true, Some(Ok((row, Row { status: "No", .. })))) => {
                    format!("{TABLE} says No of RFC {number} {row}, and here is something of it")
                }
                _ => continue,
            };
            told.entry(problem).or_insert((mark.path, mark.line));
        }
        told.into_iter().map(|(problem, (path, line))| Finding::new(path, line, problem)).collect()
    }

    /// Rows that say Yes or Partial and that no mark belongs to.
    fn unmarked(&self, marks: &[Mark<'_>]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (number, row) in &self.rfcs {
            if row.is_done() && !marks.iter().any(|mark| mark.number == *number) {
                let problem = format!("RFC {number} is said to be {}, and no source names it", row.status);
                findings.push(Finding::new(TABLE, row.line, problem));
            }
        }
        for (number, rows) in &self.sections {
            for (section, row) in rows.iter().filter(|(_, row)| row.is_done()) {
                let is_its = |mark: &Mark<'_>| {
                    mark.number == *number && mark.section.is_some_and(|marked| lies_in(marked, section))
                };
                if !marks.iter().any(is_its) {
                    let problem = format!(
                        "RFC {number} {section} is said to be {}, and no source marks it",
                        row.status
                    );
                    findings.push(Finding::new(TABLE, row.line, problem));
                }
            }
        }
        findings
    }
}

fn lies_in(section: &str, around: &str) -> bool {
    section.strip_prefix(around).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The first and the third cell of a row of a table.
fn cells(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
    Some((cells.next()?, cells.nth(1)?))
}

fn marks(tree: &Tree) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    let shipped = tree.rust("").filter(|(path, _)| path.contains("src/") && !path.starts_with("scripts/"));
    for (path, file) in shipped {
        for (offset, word) in file.text.match_indices("RFC ") {
            let after = &file.text[offset + word.len()..];
            let number = digits(after);
            let Ok(parsed) = number.parse() else { continue };
            let line = line_of(&file.text, offset);
            let sections = sections(&after[number.len()..]);
            let mark = |section| Mark { path, line, number: parsed, section };
            if sections.is_empty() {
                marks.push(mark(None));
            }
            marks.extend(sections.into_iter().map(|section| mark(Some(section))));
        }
    }
    marks
}

/// The sections behind a number: ` 4.5.2`, ` 3.8, 4.1.4`, ` 3.8 and 4.1.4`, on this line of a comment or the next. A number
/// without a dot is one only where it stands first: behind a comma it may be anything.
fn sections(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let separators: &[&str] = if found.is_empty() { &[" "] } else { &[", ", " and "] };
        let text = separators.iter().find_map(|separator| rest.strip_prefix(separator));
        let text = text.or_else(|| next_line(rest).filter(|_| found.is_empty()));
        let may_follow = |one: &&str| found.is_empty() || one.contains(['.', ' ']);
        let Some(section) = text.and_then(section).filter(may_follow) else {
            return found;
        };
        found.push(section);
        rest = text.map_or("", |text| &text[section.len()..]);
    }
}

/// What a comment goes on with after a line end.
fn next_line(text: &str) -> Option<&str> {
    let line = text.strip_prefix('\n')?.trim_start();
    ["//! ", "/// ", "// "].iter().find_map(|comment| line.strip_prefix(comment))
}

/// The number of a section that the text begins with, such as `4.5.2`, or the letter of an appendix after that word.
fn section(text: &str) -> Option<&str> {
    let is_over = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
    if let Some(letter) = text.strip_prefix("appendix ") {
        let end = "appendix ".len() + 1;
        let is_letter =
            letter.starts_with(|letter: char| letter.is_ascii_uppercase()) && is_over(&letter[1..]);
        return is_letter.then(|| &text[..end]);
    }
    let mut end = digits(text).len();
    if end == 0 {
        return None;
    }
    while let Some(more) = text[end..].strip_prefix('.').map(digits).filter(|more| !more.is_empty()) {
        end += 1 + more.len();
    }
    is_over(&text[end..]).then(|| &text[..end])
}

fn digits(text: &str) -> &str {
    &text[..text.bytes().take_while(u8::is_ascii_digit).count()]
}

#[cfg(test)]
mod tests {
    use super::super::on;
    use super::*;

    const SOURCE: &str = "crates/smtp/src/lib.rs";

    #[test]
    fn sections_are_read_as_people_write_them() {
        for (text, expected) in [
            (" 4.5.2: a dot", &["4.5.2"][..]),
            (" 3.8.", &["3.8"]),
            (" 4, RFC 3030", &["4"]),
            (" 3.8, 4.1.4 and 6.1).", &["3.8", "4.1.4", "6.1"]),
            ("\n    /// 4.2) says", &["4.2"]),
            (" appendix C)", &["appendix C"]),
            (" 3.6.1, appendix C", &["3.6.1", "appendix C"]),
            (" 4.5.3, 64 bytes", &["4.5.3"]),
            (" 7bit", &[]),
            (" asks", &[]),
            (")", &[]),
        ] {
            assert_eq!(sections(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_table_and_the_marks_agree() {
        let table = "| RFC | title | status |\n|---|---|---|\n| 5321 | SMTP | Yes |\n| 2920 | x | Partial |\n| 1 | x | No |\n";
        let source = "//! RFC 5321 4.5.2\n// RFC 3030\n";
        assert_eq!(
            on(all, &[(TABLE, table), (SOURCE, source)]),
            [
                "crates/smtp/src/lib.rs:2: RFC 3030 has no row in docs/rfcs.md",
                "docs/rfcs.md:4: RFC 2920 is said to be Partial, and no source names it",
            ]
        );
    }

    #[test]
    fn so_do_sections_where_they_are_listed() {
        let table = "| 5321 | SMTP | Yes |\n### RFC 5321: SMTP\n| Section | title | status |\n|---|---|---|\n\
                     | 3.8 | ending | Yes |\n| 3.9 | lists | No |\n| 4.5.3 | limits | Partial |\n| 6.1 | telling | Yes |\n\
                     | 6.3 | loops | Maybe |\n## Names\n| 1035 | DNS | No |\n";
        let source = "// RFC 5321 3.8, 4.5.3.1.4\n// RFC 5321 3.9.1\n// RFC 5321 4.5\n// RFC 5321 6.3\n// RFC 1035 9.9\n";
        assert_eq!(
            on(all, &[(TABLE, table), (SOURCE, source)]),
            [
                "docs/rfcs.md:9: status \"Maybe\": say Yes, Partial or No",
                "crates/smtp/src/lib.rs:3: RFC 5321 4.5 has no row in docs/rfcs.md, under `### RFC 5321`",
                "crates/smtp/src/lib.rs:2: docs/rfcs.md says No of RFC 5321 3.9, and here is something of it",
                "docs/rfcs.md:8: RFC 5321 6.1 is said to be Yes, and no source marks it",
            ]
        );
    }
}
