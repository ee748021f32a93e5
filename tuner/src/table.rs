//! The findings as text for a terminal: one row each, and below the table the reason and the remedy of what is not right.
//!
//! Owns only the layout. Lines are not wrapped: a remedy is there to be copied.

use std::fmt::Write;

use crate::finding::{Finding, Verdict};

const HEAD: [&str; 4] = ["setting", "current", "wanted", "verdict"];

/// Draws `findings`; ends with a line break.
pub fn render(findings: &[Finding]) -> String {
    let rows: Vec<[String; 4]> = findings.iter().map(row).collect();
    let widths = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or(0)
    });
    let mut text = String::new();
    line(&mut text, &HEAD.map(String::from), &widths);
    for row in &rows {
        line(&mut text, row, &widths);
    }
    for finding in findings.iter().filter(|finding| finding.remedy.is_some()) {
        explain(&mut text, finding);
    }
    text
}

fn row(finding: &Finding) -> [String; 4] {
    [finding.key.clone(), finding.current.clone(), finding.wanted.clone(), finding.verdict.to_string()]
}

fn line(text: &mut String, cells: &[String; 4], widths: &[usize; 4]) {
    let start = text.len();
    for (cell, width) in cells.iter().zip(widths) {
        text.push_str(cell);
        text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
    }
    text.truncate(start + text[start..].trim_end().len());
    text.push('\n');
}

fn explain(text: &mut String, finding: &Finding) {
    let word = if finding.verdict == Verdict::Low { "remedy" } else { "if you want it" };
    let remedy = finding.remedy.as_deref().unwrap_or_default();
    let key = &finding.key;
    write!(text, "\n{key}\n  why: {}\n  {word}: {remedy}\n", finding.why)
        .expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_only_what_is_wrong_is_explained() {
        let finding = |key: &str, verdict, remedy: Option<&str>| Finding {
            key: key.into(),
            current: "1".into(),
            wanted: "at least 2".into(),
            verdict,
            why: "because".into(),
            source: "a page".into(),
            remedy: remedy.map(str::to_owned),
        };
        let text = render(&[
            finding("short", Verdict::Kept, None),
            finding("a.longer.key", Verdict::Low, Some("do this")),
        ]);
        assert_eq!(
            text,
            "setting       current  wanted      verdict\n\
             short         1        at least 2  kept (better)\n\
             a.longer.key  1        at least 2  low\n\
             \na.longer.key\n  why: because\n  remedy: do this\n"
        );
    }
}
