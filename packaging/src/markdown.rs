//! A page of the documentation as a man page, for the markup that the documentation uses: headings, paragraphs, lists, tables,
//! and blocks of code. A table becomes a list of terms, because a terminal is too narrow for its columns.

use crate::roff::{Head, Roff};

/// The column of a table that is told beside its term.
const DEFAULT: &str = "default";

/// The man page of a document, whose first heading gives way to `about` in NAME.
pub fn manual(text: &str, about: &str, head: Head<'_>) -> String {
    let mut roff = Roff::new(head);
    roff.section("Name");
    roff.raw(&format!("{} \\- {}\n", head.name, about.replace('-', "\\-")));
    roff.section("Description");
    let lines: Vec<&str> = text.lines().collect();
    let mut rest = lines.as_slice();
    while !rest.is_empty() {
        rest = block(&mut roff, rest);
    }
    roff.finish()
}

/// Writes what begins with the first line, and gives back what comes behind it.
fn block<'a, 'b>(roff: &mut Roff, lines: &'a [&'b str]) -> &'a [&'b str] {
    let (first, after) = (lines[0], &lines[1..]);
    if first.trim().is_empty() || first.starts_with("# ") {
        return after;
    }
    if let Some(title) = first.strip_prefix("## ") {
        roff.section(title);
        return after;
    }
    if let Some(title) = first.strip_prefix("### ") {
        roff.part(&title.replace('`', ""));
        return after;
    }
    if first.starts_with("```") {
        let (inside, rest) = up_to(after, |line| line.starts_with("```"));
        roff.block(inside.iter().copied());
        return rest.get(1..).unwrap_or_default();
    }
    if first.starts_with("    ") {
        let (inside, rest) = up_to(lines, |line| !line.is_empty() && !line.starts_with("    "));
        let end = inside.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        roff.block(inside[..end].iter().map(|line| line.get(4..).unwrap_or_default()));
        return rest;
    }
    if first.starts_with('|') {
        let (rows, rest) = up_to(lines, |line| !line.starts_with('|'));
        table(roff, rows);
        return rest;
    }
    let is_item = first.starts_with("- ");
    let (paragraph, rest) = up_to(after, ends_paragraph);
    let mut text = first.trim_start_matches("- ").to_owned();
    for line in paragraph {
        text.push(' ');
        text.push_str(line.trim());
    }
    if is_item {
        roff.bullet(&text)
    } else {
        roff.paragraph(&text)
    }
    rest
}

fn up_to<'a, 'b>(lines: &'a [&'b str], ends: impl Fn(&str) -> bool) -> (&'a [&'b str], &'a [&'b str]) {
    lines.split_at(lines.iter().position(|line| ends(line)).unwrap_or(lines.len()))
}

fn ends_paragraph(line: &str) -> bool {
    line.is_empty() || ["- ", "#", "|", "```"].iter().any(|mark| line.starts_with(mark))
}

/// Header, rule, rows.
fn table(roff: &mut Roff, rows: &[&str]) {
    let header = rows.first().map(|row| cells(row)).unwrap_or_default();
    for row in rows.iter().skip(2).map(|row| cells(row)) {
        let Some((term, others)) = row.split_first() else { continue };
        let (mut term, mut text) = (term.clone(), Vec::new());
        for (index, cell) in others.iter().enumerate() {
            let name = header.get(index + 1).map_or("", String::as_str);
            if cell.is_empty() {
                continue;
            } else if name == DEFAULT {
                term = format!("{term} (default {cell})");
            } else if index + 1 == others.len() || name.is_empty() {
                text.push(cell.clone());
            } else {
                text.push(format!("{name}: {cell}"));
            }
        }
        roff.item(&term, text.iter().map(String::as_str));
    }
}

/// The cells of a row. A bar within code is written `\|`.
fn cells(row: &str) -> Vec<String> {
    let inner = row.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner).replace("\\|", "\0");
    inner.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Policy

A policy is
a Lua file.

    kumod --policy FILE

## Functions

- one thing, told
  on two lines
- another

| option | default | meaning |
|---|---|---|
| `listen` | `'a'` | where, or `x \\| y` |
| `name` | | who |

| event | arguments | fired |
|---|---|---|
| `init` | none | once |

```lua
kumo.on('init')
```
The end.
";

    #[test]
    fn what_the_documentation_uses_is_known() {
        let head = Head { name: "kumod.lua", section: 5, date: "2026-11-22", version: "1" };
        let roff = manual(PAGE, "policies of kumod", head);
        let expected = "\
.SH \"NAME\"\nkumod.lua \\- policies of kumod\n.SH \"DESCRIPTION\"\n.PP\nA policy is a Lua file.\n\
.PP\n.RS 4\n.nf\nkumod \\-\\-policy FILE\n.fi\n.RE\n.SH \"FUNCTIONS\"\n\
.IP \\(bu 2\none thing, told on two lines\n.IP \\(bu 2\nanother\n\
.TP\n\\fBlisten\\fR (default \\fB\\(aqa\\(aq\\fR)\nwhere, or \\fBx | y\\fR\n.TP\n\\fBname\\fR\nwho\n\
.TP\n\\fBinit\\fR\narguments: none\n.br\nonce\n\
.PP\n.RS 4\n.nf\nkumo.on(\\(aqinit\\(aq)\n.fi\n.RE\n.PP\nThe end.\n";
        assert_eq!(roff.split_once('\n').map(|(_, rest)| rest), Some(expected));
    }
}
