//! The findings as text for a terminal: one row each, and below the table the reason and the remedy of what is not right.
//!
//! Owns only the layout. Lines are not wrapped: a remedy is there to be copied. Control characters of a file's content are
//! shown as `?`, so that no host can write to the terminal.

use crate::finding::{Finding, Reach, Verdict};

const HEAD: [&str; 5] = ["condition", "current", "wanted", "verdict", "what it is"];
/// The most characters of a cell; a longer one is cut, because `explain` shows it whole.
const CELL_CHARACTERS_MAX: usize = 44;

/// What is drawn, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Whether verdicts are coloured.
    pub colour: bool,
    /// Whether rows that ask for nothing and cannot (information, left alone, not there) are drawn as well.
    pub all: bool,
}

/// Draws `findings` without colour; ends with a line break.
pub fn render(findings: &[Finding]) -> String {
    render_in(findings, Style::default())
}

/// Draws `findings`; ends with a line break.
pub fn render_in(findings: &[Finding], style: Style) -> String {
    let quiet =
        |finding: &&Finding| matches!(finding.verdict, Verdict::Info | Verdict::Declined | Verdict::Absent);
    let shown: Vec<&Finding> = findings.iter().filter(|finding| style.all || !quiet(finding)).collect();
    let mut text = String::new();
    draw(&mut text, &shown, style);
    let hidden = findings.len() - shown.len();
    if hidden > 0 {
        text.push_str(&format!("and {hidden} that ask for nothing (--all shows them)\n"));
    }
    for finding in shown {
        explain(&mut text, finding);
    }
    text
}

fn draw(text: &mut String, findings: &[&Finding], style: Style) {
    let rows: Vec<[String; 5]> = findings.iter().map(|finding| row(finding)).collect();
    let widths = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row: &[String; 5]| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    });
    line(text, &HEAD.map(String::from), &widths, None);
    for (row, finding) in rows.iter().zip(findings) {
        line(text, row, &widths, style.colour.then(|| paint(finding.verdict)));
    }
}

fn row(finding: &Finding) -> [String; 5] {
    let key = match finding.reach {
        Reach::Host | Reach::Runtime => format!("{} (host)", finding.key),
        _ => finding.key.clone(),
    };
    [key, cut(&finding.current), cut(&finding.wanted), finding.verdict.to_string(), finding.brief.clone()]
}

/// Rows of cells in columns, the first row above the others; each ends with a line break.
pub fn columns<const COUNT: usize>(rows: &[[String; COUNT]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COUNT] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        line(&mut text, row, &widths, None);
    }
    text
}

/// Text from the host as it may be shown.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn cut(text: &str) -> String {
    let text = harmless(text);
    if text.chars().count() <= CELL_CHARACTERS_MAX {
        return text;
    }
    let kept: String = text.chars().take(CELL_CHARACTERS_MAX - 1).collect();
    format!("{}…", kept.trim_end())
}

/// Green, yellow, red, or as it is.
const fn paint(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok | Verdict::Kept => "\x1b[32m",
        Verdict::Low | Verdict::High | Verdict::Differs => "\x1b[31m",
        Verdict::Blocked | Verdict::Unknown => "\x1b[33m",
        Verdict::NotNeeded | Verdict::Info | Verdict::Declined | Verdict::Absent => "\x1b[0m",
    }
}

fn line<const COUNT: usize>(
    text: &mut String,
    cells: &[String; COUNT],
    widths: &[usize; COUNT],
    colour: Option<&str>,
) {
    let start = text.len();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let colour = colour.filter(|_| index == 3);
        text.push_str(colour.unwrap_or_default());
        text.push_str(cell);
        text.push_str(if colour.is_some() { "\x1b[0m" } else { "" });
        text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

fn explain(text: &mut String, finding: &Finding) {
    let refused = finding.wish.as_ref().filter(|wish| !wish.taken);
    if finding.remedy.is_none() && refused.is_none() && finding.verdict != Verdict::Unknown {
        return;
    }
    let mut told = vec![("why", finding.why.clone())];
    told.extend(finding.reason.clone().map(|reason| ("reason", reason)));
    told.extend(refused.map(|wish| ("wish refused", format!("{}: {}", wish.value, wish.reason))));
    let label = if finding.verdict == Verdict::Blocked { "if you want it" } else { "remedy" };
    told.extend(finding.remedy.clone().map(|remedy| (label, remedy)));
    text.push_str(&format!("\n{}\n", finding.key));
    for (label, line) in told {
        text.push_str(&format!("  {label}: {}\n", harmless(&line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::finding::{Question, judge};
    use crate::rule::built_in;

    fn finding(key: &str, verdict: Verdict, remedy: Option<&str>) -> Finding {
        let facts = Facts::default();
        let rule = &built_in()[0];
        let blank = judge(rule, &facts, &Question::of(&facts));
        Finding {
            key: key.into(),
            brief: "b".into(),
            current: "1".into(),
            wanted: "at least 2".into(),
            why: "because".into(),
            remedy: remedy.map(str::to_owned),
            reason: None,
            verdict,
            ..blank
        }
    }

    #[test]
    fn columns_line_up_and_only_what_is_wrong_is_explained() {
        let findings = [
            finding("short", Verdict::Kept, None),
            finding("a.longer.key", Verdict::Low, Some("do this")),
            finding("quiet", Verdict::Declined, None),
        ];
        assert_eq!(
            render(&findings),
            "condition     current  wanted      verdict        what it is\n\
             short         1        at least 2  kept (better)  b\n\
             a.longer.key  1        at least 2  low            b\n\
             and 1 that ask for nothing (--all shows them)\n\
             \na.longer.key\n  why: because\n  remedy: do this\n"
        );
        let all = render_in(&findings, Style { all: true, colour: true });
        assert!(all.contains("quiet"), "{all}");
        assert!(all.contains("\x1b[31mlow\x1b[0m"), "{all}");
    }

    #[test]
    fn a_host_cannot_write_to_the_terminal() {
        let hostile = Finding { current: "\x1b]0;x\x07".into(), ..finding("k", Verdict::Ok, None) };
        assert!(!render(&[hostile]).contains('\x1b'));
    }
}
