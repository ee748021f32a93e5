//! Writes man pages: the macros of man(7), and text in which nothing is taken for a macro by accident.

use std::fmt::Write as _;

/// The head of a page.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The page's name, such as `kumod`.
    pub name: &'a str,
    /// Its section.
    pub section: u8,
    /// The day of its text, as `2026-11-22`.
    pub date: &'a str,
    /// The version of what it tells of.
    pub version: &'a str,
}

/// A page that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roff(String);

impl Roff {
    /// A page with its head.
    pub fn new(head: Head<'_>) -> Self {
        let Head { name, section, date, version } = head;
        let upper = name.to_uppercase();
        let version = quoted(&format!("kumod {version}"));
        Self(format!(".TH {} {section} {date} {version} kumod\n", quoted(&upper)))
    }

    /// A section, in capitals as everywhere.
    pub fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SH {}", quoted(&title.to_uppercase()));
    }

    /// A part of a section.
    pub fn part(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SS {}", quoted(title));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        let _ = writeln!(self.0, ".PP\n{}", line(text));
    }

    /// A line of its own in the same paragraph.
    pub fn next_line(&mut self, text: &str) {
        let _ = writeln!(self.0, ".br\n{}", line(text));
    }

    /// A term and what it means, a paragraph each.
    pub fn item<'a>(&mut self, term: &str, text: impl IntoIterator<Item = &'a str>) {
        let _ = writeln!(self.0, ".TP\n{}", line(term));
        for (index, paragraph) in text.into_iter().enumerate() {
            if index == 0 {
                let _ = writeln!(self.0, "{}", line(paragraph));
            } else {
                self.next_line(paragraph);
            }
        }
    }

    /// An item of a list without terms.
    pub fn bullet(&mut self, text: &str) {
        let _ = writeln!(self.0, ".IP \\(bu 2\n{}", line(text));
    }

    /// Lines that stay as they are.
    pub fn block<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.0.push_str(".PP\n.RS 4\n.nf\n");
        for text in lines {
            let _ = writeln!(self.0, "{}", guarded(&escaped(text)));
        }
        self.0.push_str(".fi\n.RE\n");
    }

    /// Text that is roff already.
    pub fn raw(&mut self, roff: &str) {
        self.0.push_str(roff);
    }

    /// The whole page.
    pub fn finish(self) -> String {
        self.0
    }
}

/// One line of text in which `code` and **words** are bold.
fn line(text: &str) -> String {
    guarded(&inline(text))
}

/// Text with its marks turned into fonts. A mark that is not closed is text.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, marked) = rest.split_at(at);
        out.push_str(&escaped(before));
        let found = between(marked, "`", "`").or_else(|| between(marked, "**", "**"));
        rest = if let Some((inner, after)) = found {
            let _ = write!(out, "\\fB{}\\fR", escaped(inner));
            after
        } else if let Some((name, after)) = link(marked) {
            out.push_str(&inline(name));
            after
        } else {
            let mark = marked.chars().next().map_or(0, char::len_utf8);
            out.push_str(&escaped(&marked[..mark]));
            &marked[mark..]
        };
    }
    out.push_str(&escaped(rest));
    out
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (inner, after) = text.strip_prefix(open)?.split_once(close)?;
    (!inner.is_empty()).then_some((inner, after))
}

/// `[name](where)`: the name, and what follows.
fn link(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('[')?.split_once("](")?;
    let (_, after) = after.split_once(')')?;
    Some((name, after))
}

/// Characters that mean something else in roff.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '`' => out.push_str("\\(ga"),
            '\'' => out.push_str("\\(aq"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '"' => out.push_str("\\(dq"),
            other => out.push(other),
        }
    }
    out
}

/// A line that begins with a dot would be a macro.
fn guarded(text: &str) -> String {
    if text.starts_with('.') { format!("\\&{text}") } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_fonts_and_nothing_else_is_taken_for_one() {
        assert_eq!(line("`--user` and **all**"), "\\fB\\-\\-user\\fR and \\fBall\\fR");
        assert_eq!(line("[the page](docs/x.md), a*b, [N], `open"), "the page, a*b, [N], \\(gaopen");
        assert_eq!(line(".a 'quote' \\ back"), "\\&.a \\(aqquote\\(aq \\e back");
    }

    #[test]
    fn a_page_has_its_head_and_its_parts() {
        let mut roff = Roff::new(Head { name: "sink", section: 8, date: "2026-11-22", version: "1.0" });
        roff.section("Options");
        roff.item("`-4`", ["Four", "and no more"]);
        roff.block([".x", "  y"]);
        let expected = ".TH \"SINK\" 8 2026-11-22 \"kumod 1.0\" kumod\n.SH \"OPTIONS\"\n.TP\n\\fB\\-4\\fR\nFour\n.br\nand no more\n\
                        .PP\n.RS 4\n.nf\n\\&.x\n  y\n.fi\n.RE\n";
        assert_eq!(roff.finish(), expected);
    }
}
